"""A preview that people read: which key changes from what to what, no program text, no secret."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from components.registry_mirror import rules
from review import pack
from review import report as reports
from review.configuration import KEY_FILE, Redacted, Secrets, secrets_of
from review.configuration import without_secrets as file_without_secrets
from review.placeholders import ANOTHER, ANOTHER_KEY, BLANK, placeholder
from review.room import Room, RoomError, room
from review.spelling import from_base64
from review.state import SECRET, SHAPES, SIGNATURE, UNKNOWN, with_programs, without_secrets
from tests.unit.test_settings import FRAME, KEY

TOKEN = "dckr_pat_0123456789"


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:prod::swarm-registry-mirror::swarm-registry-mirror:index:RegistryMirror${kind}::{name}"


def step(op: str, kind: str, name: str, old: dict[str, Any] | None = None, new: dict[str, Any] | None = None) -> dict[str, Any]:
    states = {"oldState": {"inputs": old}} if old is not None else {}
    return {"op": op, "urn": urn(kind, name), **states, **({"newState": {"inputs": new}} if new is not None else {})}


def node(program: str = "eNrFff1320aS4O", **settings: Any) -> dict[str, Any]:
    told = {"mirror": "https://mirror.example.com", "keys": {}, **settings, "program": program}
    return {"stdin": json.dumps(told), "connection": {"host": "10.0.0.1", "user": "root"}}


def lines(*steps: dict[str, Any]) -> list[str]:
    return [line for change in reports.read("prod", {"steps": list(steps)}).changes for line in change.lines]


COMMAND, SERVICE, CONFIG = "command:remote:Command", "docker:index/service:Service", "docker:index/serviceConfig:ServiceConfig"


def test_of_a_node_it_says_which_key_changes_from_what_to_what() -> None:
    old = node(keys={"log-driver": "json-file"})
    new = node(mirror="https://new.example.com", keys={"log-driver": "journald", "debug": True})
    assert lines(step("update", COMMAND, "m-node-w1", old, new)) == [
        "mirror: https://mirror.example.com → https://new.example.com",
        "keys.log-driver: json-file → journald",
        "keys.debug: true (new)",
    ]


def test_another_program_of_the_agent_is_a_word_and_not_its_text() -> None:
    found = lines(step("update", COMMAND, "m-node-w1", node("eNrAAAA" * 3000), node("eNrBBBB" * 3000)))
    assert found == ["the agent's program: another version"]


def test_its_digest_in_the_commands_is_not_said_again() -> None:
    def command(program: str, become: str) -> dict[str, Any]:
        digest = hashlib.sha256(program.encode()).hexdigest()
        commands = {when: f"{become}python3 -I -c 'x==\"{digest}\"or(y)' node.{when}" for when in ("create", "delete")}
        return {**node(program), **commands}

    assert lines(step("update", COMMAND, "m", command("a", ""), command("b", ""))) == ["the agent's program: another version"]
    others = lines(step("update", COMMAND, "m", command("a", ""), command("b", "sudo -n ")))
    assert [line.partition(":")[0] for line in others] == ["the agent's program", "create", "delete"]


def test_a_label_goes_by_its_name_and_a_digest_is_short() -> None:
    def service(rule: str, image: str) -> dict[str, Any]:
        labels = [{"label": "traefik.enable", "value": "true"}, {"label": "traefik.rule", "value": rule}]
        return {"labels": labels, "taskSpec": {"containerSpec": {"image": f"registry:3.1.1@sha256:{image * 64}"}}}

    assert lines(step("update", SERVICE, "m-service", service("Host(`a`)", "1"), service("Host(`b`)", "2"))) == [
        "labels[traefik.rule]: Host(`a`) → Host(`b`)",
        "image: registry:3.1.1@sha256:111111111111… → registry:3.1.1@sha256:222222222222…",
    ]


def test_of_a_list_it_says_what_comes_and_what_goes_also_where_it_is_json_in_a_text() -> None:
    old, new = {"sshOpts": '["-i", "key", "-v"]'}, {"sshOpts": '["-i", "other", "-v"]'}
    assert lines(step("update", "pulumi:providers:docker", "manager", old, new)) == ["sshOpts: without key, with other"]


def test_the_gate_does_not_repeat_the_services_labels() -> None:
    old, new = {"stdin": json.dumps({"labels": [{"a": "1"}]})}, {"stdin": json.dumps({"labels": [{"a": "2"}]})}
    assert lines(step("update", COMMAND, "m-ready", old, new)) == []


def test_of_a_long_text_only_what_differs_is_shown_and_not_too_much_of_it() -> None:
    old = "".join(f"line {number}\n" for number in range(100))
    (head, *rest) = lines(step("replace", CONFIG, "m-vcl", {"dataRaw": old}, {"dataRaw": old.replace("line 7\n", "other\n")}))
    assert (head, rest) == ("dataRaw:", ["  -line 7", "  +other"])
    many = lines(step("replace", CONFIG, "m-vcl", {"dataRaw": old}, {"dataRaw": old.replace("line", "row")}))
    assert len(many) == 1 + 12 + 1
    assert many[-1] == "  … and 188 lines more"


def test_the_headline_counts_and_what_wraps_others_does_not_count() -> None:
    steps = [
        step("same", SERVICE, "m-service"),
        step("create", COMMAND, "m-node-w2", new=node()),
        step("delete", COMMAND, "m-node-w1", old=node()),
        {"op": "update", "urn": "urn:pulumi:prod::swarm-registry-mirror::pulumi:pulumi:Stack::swarm-registry-mirror-prod"},
    ]
    found = reports.read("prod", {"steps": steps})
    assert found.headline == "prod: 1 new, 1 to go; 1 stay as they are"
    assert "+ m-node-w2 (node) new\n    mirror: https://mirror.example.com" in reports.as_text(found)


def test_faults_of_the_configuration_are_all_there_and_pulumis_own_noise_is_not() -> None:
    diagnostics = [
        {"severity": "warning", "message": "warning: using pulumi-resource-docker from $PATH at /x\n"},
        {"severity": "error", "message": "error: 2 faults in the configuration:\n  - image: …\n  - hostname: …\n"},
        {"severity": "error", "message": "error: an unhandled error occurred: program exited with non-zero exit code: 1\n"},
    ]
    found = reports.read("prod", {"diagnostics": diagnostics})
    assert found.faults == ["2 faults in the configuration:\n  - image: …\n  - hostname: …"]
    assert found.notes == []
    assert found.headline == "prod: this cannot be applied"


def test_a_comment_can_be_found_again_and_nothing_ends_its_block_of_code() -> None:
    found = reports.read("prod", {"steps": [step("update", CONFIG, "m-vcl", {"dataRaw": "a"}, {"dataRaw": "```\nrm\n"})]})
    text = reports.as_markdown(found)
    assert text.startswith(reports.marker("prod"))
    assert text.count("```") == 2
    assert "\n! m-vcl (swarm config) changes\n" in text


HOSTILE = "\x1b]0;pwned\x07\x1b[2J@org/team <img src=x> \u202etxt.exe ```\n# heading"


def test_nothing_from_a_pull_request_is_a_control_sequence_or_markup() -> None:
    diagnostics = [
        {"severity": "error", "message": f"error: {HOSTILE}"},
        {"severity": "warning", "message": f"warning: {HOSTILE}"},
    ]
    changed = step("update", SERVICE, f"m{HOSTILE}", {"name": "a", f"k{HOSTILE}": "a"}, {"name": HOSTILE, f"k{HOSTILE}": "b"})
    found = reports.read("prod", {"steps": [changed], "diagnostics": diagnostics})
    found.violations.append(reports.plain(HOSTILE))
    text, markdown = reports.as_text(found), reports.as_markdown(found)
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
    found = lines(step("update", COMMAND, "m-node-w1", old, new))
    assert found == ["keys.proxies.http-proxy: http://[hidden]@p:1?[hidden] → http://p:1"]
    other = node(keys={"proxies": {"http-proxy": "http://u:other@p:1?token=CANARY"}})
    (line,) = lines(step("update", COMMAND, "m-node-w1", old, other))
    assert line.endswith("(they differ in what is not shown)")


def test_two_values_that_are_not_the_same_do_not_look_so() -> None:
    (line,) = lines(step("update", SERVICE, "m", {"a": "x" * 300 + "1" + "y" * 300}, {"a": "x" * 300 + "2" + "y" * 300}))
    before, _, after = line.partition(" → ")
    assert ("1" in before, "2" in after, len(line) < 500) == (True, True, True)
    assert before != after
    (line,) = lines(step("update", SERVICE, "m", {"a": ["x" * 300 + "1"]}, {"a": ["x" * 300 + "2"]}))
    assert line.endswith("(they differ in what is not shown)")


def test_the_bridges_own_remarks_are_no_change() -> None:
    old = {"endpointSpec": {"ports": []}, "__defaults": []}
    assert lines(step("update", SERVICE, "m", old, {"endpointSpec": {"__defaults": ["x"]}, "__defaults": ["y"]})) == [
        "endpointSpec.ports:  (goes)"
    ]


def test_values_are_read_through_the_marks_of_secrets_and_outputs() -> None:
    def marked(port: int) -> dict[str, Any]:
        connection = {"host": "h", "port": port, "hostKey": "k", "privateKey": secret("p")}
        return {"connection": secret(connection), "stdin": {"d0e6a833031e9bbcd3f4e8bde6ca49a4": "x", "secret": True}}

    made = step("update", COMMAND, "m-node-a", marked(22), marked(23))
    assert lines(made) == ["connection.port: 22 → 23"]
    (found,) = reports.resources({"steps": [made]})
    assert found["inputs"]["connection"]["hostKey"] == "k"


def test_that_a_preview_has_failed_is_no_reason() -> None:
    assert reports.read("prod", {"diagnostics": [{"severity": "error", "message": "error: preview failed\n"}]}).faults == []


# ---------------------------------------------------------------------------------------------------- without secrets


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
    state = {"version": 3, "deployment": {"resources": [{"inputs": {"it": value}}], "secrets_providers": {"type": "passphrase"}}}
    found = without_secrets(state, secrets or Secrets(known or KNOWN))
    assert "secrets_providers" not in found["deployment"]
    it = found["deployment"]["resources"][0]["inputs"]["it"]
    assert KEY.splitlines()[1] not in json.dumps(it)
    assert TOKEN not in json.dumps(it)
    return json.loads(it["plaintext"]) if isinstance(it, dict) and SIGNATURE in it else it


def test_of_a_connection_everything_stays_but_the_key() -> None:
    found = cleaned(secret({"host": "10.0.0.1", "privateKey": KEY, "hostKey": "ssh-ed25519 AAAA"}))
    assert found == {"host": "10.0.0.1", "privateKey": placeholder("sshPrivateKey"), "hostKey": "ssh-ed25519 AAAA"}


def test_a_secret_within_a_secret_stays_one_with_a_placeholder_in_it() -> None:
    # As the official command plugin stores a connection (recorded: tests/unit/cases/states/official-command.json).
    found = cleaned(secret({"host": "h", "privateKey": secret(KEY)}))
    assert opened(found) == {"host": "h", "privateKey": ["secret", placeholder("sshPrivateKey")]}
    rotated = cleaned(secret({"host": "h", "privateKey": secret(KEY.replace("A", "B"))}))
    assert opened(rotated)["privateKey"] == ["secret", ANOTHER_KEY]
    deep = cleaned(secret(secret(secret(TOKEN))))
    assert opened(deep) == ["secret", ["secret", placeholder("upstreamToken")]]


def test_a_key_that_has_been_rotated_since_is_another_placeholder_so_that_the_preview_shows_it() -> None:
    old = cleaned(secret({"host": "h", "privateKey": KEY}), sshPrivateKey=FRAME.format("BEGIN") + "new\n")
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
    found = json.loads(cleaned(secret(request(nodes=[{"private_key": KEY}], restart="when-needed"))))
    assert found["nodes"] == [{"private_key": placeholder("sshPrivateKey")}]
    assert found["restart"] == "when-needed"
    data = base64.b64encode(json.dumps({"ServerURL": "https://u", "Username": "u", "Secret": TOKEN}).encode()).decode()
    assert json.loads(base64.b64decode(cleaned(secret(data)))) == {
        "ServerURL": "https://u", "Username": "u", "Secret": placeholder("upstreamToken"),
    }  # fmt: skip


def test_of_credentials_that_were_changed_nothing_secret_stays() -> None:
    data = base64.b64encode(json.dumps({"ServerURL": "https://u", "Username": "old", "Secret": "old-token"}).encode()).decode()
    in_the_open = json.loads(base64.b64decode(cleaned(secret(data))))
    assert in_the_open == {"ServerURL": "https://u", "Username": "old", "Secret": BLANK}
    known = {**KNOWN, "upstreamUsername": "new-user"}
    assert json.loads(base64.b64decode(cleaned(secret(data), Secrets(known))))["Username"] == BLANK


@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"a": "hunter2"}, 5, None, f"token={TOKEN}"])
def test_a_secret_that_nobody_knows_is_blanked_whole(value: object) -> None:
    assert cleaned(secret(value)) == BLANK


@pytest.mark.parametrize("text", ["", "aGVsbG8=", "true", "https://mirror.example.com", "/var/lib/registry/docker/aGVsbG8="])
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
def test_a_secret_that_got_out_of_its_wrapping_is_found_in_every_spelling(spell: Callable[[str], str]) -> None:
    text = spell(ODD)
    found = cleaned(f"it is {text}!", upstreamToken=ODD)
    assert text not in found
    assert ODD not in found
    token = re.search(r"[A-Za-z0-9+/_-]{40,}=*", found)
    assert "upstreamToken" in (from_base64(token[0]) or "" if token else found)


def test_a_private_key_that_nobody_knows_is_found_in_the_open_and_in_json() -> None:
    assert cleaned(f"key: {KEY}", upstreamToken=TOKEN) == f"key: {ANOTHER_KEY}"
    assert json.loads(cleaned(json.dumps({"key": KEY}), upstreamToken=TOKEN)) == {"key": ANOTHER_KEY}


@pytest.mark.parametrize("text", ["", "a", "tok", "5000"])
def test_an_empty_or_very_short_secret_garbles_nothing(text: str) -> None:
    assert cleaned("splunk-token at port 5000", upstreamToken=text) == "splunk-token at port 5000"
    if text:
        assert cleaned(secret(text), upstreamToken=text) == placeholder("upstreamToken")


PROXY = "http://user:CANARY-proxy@proxy.example.com:3128"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_proxy_with_a_password_becomes_one_that_the_room_has_too() -> None:
    assert cleaned(secret(encoded(PROXY)), upstreamProxy=PROXY) == encoded(placeholder("upstreamProxy"))
    assert cleaned(secret(encoded(PROXY.replace("CANARY", "ROTATED"))), upstreamProxy=PROXY) == BLANK
    assert rules.proxy(placeholder("upstreamProxy")) is None


def test_a_proxy_that_is_a_secret_is_one_in_the_room_because_another_resource_carries_it_there() -> None:
    key = "swarm-registry-mirror:upstreamProxy"
    found = file_without_secrets(f"config:\n  {key}: {{secure: v1:abc}}\n", {})
    assert (found.config["config"], found.marked) == ({}, {key: placeholder("upstreamProxy")})
    plain = file_without_secrets(f"config:\n  {key}: http://proxy.example.com:3128\n", {})
    assert (plain.config["config"], plain.marked) == ({key: "http://proxy.example.com:3128"}, {})


def test_the_names_of_resources_are_never_rewritten() -> None:
    resource = {"urn": "urn:x::registry-mirror", "id": "registry-mirror", "dependencies": ["urn:x::registry-mirror"]}
    state = {"deployment": {"resources": [{**resource, "inputs": {"name": "registry-mirror"}}]}}
    (found,) = without_secrets(state, Secrets({"upstreamUsername": "registry-mirror"}))["deployment"]["resources"]
    assert {key: found[key] for key in resource} == resource
    assert found["inputs"] == {"name": placeholder("upstreamUsername")}


def test_a_state_loses_what_only_one_computer_knows_and_gets_its_programs_back_for_a_preview() -> None:
    stdin = request(owner="m")
    resource = {
        "urn": "u", "sourcePosition": "project:///__main__.py#1", "stackTrace": [{"sourcePosition": "project:///../root/x#1"}],
        "inputs": {"stdin": stdin}, "outputs": {"stdin": secret(stdin)},
    }  # fmt: skip
    manifest = {"version": "v3.259.0", "plugins": [{"path": "/root/.pulumi/plugins/x"}]}
    found = without_secrets({"version": 3, "deployment": {"manifest": manifest, "resources": [resource]}}, Secrets())
    text = json.dumps(found)
    assert not [word for word in ("stackTrace", "sourcePosition", "/root", PACKED) if word in text]
    assert with_programs(found, [PACKED])["deployment"]["resources"][0]["inputs"] == {"stdin": stdin}
    assert PACKED in json.dumps(with_programs(found, [PACKED])["deployment"]["resources"][0]["outputs"])
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
    values = {"swarm-registry-mirror:daemonKeys": json.dumps({"debug": True, "shutdown-timeout": 77, "labels": ["a"]})}
    assert secrets_of(WHOLE, values, str).shown_daemon_keys == {
        "debug": False, "shutdown-timeout": 1, "labels": [placeholder("daemonKeys.labels[0]")],
    }  # fmt: skip


@pytest.mark.parametrize("text", [STACK_FILE, WHOLE])
def test_keys_of_daemon_json_in_a_request_are_those_of_the_throwaway_stack(text: str) -> None:
    known = secrets(text)
    stdin = json.dumps({"owner": "m", "keys": DAEMON_KEYS, "program": PACKED}, indent=1)
    for value in (secret(stdin), stdin):
        found = cleaned(value, known)  # not marked: the throwaway stack has no secret in it
        assert json.loads(found)["keys"] == known.shown_daemon_keys
        assert "CANARY" not in found
        assert found.startswith('{\n "owner": "m"')  # spelt as before, because a preview compares the texts


def test_a_key_of_daemon_json_that_was_a_secret_before_is_not_kept() -> None:
    before = {
        "proxies": {"http-proxy": "http://OLD", "https-proxy": "http://GONE"},
        "log-opts": {"splunk-token": "OLD"},
        "dns": ["OLD"],
    }
    found = json.loads(cleaned(secret(request(keys=before)), secrets()))["keys"]
    assert found == {
        "proxies": {"http-proxy": ANOTHER, "https-proxy": ANOTHER}, "log-opts": {"splunk-token": ANOTHER}, "dns": [ANOTHER],
    }  # fmt: skip


def test_a_secret_that_somebody_has_entered_in_the_clear_is_one_all_the_same() -> None:
    text = f"config:\n  swarm-registry-mirror:upstreamToken: {TOKEN}\n"
    assert TOKEN not in str(file_without_secrets(text, {}).config)
    assert secrets_of(text, {"swarm-registry-mirror:upstreamToken": TOKEN}, str).known == {"upstreamToken": TOKEN}


def test_what_the_preview_and_the_state_have_of_a_secret_is_the_same_placeholder() -> None:
    # Whatever the settings make of it: the throwaway stack's value at each path is what stands in the cleaned state.
    config = file_without_secrets(STACK_FILE, secrets().shapes).config["config"]
    assert config["swarm-registry-mirror:daemonKeys"] == secrets().shown_daemon_keys
    assert config["swarm-registry-mirror:upstreamToken"] == cleaned(secret(TOKEN))


@pytest.mark.parametrize("text", ["- a\n", "config: 5\n", "config: [a]\n", "a: [\n", "config: {1: a}\n"])
def test_a_file_that_is_no_stacks_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(RoomError, match=r"Pulumi\.prod\.yaml"), room(tmp_path, "prod", file, {}):
        pass


# ---------------------------------------------------------------------------------------------------- the room


def test_the_room_has_links_to_the_checkout_and_files_of_its_own_for_what_is_secret(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "config").mkdir(parents=True)
    for name in ("Pulumi.yaml", "Pulumi.other.yaml"):
        (checkout / name).write_text("x")
    (checkout / "Pulumi.prod.yaml").write_text(STACK_FILE)
    with room(checkout, "prod", checkout / "Pulumi.prod.yaml", {"PULUMI_CONFIG_PASSPHRASE_FILE": "secret"}) as made:
        assert (made.folder / "config").is_symlink()
        assert not (made.folder / "Pulumi.other.yaml").exists()
        assert "secure" not in (made.folder / "Pulumi.prod.yaml").read_text()
        assert (made.folder / KEY_FILE).read_text() == placeholder("sshPrivateKey")
        assert made.environment["PULUMI_BACKEND_URL"].startswith(f"file://{made.folder}")
        assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in made.environment
    assert not made.folder.exists()
    assert (checkout / "Pulumi.prod.yaml").read_text() == STACK_FILE


@pytest.mark.parametrize(("tried", "changed"), [(False, False), (True, False), (True, True)])
def test_pulumi_enforces_the_policies_where_it_was_seen_to_run_the_pack(tmp_path: Path, tried: bool, changed: bool) -> None:
    (tmp_path / "policy" / "venv").mkdir(parents=True)
    environment = {"PATH": f"/nowhere:{tmp_path}"}
    for name, code in (("pulumi", "exit 0"), ("pulumi-language-python", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    if tried:
        assert pack.try_out(tmp_path, environment)
    if changed:
        (tmp_path / "pulumi-language-python").write_text("another host")
    option = Room(tmp_path, "prod", environment, Redacted({}, None, [])).policy_pack()
    assert option == (["--policy-pack", "policy"] if tried and not changed else [])


def test_a_pulumi_that_cannot_run_the_pack_is_not_asked_to(tmp_path: Path) -> None:
    (tmp_path / "policy" / "venv").mkdir(parents=True)
    (tmp_path / "pulumi").write_text('#!/bin/sh\n[ "$1" = stack ]\n')
    (tmp_path / "pulumi").chmod(0o755)
    assert not pack.try_out(tmp_path, {"PATH": str(tmp_path)})
    assert not pack.usable(tmp_path, {"PATH": str(tmp_path)})
    assert not pack.try_out(tmp_path, {"PATH": "/nowhere"})
