"""`python -m review.plugin_version PROGRAM`: which version a provider plugin is, asked as Pulumi's engine asks it.

A plugin on PATH has its version in no file name. It opens no connection to anything but this computer.
"""

import subprocess
import sys

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2_grpc

SECONDS = 20
NOBODY = "127.0.0.1:1"
"""In place of the engine's address, which a plugin is not in need of to say its version."""


def version_of(program: str) -> str:
    """The version that the plugin gives; empty where it gives none."""
    try:
        running = subprocess.Popen([program, NOBODY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return ""
    try:
        assert running.stdout is not None
        port = running.stdout.readline().strip()
        if not port.isdigit():
            return ""
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            info = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(empty_pb2.Empty(), timeout=SECONDS)
        return str(info.version)
    except grpc.RpcError:
        return ""
    finally:
        running.kill()
        running.wait()


if __name__ == "__main__":
    print(version_of(sys.argv[1]))
