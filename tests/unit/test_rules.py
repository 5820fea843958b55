"""Each rule about a value: what it takes, and the words with which it refuses."""

import base64
import subprocess
from pathlib import Path

import pytest

from components.registry_mirror import rules
from tests.builders import DIGEST, ED25519


@pytest.mark.parametrize(
    "value", ["mirror.example.com", "m.lab.test", "a-b.c-d.io", "xn--mnchen-3ya.de"]
)
def test_a_dns_name_is_a_hostname(value: str) -> None:
    assert rules.hostname(value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("https://mirror.example.com", "write mirror.example.com"),
        ("ftp://mirror.example.com", "not a URL"),
        ("mirror.example.com/v2", "without a path"),
        ("user:pw@mirror.example.com", "without a user"),
        ("mirror.example.com:5000", "without a port"),
        ("Mirror.Example.com", "write mirror.example.com"),
        ("198.51.100.7", "not an address"),
        ("mirror", "full DNS name"),
        ("mirror.example.com\n", "full DNS name"),
        ("mirror.$(id).com", "full DNS name"),
        ("-a.example.com", "full DNS name"),
        ("mirror.example.com?x=1", "full DNS name"),
        ("a" * 64 + ".com", "full DNS name"),
        ("münchen.de", "full DNS name"),
        ("", "full DNS name"),
    ],
)
def test_anything_else_is_no_hostname(value: str, words: str) -> None:
    assert words in (rules.hostname(value) or "")


@pytest.mark.parametrize(
    "value",
    [
        f"registry:3.1.1@{DIGEST}",
        f"images.lab.test:5000/a/registry:v3.2.0@{DIGEST}",
        f"x/registry:10.0.0@{DIGEST}",
    ],
)
def test_a_pinned_and_safe_image_is_taken(value: str) -> None:
    assert rules.image(value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("registry:3.1.1", "@sha256:"),
        ("registry:3.1.1@sha256:abc", "@sha256:"),
        (f"registry@{DIGEST}", "full version"),
        (f"registry:latest@{DIGEST}", "full version"),
        (f"registry:3@{DIGEST}", "full version"),
        (f"host:5000/registry@{DIGEST}", "full version"),
        (f"registry:2.8.3@{DIGEST}", "3.1.1 or later"),
        (f"registry:3.1.0@{DIGEST}", "3.1.1 or later"),
        (f"regis\x1b[2Jtry:3.1.1@{DIGEST}", "repository in lower case"),
        (f"Registry:3.1.1@{DIGEST}", "repository in lower case"),
        (f"a b/registry:3.1.1@{DIGEST}", "repository in lower case"),
        (f":3.1.1@{DIGEST}", "repository in lower case"),
    ],
)
def test_a_floating_or_unsafe_image_is_refused(value: str, words: str) -> None:
    assert words in (rules.image(value) or "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("registry-1.docker.io", "must be a URL"),
        ("ftp://registry-1.docker.io", "must be a URL"),
        ("https://user:token@registry-1.docker.io", "stored in the clear"),
        ("https://registry-1.docker.io/", "write https://registry-1.docker.io"),
        ("https://registry-1.docker.io/v2", "scheme and host only"),
        ("https://registry-1.docker.io?x=1", "scheme and host only"),
        ("https://registry-1.docker.io/?token=1/", "scheme and host only"),
        ("https://@registry-1.docker.io", "stored in the clear"),
        ("https://[::1", "must be a URL"),
        ("https://registry-1.docker.io:port", "must be a URL"),
        ("https://regis try.test", "must be a URL"),
        ("https://registry.test\n", "scheme and host only"),
        ("https://", "must be a URL"),
    ],
)
def test_an_upstream_is_scheme_and_host(value: str, words: str) -> None:
    assert rules.upstream("https://registry-1.docker.io") is None
    assert words in (rules.upstream(value) or "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("198.51.100.7 " + ED25519, "begin with the key's type"),
        ("@cert-authority * " + ED25519, "must begin with the key's type"),
        ("@revoked " + ED25519, "a revoked one is nobody's"),
        ("ssh-ed25519", "whole key"),
        ("ssh-ed25519 AAAA", "whole key"),
        ("ssh-ed25519 not-base64!", "whole key"),
        ("ssh-ed25519 AAAA…", "whole key"),
        ("ssh-rsa " + ED25519.split()[1], "whole key"),
        (ED25519[:-4], "whole key"),
        (
            "ssh-ed25519 "
            + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x1f" + b"k" * 31).decode(),
            "whole key",
        ),
        (
            "ssh-ed25519 "
            + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 33).decode(),
            "whole key",
        ),
        (ED25519 + "\n@cert-authority * " + ED25519, "one line"),
        (ED25519 + "\r", "one line"),
        ("", "begin with the key's type"),
    ],
)
def test_a_host_key_is_a_whole_one(value: str, words: str) -> None:
    assert rules.host_key(ED25519) is None
    assert words in (rules.host_key(value) or "")


@pytest.mark.parametrize("value", ["198.51.100.7", "2001:db8::1", "node1", "node1.example.com"])
def test_an_address_is_a_name_or_a_number(value: str) -> None:
    assert rules.address(value) is None


@pytest.mark.parametrize(
    "value", ["ssh://node1", "root@node1", "node 1", "node1;id", "", "node1/24"]
)
def test_anything_else_is_no_address(value: str) -> None:
    assert rules.address(value) is not None


@pytest.mark.parametrize("value", ["", "-a", "a b", "a/b", "a.b", "ü", "a" * 64, "a;b"])
def test_a_name_is_safe_everywhere(value: str) -> None:
    assert rules.name("registry-mirror_1") is None
    assert rules.name(value) is not None


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048"])
def test_every_key_that_ssh_keygen_makes_is_whole_and_cut_anywhere_it_is_none(
    kind: str, tmp_path: Path
) -> None:
    name, _, bits = kind.partition("-")
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            name,
            *(["-b", bits] if bits else []),
            "-N",
            "",
            "-C",
            "a comment",
            "-f",
            tmp_path / "key",
        ],
        check=True,
    )
    whole = (tmp_path / "key.pub").read_text().strip()
    assert rules.host_key(whole) is None
    kind_word, body, _ = whole.split(" ", 2)
    for length in range(0, len(body), 4):
        assert rules.host_key(f"{kind_word} {body[:length]}") is not None


@pytest.mark.parametrize(
    "value",
    ["root", "ops", "john.doe", "John_Doe-2", "john.doe@corp.example.com", "_apt", "x" * 64],
)
def test_users_that_exist_are_taken(value: str) -> None:
    assert rules.user(value) is None


@pytest.mark.parametrize(
    "value",
    ["", "root@node1", "ops ALL", "a\nb", "-u", "%wheel", "#0", "a,b", "ops\x00", "ü", "x" * 65],
)
def test_anything_else_is_no_user(value: str) -> None:
    assert rules.user(value) is not None


@pytest.mark.parametrize(
    "value",
    [
        "node.role == manager",
        "node.role!=worker",
        "node.labels.storage == shared",
        "node.hostname==node1.example.com",
        "engine.labels.operatingsystem == ubuntu 22.04",
        "node.platform.arch == x86_64",
        " node.ip == 10.0.0.0/8 ",
    ],
)
def test_constraints_that_swarm_parses_are_taken(value: str) -> None:
    assert rules.constraint(value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("node.role", "== or !="),
        ("node.role = manager", "== or !="),
        ("node.role > manager", "== or !="),
        ("", "== or !="),
        ("role == manager", "no node ever matches"),
        ("node.label.x == y", "no node ever matches"),
        ("node.labels. == y", "no node ever matches"),
        ("node.role == leader", "no node has another role"),
        ("node.hostname == ", "a value that swarm takes"),
        ("node.hostname == a,b", "a value that swarm takes"),
        ("node.labels.x == \x1b[2J", "a value that swarm takes"),
        ("node.labels.x == a\nb", "a value that swarm takes"),
        ("node.labels.x === y", "a value that swarm takes"),
        (5, "must be a text"),
    ],
)
def test_constraints_that_would_fail_or_never_match_are_refused(value: object, words: str) -> None:
    assert words in (rules.constraint(value) or "")


@pytest.mark.parametrize("value", ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1", "0.0.0.0/1"])
def test_a_network_is_an_address_with_or_without_a_prefix(value: str) -> None:
    assert rules.network_range(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "0::%,128.0.0.0/1",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/0.255.255.255",
        "fe80::1%eth0",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1/8",
        "10.0.0.0/8,11.0.0.0/8",
        "10.0.0.0/ 8",
        "x",
        "",
        10,
        None,
        "10.0.0.0/8\n",
    ],
)
def test_anything_else_is_no_network(value: object) -> None:
    assert rules.network_range(value) is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("~/.ssh/id_ed25519", "looks like a path"),
        ("/root/.ssh/id_rsa", "looks like a path"),
        ("ssh-ed25519 AAAA root@x", "ends with .pub"),
        ("", "not a private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"),
        ("-----{} ENCRYPTED PRIVATE KEY-----\n", "passphrase"),
    ],
)
def test_what_is_no_private_key_is_refused_and_not_repeated(text: str, words: str) -> None:
    assert words in (rules.private_key(text) or "")
    assert not text or text not in (rules.private_key(text) or "")


def test_a_key_with_the_line_ends_of_windows_is_made_one_that_ssh_reads(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    unix = key.read_text()
    for text in (
        unix,
        unix.replace("\n", "\r\n"),
        unix.strip(),
        unix.replace("\n", "\r\n").strip(),
    ):
        assert rules.private_key(text) is None
        assert rules.private_key_text(text) == unix


def test_names_are_those_that_swarm_takes_with_what_we_put_behind_them() -> None:
    assert rules.service_name("m" * 57, "-front") is None
    assert "at most 57 characters" in (rules.service_name("m" * 58, "-front") or "")
    assert rules.service_name("m" * 63) is None
    for name in ("mirror-", "mirror_", "m" * 64, "a.b", "-a", "_a", ""):
        assert rules.swarm_name(name) is not None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://user:pa/ss@h.test", "https://[hidden]@h.test"),
        ("https://user:pa ss'@h.test", "https://[hidden]@h.test"),
        ("https://h.test/?token=CANARY", "https://h.test/?[hidden]"),
        ("TOKEN@h.test", "[hidden]@h.test"),
        ({"a": ["https://u:pw@h.test"]}, "{'a': ['https://[hidden]@h.test']}"),
        ("x\x1b[2Jy\u202e", r"'x\x1b[2Jy\u202e'"),
    ],
)
def test_a_fault_repeats_neither_credentials_nor_escapes(value: object, shown: str) -> None:
    text = str(rules.Fault("key", value, "is wrong"))
    assert shown in text
    assert text.isprintable()


@pytest.mark.parametrize("value", ["/a\x00b", "/a\x1b[2J", "/a\u202eb", "/a\tb", "/a//b", "/./a"])
def test_a_path_holds_nothing_that_acts_or_hides(value: str) -> None:
    assert rules.absolute_path(value) is not None


@pytest.mark.parametrize("value", ["var/data", "/var/data/", "/var/../etc", "/a\nb", ""])
def test_a_path_is_absolute(value: str) -> None:
    assert rules.absolute_path("/var/data/registry") is None
    assert rules.absolute_path(value) is not None


def test_numbers_have_their_range() -> None:
    assert [rules.port(value) is None for value in (0, 1, 22, 65535, 65536)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert [rules.positive(value) is None for value in (-1, 0, 1)] == [False, False, True]


def test_a_fault_names_key_value_and_remedy() -> None:
    (fault,) = rules.check("hostname", "https://m.test", rules.hostname)
    assert (
        str(fault)
        == "hostname: must be a host name, not a URL; write m.test (got 'https://m.test')"
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("registry-mirrors", [], "the mirror is entered by itself"),
        ("live-restore", True, "does not start with it on a node of a swarm"),
        ("authorization-plugins", ["x"], "ends dockerd at a reload"),
        ("data-root", "/x", "a wrong value could cost the node"),
        ("signature-verification", False, "those that can are debug, "),
        ("experimental", "true", "must be true or false"),
        ("max-concurrent-downloads", True, "must be a whole number"),
        ("max-concurrent-downloads", 0, "must be 1 or more"),
        ("labels", "a=b", "must be a list"),
        ("log-opts", [], "must be a mapping"),
    ],
)
def test_a_key_that_cannot_be_managed_is_refused_with_the_reason(
    key: str, value: object, words: str
) -> None:
    (fault,) = rules.daemon_keys({key: value, "debug": True})
    assert fault.key == f"daemon_keys.{key}"
    assert words in fault.wrong


@pytest.mark.parametrize(
    "value", ["library/hello-world:latest", "prom/node-exporter:v1.8.2", "a:1"]
)
def test_an_image_to_check_has_no_registry_in_front(value: str) -> None:
    for host in (
        "docker.io",
        "registry-1.docker.io",
        "ghcr.io",
        "localhost",
        "mirror.test:5000",
        "10.0.0.1:5000",
    ):
        assert f"write {value}" in (rules.tagged_image(f"{host}/{value}") or "")


@pytest.mark.parametrize(
    "value", ["library/hello-world:latest", "prom/node-exporter:v1.8.2", "a:1"]
)
def test_an_image_to_check_is_as_docker_hub_calls_it(value: str) -> None:
    assert rules.tagged_image(value) is None


@pytest.mark.parametrize(
    "value", ["hello-world", "https://x/y:z", "A/b:c", "a:b c", "a@sha256:0", "../x:y", ""]
)
def test_anything_else_is_no_image_to_check(value: str) -> None:
    assert rules.tagged_image(value) is not None
