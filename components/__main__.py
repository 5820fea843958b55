"""The plugin as Pulumi starts it from a checkout or a git source, beside `PulumiPlugin.yaml`.

What is installed from the wheel is the program `pulumi-resource-swarm-registry-mirror`.
"""

import importlib

if __name__ == "__main__":
    # By the name that the package has in this folder: it is not installed.
    importlib.import_module("registry_mirror.provider.host").run()
