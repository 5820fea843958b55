"""From a stack's text to the args: every fault in one report, none as a traceback."""

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.config import set_all_config

from components.registry_mirror import Fault, InvalidArgs
from config.keys import KEYS, NODE_KEYS
from config.settings import Settings, _texts, _without_secrets, load_settings, parse
from config.spelling import in_a_stacks_file
from tests.builders import DIGEST, ED25519, FILES, KEY, read, values


def faults(**changed: Any) -> dict[str, str]:
    with pytest.raises(InvalidArgs) as refused:
        parse(values(**changed), read)
    return {fault.key: str(fault) for fault in refused.value.faults}


def test_a_whole_stack() -> None:
    settings = parse(values(manager="n2", maxParallel="3", createNetwork="true"), read)
    assert settings.mirror.max_parallel == 3
    assert settings.mirror.create_network is True
    assert [node.host_key for node in settings.mirror.nodes] == [ED25519, ED25519]
    assert settings.docker_host == "ssh://root@node2.test:22"
    assert "UserKnownHostsFile=known_hosts" in settings.ssh_options
    assert "StrictHostKeyChecking=yes" in settings.ssh_options


def test_a_manager_may_have_an_ipv6_address_and_a_port_of_its_own() -> None:
    nodes = [
        {"name": "n1", "address": "2001:db8::1", "port": 2222, "user": "ops", "hostKey": ED25519}
    ]
    assert (
        parse(values(nodes=json.dumps(nodes)), read).docker_host == "ssh://ops@[2001:db8::1]:2222"
    )


def test_a_user_of_a_directory_service_is_quoted_in_the_address_of_the_manager() -> None:
    nodes = [
        {
            "name": "n1",
            "address": "node1.test",
            "user": "john.doe@corp.example",
            "become": "sudo",
            "hostKey": ED25519,
        }
    ]
    assert (
        parse(values(nodes=json.dumps(nodes)), read).docker_host
        == "ssh://john.doe%40corp.example@node1.test:22"
    )


def test_a_key_with_the_line_ends_of_windows_is_repaired_where_it_is_a_text_and_refused_where_ssh_reads_the_file(  # noqa: E501
    tmp_path: Path,
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True
    )
    unix = (tmp_path / "key").read_text()
    windows = unix.replace("\n", "\r\n")
    key = parse(values(sshPrivateKeyFile=None, sshPrivateKey=windows), read).mirror.private_key
    assert isinstance(key, pulumi.Output)
    assert asyncio.get_event_loop().run_until_complete(key.future()) == unix
    for text in (windows, unix.rstrip()):
        (tmp_path / "odd").write_bytes(text.encode())
        (tmp_path / "odd").chmod(0o600)
        with pytest.raises(InvalidArgs) as refused:
            parse(values(sshPrivateKeyFile="odd"), {**FILES, "odd": text}.__getitem__)
        (fault,) = refused.value.faults
        assert "line ends of Windows" in fault.wrong
        # ssh does refuse it, and what we advise mends it.
        assert (
            subprocess.run(
                ["ssh-keygen", "-y", "-f", tmp_path / "odd"], capture_output=True, check=False
            ).returncode
            != 0
        )
        (advice,) = re.findall("`(.*)`", fault.wrong)
        subprocess.run(["sh", "-c", advice.replace("FILE", str(tmp_path / "odd"))], check=True)
        assert (tmp_path / "odd").read_text() == unix


def test_a_node_can_be_left_out_for_now() -> None:
    assert [node.name for node in parse(values(without='["n2"]'), read).mirror.nodes] == ["n1"]
    assert "they are n1, n2" in faults(without='["n3"]')["without"]


def test_the_empty_defaults_that_pulumi_needs_mean_not_given() -> None:
    settings = parse(
        values(manager="", certResolver="", placementConstraints="[]", serviceName=""), read
    )
    assert settings.mirror.service_name is None
    assert settings.mirror.manager_node.name == "n1"


def test_the_digest_may_come_from_a_file() -> None:
    assert (
        parse(values(image="registry:3.1.1", imageDigestFile="digest"), read).mirror.image
        == f"registry:3.1.1@{DIGEST}"
    )


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        ({"hostnme": "x"}, "hostnme", "did you mean hostname?"),
        ({"entirely": "x"}, "entirely", "the keys are hostname, image"),
        ({"hostname": None}, "hostname", "is missing"),
        ({"hostname": "https://m.test"}, "hostname", "write m.test"),
        ({"maxParallel": "ten"}, "maxParallel", "must be a whole number"),
        ({"maxParallel": "1.5"}, "maxParallel", "must be a whole number"),
        ({"maxParallel": "true"}, "maxParallel", "must be a whole number"),
        ({"createNetwork": "yes"}, "createNetwork", "must be true or false"),
        ({"nodes": "n1"}, "nodes", "must be a list"),
        ({"nodes": None}, "nodes", "is missing"),
        ({"nodes": "[]"}, "nodes", "at least one node"),
        ({"nodes": '["n1"]'}, "nodes[0]", "must be a mapping"),
        (
            {"nodes": '[{"name": "n1", "address": "node2.test", "prot": 1}]'},
            "nodes[0].prot",
            "did you mean port?",
        ),
        ({"nodes": '[{"address": "node2.test"}]'}, "nodes[0].name", "is missing"),
        ({"nodes": '[{"name": "n1"}]'}, "nodes[0].address", "is missing"),
        (
            {"nodes": '[{"name": "n1", "address": "node9.test"}]'},
            "nodes[0].hostKey",
            "knownHostsFile has none",
        ),
        (
            {"knownHostsFile": None},
            "nodes[1].hostKey",
            "there is no knownHostsFile; `make hostkeys",
        ),
        ({"knownHostsFile": "gone"}, "knownHostsFile", "cannot be read: No such file"),
        ({"sshPrivateKeyFile": "gone"}, "sshPrivateKeyFile", "cannot be read: No such file"),
        ({"sshPrivateKeyFile": ".lab/dev/gone"}, "sshPrivateKeyFile", "`make lab` makes it"),
        ({"sshPrivateKeyFile": "key.pub"}, "sshPrivateKeyFile", "not a private key"),
        ({"sshPrivateKey": KEY}, "sshPrivateKey", "besides sshPrivateKeyFile"),
        ({"image": "registry:3.1.1"}, "image", "@sha256:"),
        (
            {"image": "registry:3.1.1", "imageDigestFile": "gone"},
            "imageDigestFile",
            "cannot be read",
        ),
        ({"manager": "n9"}, "manager", "they are n1, n2"),
    ],
)
def test_a_fault_has_its_key_and_its_message(changed: dict[str, Any], key: str, words: str) -> None:
    refused = faults(**changed)
    assert key in refused
    assert words in refused[key]


def test_one_report_holds_faults_of_every_kind_in_the_order_of_the_keys() -> None:
    refused = faults(
        hostname="https://m.test",
        imagee="x",
        maxParallel="0",
        sshPrivateKeyFile="gone",
        manager="n9",
        knownHostsFile=None,
    )
    assert list(refused) == [
        "hostname",
        "nodes[1].hostKey",
        "manager",
        "sshPrivateKeyFile",
        "maxParallel",
        "imagee",
    ]


def test_a_fault_is_said_once() -> None:
    assert list(faults(hostname=None)) == ["hostname"]
    assert list(faults(nodes=None)) == ["nodes"]
    assert list(faults(nodes='[{"name": "n1"}, {"name": "n2"}]')) == [
        "nodes[0].address",
        "nodes[1].address",
    ]


def test_a_secret_key_never_stands_in_a_message() -> None:
    assert "hunter2" not in str(faults(sshPrivateKeyFile=None, sshPrivateKey="hunter2"))
    assert "hunter2" not in str(faults(sshPrivateKy="hunter2"))
    assert "hunter2" not in str(faults(upstream="https://user:hunter2@registry.example.com"))
    assert "hunter2" not in str(faults(hostname="user:hunter2@mirror.example.com"))


SECRET_KEYS = [key for key, entry in KEYS.items() if entry.stays_secret]


@pytest.mark.parametrize("key", [key for key, entry in KEYS.items() if not entry.stays_secret])
def test_a_secret_that_could_not_be_kept_one_is_refused_without_its_value(key: str) -> None:
    changed = {key: "CANARY-value", "maxParallel": "0"}
    with pytest.raises(InvalidArgs) as refused:
        parse(values(**changed), read, {key})
    assert [fault.key for fault in refused.value.faults] == [key]
    assert "set it without --secret" in str(refused.value)
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize("key", [*SECRET_KEYS, "upstreamTokn"])
@pytest.mark.parametrize(
    "value",
    [
        "CANARY",
        '{"proxies": "http://u:CANARY@p"}',
        '{"log-optz": {"token": "CANARY"}}',
        '["CANARY"]',
    ],
)
def test_no_fault_of_a_secret_repeats_it(key: str, value: str) -> None:
    assert "CANARY" not in message(values(**{key: value}), {key})


def test_no_message_of_a_fault_repeats_a_secret_however_deep_it_stood() -> None:
    secrets = {
        "daemonKeys": list(
            _texts(
                '{"proxies": {"http-proxy": "http://u:CANARY@p"}, "dns": ["CANARY-1"], "labels":'
                ' ["a"]}'
            )
        )
    }
    told = Fault(
        "daemonKeys.proxies",
        "http://u:CANARY@p",
        "must not be http://u:CANARY@p or CANARY-1, or a label",
    )
    assert (
        str(_without_secrets(told, secrets))
        == "daemonKeys.proxies: must not be [secret] or [secret], or a label (got '[secret]')"
    )
    other = Fault("hostname", "CANARY", "is wrong")
    assert _without_secrets(other, secrets) is other


def message(given: dict[str, Any], secret: set[str]) -> str:
    """What is wrong with a configuration; empty where nothing is."""
    try:
        parse(given, read, secret)
    except InvalidArgs as error:
        return str(error)
    return ""


def test_what_came_from_a_secret_is_one_in_the_args() -> None:
    given = {
        "upstreamUsername": "reader",
        "upstreamToken": "t",
        "allowFrom": '["10.0.0.0/8"]',
        "daemonKeys": '{"debug": true}',
    }
    for secret in ([], ["upstreamUsername", "daemonKeys"]):
        mirror = parse(values(**given), read, secret).mirror
        assert isinstance(mirror.upstream_username, pulumi.Output) is bool(secret)
        assert isinstance(mirror.upstream_token, pulumi.Output)
        assert mirror.daemon_keys_are_secret is bool(secret)


def test_pulumi_says_which_keys_have_a_secret_in_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    given = values(
        daemonKeys='{"debug": true}', sshPrivateKeyFile=str(tmp_path / "key"), knownHostsFile=None
    )
    given["nodes"] = json.dumps([{"name": "n1", "address": "node1.test", "hostKey": ED25519}])
    monkeypatch.setattr(pulumi, "get_project", lambda: "p")
    for secret in (None, ["p:daemonKeys"]):
        set_all_config({f"p:{key}": value for key, value in given.items()}, secret)
        assert load_settings().mirror.daemon_keys_are_secret is bool(secret)
    set_all_config({}, [])
    monkeypatch.setenv(
        "PULUMI_CONFIG", json.dumps({f"p:{key}": value for key, value in given.items()})
    )
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", '["p:daemonKeys"]')
    assert load_settings().mirror.daemon_keys_are_secret


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "key"], check=True
    )
    text = (tmp_path / "key").read_text()
    with pytest.raises(InvalidArgs, match="protected by a passphrase"):
        parse(values(sshPrivateKeyFile=None, sshPrivateKey=text), read)


@pytest.mark.parametrize("key", ["imageDigestFile", "knownHostsFile"])
def test_a_file_that_cannot_be_read_is_one_fault_and_not_also_that_its_content_is_missing(
    key: str,
) -> None:
    changed = {
        "image": "registry:3.1.1",
        "imageDigestFile": "digest",
        "knownHostsFile": "known_hosts",
        key: "nowhere",
    }
    with pytest.raises(InvalidArgs) as refused:
        parse(values(**changed), read)
    assert [fault.key for fault in refused.value.faults] == [key]


def test_a_key_as_ssh_keygen_makes_it_is_taken(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True
    )
    parse(values(sshPrivateKeyFile=None, sshPrivateKey=(tmp_path / "key").read_text()), read)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NODE_KEYS, "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(list(KEYS)),
        anything | anything.map(lambda value: json.dumps(value)),
        max_size=5,
    )
)
def test_no_value_of_any_kind_gives_anything_but_settings_or_faults(
    changed: dict[str, Any],
) -> None:
    try:
        outcome: Settings | InvalidArgs = parse({**values(), **changed}, read)
    except InvalidArgs as refused:
        outcome = refused
    assert isinstance(outcome, Settings) or outcome.faults


def test_without_a_key_the_agent_is_asked_and_a_file_is_named_and_not_kept() -> None:
    assert parse(values(sshPrivateKeyFile=None), read).mirror.needs_agent
    settings = parse(values(), read)
    assert (settings.mirror.private_key, settings.mirror.private_key_file) == (None, "key")
    assert settings.ssh_options[settings.ssh_options.index("-i") + 1] == "key"


def test_one_bastion_serves_the_nodes_that_name_no_other_and_docker_too() -> None:
    nodes = [
        {"name": "n1", "address": "node1.test", "hostKey": ED25519},
        {
            "name": "n2",
            "address": "node2.test",
            "bastion": {"address": "node2.test", "user": "ops"},
            "sshPrivateKeyFile": "key",
        },
    ]
    settings = parse(
        values(
            nodes=json.dumps(nodes), bastion={"address": "b.test", "hostKey": ED25519, "port": 2222}
        ),
        read,
    )
    assert settings.mirror.bastion is not None
    assert settings.mirror.bastion.port == 2222
    second = settings.mirror.nodes[1]
    assert second.bastion is not None
    assert (second.bastion.host_key, second.bastion.user, second.private_key_file) == (
        ED25519,
        "ops",
        "key",
    )
    (proxy,) = [word for word in settings.ssh_options if word.startswith("ProxyCommand=")]
    assert proxy.endswith("-W '[%h]:%p' ssh://root@b.test:2222")
    assert "StrictHostKeyChecking=yes" in proxy
    assert "UserKnownHostsFile=known_hosts" in proxy


def test_faults_of_a_bastion_are_reported_with_all_others() -> None:
    refused = faults(
        bastion={"address": "unknown.test", "usr": "ops"}, hostname="x y", sshPrivateKeyFile="gone"
    )
    assert set(refused) == {"hostname", "bastion.usr", "bastion.hostKey", "sshPrivateKeyFile"}
    assert "did you mean user?" in refused["bastion.usr"]


@pytest.mark.parametrize(
    ("fault", "key", "words"),
    [
        (Fault("nodes[2].host_key", "x", "is wrong"), "nodes[2].hostKey", "is wrong"),
        (
            Fault("image", "x", "accept_registry_2: true takes it"),
            "image",
            "acceptRegistry2: true takes it",
        ),
        (
            Fault("private_key", None, "is given besides private_key_file"),
            "sshPrivateKey",
            "is given besides sshPrivateKeyFile",
        ),
        (Fault("daemon_keys.host_key", 1, "is no key"), "daemonKeys.host_key", "is no key"),
    ],
)
def test_the_components_faults_are_said_in_the_spelling_of_a_stacks_file(
    fault: Fault, key: str, words: str
) -> None:
    said = in_a_stacks_file(fault)
    assert (said.key, said.wrong, said.value) == (key, words, fault.value)


def test_no_fault_of_a_stacks_file_has_a_pythons_spelling() -> None:
    with pytest.raises(InvalidArgs) as refused:
        parse(
            values(
                cachePath="x",
                readyTimeout=0,
                allowFrom=["x"],
                upstreamUsername="bot",
            ),
            read,
        )
    found = [f"{fault.key} {fault.wrong}" for fault in refused.value.faults]
    assert len(found) >= 4
    assert not [text for text in found if re.search(r"\b[a-z]+_[a-z_]+\b", text)], found
