"""The walls between the rooms: who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

from components.registry_mirror import ship

ROOT = Path(__file__).resolve().parents[2]
PURE = ["rules.py", "render.py", "ship.py", "plain_text.py", "answer.py", "cli/deployed.py", "cli/gathered.py", "cli/answers.py"]


def imports(path: Path) -> set[str]:
    """Absolute names that a module imports; relative imports as `.name`."""
    found = set()
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            found.add("." * item.level + (item.module or ""))
    return found


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules("components"), ids=lambda path: path.name)
def test_a_component_imports_nothing_of_this_program(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path) if not name.startswith(".")}
    assert not tops & {"config", "lab", "tools", "review", "tests", "components"}


SHIPPED = [
    *modules("components/registry_mirror/node_agent"),
    *modules("components/registry_mirror/rolling_restart"),
    *(ROOT / f"components/registry_mirror/{name}.py" for name in ship._SHARED),
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_is_shipped_imports_the_standard_library_and_itself(path: Path) -> None:
    for name in imports(path):
        assert name.startswith(".") or name.partition(".")[0] in sys.stdlib_module_names
        # Beside their own folder, only what every agent carries along.
        assert not name.startswith("..") or name.strip(".") in ("", *ship._SHARED)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_no_sdk(name: str) -> None:
    found = imports(ROOT / "components" / "registry_mirror" / name)
    assert not {top for top in (name.partition(".")[0] for name in found) if top.startswith("pulumi")}


@pytest.mark.parametrize("folder", ["adopt", "components", "config", "policy", "review"])
def test_product_code_never_imports_the_lab_or_the_tools(folder: str) -> None:
    for path in modules(folder):
        assert not {name.partition(".")[0] for name in imports(path)} & {"lab", "tools", "tests"}


def test_the_settings_do_not_know_who_uses_them() -> None:
    for path in modules("config"):
        assert not {name.partition(".")[0] for name in imports(path)} & {"adopt", "review"}


def test_only_the_command_starts_processes_and_prints() -> None:
    here = ROOT / "components" / "registry_mirror"
    for path in [*here.glob("*.py")]:
        tree = ast.parse(path.read_text())
        calls = {item.func.id for item in ast.walk(tree) if isinstance(item, ast.Call) and isinstance(item.func, ast.Name)}
        assert not calls & {"print"}, path
        assert "subprocess" not in imports(path), path


def test_no_component_module_postpones_annotations() -> None:
    # Pulumi's analyzer reads them unevaluated, and breaks (pulumi sdk/python provider/experimental/analyzer.py).
    for path in modules("components"):
        assert "__future__" not in imports(path)


def test_the_program_is_a_table_of_contents() -> None:
    assert len((ROOT / "__main__.py").read_text().splitlines()) <= 40


def test_tools_and_lab_run_before_anything_is_installed() -> None:
    for path in [*modules("tools"), *(path for path in modules("lab") if "plugins" not in path.parts)]:
        tops = {name.partition(".")[0] for name in imports(path) if not name.startswith(".")}
        assert tops <= {*sys.stdlib_module_names, "lab", "tools"}, path
