"""Every refusal of an agent ends with a code, and the troubleshooting page is found by it; how a
sentence is worded is free."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from components.registry_mirror import codes

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("node_agent", "rolling_restart")
LONG_ENOUGH = 30
"""Characters from which on a text is a sentence and not a name, a command or a joint."""


def docstrings(tree: ast.Module) -> set[int]:
    """Nodes that explain something: docstrings, and texts behind constants."""
    return {id(item.value) for item in ast.walk(tree) if isinstance(item, ast.Expr)}


def sentences(path: Path) -> Iterator[str]:
    """What a module says, with … for what it fills in."""
    tree = ast.parse(path.read_text())
    silent = docstrings(tree)
    for item in ast.walk(tree):
        if (
            isinstance(item, ast.Constant)
            and isinstance(item.value, str)
            and id(item) not in silent
        ):
            text = re.sub(r"%[sdr]", "…", item.value).strip(" :;,\n")
            if (
                len(text) >= LONG_ENOUGH
                and text.count(" ") >= 4
                and not re.search(r"2>&1|\^|--\w+ \d|\{\{|\bexit 0\b", text)
            ):
                yield text


@functools.cache
def said() -> list[tuple[str, str]]:
    """File and sentence, of everything that an agent says."""
    return sorted(
        {
            (path.name, sentence)
            for room in ROOMS
            for path in (ROOT / "components" / "registry_mirror" / room).glob("*.py")
            for sentence in sentences(path)
        }
    )


def test_no_sentence_of_the_component_names_the_makefile_of_this_checkout() -> None:
    """Whoever imports the component has none."""
    here = ROOT / "components" / "registry_mirror"
    texts = [
        item.value
        for path in here.rglob("*.py")
        for tree in [ast.parse(path.read_text())]
        for silent in [docstrings(tree)]
        for item in ast.walk(tree)
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and id(item) not in silent
    ]
    shell = [
        line
        for path in here.rglob("*.sh")
        for line in path.read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    pattern = re.compile(rf"\bmake ({'|'.join(targets)})\b")
    assert pattern.search("then `make pin`"), "or this test shows nothing"
    assert [text for text in (*texts, *shell) if pattern.search(text)] == []


CODE = re.compile(r"\[(RM\d{3})\]")
PAGE = (ROOT / "docs" / "reference" / "troubleshooting.md").read_text()
HERE = ROOT / "components" / "registry_mirror"


@functools.cache
def uses() -> dict[str, set[str]]:
    """Code -> the texts that end with it, wherever the package says one."""
    texts: dict[str, set[str]] = {}
    for path in HERE.rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                for code in CODE.findall(item.value):
                    if path.name not in ("codes.py",) and "like [" not in item.value:
                        texts.setdefault(code, set()).add(item.value)
    return texts


def test_every_code_of_the_table_is_said_somewhere_and_every_one_that_is_said_is_in_it() -> None:
    assert set(uses()) == set(codes.CODES)


def test_a_code_stands_for_one_refusal() -> None:
    """Two places may refuse the same in the same words."""
    assert {code: texts for code, texts in uses().items() if len(texts) > 1} == {}
    assert not set(codes.CODES) & codes.RETIRED


def test_the_page_has_every_code_of_the_table_and_no_other() -> None:
    assert set(CODE.findall(PAGE)) == set(codes.CODES)


def test_every_sentence_of_an_agent_that_is_a_refusal_ends_with_a_code() -> None:
    """By its length: what is shorter is a piece of one. Those that are none are named here."""
    without = [
        (module, sentence)
        for module, sentence in said()
        if not CODE.search(sentence)
        and sentence[0] not in ";,:("
        and " ".join(sentence.split()) not in REMEDIES
    ]
    assert [text for _, text in without if not text.startswith(NO_REFUSALS)] == []


REMEDIES = (
    "its image store is not containerd's",
    "docker was restarted, and then",
    "docker was restarted, and then, from this node",
    "set restart to when-needed for the next `pulumi up`",
    "does the mirror meet that, with what traefikLabels has?",
    "the mirror needs these traefikLabels for it",
    "it goes there through its proxy …",
    "nothing that is known here differs for it, so see its log (journalctl -u …)",
    "… is newer than the running docker, which reads it at its start only: restart docker, or put"
    " the authority in",
    "it has failed (…), and after three starts in a minute systemd does not try again",
    "see journalctl -u …, then systemctl reset-failed …; systemctl start …",
    "there is no unit of that name; set the node's key service to that of its dockerd",
    "is the disk full, read-only, or the file immutable (lsattr)?",
    "so none may go; add managers, bring back those that are away, or permit it by allowQuorumLoss",
    "bring docker up to 29.3 or later, or set restart to when-needed, so that it is drained and"
    " restarted instead of reloaded; or set acceptBrokenHostGateway, and restart docker yourself"
    " afterwards",
    "restart docker yourself, or undo the edit",
    "take features out of daemonKeys, or add that entry to the file by hand",
    "we only reload it, but the next start of docker fails",
    "check the upstream's address, certificate and credentials, and the way out of the swarm",
    "let Traefik obtain one for this name, or install its authority on this node",
    "or set them: it may want an account of everybody",
    "it is not healthy with that either",
    "and it is in daemon.json from before",
    "take 29.3 or later, where the mirror is taken over by a reload as before",
    "the mirror needs no reload there, but a reload of yours breaks them; take 29.3 or later",
)
"""What follows a refusal that has a code."""

NO_REFUSALS = (
    "nothing was changed: from this node",  # followed by the refusal
    "nothing was changed: the mirror's task may run here",
    "the mirror is not ready",
    "docker was restarted, and then, from this node",
    "READY",  # a warning
    "PUTTING THE OLD",  # how a failure ended
    "the old daemon.json is back",
    "BUT IS NOT WHAT IT WAS",
    "NOR WITH THE LAST ONE",
    "BUT DOCKER DID NOT START",
    "…; it runs with the last one",
    "…, and docker runs with it",
    "…; NOR WITH",
    "…, BUT DOCKER",
    "would be taken over",  # reasons of a plan
    "… would be taken over",
    "daemon.json does not say so",
    "since … the guard",  # what status tells
    "the guard took the mirror",
    "daemon.json still lists",
    "The … … belongs to",  # the text of a claim
    "was restarted by an interrupted run",  # progress
    "was left drained by an interrupted run",
    "{Name: nofile",  # an example
    "is no member of this swarm",  # followed by the id
    "says that it is the node",
    "both say that they are the node",
    "does not say who it is in the swarm",
    "its agent answered with something else",
    "no manager of the swarm answers among",
    "wait for it, and restart is never",
    "of the swarm, which a manager knows as",
    "its agent's answer has no usable",
    "not in the cache (warmRequired)",  # followed by the reasons
)
