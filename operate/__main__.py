"""`python -m operate status|repair|stats|advisories|engines [--json]`, with a configuration on stdin.

Exit code: 0 all is well, 1 something is wrong with a node or the mirror (or was not repaired), 2 a node could not be reached.
"""

import argparse
import dataclasses
import json
import re
import sys

from components.registry_mirror import InvalidArgs
from components.registry_mirror.plain_text import one_line
from components.registry_mirror.rolling_restart.run import DUE
from config import Settings, parse_files
from config.keys import KEYS
from operate import advisories
from operate.nodes import Look, look, repair, restart, stats, upgrade
from operate.stats import as_rows
from operate.verdict import DRIFTED, UNREACHABLE, WELL, exit_code, state
from tools.table import table

NEWEST_ENGINE = "29.10.0"
"""The docker that an upgrade is held against where nobody says another one."""


def main() -> int:
    """Look, perhaps repair, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m operate")
    parser.add_argument("action", choices=["status", "repair", "stats", "advisories", "engines"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--to", default=NEWEST_ENGINE, help="the version of docker that is to come")
    chosen = parser.parse_args()
    try:
        # What may be a secret is treated as one: nothing here is kept, and no fault repeats a value of it.
        settings = parse_files(json.load(sys.stdin), [key for key, entry in KEYS.items() if entry.stays_secret])
    except InvalidArgs as error:
        print(error, file=sys.stderr)
        return DRIFTED
    if chosen.action == "stats":
        return _stats(settings, as_json=chosen.json)
    if chosen.action == "advisories":
        return _advisories(settings, as_json=chosen.json)
    if chosen.action == "engines":
        return _engines(settings, chosen.to, as_json=chosen.json)
    looks = look(settings.mirror, settings.service, settings.private_key)
    if chosen.action == "repair":
        return _repair(settings, looks)
    print(json.dumps([found.as_json() for found in looks], indent=1) if chosen.json else _as_table(looks))
    return exit_code(looks)


def _advisories(settings: Settings, *, as_json: bool) -> int:
    """1 if one of high severity is among them."""
    found = advisories.advisories(settings)
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
    else:
        print("\n" + (table(advisories.HEAD, advisories.as_rows(found)) if found else "no advisory that is listed here") + "\n")
    return int(any(each.severity == "high" for each in found))


def _engines(settings: Settings, to: str, *, as_json: bool) -> int:
    """1 if the upgrade would break something somewhere."""
    if not re.fullmatch(r"[0-9]{2}\.[0-9]{1,2}(\.[0-9]{1,2})?", to):
        print(f"TO is {one_line(to, 40)}, and must be a version of docker like {NEWEST_ENGINE}", file=sys.stderr)
        return DRIFTED
    found = upgrade(settings.mirror, settings.service, settings.private_key, to)
    if as_json:
        answers = [{"node": node, "unreachable": fault, **known} for node, known, fault in found]
        print(json.dumps({"to": to, "nodes": answers}, indent=1))
    else:
        rows = [(node, known["engine"], known["way"]) if known else (node, "UNREACHABLE", "") for node, known, _ in found]
        print("\n" + table(("node", "docker now", f"goes by, with {to}"), rows) + "\n")
        for node, known, fault in found:
            for words in [fault] if fault else known["hazards"]:
                print(f"  {node}: {words}")
    if any(fault for _, _, fault in found):
        return UNREACHABLE
    return DRIFTED if any(known["hazards"] for _, known, _ in found) else WELL


def _stats(settings: Settings, *, as_json: bool) -> int:
    found = stats(settings.mirror, settings.service, settings.private_key)
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        print("\n" + table(("what the mirror did", ""), as_rows(found)) + "\n")
        for fault in found.faults:
            print(f"  {fault}")
    return UNREACHABLE if found.faults else WELL if found.node else DRIFTED


def _repair(settings: Settings, looks: list[Look]) -> int:
    drifted = {found.node for found in looks if found.drifted}
    beyond = [
        f"  {found.node}: {state(found)}: {'; '.join(_faults(found))}"
        for found in looks
        if state(found).isupper() and found.node not in drifted
    ]
    if not drifted:
        print("Nothing to repair." if not beyond else "\n".join(["Nothing that a repair could mend:", *beyond]))
        return exit_code(looks)
    done = repair(settings.mirror, settings.service, settings.private_key, drifted)
    print(table(("node", "what was done to it"), [(node, words) for node, _, words in done]))
    waiting = {node: words for node, well, words in done if well and DUE in words}
    if waiting:
        well, words = restart(settings.mirror, settings.service, settings.private_key, waiting)
        print(f"\n  {words[0].upper()}{words[1:]}.")
        if not well:
            return DRIFTED
    left = [f"  {node}: {words}" for node, well, words in done if not well]
    if left or beyond:
        print("\n".join(["", "  Not repaired:", *left, *beyond]))
    if left:
        return DRIFTED
    return exit_code([found for found in looks if found.node not in drifted])


def _faults(found: Look) -> list[str]:
    return [*found.faults, *found.swarm_faults, *found.mirror_faults]


def _as_table(looks: list[Look]) -> str:
    def yes(value: bool) -> str:
        return "yes" if value else "NO"

    rows = []
    for found in looks:
        known = (
            (
                found.engine.partition("+")[0],
                found.way,
                yes(found.listed),
                yes(found.used),
                yes(found.recorded),
                "yes" if found.edited else "no",
            )
            if found.reachable
            else ("", "", "", "", "", "")
        )
        rows.append((found.node, state(found), *known))
    head = ("node", "state", "docker", "goes by", "in that file", "docker uses it", "original kept", "edited since")
    faults = [f"  {found.node}: {fault}" for found in looks for fault in [*_faults(found), *found.hazards]]
    return "\n".join(["", table(head, rows), *([""] if faults else []), *faults, ""])


if __name__ == "__main__":
    sys.exit(main())
