"""The command stand-in's SSH connections: made in its own process by a library, as the official
plugin makes them.

As there (provider/pkg/provider/remote/connection.go): whatever goes wrong before the command runs
is tried again, `dialErrorLimit` times with growing pauses, so there is one dial more than that
number; a host key that was given is the only one that is believed; without one, anybody is.
`perDialTimeout` is for the TCP connection alone: a machine that accepts it and then says nothing is
waited for without end.
"""

import base64
import io
import socket
import time
from contextlib import closing, suppress
from typing import Any

import paramiko

_BACK_OFF = 0.1
"""Seconds before the second attempt to connect; each further one waits half as long again
(pulumi-command connection.go)."""
_KEYS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


_WITHOUT_END = 10.0**6
"""Seconds that paramiko may wait where the official plugin sets no limit."""


class Unreachable(Exception):
    """No connection; the message says how often it was tried and what went wrong last."""


def run(connection: dict[str, Any], command: str, stdin: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command on another machine. Raises Unreachable."""
    with closing(_dial(connection)) as transport, closing(transport.open_session()) as channel:
        channel.exec_command(command)
        with suppress(OSError):  # it has ended without reading, and says why itself
            channel.sendall(stdin.encode())
            channel.shutdown_write()
        output, errors = channel.makefile("rb").read(), channel.makefile_stderr("rb").read()
        return (
            channel.recv_exit_status(),
            output.decode(errors="replace"),
            errors.decode(errors="replace"),
        )


def _dial(connection: dict[str, Any]) -> paramiko.Transport:
    attempts = int(connection["dialErrorLimit"]) + 1
    for attempt in range(attempts):
        try:
            return _connect(connection)
        except OSError as error:
            reason = (
                f"dial tcp {connection['host']}:{connection['port']}:"
                f" {error.strerror or 'i/o timeout'}"
            )
        except (EOFError, paramiko.SSHException) as error:
            # without the address, as there
            reason = f"ssh: handshake failed: {str(error) or type(error).__name__}"
        if attempt + 1 < attempts:
            time.sleep(_BACK_OFF * 1.5**attempt)
    raise Unreachable(f"after {attempts - 1} failed attempts: {reason}")


def _connect(connection: dict[str, Any]) -> paramiko.Transport:
    seconds = float(connection["perDialTimeout"])
    transport = paramiko.Transport(
        socket.create_connection((connection["host"], int(connection["port"])), timeout=seconds)
    )
    try:
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = (
            _WITHOUT_END
        )
        expected = connection.get("hostKey")
        if expected:
            transport.get_security_options().key_types = [expected.split()[0]]
        transport.start_client()
        if expected and transport.get_remote_server_key().asbytes() != base64.b64decode(
            expected.split()[1]
        ):
            raise paramiko.SSHException("ssh: host key mismatch")
        transport.auth_publickey(connection["user"], _key(connection["privateKey"]))
    except BaseException:
        transport.close()
        raise
    return transport


def _key(text: str) -> paramiko.PKey:
    for kind in _KEYS:
        with suppress(paramiko.SSHException, ValueError):
            key: paramiko.PKey = kind.from_private_key(io.StringIO(text))
            return key
    raise paramiko.SSHException(
        "privateKey is not a key in PEM that can be read without a passphrase"
    )
