"""Servers that tests run beside themselves, and the certificates that these show."""

import socketserver
import subprocess
import threading
from pathlib import Path


def in_background(server: socketserver.BaseServer) -> None:
    """Serve in a thread, until `server.shutdown()`. That is noticed at once: by default it is only
    looked for twice a second, and many tests have a server of their own."""
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()


def self_signed(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate of a host, valid for a day, and its private key; both are made in `folder`."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(
        ["openssl", "req", *kind, *names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key
