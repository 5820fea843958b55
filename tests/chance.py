"""Chance in a test that can be had again: every random choice hangs on the test's name and on one
number, and is printed where a failure is reported.

`FAULT_SEED=1234 pytest tests/faults/test_faults.py -k power` repeats the delays of a run that
printed 1234.
"""

import os
import random
import time

import pytest

VARIABLE = "FAULT_SEED"


class Chance(random.Random):
    """A source of randomness with a name; pytest shows what it printed if the test fails."""

    def __init__(self, seed: str, test: str) -> None:
        super().__init__(f"{seed} {test}")
        self.again = f"{VARIABLE}={seed}"
        print(f"chance: {self.again}")

    def wait(self, low: float, high: float) -> float:
        """Sleep for a random time; returns its seconds."""
        seconds = self.uniform(low, high)
        print(f"chance: the harm comes after {seconds:.4f} s ({self.again})")
        time.sleep(seconds)
        return seconds


SEED = os.environ.get(VARIABLE) or str(random.SystemRandom().randrange(10**9))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> Chance:
    return Chance(SEED, request.node.nodeid)
