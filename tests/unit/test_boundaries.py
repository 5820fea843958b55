"""The walls between the rooms: which module may import which, and that a module is what it says."""

import ast
import functools
import graphlib
import re
import sys
from pathlib import Path

import pytest

from components.registry_mirror import ship

ROOT = Path(__file__).resolve().parents[2]
WHEEL = "components.registry_mirror"
TOPS = ("components", "config", "lab", "tools", "tests")
SDKS = {"pulumi_docker", "pulumi_command"}
WIRING = {"component", "services", "nodes", "guard", "claims", "warming"}
"""Modules that declare resources."""
TRAVELLING = ("node_agent", "rolling_restart")
"""Programs that run elsewhere: they print and start processes there."""


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(*folders: str) -> dict[str, Path]:
    """Name -> path."""
    return {
        module_name(path): path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


PRODUCT = modules("components", "config", "lab", "tools")
EVERYTHING = {**PRODUCT, "__main__": ROOT / "__main__.py"}


def imports(path: Path) -> set[str]:
    """Everything that a module imports, by its absolute name; what `from a import b` takes is `a.b`
    where that is a module of ours, and `a` else."""
    own = module_name(path) if path.is_relative_to(ROOT) else ""
    package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    names: set[str] = set()
    for item in ast.walk(tree(path)):
        if isinstance(item, ast.Import):
            names |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            base = item.module or ""
            if item.level:
                parts = package.split(".")[: len(package.split(".")) - item.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            for alias in item.names:
                inner = f"{base}.{alias.name}"
                names.add(inner if inner in EVERYTHING else base)
    return names


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name in EVERYTHING}


def room(name: str) -> str:
    return name.partition(".")[0]


def calls(path: Path) -> set[str]:
    """Names of the functions that a module calls by a bare name."""
    return {
        item.func.id
        for item in ast.walk(tree(path))
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Name)
    }


ARROWS = {
    "components": set[str](),
    "config": {"components"},
    "tools": {"components"},
    "lab": {"components", "config", "tools"},
    "__main__": {"components", "config"},
}
"""Room -> the rooms that it may import. None of them imports the tests."""


@pytest.mark.parametrize("name", EVERYTHING, ids=str)
def test_an_arrow_between_rooms_runs_down(name: str) -> None:
    others = {room(other) for other in imports(EVERYTHING[name])} & {*TOPS, "__main__"}
    assert others - {room(name)} <= ARROWS[room(name)]


def test_nothing_that_is_installed_is_imported_by_the_name_that_it_has_here() -> None:
    for name, path in modules("components").items():
        absolute = {
            alias.name
            for item in ast.walk(tree(path))
            if isinstance(item, ast.Import)
            for alias in item.names
        } | {
            item.module or ""
            for item in ast.walk(tree(path))
            if isinstance(item, ast.ImportFrom) and not item.level
        }
        assert not {each for each in absolute if room(each) in TOPS}, name


def test_no_module_imports_itself_by_a_detour() -> None:
    """A package's `__init__` gathers what its modules have: an edge to one of its modules is the
    edge that counts."""
    graph = {name: ours(path) - {name} for name, path in EVERYTHING.items()}
    for name, others in graph.items():
        # `from . import a` runs the package's `__init__` first; that is no edge of the design.
        graph[name] = {other for other in others if not name.startswith(f"{other}.")}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_only_the_command_and_what_travels_starts_processes_and_prints() -> None:
    for name, path in modules(WHEEL.replace(".", "/")).items():
        inside = name.removeprefix(f"{WHEEL}.")
        if inside.partition(".")[0] in ("cli", *TRAVELLING):
            continue
        assert "print" not in calls(path), name
        assert "subprocess" not in imports(path), name


def test_only_what_declares_resources_imports_a_providers_sdk() -> None:
    importing = {
        name.removeprefix(f"{WHEEL}.")
        for name, path in modules("components").items()
        if {room(other) for other in imports(path)} & SDKS
    }
    assert importing <= WIRING


def test_the_command_reads_no_configuration_of_this_checkout() -> None:
    for name, path in modules(f"{WHEEL.replace('.', '/')}/cli").items():
        assert not {room(other) for other in imports(path)} & {"config", "lab", "tools"}, name


def claims(word: str) -> list[str]:
    """The modules whose docstring says it."""
    # Without a parser, because this runs wherever tests are collected. Every module begins with its
    # docstring (ruff D100).
    return [
        name
        for name, path in PRODUCT.items()
        if re.search(word, " ".join(path.read_text().split('"""')[1].split()))
    ]


PURE = claims(r"(^|[.;] )Pure\b(?!ly)")
PURE_BUT_FOR_THE_SDK = claims(r"\bPure but for (that annotation|the SDK)")
"""They name its types; `Output` and `Input` are values there."""
STANDARD_LIBRARY = claims(r"(?i)\bstandard library only\b")
IMPURE_MODULES = {
    "asyncio",
    "concurrent.futures",
    "grpc",
    "multiprocessing",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "urllib.request",
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval"}
IMPURE_METHODS = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "unlink",
    "mkdir",
    "iterdir",
    "exists",
    "expanduser",
    "getenv",
    "sleep",
    "monotonic",
    "now",
    "token_hex",
}


def test_the_claims_are_found() -> None:
    assert len(PURE) > 20
    assert len(STANDARD_LIBRARY) > 3


@pytest.mark.parametrize("name", PURE)
def test_a_module_that_says_it_is_pure_does_nothing_but_compute(name: str) -> None:
    path = EVERYTHING[name]
    others = imports(path)
    assert not others & IMPURE_MODULES
    sdk = {other for other in others if room(other).startswith("pulumi")}
    assert sdk <= ({"pulumi"} if name in PURE_BUT_FOR_THE_SDK else set())
    assert not calls(path) & IMPURE_CALLS
    methods = {
        item.func.attr
        for item in ast.walk(tree(path))
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute)
    }
    # A package's own files are a part of its program.
    own_files = {"read_text"} if "importlib" in others else set()
    assert not methods & (IMPURE_METHODS - own_files)
    attributes = {
        f"{item.value.id}.{item.attr}"
        for item in ast.walk(tree(path))
        if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name)
    }
    assert not attributes & {"os.environ", "sys.stdin", "sys.stdout", "sys.stderr"}


@pytest.mark.parametrize("name", STANDARD_LIBRARY)
def test_a_module_that_says_standard_library_only_keeps_to_it(name: str) -> None:
    package = name if EVERYTHING[name].name == "__init__.py" else name.rpartition(".")[0]
    for other in imports(EVERYTHING[name]):
        top = room(other)
        assert top in sys.stdlib_module_names or other.startswith(package), other


HERE = ROOT / "components" / "registry_mirror"
CARRIED = sorted(
    {name for program in ship.PROGRAMS for name in ship.modules(program) if "." not in name}
    - {"node_agent", "rolling_restart", ""}
)
"""Modules beside the agents' own folders that travel with them."""
SPOKEN_BY_BOTH = ("node_agent", "node_agent.outcome", "node_agent.request")
"""What the rolling restart shares with the agent that it sends: requests and outcomes."""
SHIPPED = [
    *HERE.glob("node_agent/*.py"),
    *HERE.glob("rolling_restart/*.py"),
    *(HERE / f"{name}.py" for name in CARRIED),
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_is_shipped_imports_the_standard_library_and_what_travels_with_it(path: Path) -> None:
    together = {WHEEL, *(f"{WHEEL}.{name}" for name in CARRIED), f"{WHEEL}.node_agent"}
    for program in ship.PROGRAMS:
        names = [f"{WHEEL}.{name}" for name in ship.modules(program)]
        together |= set(names) if module_name(path) in names else set()
    for name in imports(path):
        assert room(name) in sys.stdlib_module_names or name in together, name


def test_few_modules_travel_beside_the_agents_own() -> None:
    assert set(CARRIED) <= {"answer", "plain_text", "codes"}


def test_no_component_module_postpones_annotations() -> None:
    # Pulumi's analyzer reads them unevaluated, and breaks (pulumi sdk/python
    # provider/experimental/analyzer.py).
    for name, path in modules("components").items():
        assert "__future__" not in imports(path), name


def test_the_program_is_a_table_of_contents() -> None:
    assert len((ROOT / "__main__.py").read_text().splitlines()) <= 50


def test_the_top_has_seven_folders_and_tools_has_the_ground_floor_only() -> None:
    tracked = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    ignored = {"previews", "build", "dist", "__pycache__"}
    assert {name for name in tracked - ignored if not name.endswith(".egg-info")} == {
        "components",
        "config",
        "docs",
        "examples",
        "lab",
        "tests",
        "tools",
    }
    assert {path.name for path in (ROOT / "tools").iterdir()} - {"__pycache__"} == {
        "__init__.py",
        "go",
        "plugins.py",
        "progress.py",
        "requirements",
        "site.py",
        "toolchain.py",
    }


def test_no_function_of_ours_takes_seven_positional_arguments() -> None:
    found = []
    for path in modules("components", "config", "lab", "tools").values():
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [given.arg for given in (*item.args.posonlyargs, *item.args.args)]
                if len([name for name in names if name not in ("self", "cls")]) > 6:
                    found.append(f"{path.name}: {item.name}")
    assert found == []
