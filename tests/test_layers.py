"""Each layer imports lower layers only (and its own), and heavy or special packages have one importer."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"errors", "config", "presets", "data", "files", "rng", "runs", "progress", "compiler", "schedules"},
    {"nets", "policies", "rollouts", "lanes", "segments", "clips", "video", "schema", "store", "loop", "behaviours"},
    {"ppo", "fast", "queries", "oracles", "anchor", "labels", "exchange"}
    | {"likelihoods", "reward_metrics", "reward_fit", "reward", "guards", "tries"},
    {"sb3", "curves", "plots", "record", "train", "report", "datacard", "doctor", "seeds", "bench", "bench_peer"}
    | {"reward_env", "evaluate_reward", "cli", "__main__"},
]
LAYER = {module: level for level, modules in enumerate(LAYERS) for module in modules}
SOLE_IMPORTERS = {
    "matplotlib": {"plots"},
    "stable_baselines3": {"sb3", "bench_peer"},  # the latter also runs where this project is not installed
    "pygame": {"viewer"},
    "sqlite3": {"store", "doctor"},
}
MODULES = sorted((ROOT / "rlhf_control").glob("*.py"))


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


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem != "__init__"], ids=lambda p: p.stem)
def test_layer(path: Path) -> None:
    assert path.stem in LAYER, f"give {path.stem} a layer"
    for name in imports(path):
        package, _, module = name.partition(".")
        module = module.split(".")[0]
        if package == "rlhf_control" and module in LAYER:
            assert LAYER[module] <= LAYER[path.stem], f"{path.stem} imports {module} from a higher layer"
        if package in SOLE_IMPORTERS:
            assert path.stem in SOLE_IMPORTERS[package], f"only {SOLE_IMPORTERS[package]} may import {package}"


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


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from rlhf_control.cli import main; main(['--help']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "gymnasium", "mujoco", "matplotlib"} & set(out.split())


def test_every_module_has_its_tests() -> None:
    exempt = {"__init__", "__main__", "errors"}  # errors: by everybody else's tests
    missing = [p.stem for p in MODULES if p.stem not in exempt and not (ROOT / "tests" / f"test_{p.stem}.py").exists()]
    assert not missing
