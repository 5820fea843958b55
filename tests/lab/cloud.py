"""A real cloud-init on a machine of the lab, with the user data of a test's own.

It is Debian's, with the Python that it is made for, in a folder of its own (`FOLDER`): the machines
are of several releases. Of cloud-init's modules those run that user data of ours has, in the stages
that they have in Debian's own configuration.
"""

import functools
import shutil
import subprocess

from lab.base_systems import base_folder, debian_tree
from tests.lab.lab import Lab

FOLDER = "/opt/cloud-init"
_CONFIGURATION = """
datasource_list: [NoCloud]
network: {config: disabled}
system_info:
  distro: debian
  paths: {cloud_dir: /var/lib/cloud, templates_dir: /etc/cloud/templates}
cloud_init_modules: [bootcmd]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
"""
_PARTS = ("usr/bin/cloud-init-per", "usr/bin/python3.11", "usr/lib/python3", "usr/lib/python3.11")
_RUN = f"PYTHONHOME={FOLDER}/usr {FOLDER}/usr/bin/python3.11 -m cloudinit.cmd.main"


@functools.cache
def tree() -> bytes:
    """cloud-init and its Python, as a tar file."""
    folder = base_folder("cloud-init")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        debian_tree("bookworm", folder / "tree", "cloud-init", variant="apt")
        (folder / "complete").touch()
    return subprocess.run(
        ["tar", "--create", "--directory", folder / "tree", *_PARTS],
        check=True,
        capture_output=True,
    ).stdout


def install(lab: Lab, node: str) -> None:
    """Have cloud-init on a machine; it does nothing yet."""
    lab.on(node, f"mkdir -p {FOLDER} /etc/cloud && tar -x -C {FOLDER}", stdin=tree())
    lab.on(node, "cat > /etc/cloud/cloud.cfg", stdin=_CONFIGURATION.encode())
    lab.on(node, f"cp {FOLDER}/usr/bin/cloud-init-per /usr/bin/")


def give(lab: Lab, node: str, user_data: str, instance: str) -> None:
    """Have the machine be this new instance of a cloud, with this user data."""
    seed = "/var/lib/cloud/seed/nocloud"
    lab.on(node, f"rm -rf /var/lib/cloud /run/cloud-init; mkdir -p {seed}")
    lab.on(node, f"printf 'instance-id: {instance}\n' > {seed}/meta-data")
    lab.on(node, f"cat > {seed}/user-data", stdin=user_data.encode())


def boot(lab: Lab, node: str) -> str:
    """What cloud-init does before docker is started; its output."""
    return lab.on(node, f"{{ {_RUN} init --local && {_RUN} init; }} 2>&1")


def finish(lab: Lab, node: str) -> str:
    """What cloud-init does at the end of a boot; its output."""
    return lab.on(node, f"{{ {_RUN} modules --mode=config && {_RUN} modules --mode=final; }} 2>&1")


def complaints(lab: Lab, node: str, user_data: str) -> str:
    """What cloud-init's own schema says against user data; empty if nothing."""
    lab.on(node, "cat > /tmp/user-data", stdin=user_data.encode())
    said = lab.on(node, f"{_RUN} schema --config-file /tmp/user-data 2>&1 || true")
    return "" if said.startswith("Valid cloud-config") else said


def remove(lab: Lab, node: str) -> None:
    """As if there had been none."""
    lab.on(node, f"rm -rf {FOLDER} /etc/cloud /var/lib/cloud /run/cloud-init")
    lab.on(node, "rm -f /usr/bin/cloud-init-per /tmp/user-data /var/log/cloud-init*")
