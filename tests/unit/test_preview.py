"""A preview that people read: which key changes from what to what, no program text, no secret."""

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from components.registry_mirror import rules
from components.registry_mirror.cli import packs
from components.registry_mirror.cli.errors import CommandError
from components.registry_mirror.cli.preview import configuration
from components.registry_mirror.cli.preview import report as reports
from components.registry_mirror.cli.preview.configuration import (
    KEY_FILE,
    Conventions,
    Redacted,
    Secrets,
)
from components.registry_mirror.cli.preview.placeholders import (
    ANOTHER,
    ANOTHER_KEY,
    BLANK,
    placeholder,
)
from components.registry_mirror.cli.preview.redact import (
    SECRET,
    SHAPES,
    SIGNATURE,
    UNKNOWN,
    with_programs,
    without_secrets,
)
from components.registry_mirror.cli.preview.sandbox import Sandbox, sandbox
from components.registry_mirror.cli.preview.spelling import from_base64
from config.keys import KEYS
from tests.builders import FRAME, KEY

OURS = Conventions("swarm-registry-mirror")


def secrets_of(text: str, values: dict[str, str], read: Callable[[str], str]) -> Secrets:
    return configuration.secrets_of(text, values, read, OURS)


def file_without_secrets(text: str, shapes: Mapping[str, Any]) -> Redacted:
    return configuration.without_secrets(text, shapes, OURS)


TOKEN = "dckr_pat_0123456789"


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:prod::swarm-registry-mirror::swarm-registry-mirror:index:RegistryMirror${kind}::{name}"  # noqa: E501


def step(
    op: str,
    kind: str,
    name: str,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
) -> dict[str, Any]:
    states = {"oldState": {"inputs": old}} if old is not None else {}
    return {
        "op": op,
        "urn": urn(kind, name),
        **states,
        **({"newState": {"inputs": new}} if new is not None else {}),
    }


def node(program: str = "eNrFff1320aS4O", **settings: Any) -> dict[str, Any]:
    told = {"mirror": "https://mirror.example.com", "keys": {}, **settings, "program": program}
    return {
        "stdin": json.dumps(told),
        "create": "exec sh agent node.apply",
        "connection": {"host": "10.0.0.1", "user": "root"},
    }


def lines(*steps: dict[str, Any]) -> list[str]:
    return [
        line
        for change in reports.read("prod", {"steps": list(steps)}).changes
        for line in change.lines
    ]


COMMAND, SERVICE, CONFIG = (
    "command:remote:Command",
    "docker:index/service:Service",
    "docker:index/serviceConfig:ServiceConfig",
)


def test_of_a_node_it_says_which_key_changes_from_what_to_what() -> None:
    old = node(keys={"log-driver": "json-file"})
    new = node(mirror="https://new.example.com", keys={"log-driver": "journald", "debug": True})
    assert lines(step("update", COMMAND, "m-node-w1", old, new)) == [
        "mirror: https://mirror.example.com → https://new.example.com",
        "keys.log-driver: json-file → journald",
        "keys.debug: true (new)",
    ]


def test_another_program_of_the_agent_is_a_word_and_not_its_text() -> None:
    shown_lines = lines(
        step("update", COMMAND, "m-node-w1", node("eNrAAAA" * 3000), node("eNrBBBB" * 3000))
    )
    assert shown_lines == ["the agent's program: another version"]


def test_its_digest_in_the_commands_is_not_said_again() -> None:
    def command(program: str, become: str) -> dict[str, Any]:
        digest = hashlib.sha256(program.encode()).hexdigest()
        commands = {
            when: f"{become}python3 -I -c 'x==\"{digest}\"or(y)' node.{when}"
            for when in ("create", "delete")
        }
        return {**node(program), **commands}

    assert lines(step("update", COMMAND, "m", command("a", ""), command("b", ""))) == [
        "the agent's program: another version"
    ]
    others = lines(step("update", COMMAND, "m", command("a", ""), command("b", "sudo -n ")))
    assert [line.partition(":")[0] for line in others] == [
        "the agent's program",
        "create",
        "delete",
    ]


def test_a_label_goes_by_its_name_and_a_digest_is_short() -> None:
    def service(rule: str, image: str) -> dict[str, Any]:
        labels = [
            {"label": "traefik.enable", "value": "true"},
            {"label": "traefik.rule", "value": rule},
        ]
        return {
            "labels": labels,
            "taskSpec": {"containerSpec": {"image": f"registry:3.1.1@sha256:{image * 64}"}},
        }

    assert lines(
        step("update", SERVICE, "m-service", service("Host(`a`)", "1"), service("Host(`b`)", "2"))
    ) == [
        "labels[traefik.rule]: Host(`a`) → Host(`b`)",
        "image: registry:3.1.1@sha256:111111111111… → registry:3.1.1@sha256:222222222222…",
    ]


def test_of_a_list_it_says_what_is_added_and_removed_also_where_it_is_json_in_a_text() -> None:
    old, new = {"sshOpts": '["-i", "key", "-v"]'}, {"sshOpts": '["-i", "other", "-v"]'}
    assert lines(step("update", "pulumi:providers:docker", "manager", old, new)) == [
        "sshOpts: without key, with other"
    ]


def test_the_gate_does_not_repeat_the_services_labels() -> None:
    old, new = (
        {"stdin": json.dumps({"labels": [{"a": "1"}]})},
        {"stdin": json.dumps({"labels": [{"a": "2"}]})},
    )
    assert lines(step("update", COMMAND, "m-ready", old, new)) == []


def test_of_a_long_text_only_what_differs_is_shown_and_not_too_much_of_it() -> None:
    old = "".join(f"line {number}\n" for number in range(100))
    (head, *rest) = lines(
        step(
            "replace",
            CONFIG,
            "m-vcl",
            {"dataRaw": old},
            {"dataRaw": old.replace("line 7\n", "other\n")},
        )
    )
    assert (head, rest) == ("dataRaw:", ["  -line 7", "  +other"])
    many = lines(
        step("replace", CONFIG, "m-vcl", {"dataRaw": old}, {"dataRaw": old.replace("line", "row")})
    )
    assert len(many) == 1 + 12 + 1
    assert many[-1] == "  … and 188 lines more"


def test_the_headline_counts_and_what_wraps_others_does_not_count() -> None:
    steps = [
        step("same", SERVICE, "m-service"),
        step("create", COMMAND, "m-node-w2", new=node()),
        step("delete", COMMAND, "m-node-w1", old=node()),
        {
            "op": "update",
            "urn": "urn:pulumi:prod::swarm-registry-mirror::pulumi:pulumi:Stack::swarm-registry-mirror-prod",  # noqa: E501
        },
    ]
    report = reports.read("prod", {"steps": steps})
    assert report.headline == "prod: 1 new, 1 to delete; 1 stay as they are"
    assert "+ m-node-w2 (node) new\n    mirror: https://mirror.example.com" in reports.as_text(
        report
    )


def test_faults_of_the_configuration_are_all_there_and_pulumis_own_noise_is_not() -> None:
    diagnostics = [
        {
            "severity": "warning",
            "message": "warning: using pulumi-resource-docker from $PATH at /x\n",
        },
        {
            "severity": "error",
            "message": "error: 2 faults in the configuration:\n  - image: …\n  - hostname: …\n",
        },
        {
            "severity": "error",
            "message": "error: an unhandled error occurred: program exited with non-zero exit code:"
            " 1\n",
        },
    ]
    report = reports.read("prod", {"diagnostics": diagnostics})
    assert report.faults == ["2 faults in the configuration:\n  - image: …\n  - hostname: …"]
    assert report.notes == []
    assert report.headline == "prod: this cannot be applied"


def test_a_comment_can_be_found_again_and_nothing_ends_its_block_of_code() -> None:
    report = reports.read(
        "prod",
        {"steps": [step("update", CONFIG, "m-vcl", {"dataRaw": "a"}, {"dataRaw": "```\nrm\n"})]},
    )
    text = reports.as_markdown(report)
    assert text.startswith(reports.marker("prod"))
    assert text.count("```") == 2
    assert "\n! m-vcl (swarm config) changes\n" in text


HOSTILE = "\x1b]0;pwned\x07\x1b[2J@org/team <img src=x> \u202etxt.exe ```\n# heading"


def test_nothing_from_a_pull_request_is_a_control_sequence_or_markup() -> None:
    diagnostics = [
        {"severity": "error", "message": f"error: {HOSTILE}"},
        {"severity": "warning", "message": f"warning: {HOSTILE}"},
    ]
    changed = step(
        "update",
        SERVICE,
        f"m{HOSTILE}",
        {"name": "a", f"k{HOSTILE}": "a"},
        {"name": HOSTILE, f"k{HOSTILE}": "b"},
    )
    report = reports.read("prod", {"steps": [changed], "diagnostics": diagnostics})
    report.violations.append(reports.plain(HOSTILE))
    text, markdown = reports.as_text(report), reports.as_markdown(report)
    for character in "\x1b\x07\u202e":
        assert character not in text + markdown
    # CommonMark 4.5 and 6.1: what is in a fenced block or a span of code is text.
    blocks = re.sub(r"(?ms)^```(?:diff)?\n.*?^```$", "", markdown)
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", blocks)
    assert not [word for word in ("@org", "<img", "heading") if word in outside]


def test_of_a_url_no_user_password_or_query_is_shown() -> None:
    old, new = (
        node(keys={"proxies": {"http-proxy": "http://u:pa/ss@p:1?token=CANARY"}}),
        node(keys={"proxies": {"http-proxy": "http://p:1"}}),
    )
    shown_lines = lines(step("update", COMMAND, "m-node-w1", old, new))
    assert shown_lines == ["keys.proxies.http-proxy: http://[hidden]@p:1?[hidden] → http://p:1"]
    other = node(keys={"proxies": {"http-proxy": "http://u:other@p:1?token=CANARY"}})
    (line,) = lines(step("update", COMMAND, "m-node-w1", old, other))
    assert line.endswith("(they differ in what is not shown)")


def test_two_values_that_are_not_the_same_do_not_look_so() -> None:
    (line,) = lines(
        step(
            "update",
            SERVICE,
            "m",
            {"a": "x" * 300 + "1" + "y" * 300},
            {"a": "x" * 300 + "2" + "y" * 300},
        )
    )
    before, _, after = line.partition(" → ")
    assert ("1" in before, "2" in after, len(line) < 500) == (True, True, True)
    assert before != after
    (line,) = lines(
        step("update", SERVICE, "m", {"a": ["x" * 300 + "1"]}, {"a": ["x" * 300 + "2"]})
    )
    assert line.endswith("(they differ in what is not shown)")


def test_the_bridges_own_remarks_are_no_change() -> None:
    old = {"endpointSpec": {"ports": []}, "__defaults": []}
    assert lines(
        step(
            "update",
            SERVICE,
            "m",
            old,
            {"endpointSpec": {"__defaults": ["x"]}, "__defaults": ["y"]},
        )
    ) == ["endpointSpec.ports:  (removed)"]


def test_values_are_read_through_the_marks_of_secrets_and_outputs() -> None:
    def marked(port: int) -> dict[str, Any]:
        connection = {"host": "h", "port": port, "hostKey": "k", "privateKey": secret("p")}
        return {
            "connection": secret(connection),
            "stdin": {"d0e6a833031e9bbcd3f4e8bde6ca49a4": "x", "secret": True},
        }

    made = step("update", COMMAND, "m-node-a", marked(22), marked(23))
    assert lines(made) == ["connection.port: 22 → 23"]
    (found,) = reports.resources({"steps": [made]})
    assert found["inputs"]["connection"]["hostKey"] == "k"


def test_that_a_preview_has_failed_is_no_reason() -> None:
    assert (
        reports.read(
            "prod", {"diagnostics": [{"severity": "error", "message": "error: preview failed\n"}]}
        ).faults
        == []
    )


# ---------------------------------------------------------------------------------- without secrets


def secret(value: object) -> dict[str, str]:
    return {SIGNATURE: SECRET, "plaintext": json.dumps(value)}


def opened(value: Any) -> Any:
    """A value with its marks, also those within others, opened as `[mark, value]`."""
    if isinstance(value, dict) and value.get(SIGNATURE) == SECRET:
        return ["secret", opened(json.loads(value["plaintext"]))]
    return {key: opened(item) for key, item in value.items()} if isinstance(value, dict) else value


KNOWN = {"sshPrivateKey": KEY, "upstreamToken": TOKEN}


def cleaned(value: object, secrets: Secrets | None = None, **known: str) -> Any:
    """A value of a state after the cleaning; that of a mark where it has one."""
    state = {
        "version": 3,
        "deployment": {
            "resources": [{"inputs": {"it": value}}],
            "secrets_providers": {"type": "passphrase"},
        },
    }
    found = without_secrets(state, secrets or Secrets(known or KNOWN))
    assert "secrets_providers" not in found["deployment"]
    it = found["deployment"]["resources"][0]["inputs"]["it"]
    assert KEY.splitlines()[1] not in json.dumps(it)
    assert TOKEN not in json.dumps(it)
    return json.loads(it["plaintext"]) if isinstance(it, dict) and SIGNATURE in it else it


def test_of_a_connection_everything_stays_but_the_key() -> None:
    found = cleaned(secret({"host": "10.0.0.1", "privateKey": KEY, "hostKey": "ssh-ed25519 AAAA"}))
    assert found == {
        "host": "10.0.0.1",
        "privateKey": placeholder("sshPrivateKey"),
        "hostKey": "ssh-ed25519 AAAA",
    }


def test_a_secret_within_a_secret_stays_one_with_a_placeholder_in_it() -> None:
    # As the official command plugin stores a connection (recorded:
    # tests/unit/cases/states/official-command.json).
    found = cleaned(secret({"host": "h", "privateKey": secret(KEY)}))
    assert opened(found) == {"host": "h", "privateKey": ["secret", placeholder("sshPrivateKey")]}
    rotated = cleaned(secret({"host": "h", "privateKey": secret(KEY.replace("A", "B"))}))
    assert opened(rotated)["privateKey"] == ["secret", ANOTHER_KEY]
    deep = cleaned(secret(secret(secret(TOKEN))))
    assert opened(deep) == ["secret", ["secret", placeholder("upstreamToken")]]


def test_a_key_that_has_been_rotated_since_is_another_placeholder_so_that_the_preview_shows_it() -> (  # noqa: E501
    None
):
    old = cleaned(
        secret({"host": "h", "privateKey": KEY}), sshPrivateKey=FRAME.format("BEGIN") + "new\n"
    )
    assert old["privateKey"] == ANOTHER_KEY != placeholder("sshPrivateKey")


def test_a_connection_with_what_we_do_not_know_is_blanked() -> None:
    assert cleaned(secret({"host": "h", "password": "hunter2", "privateKey": KEY})) == BLANK


def test_a_value_that_is_not_known_yet_stays_unknown_within_a_secret() -> None:
    assert cleaned(secret(UNKNOWN)) == UNKNOWN
    assert cleaned(secret({"host": "h", "privateKey": UNKNOWN}))["privateKey"] == UNKNOWN


PACKED = "eNrFff1320aS4O" * 30


def request(**values: Any) -> str:
    return json.dumps({**values, "program": PACKED})


def test_secrets_inside_requests_and_base64_are_found() -> None:
    found = json.loads(
        cleaned(secret(request(nodes=[{"private_key": KEY}], restart="when-needed")))
    )
    assert found["nodes"] == [{"private_key": placeholder("sshPrivateKey")}]
    assert found["restart"] == "when-needed"
    data = base64.b64encode(
        json.dumps({"ServerURL": "https://u", "Username": "u", "Secret": TOKEN}).encode()
    ).decode()
    assert json.loads(base64.b64decode(cleaned(secret(data)))) == {
        "ServerURL": "https://u",
        "Username": "u",
        "Secret": placeholder("upstreamToken"),
    }


def test_of_credentials_that_were_changed_nothing_secret_stays() -> None:
    data = base64.b64encode(
        json.dumps({"ServerURL": "https://u", "Username": "old", "Secret": "old-token"}).encode()
    ).decode()
    in_the_open = json.loads(base64.b64decode(cleaned(secret(data))))
    assert in_the_open == {"ServerURL": "https://u", "Username": "old", "Secret": BLANK}
    known = {**KNOWN, "upstreamUsername": "new-user"}
    assert json.loads(base64.b64decode(cleaned(secret(data), Secrets(known))))["Username"] == BLANK


@pytest.mark.parametrize(
    "value", ["hunter2", ["hunter2"], {"a": "hunter2"}, 5, None, f"token={TOKEN}"]
)
def test_a_secret_that_nobody_knows_is_blanked_whole(value: object) -> None:
    assert cleaned(secret(value)) == BLANK


@pytest.mark.parametrize(
    "text",
    ["", "aGVsbG8=", "true", "https://mirror.example.com", "/var/lib/registry/docker/aGVsbG8="],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert cleaned(text) == text


ODD = 'p"a\\ss/ wörd+1%'


@pytest.mark.parametrize(
    "spell",
    [
        str,
        json.dumps,
        lambda text: json.dumps(json.dumps({"a": text})),
        lambda text: quote(text, safe=""),
        quote_plus,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: "Basic " + base64.b64encode(f"user:{text}".encode()).decode() + ", ok",
        lambda text: base64.urlsafe_b64encode(f"??>{text}".encode()).decode().rstrip("="),
    ],
)
def test_a_secret_that_got_out_of_its_wrapping_is_found_in_every_spelling(
    spell: Callable[[str], str],
) -> None:
    text = spell(ODD)
    found = cleaned(f"it is {text}!", upstreamToken=ODD)
    assert text not in found
    assert ODD not in found
    token = re.search(r"[A-Za-z0-9+/_-]{40,}=*", found)
    assert "upstreamToken" in (from_base64(token[0]) or "" if token else found)


def test_a_private_key_that_nobody_knows_is_found_in_the_open_and_in_json() -> None:
    assert cleaned(f"key: {KEY}", upstreamToken=TOKEN) == f"key: {ANOTHER_KEY}"
    assert json.loads(cleaned(json.dumps({"key": KEY}), upstreamToken=TOKEN)) == {
        "key": ANOTHER_KEY
    }


@pytest.mark.parametrize("text", ["", "a", "tok", "5000"])
def test_an_empty_or_very_short_secret_garbles_nothing(text: str) -> None:
    assert cleaned("splunk-token at port 5000", upstreamToken=text) == "splunk-token at port 5000"
    if text:
        assert cleaned(secret(text), upstreamToken=text) == placeholder("upstreamToken")


PROXY = "http://user:CANARY-proxy@proxy.example.com:3128"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_proxy_with_a_password_becomes_one_that_the_sandbox_has_too() -> None:
    assert cleaned(secret(encoded(PROXY)), upstreamProxy=PROXY) == encoded(
        placeholder("upstreamProxy")
    )
    assert (
        cleaned(secret(encoded(PROXY.replace("CANARY", "ROTATED"))), upstreamProxy=PROXY) == BLANK
    )
    assert rules.proxy(placeholder("upstreamProxy")) is None


def test_a_proxy_that_is_a_secret_is_one_in_the_sandbox_because_another_resource_carries_it_there() -> (  # noqa: E501
    None
):
    key = "swarm-registry-mirror:upstreamProxy"
    found = file_without_secrets(f"config:\n  {key}: {{secure: v1:abc}}\n", {})
    assert (found.config["config"], found.marked) == ({}, {key: placeholder("upstreamProxy")})
    plain = file_without_secrets(f"config:\n  {key}: http://proxy.example.com:3128\n", {})
    assert (plain.config["config"], plain.marked) == ({key: "http://proxy.example.com:3128"}, {})


def test_the_names_of_resources_are_never_rewritten() -> None:
    resource = {
        "urn": "urn:x::registry-mirror",
        "id": "registry-mirror",
        "dependencies": ["urn:x::registry-mirror"],
    }
    state = {"deployment": {"resources": [{**resource, "inputs": {"name": "registry-mirror"}}]}}
    (found,) = without_secrets(state, Secrets({"upstreamUsername": "registry-mirror"}))[
        "deployment"
    ]["resources"]
    assert {key: found[key] for key in resource} == resource
    assert found["inputs"] == {"name": placeholder("upstreamUsername")}


def test_a_state_loses_what_only_one_computer_knows_and_gets_its_programs_back_for_a_preview() -> (
    None
):
    stdin = request(owner="m")
    resource = {
        "urn": "u",
        "sourcePosition": "project:///__main__.py#1",
        "stackTrace": [{"sourcePosition": "project:///../root/x#1"}],
        "inputs": {"stdin": stdin},
        "outputs": {"stdin": secret(stdin)},
    }
    manifest = {"version": "v3.259.0", "plugins": [{"path": "/root/.pulumi/plugins/x"}]}
    found = without_secrets(
        {"version": 3, "deployment": {"manifest": manifest, "resources": [resource]}}, Secrets()
    )
    text = json.dumps(found)
    assert not [word for word in ("stackTrace", "sourcePosition", "/root", PACKED) if word in text]
    assert with_programs(found, [PACKED])["deployment"]["resources"][0]["inputs"] == {
        "stdin": stdin
    }
    assert PACKED in json.dumps(
        with_programs(found, [PACKED])["deployment"]["resources"][0]["outputs"]
    )
    assert "a packed program" in json.dumps(with_programs(found, ["another"]))


PROXY = "http://user:CANARY-passw0rd@proxy:3128"
STACK_FILE = """
encryptionsalt: v1:abc
config:
  swarm-registry-mirror:hostname: mirror.example.com
  swarm-registry-mirror:sshPrivateKeyFile: ~/.ssh/id
  swarm-registry-mirror:upstreamToken:
    secure: v1:def
  swarm-registry-mirror:daemonKeys:
    log-driver: journald
    dns: [10.0.0.1, {secure: v1:dns}]
    proxies:
      http-proxy:
        secure: v1:ghi
      no-proxy: example.com
  other:token:
    secure: v1:jkl
"""
DAEMON_KEYS = {
    "log-driver": "journald",
    "dns": ["10.0.0.1", "10.0.0.77"],
    "proxies": {"http-proxy": PROXY, "no-proxy": "example.com"},
}
VALUES = {
    "swarm-registry-mirror:hostname": "mirror.example.com",
    "swarm-registry-mirror:sshPrivateKeyFile": "~/.ssh/id",
    "swarm-registry-mirror:upstreamToken": TOKEN,
    "swarm-registry-mirror:daemonKeys": json.dumps(DAEMON_KEYS),
    "other:token": "other-token",
}
WHOLE = "config:\n  swarm-registry-mirror:daemonKeys:\n    secure: v1:abc\n"


def secrets(text: str = STACK_FILE) -> Secrets:
    return secrets_of(text, VALUES, {"~/.ssh/id": KEY}.__getitem__)


def test_what_a_state_must_be_cleaned_of_is_every_secret_at_any_depth_and_the_key_file() -> None:
    assert secrets().known == {
        "sshPrivateKey": KEY,
        "upstreamToken": TOKEN,
        "daemonKeys.dns[1]": "10.0.0.77",
        "daemonKeys.proxies.http-proxy": PROXY,
        "other:token": "other-token",
    }


def test_a_stacks_file_loses_its_secrets_at_any_depth_and_its_salt() -> None:
    found = file_without_secrets(STACK_FILE, {})
    assert found.key_file == "~/.ssh/id"
    assert found.config["config"] == {
        "swarm-registry-mirror:hostname": "mirror.example.com",
        "swarm-registry-mirror:sshPrivateKeyFile": KEY_FILE,
        "swarm-registry-mirror:upstreamToken": placeholder("upstreamToken"),
        "swarm-registry-mirror:daemonKeys": secrets().shown_daemon_keys,
        "other:token": placeholder("other:token"),
    }


def test_a_mapping_that_is_one_secret_keeps_its_shape_in_the_saved_state_and_nothing_else() -> None:
    text = WHOLE + "  swarm-registry-mirror:sshPrivateKeyFile: ~/.ssh/id\n"
    whole = secrets(text)
    shapes = without_secrets({"deployment": {}}, whole)[SHAPES]
    found = file_without_secrets(text, shapes).config["config"]["swarm-registry-mirror:daemonKeys"]
    assert found == whole.shown_daemon_keys
    assert found["log-driver"] == placeholder("daemonKeys.log-driver")
    assert not [word for word in ("journald", "CANARY", "10.0.0") if word in json.dumps(shapes)]
    without = file_without_secrets(text, {})
    assert without.config["config"]["swarm-registry-mirror:daemonKeys"] == {}
    assert "daemonKeys is a secret as a whole" in without.notes[0]


def test_numbers_and_truth_values_that_are_secret_are_replaced_by_some_of_their_kind() -> None:
    values = {
        "swarm-registry-mirror:daemonKeys": json.dumps(
            {"debug": True, "shutdown-timeout": 77, "labels": ["a"]}
        )
    }
    assert secrets_of(WHOLE, values, str).shown_daemon_keys == {
        "debug": False,
        "shutdown-timeout": 1,
        "labels": [placeholder("daemonKeys.labels[0]")],
    }


@pytest.mark.parametrize("text", [STACK_FILE, WHOLE])
def test_keys_of_daemon_json_in_a_request_are_those_of_the_throwaway_stack(text: str) -> None:
    known = secrets(text)
    stdin = json.dumps({"owner": "m", "keys": DAEMON_KEYS, "program": PACKED}, indent=1)
    for value in (secret(stdin), stdin):
        found = cleaned(value, known)  # not marked: the throwaway stack has no secret in it
        assert json.loads(found)["keys"] == known.shown_daemon_keys
        assert "CANARY" not in found
        assert found.startswith(
            '{\n "owner": "m"'
        )  # spelt as before, because a preview compares the texts


def test_a_key_of_daemon_json_that_was_a_secret_before_is_not_kept() -> None:
    before = {
        "proxies": {"http-proxy": "http://OLD", "https-proxy": "http://GONE"},
        "log-opts": {"splunk-token": "OLD"},
        "dns": ["OLD"],
    }
    found = json.loads(cleaned(secret(request(keys=before)), secrets()))["keys"]
    assert found == {
        "proxies": {"http-proxy": ANOTHER, "https-proxy": ANOTHER},
        "log-opts": {"splunk-token": ANOTHER},
        "dns": [ANOTHER],
    }


def test_a_secret_that_somebody_has_entered_in_the_clear_is_one_all_the_same() -> None:
    text = f"config:\n  swarm-registry-mirror:upstreamToken: {TOKEN}\n"
    assert TOKEN not in str(file_without_secrets(text, {}).config)
    assert secrets_of(text, {"swarm-registry-mirror:upstreamToken": TOKEN}, str).known == {
        "upstreamToken": TOKEN
    }


def test_what_the_preview_and_the_state_have_of_a_secret_is_the_same_placeholder() -> None:
    # Whatever the settings make of it: the throwaway stack's value at each path is what stands in
    # the cleaned state.
    config = file_without_secrets(STACK_FILE, secrets().shapes).config["config"]
    assert config["swarm-registry-mirror:daemonKeys"] == secrets().shown_daemon_keys
    assert config["swarm-registry-mirror:upstreamToken"] == cleaned(secret(TOKEN))


@pytest.mark.parametrize(
    "text", ["- a\n", "config: 5\n", "config: [a]\n", "a: [\n", "config: {1: a}\n"]
)
def test_a_file_that_is_no_stacks_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    file = file.rename(tmp_path / "Pulumi.prod.yaml")
    (tmp_path / "Pulumi.yaml").write_text("name: swarm-registry-mirror\n")
    with (
        pytest.raises(CommandError, match=r"Pulumi\.prod\.yaml"),
        sandbox(tmp_path, "prod", file, {}),
    ):
        pass


# -------------------------------------------------------------------------------------- the sandbox


def program_folder(folder: Path, **project: str) -> Path:
    program = folder / "program"
    (program / "config").mkdir(parents=True)
    (program / "Pulumi.yaml").write_text(
        json.dumps({"name": "swarm-registry-mirror", "runtime": "python", **project})
    )
    (program / "Pulumi.other.yaml").write_text("x")
    return program


def test_the_sandbox_has_links_to_the_program_and_files_of_its_own_for_what_is_secret(
    tmp_path: Path,
) -> None:
    program = program_folder(tmp_path)
    (program / "Pulumi.prod.yaml").write_text(STACK_FILE)
    with sandbox(
        program, "prod", program / "Pulumi.prod.yaml", {"PULUMI_CONFIG_PASSPHRASE_FILE": "secret"}
    ) as made:
        assert (made.folder / "config").is_symlink()
        assert not (made.folder / "Pulumi.other.yaml").exists()
        assert "secure" not in (made.folder / "Pulumi.prod.yaml").read_text()
        assert (made.folder / KEY_FILE).read_text() == placeholder("sshPrivateKey")
        assert made.environment["PULUMI_BACKEND_URL"].startswith(f"file://{made.folder}")
        assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in made.environment
    assert not made.folder.exists()
    assert (program / "Pulumi.prod.yaml").read_text() == STACK_FILE


def test_a_program_that_keeps_its_stacks_elsewhere_has_nothing_written_there(
    tmp_path: Path,
) -> None:
    """Pulumi writes into the stack's file, and through a link that would be the user's own."""
    program = program_folder(tmp_path, stackConfigDir="config")
    file = program / "config" / "Pulumi.prod.yaml"
    file.write_text(STACK_FILE)
    with sandbox(program, "prod", file, {}) as made:
        assert "stackConfigDir" not in (made.folder / "Pulumi.yaml").read_text()
        assert not (made.folder / "Pulumi.prod.yaml").is_symlink()
        assert "secure" not in (made.folder / "Pulumi.prod.yaml").read_text()
    assert file.read_text() == STACK_FILE


@pytest.mark.parametrize(("tried", "changed"), [(False, False), (True, False), (True, True)])
def test_pulumi_enforces_a_pack_where_it_was_seen_to_run_it(
    tmp_path: Path, tried: bool, changed: bool
) -> None:
    pack = tmp_path / "pack"
    packs.write(pack)
    environment = {"PATH": f"/nowhere:{tmp_path}"}
    for name, code in (("pulumi", "exit 0"), ("pulumi-language-python", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    if tried:
        assert packs.try_out(pack, environment)
    if changed:
        (tmp_path / "pulumi-language-python").write_text("another host")
    made = Sandbox(tmp_path, "prod", environment, Redacted({}, None, []), [pack])
    assert made.policy_options() == (["--policy-pack", str(pack)] if tried and not changed else [])


def test_a_pulumi_that_cannot_run_the_pack_is_not_asked_to(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    packs.write(pack)
    (tmp_path / "pulumi").write_text('#!/bin/sh\n[ "$1" = stack ]\n')
    (tmp_path / "pulumi").chmod(0o755)
    assert not packs.try_out(pack, {"PATH": str(tmp_path)})
    assert not packs.usable(pack, {"PATH": str(tmp_path)})
    assert not packs.try_out(pack, {"PATH": "/nowhere"})


def test_a_folder_that_holds_another_program_is_not_made_a_pack(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text("print('mine')")
    with pytest.raises(CommandError, match="holds another program"):
        packs.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["__main__.py"]


# --------------------------------------------------------------------------------------- the impact


def impact(*steps: dict[str, Any]) -> str:
    return reports.read("prod", {"steps": list(steps)}).impact


@pytest.mark.parametrize(
    ("op", "old", "new", "words"),
    [
        ("create", None, {}, "docker reloads on up to 1 node"),
        ("delete", {}, None, "docker reloads on up to 1 node"),
        ("update", {}, {"mirror": "https://new.test"}, "docker reloads on up to 1 node"),
        ("update", {}, {"keys": {"debug": True}}, "docker reloads on up to 1 node"),
        ("update", {}, {"keys": {"debug": False}}, "docker reloads on up to 1 node"),
        ("update", {}, {"allow_from": ["10.0.0.0/8"]}, "no docker is touched"),
        ("update", {}, {"keys": {"log-driver": "journald"}}, "no docker is touched"),
        (
            "update",
            {},
            {"keys": {"log-driver": "journald"}, "restart": "when-needed"},
            "docker restarts on 1 node",
        ),
        (
            "update",
            {"keys": {"log-driver": "journald", "debug": True}, "restart": "when-needed"},
            {"restart": "when-needed"},
            "docker reloads on up to 1 node, docker restarts on 1 node",
        ),
    ],
)
def test_what_a_change_of_a_node_does_to_its_docker(
    op: str, old: dict[str, Any] | None, new: dict[str, Any] | None, words: str
) -> None:
    sides = (node(**side) if side is not None else None for side in (old, new))
    assert impact(step(op, COMMAND, "anything", *sides)) == words


def test_the_mirrors_own_restart_is_said_and_of_nodes_their_number() -> None:
    steps = [
        step("update", SERVICE, "m-service", {"name": "a"}, {"name": "b"}),
        *(step("create", COMMAND, f"n{number}", new=node()) for number in range(2)),
        step("create", COMMAND, "other", new={"create": "true"}),
    ]
    assert impact(*steps) == "the mirror restarts, docker reloads on up to 2 nodes"
    assert impact(step("create", SERVICE, "m-service", new={})) == "no docker is touched"


def test_the_heading_has_verdict_impact_and_what_it_was_compared_with() -> None:
    changed = step("update", COMMAND, "n", node(), node(mirror="https://new.test"))
    state = {"deployment": {"manifest": {"time": "2026-11-26T23:43:53.123456789Z"}}}
    report = dataclasses.replace(
        reports.read("prod", {"steps": [changed]}), compared_with=reports.time_of(state)
    )
    report.violations.append("a: is wrong")
    heading, _, counts = reports.as_markdown(report).splitlines()[1:4]
    assert heading == ("### Preview of prod: 1 policy violation; docker reloads on up to 1 node")
    assert counts == "1 to change (compared with the state of 2026-11-26 23:43 UTC)"
    report.violations.append("b: is wrong")
    assert report.verdict == "2 policy violations"
    faulty = reports.read("prod", {"diagnostics": [{"severity": "error", "message": "error: x"}]})
    assert (faulty.verdict, faulty.impact) == ("cannot be applied", "nothing is changed")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("2026-11-26T23:43:53.1+01:00", "2026-11-26 23:43 +01:00"),
        ("yesterday <script>", ""),
        ("2026-11-26T23:43:53Z\n# heading", ""),
        (None, ""),
    ],
)
def test_a_time_that_is_none_is_not_repeated(time: object, words: str) -> None:
    assert reports.time_of({"deployment": {"manifest": {"time": time}}}) == words
    assert reports.time_of(None) == reports.time_of({}) == ""


def test_what_only_stands_between_two_waves_is_no_change() -> None:
    barrier = {"logging": "none", "addPreviousOutputInEnv": False}
    report = reports.read(
        "prod", {"steps": [step("create", "command:local:Command", "anything", new=barrier)]}
    )
    assert report.changes == []


# ------------------------------------------------------------------------------- another's program

ESTATES = Conventions("estate")
ESTATES_FILE = """
config:
  estate:sshPrivateKey: {secure: v1:key}
  estate:deployKey: |
    {pem}
  estate:inventory: {secure: v1:inventory}
  estate:name: open
""".replace("{pem}", KEY.replace("\n", "\n    "))
INVENTORY = {"hosts": [{"name": "CANARY-1"}], "token": "CANARY-2", "retries": 5}
ESTATES_VALUES = {
    "estate:sshPrivateKey": KEY,
    "estate:deployKey": KEY,
    "estate:inventory": json.dumps(INVENTORY),
    "estate:name": "open",
}


def test_of_a_program_that_is_not_ours_every_marked_value_and_every_private_key_is_replaced() -> (
    None
):
    secrets = configuration.secrets_of(ESTATES_FILE, ESTATES_VALUES, str, ESTATES)
    assert secrets.known == {
        "sshPrivateKey": KEY,
        "deployKey": KEY,
        "inventory.hosts[0].name": "CANARY-1",
        "inventory.token": "CANARY-2",
    }
    found = configuration.without_secrets(ESTATES_FILE, secrets.shapes, ESTATES)
    text = json.dumps(found.config)
    assert "CANARY" not in text
    assert KEY.splitlines()[1] not in text
    values = found.config["config"]
    assert rules.private_key(values["estate:sshPrivateKey"]) is None, "a program takes it for one"
    assert values["estate:inventory"]["hosts"][0]["name"] == placeholder("inventory.hosts[0].name")
    assert values["estate:inventory"]["retries"] == 1
    assert values["estate:name"] == "open"


def test_the_conventions_are_those_of_this_checkouts_configuration() -> None:
    """The command imports no configuration, so its own list of what is special is held to it."""
    ours = Conventions("swarm-registry-mirror")
    assert ours.secret == {name for name, key in KEYS.items() if key.secret}
    stays = {name for name, key in KEYS.items() if key.stays_secret}
    assert ours.objects == {name for name in stays if KEYS[name].kind == "object"}
    assert ours.carried | ours.objects | ours.secret | {"upstreamUsername", "registries"} == stays
    assert ours.key_files <= set(KEYS)
