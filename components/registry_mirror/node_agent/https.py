"""An HTTPS connection whose whole life has a limit, and bodies that have one. Stdlib only.

A socket's own timeout begins anew with every byte: a server that sends one a second never runs into
it.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from typing import Optional

BODY_BYTES = 64 * 1024
"""A registry's answer to `/v2/` has two; a manifest's HEAD none."""


class Connection(http.client.HTTPSConnection):
    """As its base, but all of it, from the first connection, lasts `seconds` at most: then what
    waits raises socket.timeout."""

    def __init__(
        self, host: str, port: int, timeout: float, context: ssl.SSLContext, seconds: float
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._trust = context
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._connected: Optional[socket.socket] = None
        self._answering = False
        self._expired = False

    def connect(self) -> None:
        """As its base. Raises socket.timeout, too, for a handshake that is as slow."""
        self._raise_if_expired()
        if (
            self._timer.ident is None
        ):  # a second connection, if the other end closes the first, has what is left
            self._timer.start()
        http.client.HTTPConnection.connect(self)
        # Known here before the handshake, so that the limit reaches that, too.
        self.sock = self._trust.wrap_socket(
            self.sock,
            server_hostname=getattr(self, "_tunnel_host", None) or self.host,
            do_handshake_on_connect=False,
        )
        self._connected = self.sock
        try:
            self.sock.do_handshake()
        except (OSError, ValueError):
            self._raise_if_expired()
            raise

    def getresponse(self) -> http.client.HTTPResponse:
        """As its base. Raises socket.timeout at the limit."""
        self._answering = True
        try:
            answer = super().getresponse()
        except (OSError, ValueError, http.client.HTTPException):
            self._raise_if_expired()
            raise
        finally:
            self._answering = False
        self._raise_if_expired()  # a header that is cut off looks like the last one
        return answer

    def body(self, answer: http.client.HTTPResponse) -> Optional[bytes]:
        """The answer's body; None if it is larger than any that we ask for. Raises socket.timeout
        at the limit, OSError."""
        try:
            data = answer.read(BODY_BYTES + 1)
        except (OSError, ValueError, http.client.HTTPException):
            self._raise_if_expired()
            raise
        self._raise_if_expired()
        return data if len(data) <= BODY_BYTES else None

    def close(self) -> None:
        """As its base; the limit is lifted."""
        if (
            not self._answering
        ):  # the base closes before a body that ends with the connection, and that has a limit too
            self._timer.cancel()
        super().close()

    def _end(self) -> None:
        self._expired = True
        if self._connected is not None:
            with contextlib.suppress(OSError):  # it ended by itself
                # Not SSLSocket's, which would take the session away from the reader, who now reads
                # the end.
                socket.socket.shutdown(self._connected, socket.SHUT_RDWR)

    def _raise_if_expired(self) -> None:
        if self._expired:
            raise socket.timeout("timed out")
