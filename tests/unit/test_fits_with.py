"""What is shipped for other people's tools: Renovate, pre-commit, GitHub's workflows, Portainer and
Dockge."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror import RegistryMirror, RegistryMirrorArgs, rules
from components.registry_mirror.cli import stack_schema
from components.registry_mirror.cli.pin import pin
from components.registry_mirror.provider import schema
from config.reference import SCHEMA
from tests.builders import DIGEST
from tools.toolchain import REQUIREMENTS

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted([*ROOT.glob("Pulumi.*.yaml"), *ROOT.glob("examples/*/Pulumi.example.yaml")])
NO_DIGEST = "<64 hex digits>"
"""In examples, in a digest's place."""


# --------------------------------------------------------------------------------------- Renovate


def renovate() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "renovate.json").read_text())
    return read


def pattern() -> "re.Pattern[str]":
    (manager,) = renovate()["customManagers"]
    (text,) = manager["matchStrings"]
    return re.compile(text.replace("(?<", "(?P<"), re.MULTILINE)


def is_looked_at(name: str) -> bool:
    (manager,) = renovate()["customManagers"]
    return any(re.search(entry.strip("/"), name) for entry in manager["managerFilePatterns"])


def found(text: str) -> list[tuple[str, str, str]]:
    return [
        (match["depName"], match["currentValue"], match["currentDigest"])
        for match in pattern().finditer(text)
    ]


@pytest.mark.parametrize("path", STACKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_renovate_finds_every_pin_of_a_stack(path: Path) -> None:
    assert is_looked_at(str(path.relative_to(ROOT)))
    text = path.read_text().replace(f"@sha256:{NO_DIGEST}", "")
    pinned, images = pin(text, lambda image: DIGEST)
    assert images
    assert found(pinned) == [(*str(image.tag).rpartition(":")[::2], DIGEST) for image in images]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("estate/__main__.py", f'image="registry:3.1.2@{DIGEST}",'),
        ("index.ts", f"    image: 'registry:3.1.2@{DIGEST}',"),
        ("main.go", f"Image: `registry:3.1.2@{DIGEST}`,"),
        ("Pulumi.yaml", f"      image: registry:3.1.2@{DIGEST}"),
    ],
)
def test_renovate_finds_a_pin_in_a_program(name: str, line: str) -> None:
    assert is_looked_at(name)
    assert found(line) == [("registry", "3.1.2", DIGEST)]


def test_renovate_takes_a_registry_with_a_port_for_a_part_of_the_name() -> None:
    name = "images.example.com:5000/mine/registry"
    assert found(f"swarm-registry-mirror:image: {name}:3.2.0@{DIGEST}") == [(name, "3.2.0", DIGEST)]


@pytest.mark.parametrize(
    "text",
    ["image: registry:3.1.2", f"image: registry@{DIGEST}", f"mirror@{DIGEST}", "a:1@sha256:beef"],
)
def test_renovate_touches_nothing_else(text: str) -> None:
    assert found(text) == []


def test_renovate_offers_no_registry_that_the_args_refuse() -> None:
    rule = next(rule for rule in renovate()["packageRules"] if "allowedVersions" in rule)
    allowed = re.compile(rule["allowedVersions"].strip("/"))
    for tag in ("3.1.2", "3.2.0", "3.10.11"):
        assert allowed.search(tag)
        assert rules.image(f"registry:{tag}@{DIGEST}", False) is None
    for tag in ("2.8.3", "3", "3.1", "3.2.0-rc.1", "latest", "4.0.0"):
        assert not allowed.search(tag)


# ------------------------------------------------------------------------- the check of a stack


def checked(*files: Path) -> tuple[int, str, str]:
    """As the hook and the action run it: exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, ROOT / "components/registry_mirror/cli/stack_schema.py", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_schema_of_the_check_is_that_of_the_editors() -> None:
    assert (ROOT / SCHEMA).resolve() == stack_schema.SCHEMA.resolve()


def test_every_stack_of_this_project_passes(tmp_path: Path) -> None:
    assert checked(*sorted(ROOT.glob("Pulumi.*.yaml"))) == (0, "", "")


BAD = """
config:
  other:key: 1
  swarm-registry-mirror:hostnam: mirror.example.com
  swarm-registry-mirror:image: registry:3.1.2
  swarm-registry-mirror:maxParallel: ten
  swarm-registry-mirror:nodes:
    - {name: n, adress: a}
"""


def test_every_fault_is_said_in_the_keys_of_the_stack(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.bad.yaml"
    file.write_text(BAD)
    code, output, errors = checked(file)
    assert (code, errors) == (1, "")
    assert output.splitlines() == [
        f"{file}: {fault}"
        for fault in (
            "hostnam: does not exist; did you mean hostname?",
            "hostname: is missing",
            "maxParallel: 'ten' is not of type 'integer'",
            "nodes[0].address: is missing",
            "nodes[0].adress: does not exist; did you mean address?",
        )
    ]


@pytest.mark.parametrize("text", ["config:\n  other:key: 1\n", "config: {}\n", "a\n", ""])
def test_a_stack_of_another_project_is_none_of_ours(text: str) -> None:
    assert stack_schema.faults(text) == []


def test_what_cannot_be_read_is_said_and_the_others_are_checked(tmp_path: Path) -> None:
    broken, bad = tmp_path / "Pulumi.broken.yaml", tmp_path / "Pulumi.bad.yaml"
    broken.write_text("config:\n  a: [\n")
    bad.write_text(BAD)
    code, output, errors = checked(tmp_path / "none.yaml", broken, bad)
    assert code == 4
    assert errors.splitlines() == [
        f"{tmp_path / 'none.yaml'}: No such file or directory",
        f"{broken}: line 3: is no YAML",
    ]
    assert len(output.splitlines()) == 5


def test_without_a_file_it_says_what_to_name() -> None:
    assert checked() == (
        64,
        "",
        "Failed: no file; name the files of stacks, like Pulumi.prod.yaml\n",
    )


def test_pre_commit_starts_the_check_for_stacks_alone() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    module = hook["entry"].removeprefix("python -m swarm_registry_mirror.")
    assert ROOT / "components/registry_mirror" / (module.replace(".", "/") + ".py") == Path(
        stack_schema.__file__
    )
    names = re.compile(hook["files"])
    assert names.search("infra/Pulumi.prod.yaml")
    assert not names.search("Pulumi.yaml")
    assert not names.search("Pulumi.prod.yaml.bak")


def action() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return read


def test_the_action_runs_the_check_and_no_input_is_a_part_of_its_script(tmp_path: Path) -> None:
    *_, step = action()["runs"]["steps"]
    assert not [each for each in action()["runs"]["steps"] if "${{" in each.get("run", "")]
    # Its own script, with this Python in place of the one that it installs.
    (tmp_path / "stacks/bin").mkdir(parents=True)
    (tmp_path / "stacks/bin/python").symlink_to(sys.executable)
    (tmp_path / "Pulumi.a.yaml").write_text(BAD)
    (tmp_path / "Pulumi.b.yaml").write_text(BAD)
    environment = {
        "PATH": "/usr/bin:/bin",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_ACTION_PATH": str(ROOT),
        "PYTHONPATH": ":".join(sys.path),
    }

    def run(files: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step["run"]],
            cwd=tmp_path,
            env={**environment, "FILES": files},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(action()["inputs"]["files"]["default"])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 10
    done = run("$(touch injected);`touch injected`")
    assert done.returncode == 4
    assert not (tmp_path / "injected").exists()


def test_hook_and_action_check_with_what_the_tests_check_with() -> None:
    locked = dict(
        re.findall(
            r"^(jsonschema|pyyaml)==(\S+)",
            "".join((REQUIREMENTS / name).read_text() for name in ("dev.txt", "program.txt")),
            re.MULTILINE,
        )
    )
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["additional_dependencies"] == [f"jsonschema=={locked['jsonschema']}"]
    (install,) = [step["run"] for step in action()["runs"]["steps"] if "pip" in step.get("run", "")]
    assert set(re.findall(r"(\w+)==(\S+)", install)) == set(locked.items())


# ------------------------------------------------------------------- Portainer, Dockge, languages


@pytest.mark.parametrize("place", ["portainer", "dockge"])
def test_both_examples_of_a_stack_are_the_same_images(place: str) -> None:
    """By the explicit name it is the mirror, the registry unless it is Docker Hub, the repository
    as the registry has it."""
    plain, explicit = (
        {
            name: service["image"]
            for name, service in yaml.safe_load(
                (ROOT / "examples" / place / f"{kind}-names.yml").read_text()
            )["services"].items()
        }
        for kind in ("plain", "explicit")
    )
    assert set(plain) == set(explicit)
    for name, image in plain.items():
        path = image if "/" in image else f"library/{image}"
        assert explicit[name] == f"mirror.example.com/{path}"


def test_the_examples_in_other_languages_give_what_the_package_takes() -> None:
    package = schema.package(RegistryMirrorArgs, RegistryMirror, "1.2.3")
    inputs = package["resources"][schema.COMPONENT]["inputProperties"]
    node = package["types"][f"{schema.NAME}:index:SwarmNode"]["properties"]
    program = yaml.safe_load((ROOT / "examples/yaml/Pulumi.yaml").read_text())
    mirror = program["resources"]["registry-mirror"]
    assert mirror["type"] == "swarm-registry-mirror:RegistryMirror"
    assert set(mirror["properties"]) <= set(inputs)
    for each in mirror["properties"]["nodes"]:
        assert set(each) <= set(node)
    text = (ROOT / "examples/typescript/index.ts").read_text()
    given = re.findall(r"^        (\w+): ", text, re.MULTILINE)
    assert "nodes" in given
    assert set(given) <= set(inputs)
    stack = (ROOT / "examples/typescript/Pulumi.example.yaml").read_text()
    (nodes,) = [
        value for key, value in yaml.safe_load(stack)["config"].items() if key.endswith(":nodes")
    ]
    assert all(set(each) <= set(node) for each in nodes)


@pytest.mark.parametrize("name", ["typescript", "yaml"])
def test_an_example_names_the_folder_of_the_package(name: str) -> None:
    folder = ROOT / "examples" / name
    packages = yaml.safe_load((folder / "Pulumi.yaml").read_text())["packages"]
    assert (folder / packages[schema.NAME] / "PulumiPlugin.yaml").exists()
    if name == "typescript":
        wanted = json.loads((folder / "package.json").read_text())["dependencies"]
        assert wanted["@pulumi/swarm-registry-mirror"] == "file:sdks/swarm-registry-mirror"
