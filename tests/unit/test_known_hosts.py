"""Host keys from known_hosts: plain, patterned, hashed, with ports, revoked."""

import subprocess
from pathlib import Path

import pytest

from config.known_hosts import find_host_key
from tests.builders import ED25519

OTHER = ED25519[:-4] + "a29r"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY="


@pytest.mark.parametrize(
    ("line", "host", "port", "found"),
    [
        (f"node1 {ED25519}", "node1", 22, True),
        (f"node1 {ED25519} a comment", "node1", 22, True),
        (f"node1,198.51.100.7 {ED25519}", "198.51.100.7", 22, True),
        (f"NODE1 {ED25519}", "node1", 22, True),
        (f"*.example.com {ED25519}", "node1.example.com", 22, True),
        (f"*.example.com,!node1.example.com {ED25519}", "node1.example.com", 22, False),
        (f"node1 {ED25519}", "node2", 22, False),
        (f"[node1]:2222 {ED25519}", "node1", 2222, True),
        (f"[node1]:2222 {ED25519}", "node1", 22, False),
        (f"node1 {ED25519}", "node1", 2222, False),
        (f"node1 {ED25519}\n@revoked node1 {ED25519}", "node1", 22, False),
        (f"# node1 {ED25519}", "node1", 22, False),
        ("node1 ssh-ed25519", "node1", 22, False),
        ("|1|notbase64|alike ssh-ed25519 AAAA", "node1", 22, False),
    ],
)
def test_line(line: str, host: str, port: int, found: bool) -> None:
    assert find_host_key(line, host, port) == (ED25519 if found else None)


def test_lines_that_ssh_keygen_has_hashed_are_found(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"node1 {ED25519}\n[node2]:2222 {OTHER}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    text = path.read_text()
    assert "node1" not in text
    assert find_host_key(text, "node1") == ED25519
    assert find_host_key(text, "node2", 2222) == OTHER
    assert find_host_key(text, "node2") is None


def test_of_several_keys_the_one_that_current_sshds_take_is_chosen() -> None:
    assert find_host_key(f"node1 ssh-rsa AAAA\nnode1 {ECDSA}\nnode1 {ED25519}", "node1") == ED25519
    assert find_host_key(f"node1 ssh-rsa AAAA\nnode1 {ECDSA}", "node1") == ECDSA


def test_an_authority_counts_where_the_machine_has_no_key_of_its_own_and_is_marked_as_one() -> None:
    authority = f"@cert-authority *.test {ED25519}"
    assert find_host_key(authority, "node1.test") == f"@cert-authority {ED25519}"
    assert find_host_key(authority, "node1") is None
    assert find_host_key(f"{authority}\nnode1.test {ED25519}", "node1.test") == ED25519
    assert find_host_key(f"{authority}\n@revoked * {ED25519}", "node1.test") is None
