"""A preview that people read: which key changes from what to what, no program text, no secret."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from review import report as reports
from review.room import KEY_FILE, POLICY_HOST, Room, RoomError, room, secrets_of
from review.room import without_secrets as file_without_secrets
from review.state import ANOTHER_KEY, BLANK, SECRET, SIGNATURE, placeholder, without_secrets
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


# ---------------------------------------------------------------------------------------------------- without secrets


def secret(value: object) -> dict[str, str]:
    return {SIGNATURE: SECRET, "plaintext": json.dumps(value)}


def cleaned(value: object, **known: str) -> Any:
    state = {"version": 3, "deployment": {"resources": [{"inputs": {"it": value}}], "secrets_providers": {"type": "passphrase"}}}
    found = without_secrets(state, known or {"sshPrivateKey": KEY, "upstreamToken": TOKEN})
    assert "secrets_providers" not in found["deployment"]
    it = found["deployment"]["resources"][0]["inputs"]["it"]
    assert KEY.splitlines()[1] not in json.dumps(it)
    assert TOKEN not in json.dumps(it)
    return json.loads(it["plaintext"]) if isinstance(it, dict) and SIGNATURE in it else it


def test_of_a_connection_everything_stays_but_the_key() -> None:
    found = cleaned(secret({"host": "10.0.0.1", "privateKey": KEY, "hostKey": "ssh-ed25519 AAAA"}))
    assert found == {"host": "10.0.0.1", "privateKey": placeholder("sshPrivateKey"), "hostKey": "ssh-ed25519 AAAA"}


def test_a_key_that_has_been_rotated_since_is_another_placeholder_so_that_the_preview_shows_it() -> None:
    old = cleaned(secret({"host": "h", "privateKey": KEY}), sshPrivateKey=FRAME.format("BEGIN") + "new\n")
    assert old["privateKey"] == ANOTHER_KEY != placeholder("sshPrivateKey")


def test_a_connection_with_what_we_do_not_know_is_blanked() -> None:
    assert cleaned(secret({"host": "h", "password": "hunter2", "privateKey": KEY})) == BLANK


def test_secrets_inside_json_and_base64_are_found() -> None:
    request = json.dumps({"nodes": [{"private_key": KEY}], "restart": "when-needed"})
    assert json.loads(cleaned(secret(request))) == {
        "nodes": [{"private_key": placeholder("sshPrivateKey")}],
        "restart": "when-needed",
    }
    data = base64.b64encode(json.dumps({"Username": "u", "Secret": TOKEN}).encode()).decode()
    assert json.loads(base64.b64decode(cleaned(secret(data)))) == {"Username": "u", "Secret": placeholder("upstreamToken")}


@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"a": "hunter2"}, 5, None])
def test_a_secret_that_nobody_knows_is_blanked_whole(value: object) -> None:
    assert cleaned(secret(value)) == BLANK


@pytest.mark.parametrize("text", ["", "aGVsbG8=", "true", "https://mirror.example.com"])
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert cleaned(text) == text


def test_a_secret_that_got_out_of_its_wrapping_is_found_too() -> None:
    assert cleaned(f"token={TOKEN}") == f"token={placeholder('upstreamToken')}"
    assert cleaned(f"key: {KEY}", upstreamToken=TOKEN) == f"key: {ANOTHER_KEY}"


STACK_FILE = """
encryptionsalt: v1:abc
config:
  swarm-registry-mirror:hostname: mirror.example.com
  swarm-registry-mirror:sshPrivateKeyFile: ~/.ssh/id
  swarm-registry-mirror:upstreamToken:
    secure: v1:def
"""


def test_a_stacks_file_loses_its_secrets_and_its_salt() -> None:
    config, key_file = file_without_secrets(STACK_FILE, "prod")
    assert key_file == "~/.ssh/id"
    assert config == {
        "config": {
            "swarm-registry-mirror:hostname": "mirror.example.com",
            "swarm-registry-mirror:sshPrivateKeyFile": KEY_FILE,
            "swarm-registry-mirror:upstreamToken": placeholder("upstreamToken"),
        }
    }


def test_a_secret_that_somebody_has_entered_in_the_clear_is_one_all_the_same() -> None:
    text = f"config:\n  swarm-registry-mirror:upstreamToken: {TOKEN}\n"
    config, _ = file_without_secrets(text, "prod")
    assert TOKEN not in str(config)
    assert secrets_of(text, {"upstreamToken": TOKEN}, str) == {"upstreamToken": TOKEN}


def test_what_a_state_must_be_cleaned_of_is_what_the_stacks_file_marks_and_the_key_file() -> None:
    values = {"upstreamToken": TOKEN, "sshPrivateKeyFile": "~/.ssh/id", "hostname": "mirror.example.com"}
    assert secrets_of(STACK_FILE, values, {"~/.ssh/id": KEY}.__getitem__) == {"upstreamToken": TOKEN, "sshPrivateKey": KEY}


@pytest.mark.parametrize("text", ["- a\n", "config: 5\n", "config: [a]\n", "a: [\n"])
def test_a_file_that_is_no_stacks_file_is_refused_by_name(text: str) -> None:
    with pytest.raises(RoomError, match=r"Pulumi\.prod\.yaml"):
        file_without_secrets(text, "prod")


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


@pytest.mark.parametrize(("environment", "host"), [(True, True), (True, False), (False, True)])
def test_pulumi_enforces_the_policies_itself_where_it_can(tmp_path: Path, environment: bool, host: bool) -> None:
    (tmp_path / "policy").mkdir()
    if environment:
        (tmp_path / "policy" / "venv").mkdir()
    if host:
        (tmp_path / POLICY_HOST).write_text("")
    option = Room(tmp_path, "prod", {"PATH": f"/nowhere:{tmp_path}"}, None).policy_pack()
    assert option == (["--policy-pack", "policy"] if environment and host else [])
