"""Whether a Traefik of the swarm takes only services with certain labels, which ours lack. Pure,
stdlib only.

Traefik does not report this: it passes over a service that does not meet its constraint, and
answers 404. What counts is in the arguments or the environment of Traefik's own service; a
constraint in a file of Traefik's own is not seen.
"""

import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

_ARGUMENT = re.compile(
    r"(?i)--?(?:providers\.(?:swarm|docker)|docker)\.constraints(?:=(.*))?", re.DOTALL
)
_VARIABLE = re.compile(
    r"(?i)TRAEFIK_(?:PROVIDERS_(?:SWARM|DOCKER)|DOCKER)_CONSTRAINTS=(.*)", re.DOTALL
)
_LABEL = re.compile(r"\bLabel\(\s*[`\"']([^`\"']*)[`\"']\s*,\s*[`\"']([^`\"']*)[`\"']\s*\)")
_JOINTS = re.compile(r"[\s&()]*")
MOST_CHARACTERS = 300
"""Of a constraint in a message."""


def fault(ours: List[Dict[str, str]], services: List[Dict[str, Any]]) -> Optional[str]:
    """What of Traefik's constraints our services do not meet, with the remedy; None if there is
    nothing to be said.

    `ours`: the labels of each of our services; one that meets a constraint is enough, because the
    other one may be hidden on purpose. `services`: of `docker service inspect`.
    """
    for name, constraint in _constraints(services):
        missing = [
            _missing(labels, constraint)
            for labels in ours
            if labels.get("traefik.enable") != "false"
        ]
        if not constraint.strip() or not missing or [] in missing:
            continue
        words = "The Traefik of the service %s takes only what meets its constraint %s [RM017]" % (
            name,
            _short(constraint),
        )
        lacking = missing[0]
        if lacking:
            return (
                words
                + "; the mirror needs these traefikLabels for it: "
                + ", ".join("%s: %s" % label for label in lacking)
            )
        return words + "; does the mirror meet that, with what traefikLabels has?"
    return None


def _short(text: str) -> str:
    """A constraint on one line, and not longer than a person reads."""
    return " ".join(text.split())[:MOST_CHARACTERS]


def _missing(labels: Dict[str, str], constraint: str) -> Optional[List[Tuple[str, str]]]:
    """The labels that a service with these lacks to meet a constraint; None where it is not of the
    kind that is known for sure: one or several Label(), all of which must be there."""
    if not _JOINTS.fullmatch(_LABEL.sub("", constraint)):
        return None
    return [(key, value) for key, value in _LABEL.findall(constraint) if labels.get(key) != value]


def _constraints(services: List[Dict[str, Any]]) -> Iterator[Tuple[str, str]]:
    """Name of a service and its constraint, for each that has one."""
    for service in services:
        spec = service.get("Spec") or {}
        container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
        words = [
            str(word)
            for word in [*(container.get("Command") or []), *(container.get("Args") or [])]
        ]
        for index, word in enumerate(words):
            found = _ARGUMENT.fullmatch(word)
            if found is not None:
                # `--flag value` is two words.
                value = (
                    found.group(1)
                    if found.group(1) is not None
                    else "".join(words[index + 1 : index + 2])
                )
                yield str(spec.get("Name")), value
        for variable in container.get("Env") or []:
            found = _VARIABLE.fullmatch(str(variable))
            if found is not None:
                yield str(spec.get("Name")), found.group(1)
