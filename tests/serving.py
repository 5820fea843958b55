"""Servers of the standard library that tests run beside themselves."""

import socketserver
import threading


def in_background(server: socketserver.BaseServer) -> None:
    """Serve in a thread, until `server.shutdown()`. That is noticed at once: by default it is only
    looked for twice a second, and many tests have a server of their own."""
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
