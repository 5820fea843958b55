"""Whether stacks' files follow the schema: for pre-commit and for a GitHub workflow, which have the
files alone and neither Pulumi nor the program.

    python -m swarm_registry_mirror.cli.stack_schema Pulumi.prod.yaml …

Needs the package jsonschema, which the wheel does not ask for. It imports nothing of this package,
so that it runs as a file of a checkout, too. Ends with 0, with 1 where a stack does not follow the
schema, with 4 where a file cannot be read, and with 64 without a file.
"""

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

SCHEMA = Path(__file__).with_name("stack.schema.json")
PROJECT = "swarm-registry-mirror:"
"""Begins every key of the schema; a stack without such a key is another project's."""
OK, DRIFTED, UNKNOWN, USAGE = 0, 1, 4, 64


def faults(text: str) -> list[str]:
    """What does not follow the schema, `key: what is wrong` each; empty for a stack of another
    project. Raises ValueError for what is no YAML."""
    import jsonschema

    try:
        stack = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"line {mark.line + 1}: is no YAML" if mark else "is no YAML") from None
    config = stack.get("config") if isinstance(stack, dict) else None
    if not isinstance(config, dict) or not any(str(key).startswith(PROJECT) for key in config):
        return []
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    errors = jsonschema.Draft202012Validator(schema).iter_errors(stack)
    return sorted({line for error in _most_telling(errors) for line in _lines(error)})


def _most_telling(errors: Iterator[Any]) -> Iterator[Any]:
    """Of a value that follows none of several alternatives, what is wrong with the nearest."""
    import jsonschema

    for error in errors:
        yield jsonschema.exceptions.best_match([error])


def _lines(error: Any) -> Iterator[str]:
    """`nodes[2].address: what is wrong`, with the keys as the program calls them."""
    place = list(error.absolute_path)[1:]
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        # In `config` the keys of other projects are no fault.
        for key in error.instance:
            if key not in known and (place or str(key).startswith(PROJECT)):
                close = difflib.get_close_matches(str(key), known, 1)
                advice = f"did you mean {_key([close[0]])}?" if close else "remove it"
                yield f"{_key([*place, key])}: does not exist; {advice}"
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield f"{_key([*place, key])}: is missing"
    else:
        yield f"{_key(place)}: {error.message}"


def _key(place: Sequence[object]) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return key.lstrip(".").removeprefix(PROJECT)


def main(files: Sequence[str]) -> int:
    """Print what is wrong with each file; the exit code."""
    if not files:
        print("Failed: no file; name the files of stacks, like Pulumi.prod.yaml", file=sys.stderr)
        return USAGE
    code = OK
    for name in files:
        try:
            found = faults(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            print(f"{name}: {reason}", file=sys.stderr)
            code = max(code, UNKNOWN)
            continue
        for fault in found:
            print(f"{name}: {fault}")
        code = max(code, DRIFTED if found else OK)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
