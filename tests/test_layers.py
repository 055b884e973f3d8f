"""The house: which package may import which, without circles; heavy or special packages have one importer."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rlhf_control"
# Package (or module beside them) -> what else of the project it may import: at the top of a file, in a function, for
# its types. What stands in a row may import what stands in the rows above it, if it is named here.
GROUND = {"config", "compute", "data", "errors", "rng", "spaces", "wording"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "wording": set(),
    "data": {"errors"},
    "rng": {"errors"},
    "spaces": {"errors"},
    "config": {"errors", "wording"},
    "compute": {"data", "errors"},
    "envs": {"compute"},  # which compiles the games
    "runs": GROUND,
    "simulation": {*GROUND, "runs", "envs"},
    "nets": {*GROUND, "runs"},
    "sweeps": {*GROUND, "runs"},
    "rl": {*GROUND, "runs", "nets"},
    "behaviours": {*GROUND, "runs", "simulation", "envs"},
    "feedback": {*GROUND, "runs", "behaviours"},
    "reward": {*GROUND, "runs", "nets", "behaviours"},
    "interop": {*GROUND, "runs", "nets", "simulation", "feedback", "reward"},
    "rendering": {*GROUND, "runs", "simulation", "feedback"},
    "queries": {*GROUND, "runs", "nets", "simulation", "feedback", "reward", "interop"},
    "labelling": {*GROUND, "runs", "feedback", "rendering"},
    "training": {
        *GROUND, "runs", "nets", "simulation", "rl", "behaviours", "feedback", "reward", "queries", "labelling",
        "interop",
    },
    "viewer": {*GROUND, "runs", "simulation", "feedback", "reward", "rendering", "labelling"},
    "train": {
        *GROUND, "runs", "nets", "simulation", "rl", "behaviours", "feedback", "reward", "queries", "training",
    },
    "analysis": {
        *GROUND, "runs", "nets", "simulation", "behaviours", "feedback", "reward", "queries", "rendering", "training",
        "interop",
    },
    "bench": {
        *GROUND, "envs", "runs", "nets", "simulation", "rl", "feedback", "reward", "queries", "rendering", "viewer",
        "sweeps", "train",
    },
    "doctor": {*GROUND, "rl", "rendering"},
    "api": {*GROUND, "runs", "envs", "behaviours", "feedback", "training", "train", "analysis"},
    "arguments": {*GROUND, "training"},
    "cli": {
        *GROUND, "runs", "nets", "simulation", "sweeps", "behaviours", "analysis", "bench", "viewer", "train", "doctor",
        "training", "interop", "queries", "arguments",
    },
    "__main__": {"cli"},
}  # fmt: skip
SOLE_IMPORTERS = {
    "matplotlib": {"analysis"},
    "stable_baselines3": {"interop", "bench"},  # the latter also runs where this project is not installed
    "pygame": {"viewer"},
    "sqlite3": {"feedback", "doctor"},
}
NO_TORCH = ("simulation", "feedback", "rendering", "labelling")
HEAVY = {"torch", "numpy", "gymnasium", "mujoco", "matplotlib", "pygame", "tyro"}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in (PACKAGE, ROOT / "envs")
    for path in sorted(folder.rglob("*.py"))
}
MODULES = [name for name in FILES if name != "rlhf_control"]  # whose own names are loaded when they are used


def imports(name: str) -> set[str]:
    """Modules that a module imports, anywhere in its file."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def room(name: str) -> str:
    """As in MAY_IMPORT: the package that a module of ours lies in, or the module itself where it lies in none."""
    parts = name.split(".")
    return parts[0] if parts[0] == "envs" else parts[1]


IMPORTS = {name: imports(name) for name in MODULES}
EDGES = {name: {other for other in found if other in FILES and other != name} for name, found in IMPORTS.items()}


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    assert room(name) in MAY_IMPORT, f"give {room(name)} a place in the house"
    for other in EDGES[name] - {"rlhf_control"}:
        allowed = MAY_IMPORT[room(name)] | {room(name)}
        assert room(other) in allowed, f"{name} imports {other}, and {room(name)} may import only {sorted(allowed)}"


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Every circle that a walk in depth meets, as the names along it."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(edges.get(name, ())):
                walk(other, [*path, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_there_are_no_circles() -> None:
    """Not among modules, those that are imported for their types or in a function included, nor among packages."""
    assert circles(EDGES) == []
    assert circles(MAY_IMPORT) == []


@pytest.mark.parametrize("name", MODULES)
def test_special_packages_have_one_importer(name: str) -> None:
    for imported in IMPORTS[name]:
        package = imported.split(".")[0]
        if package in SOLE_IMPORTERS:
            assert room(name) in SOLE_IMPORTERS[package], f"only {SOLE_IMPORTERS[package]} may import {package}"


def test_nothing_unpickles() -> None:
    """But what reads pickles as data: its Unpickler makes inert records of what an allow list names."""
    for name, path in FILES.items():
        if name == "rlhf_control.interop.pickles":
            continue
        text = path.read_text()
        assert name not in IMPORTS or not IMPORTS[name] & {"cloudpickle", "joblib", "dill"}, path
        assert not re.search(r"pickle\.(load|Unpickler\b)|allow_pickle=True|weights_only=False", text), path


def test_a_package_says_what_it_is_for_and_no_more() -> None:
    for name, path in FILES.items():
        if path.name == "__init__.py" and name not in ("rlhf_control", "rlhf_control.config", "envs"):
            body = ast.parse(path.read_text()).body
            assert len(body) == 1 and ast.get_docstring(ast.parse(path.read_text())), path


def test_no_two_classes_have_one_name() -> None:
    seen: dict[str, str] = {}
    for name, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                assert node.name not in seen, f"{node.name} is in {seen[node.name]} and in {name}"
                seen[node.name] = name


def test_files_functions_and_classes_are_of_human_size() -> None:
    for name, path in FILES.items():
        text = path.read_text()
        assert text.count("\n") <= 400, f"{name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
                assert len(methods) <= 20, f"{node.name} of {name} has {len(methods)} methods"
            if isinstance(node, ast.FunctionDef) and name.split(".")[1:2] in (["queries"], ["training"]):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                given = [argument for argument in given if argument.arg not in ("self", "cls")]
                assert len(given) <= 8, f"{node.name} of {name} has {len(given)} parameters"


def modules_after(code: str) -> set[str]:
    """What a new interpreter has imported after this."""
    code = f"import sys; {code}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_help_imports_nothing_heavy() -> None:
    assert not HEAVY & modules_after("from rlhf_control.cli import main; main(['--help'])")


@pytest.mark.parametrize("package", [*NO_TORCH, "viewer"])
def test_these_packages_never_wait_for_torch(package: str) -> None:
    """Importing it takes seconds. What of the window needs it runs in a process of its own."""
    names = [name for name in FILES if name.startswith(f"rlhf_control.{package}")]
    assert "torch" not in modules_after(f"import importlib; [importlib.import_module(name) for name in {names}]")


def test_every_module_has_its_tests() -> None:
    exempt = {"rlhf_control.__main__", "rlhf_control.behaviours.behaviour"}  # a call; a record of names
    # Held bit for bit to Gymnasium's tasks where they are stepped, in tests/envs/mujoco/test_vector.py
    exempt |= {f"envs.mujoco.{name}" for name in ("locomotion", "pendulums_and_arms", "simulation", "task")}
    # Held to each other, in tests/envs/games/test_compiled.py
    exempt |= {"envs.games.game", "envs.games.reference"}
    for name, path in FILES.items():
        if path.name != "__init__.py" and name not in exempt:
            inner = path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT)
            test = ROOT / "tests" / inner.with_name(f"test_{path.name}")
            assert test.exists(), f"{name} has no {test.relative_to(ROOT)}"


def test_no_test_file_imports_another() -> None:
    """What several of them need stands in a module beside them, or is a fixture of a conftest.py."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            own = [name for name in names if re.search(r"(^|\.)test_\w+$", name)]
            assert not own, f"{path.relative_to(ROOT)} imports {own}"
