"""Each layer imports lower layers only (and its own), and heavy or special packages have one importer."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"errors", "options", "config", "verbs", "presets", "data", "files", "rng", "runs", "progress", "compiler", "npz"}
    | {
        "processes",
        "schedules",
        "status",
        "gl",
        "launcher",
        "packing",
        "pictures",
        "states",
        "mujoco_states",
        "recordings",
        "keyboard",
        "wording",
        "env_ids",
        "watchdog",
    },
    {"nets", "policies", "foreign", "rollouts", "lanes", "trial", "segments", "schema", "store", "loop", "behaviours"}
    | {"own_behaviours", "resuming", "replayable"}
    | {"database", "video", "views", "drawings", "clips", "clip_files", "clip_renderer", "clip_cache"},
    {
        "ppo",
        "fast",
        "machine",
        "cloning",
        "queries",
        "oracles",
        "anchor",
        "labels",
        "exchange",
        "asking",
        "asynchronous",
        "human",
    }
    | {"likelihoods", "reward_metrics", "reward_fit", "reward_fast", "reward", "guards", "tries"},
    {"api", "sb3", "curves", "plots", "record", "train", "report", "datacard", "doctor", "seeds", "bench", "bench_peer"}
    | {"again", "reward_env", "evaluate_reward", "predictions", "session", "question_video", "terminal", "viewer"}
    | {"bench_window", "bench_reward", "bench_reward_peer", "cli", "__main__"},
]
LAYER = {module: level for level, modules in enumerate(LAYERS) for module in modules}
SOLE_IMPORTERS = {
    "matplotlib": {"plots"},
    "stable_baselines3": {"sb3", "bench_peer"},  # the latter also runs where this project is not installed
    "pygame": {"viewer"},
    "sqlite3": {"database", "doctor"},
}
PACKAGE = ROOT / "rlhf_control"
MODULES = sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("viewer/*.py")])
HEAVY = {"torch", "numpy", "gymnasium", "mujoco", "matplotlib", "pygame"}


def module(path: Path) -> str:
    """As in LAYERS: the viewer's files are one."""
    return path.stem if path.parent == PACKAGE else path.parent.name


def name(path: Path) -> str:
    """As in the tests' names: rlhf_control/viewer/label.py is viewer_label."""
    return "_".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                f"{node.module}.{alias.name}" if node.module == "rlhf_control" else node.module for alias in node.names
            }
    return names


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem != "__init__"], ids=name)
def test_layer(path: Path) -> None:
    mine = module(path)
    assert mine in LAYER, f"give {mine} a layer"
    for imported in imports(path):
        package, _, other = imported.partition(".")
        other = other.split(".")[0]
        if package == "rlhf_control" and other in LAYER:
            assert LAYER[other] <= LAYER[mine], f"{mine} imports {other} from a higher layer"
        if package in SOLE_IMPORTERS:
            assert mine in SOLE_IMPORTERS[package], f"only {SOLE_IMPORTERS[package]} may import {package}"


def test_environments_know_nothing_of_the_method() -> None:
    for path in (ROOT / "envs").glob("*.py"):
        assert not any(name.startswith("rlhf_control") for name in imports(path)), path


def test_ppo_knows_nothing_of_preferences() -> None:
    for name in ("ppo", "fast", "nets"):
        known = (
            imports(ROOT / "rlhf_control" / f"{name}.py") if (ROOT / "rlhf_control" / f"{name}.py").exists() else set()
        )
        assert not known & {
            f"rlhf_control.{m}" for m in ("reward", "queries", "oracles", "labels", "store", "segments")
        }


def test_nothing_unpickles() -> None:
    for path in [*MODULES, *(ROOT / "envs").glob("*.py")]:
        text = path.read_text()
        assert not imports(path) & {"cloudpickle", "joblib", "dill"}, path
        assert not re.search(r"pickle\.(load|Unpickler\b)|allow_pickle=True|weights_only=False", text), path


def modules_after(code: str) -> set[str]:
    """What a new interpreter has imported after this."""
    code = f"import sys; {code}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_help_imports_nothing_heavy() -> None:
    assert not HEAVY & modules_after("from rlhf_control.cli import main; main(['--help'])")


def test_the_window_never_waits_for_torch() -> None:
    """Importing it takes seconds. What needs it runs in a process of its own."""
    code = "import importlib; [importlib.import_module(f'rlhf_control.viewer.{m}') for m in {stems}]"
    stems = [path.stem for path in PACKAGE.glob("viewer/*.py")]
    assert "torch" not in modules_after(code.replace("{stems}", repr(stems)))


def test_every_module_has_its_tests() -> None:
    exempt = {"__init__", "__main__", "errors", "viewer___init__"}  # errors: by everybody else's tests
    missing = [name(p) for p in MODULES if not (ROOT / "tests" / f"test_{name(p)}.py").exists()]
    assert not set(missing) - exempt
