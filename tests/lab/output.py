"""What is read out of the output of a run of Pulumi."""

import re


def counts(output: str) -> dict[str, int]:
    """`{"created": 10}` from what Pulumi prints last."""
    after = output.rpartition("Resources:")[2]
    return {
        word: int(number)
        for number, word in re.findall(
            r"(\d+) (created|updated|replaced|deleted|unchanged|errored)", after
        )
    }
