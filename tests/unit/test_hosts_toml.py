"""What becomes of a hosts.toml's text: one JSON file per claim under cases/, and laws that hold for
every text.

`text` (or `hex`) is the file, null where there is none; `ours`, `gone`, `version` and `around` are
what `plan` is given. Then what it says afterwards (`expect`), or words of the reasons for leaving
it (`refused`); words of its `hazards`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror.node_agent import hosts_plan, hosts_toml
from tests.builders import tomllib

CASES = Path(__file__).parent / "cases" / "hosts_toml"
URL = "https://mirror.example.com"
FILE = "/etc/docker/certs.d/docker.io/hosts.toml"
SETTINGS: dict[str, Any] = {"capabilities": ["pull", "resolve"], "dial_timeout": "1s"}


def outcome(case: dict[str, Any]) -> hosts_plan.HostsPlan:
    data = (
        bytes.fromhex(case["hex"])
        if "hex" in case
        else None
        if case["text"] is None
        else case["text"].encode()
    )
    around: dict[str, Any] = {
        key: tuple(tuple(item) if isinstance(item, list) else item for item in value)
        if isinstance(value, list)
        else value
        for key, value in case.get("around", {}).items()
    }
    text = hosts_toml.decode(data)
    wanted = hosts_plan.Wanted(
        URL, case.get("gone", []), case.get("ours", []), case.get("version", "28.5.2")
    )
    return hosts_plan.plan(FILE, text, wanted, hosts_plan.Around(**around))


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_text(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    try:
        result = outcome(case)
    except hosts_toml.Refused as error:
        said = str(error)
    else:
        if "refused" not in case:
            assert (result.text, result.refusals, result.kept) == (
                case["expect"],
                [],
                case.get("kept", False),
            )
            assert all(
                any(word in hazard for hazard in result.hazards) for word in case.get("hazards", [])
            )
            assert bool(result.hazards) == bool(case.get("hazards"))
            assert hosts_toml.hosts(
                result.text
            )  # and dockerd's reader would not see anything else in it
            tomllib.loads(result.text)
            return
        assert result.refusals
        said = "; ".join(result.refusals)
    assert "refused" in case, said
    for words in case["refused"]:
        assert words in said


def test_a_file_of_ten_megabytes_is_refused() -> None:
    with pytest.raises(hosts_toml.Refused, match="10000000 bytes"):
        hosts_toml.decode(b" " * 10_000_000)


names = st.from_regex(r"(https?://)?[a-z]{1,6}\.test(:[0-9]{2,4})?(/v2)?", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
comments = st.builds(lambda words: "# " + words + "\n", texts)
blank = st.sampled_from(["\n", "  \n", "\t\n"])
strings = st.one_of(
    st.builds(lambda value: json.dumps(value, ensure_ascii=False), texts),
    st.builds(lambda value: "'" + value.replace("'", "") + "'", texts),
)
lists = st.builds(
    lambda items, between, last: "[" + (between + ",").join(items) + (last if items else "") + "]",
    st.lists(strings, max_size=3),
    st.sampled_from(["", " ", "\n  ", " # why\n"]),
    st.sampled_from(["", ",", " , # end\n"]),
)
values = st.one_of(strings, lists, st.sampled_from(["true", "false"]))
host_lines = st.dictionaries(
    st.sampled_from(["ca", "capabilities", "skip_verify", "header", "my_own"]), values, max_size=3
)


def lines_of(entries: dict[str, str], indent: str) -> str:
    return "".join(f"{indent}{key} = {value}\n" for key, value in entries.items())


tables = st.builds(
    lambda name, gap, entries, indent, last: (
        f'[host."{name}"]{gap}\n{lines_of(entries, indent)}{last}'
    ),
    names,
    st.sampled_from(["", "  ", " # why"]),
    host_lines,
    st.sampled_from(["", "  ", "\t"]),
    st.one_of(st.just(""), blank, comments),
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    head = draw(st.lists(st.one_of(comments, blank), max_size=3))
    root = draw(
        st.dictionaries(st.sampled_from(["server", "ca", "skip_verify", "x"]), values, max_size=2)
    )
    drawn = draw(st.lists(tables, max_size=3, unique_by=lambda table: table.partition("]")[0]))
    text = (
        "".join(head)
        + lines_of(root, "")
        + "".join(draw(st.lists(st.one_of(comments, blank), max_size=2)))
        + "".join(drawn)
    )
    text = text if draw(st.booleans()) else text[: -len("\n")] if text.endswith("\n") else text
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def as_read(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The root's values and the hosts', as TOML's own reader has them."""
    parsed = tomllib.loads(text)
    return {key: value for key, value in parsed.items() if key != "host"}, parsed.get("host", {})


def known(document: hosts_toml.Document) -> tuple[dict[str, Any], dict[str, Any]]:
    return document.root, {host.name: host.values for host in document.hosts}


@given(documents())
def test_every_text_is_read_as_by_tomls_own_reader_and_the_hosts_in_their_order(text: str) -> None:
    document = hosts_toml.parse(text)
    assert known(document) == as_read(text)
    assert [host.name for host in document.hosts] == list(as_read(text)[1])


@given(documents())
def test_what_is_entered_comes_first_leaves_the_rest_and_is_taken_out_again_without_a_trace(
    text: str,
) -> None:
    after = hosts_toml.add(text, URL, SETTINGS)
    root, hosts = as_read(after)
    assert hosts_toml.hosts(after)[0] == URL
    assert (root, hosts.pop(URL), hosts) == (as_read(text)[0], SETTINGS, as_read(text)[1])
    assert hosts_toml.add(after, URL, SETTINGS) == after
    assert hosts_toml.remove(after, URL) == text


@given(documents(), st.data())
def test_whoever_edits_meanwhile_keeps_every_line(text: str, data: st.DataObject) -> None:
    other = data.draw(tables)
    name = other.partition('"')[2].partition('"')[0]
    with_ours = hosts_toml.add(text, URL, SETTINGS)
    if not with_ours.endswith("\n") or name in hosts_toml.hosts(text):
        return
    edited = with_ours + other
    assert (
        hosts_toml.remove(edited, URL).splitlines()[-len(other.splitlines()) :]
        == other.splitlines()
    )
    root, hosts = as_read(hosts_toml.remove(edited, URL))
    assert (root, hosts) == (as_read(text)[0], {**as_read(text)[1], **as_read(other)[1]})


SEEDS = [json.loads(path.read_text())["text"] or "" for path in sorted(CASES.glob("*.json"))]
PIECES = [
    "[",
    "]",
    "[[",
    '"',
    "'",
    '"""',
    "=",
    ".",
    ",",
    "{",
    "}",
    "#",
    "\n",
    "\r\n",
    "host",
    "server",
    "\\",
    "\\u00e9",
    "a",
    " ",
    "1",
]


@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(PIECES)), max_size=3
    ),
)
def test_what_is_accepted_of_a_damaged_text_is_toml_that_means_the_same(
    seed: str, edits: list[tuple[int, int, str]]
) -> None:
    text = seed
    for place, length, piece in edits:
        at = place % (len(text) + 1)
        text = text[:at] + piece + text[at + length :]
    try:
        document = hosts_toml.parse(text)
    except hosts_toml.Refused:
        return
    root, hosts = as_read(text)  # no TOMLDecodeError: what it refuses, we refuse
    assert known(document)[1] == hosts
    assert {key: root.get(key) for key in document.root} == document.root


@pytest.mark.parametrize("text", ['[host."https://o.test"]\n', 'server = "https://o.test"\n'])
def test_the_file_is_cut_at_our_edges_only_where_others_left_odd_spaces(text: str) -> None:
    odd = "\t # odd \t\n\n\n" + text + " \t\n"
    assert hosts_toml.remove(hosts_toml.add(odd, URL, SETTINGS), URL) == odd


def docker(version: str, *status: list[str]) -> dict[str, Any]:
    return {"ServerVersion": version, "DriverStatus": list(status)}


SNAPSHOTTER = ["driver-type", "io.containerd.snapshotter.v1"]


@pytest.mark.parametrize(
    ("info", "reads"),
    [
        (docker("29.7.2", SNAPSHOTTER), True),
        (docker("28.0.0", SNAPSHOTTER), True),
        (docker("28.5.2+dfsg1", SNAPSHOTTER), True),
        (docker("27.5.1", SNAPSHOTTER), False),
        (docker("29.7.2", ["Backing Filesystem", "extfs"]), False),
        (docker("26.1.5+dfsg1", ["Backing Filesystem", "extfs"]), False),
        ({"ServerVersion": "29.0.0"}, False),
    ],
)
def test_the_way_is_chosen_by_what_the_engine_reads(info: dict[str, Any], reads: bool) -> None:
    assert hosts_plan.reads_hosts_toml(info) is reads
