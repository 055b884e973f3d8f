"""Behaviours of a user's own: a Python file, or a module, that adds to BEHAVIOURS.

Such a file is code, so it runs only where a user names it: `--behaviours mine.py` when a run is started, and once more
for whatever reads the run and has to score by them. What the run's folder says of it is never run by itself.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rlhf_control.behaviours.behaviour import Behaviour
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.runs.run import Run

SHIPPED = dict(BEHAVIOURS)
NOT_BEHAVIOURS = ("", "env", "coin-flip", "human", "custom")  # what else an oracle may be called
MEANINGS = {
    "reward": "a number for each step of each clip, as in s.next_obs[..., 0]",
    "score": "a number for each clip, as in s.next_obs[..., 0].mean(-1)",
}
EXAMPLE = 'BEHAVIOURS["NAME"] = Behaviour(...)'


@dataclass(frozen=True)
class Checked:
    """Calls a reward or a score that a user wrote, and raises UserError where it fails or gives another shape."""

    function: Callable[[Segments], Array]
    what: str  # reward or score
    whose: str

    def __call__(self, s: Segments) -> Array:
        expected = s.env_reward.shape if self.what == "reward" else s.env_reward.shape[:-1]
        try:
            found = np.asarray(self.function(s))
        except UserError:
            raise
        except Exception as error:
            said = str(error).partition("\n")[0]
            given = ", ".join(f"{k} {v.shape}" for k, v in s.arrays().items() if k != "mask")
            raise UserError(
                f"the {self.what} of the behaviour {self.whose} fails: {type(error).__name__}: {said}; it is given "
                f"steps with {given}"
            ) from error
        if found.shape != expected:
            raise UserError(
                f"the {self.what} of the behaviour {self.whose} has shape {found.shape}, not {expected}: "
                f"{MEANINGS[self.what]}"
            )
        return found


def load_behaviours(name: str) -> str:
    """Runs a Python file (NAME.py) or imports a module (beside the installed ones, of the current folder) that adds to
    BEHAVIOURS, and returns the SHA-256 of its file. Raises UserError for one that fails, adds nothing or replaces a
    behaviour that ships."""
    known_before = set(BEHAVIOURS)
    module = _run_file(Path(name)) if name.endswith(".py") else _import_module(name)
    if changed := [known for known, behaviour in SHIPPED.items() if BEHAVIOURS.get(known) is not behaviour]:
        BEHAVIOURS.update(SHIPPED)
        raise UserError(f"{name} replaces the behaviour '{changed[0]}', which ships; give it another name")
    for own, behaviour in list(BEHAVIOURS.items()):
        if not isinstance(behaviour, Behaviour):
            del BEHAVIOURS[own]
            raise UserError(f"{name} has a {type(behaviour).__name__} as '{own}'; write {EXAMPLE}")
    if BEHAVIOURS.keys() == SHIPPED.keys():
        raise UserError(f"{name} adds no behaviour; it is to say {EXAMPLE}")
    for own, behaviour in BEHAVIOURS.items():
        if own not in known_before:
            checked = {what: Checked(getattr(behaviour, what), what, f"'{own}' of {name}") for what in MEANINGS}
            BEHAVIOURS[own] = replace(behaviour, **checked)  # type: ignore[arg-type]
    return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()


def behaviours_of(run: Run, name: str = "") -> None:
    """Has the behaviours that a run is about, `name` being where the user says that they are. Raises UserError if the
    run needs some that are not known yet."""
    command, config = run.config()
    if name:
        sha256, was = load_behaviours(name), run.read_json("manifest.json").get("behaviours_sha256")
        if was not in (None, sha256):
            print(f"rlhf-control: {name} is not as it was when {run.path} was started", file=sys.stderr)
    if command != "finetune":
        return
    for needed in (config.oracle, config.score, config.annotator.drift_to):
        if needed not in (*BEHAVIOURS, *NOT_BEHAVIOURS):
            where = config.behaviours or "FILE.py"
            raise UserError(
                f"{run.path} is about '{needed}', a behaviour of {where} and so code, which only you can have run; if "
                f"you trust it, give --behaviours {where}"
            )


def facts(config: FinetuneConfig, sha256: str | None) -> dict[str, Any]:
    """Returns what a run's manifest says of the behaviour that it is scored by, for who cannot run its code."""
    about = BEHAVIOURS.get(config.behaviour())
    return {"score_unit": about.unit if about else None, "behaviours_sha256": sha256}


def table(env_id: str = "") -> str:
    """Lists all behaviours, or those of one environment."""
    rows = [(name, b.env_id, b.question, b.unit) for name, b in BEHAVIOURS.items() if env_id in ("", b.env_id)]
    if not rows:
        known = ", ".join(sorted({b.env_id for b in BEHAVIOURS.values()}))
        raise UserError(f"no behaviours for {env_id}, only for {known}; write your own, see CONTRIBUTING.md")
    head = ("--oracle", "environment", "what a person is asked", "score")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in (head, *rows)
    )


def _run_file(path: Path) -> ModuleType:
    """Once in a process, whatever it is called by."""
    if not path.is_file():
        raise UserError(f"no file {path}; --behaviours takes a Python file, or the name of a module")
    key = f"rlhf_control_behaviours_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[key]
        raise _failed(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.append(here)  # at the end: nothing in the folder stands in for what is installed
    try:
        return importlib.import_module(name)
    except BaseException as error:
        raise _failed(name, error) from error
    finally:
        sys.path.remove(here)


def _failed(name: str, error: BaseException) -> BaseException:
    """One line of what the user's code raised."""
    if isinstance(error, KeyboardInterrupt | UserError):
        return error
    said = str(error).partition("\n")[0]
    return UserError(f"cannot load the behaviours of {name}: {type(error).__name__}: {said}")
