"""What a resumed run must find as it was left: its options, its rows of metrics, and the files it was started from.

Every checkpoint holds a record of them under its seal. An edit of what lies beside it would otherwise give other
numbers without a word. Checkpoints of older versions hold none, and are gone on from unchecked.
"""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.files import read_own, sha256
from rlhf_control.runs.run import Run

INPUTS = ("pretrained.npz", "cloned.npz", "demonstrations.npz", "gold.npz")  # copies of what a run is started from
# Change no number, in config.json either
MAY_DIFFER = ("out", "checkpoint_seconds", "env_timeout", "window", "video", "question", "track")
MAY_CHANGE = (*MAY_DIFFER, "termination", "learn_end_costs", "guard")  # by `amend`, which notes it
C = TypeVar("C", bound=PretrainConfig | FinetuneConfig)


def record(run: Run, iteration: int, config: PretrainConfig | FinetuneConfig) -> dict[str, Any]:
    """Returns what to record in the checkpoint before `iteration`, once the rows before it are in the file."""
    rows = read_own(run.metrics_path) if run.metrics_path.exists() else b""
    return {
        "iteration": iteration,
        "config": _plain(config),
        "metrics": {"bytes": len(rows), "sha256": hashlib.sha256(rows).hexdigest()},
        "files": {name: sha256(run.path / name) for name in INPUTS if (run.path / name).is_file()},
    }


def check(run: Run, state: Mapping[str, Any], config: C, changed: Collection[str] = ()) -> None:
    """Raises UserError if the run of this checkpoint's state had other options than these (but for those that change no
    number, and the `changed` ones), other inputs, or other rows of metrics than its folder holds."""
    left = state.get("left")
    if left is None:
        return
    try:
        before = from_dict(type(config), left["config"])
        files, metrics = dict(left["files"]), (int(left["metrics"]["bytes"]), str(left["metrics"]["sha256"]))
        iteration = int(left["iteration"])
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"the checkpoint of {run.path} is of another run or version ({error})") from None
    differing = [
        f"{name} is {_brief(now)}, not {_brief(then)}"
        for name, now, then in _differences(config, before)
        if name.split(".")[0] not in (*MAY_DIFFER, *changed)
    ]
    if differing:
        raise UserError(
            f"{run.path / 'config.json'} is not what the run was started with: {'; '.join(differing[:5])}; put it back "
            "(it decides the numbers), or start another run"
        )
    for name, digest in files.items():
        with suppress(OSError):
            if sha256(run.path / name) == digest:
                continue
        raise CorruptFileError(f"{run.path / name} is missing or not what the run was started from; restore it")
    check_metrics(run, iteration, *metrics)


def check_rows(run: Run, state: Mapping[str, Any]) -> None:
    """Raises CorruptFileError unless all rows of metrics are there that this checkpoint's state sealed."""
    left = state.get("left")
    if left is not None:
        if not run.metrics_path.exists():
            raise CorruptFileError(f"{run.metrics_path} is gone; restore it from a copy")
        check_metrics(run, left["iteration"], left["metrics"]["bytes"], left["metrics"]["sha256"])
        if [row["iteration"] for row in run.metrics()][: left["iteration"]] != list(range(left["iteration"])):
            raise CorruptFileError(f"{run.metrics_path} lacks the first iterations; restore it from a copy")


def check_metrics(run: Run, iteration: int, length: int, digest: str) -> None:
    """Raises CorruptFileError unless the file begins with the rows that were in it at a checkpoint. A file that is
    gone altogether is said."""
    path = run.metrics_path
    if not path.exists():
        if length:
            print(
                f"rlhf-control: {path} is gone: the rows of the iterations before {iteration} are lost", file=sys.stderr
            )
        return
    rows = read_own(path)[:length]
    if hashlib.sha256(rows).hexdigest() == digest:
        return
    there = [row["iteration"] for row in run.metrics()]  # names doubled rows, and gaps
    lacking = sorted(set(range(iteration)) - set(there))
    what = f"it lacks iteration {lacking[0]}" if lacking else "a row was altered"
    raise CorruptFileError(
        f"{path} is not what the run wrote before iteration {iteration} ({what}); restore it from a copy, or delete it "
        "to go on without its rows"
    )


def amend(run: Run, config: C, changes: Mapping[str, Any]) -> C:
    """Returns the config of a run that is to go on with other options (by name, as termination or guard.alarm), once
    that is noted in config.json and manifest.json. Raises UserError for an option that cannot change, or if anything
    else of the run is not as it was left."""
    amended, own = config, {field.name for field in dataclasses.fields(config)}
    for name, value in changes.items():
        top, _, inner = name.partition(".")
        if top not in MAY_CHANGE or top not in own:
            possible = ", ".join(option for option in MAY_CHANGE if option in own)
            raise UserError(f"{name} cannot change when a run is resumed, only {possible} can; start another run")
        new = dataclasses.replace(getattr(amended, top), **{inner: value}) if inner else value
        amended = dataclasses.replace(amended, **{top: new})
    tops = {name.partition(".")[0] for name in changes}
    iteration, state = run.look_at_checkpoint()
    check(run, state, amended, tops)
    run.amended = frozenset(tops)
    if differences := _differences(amended, config):
        command, manifest = run.config()[0], dict(run.read_json("manifest.json"))
        when = {"iteration": iteration, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        notes = [when | {"option": name, "from": then, "to": new} for name, new, then in differences]
        run.write_json("manifest.json", manifest | {"changed": [*manifest.get("changed", []), *notes]})
        run.write_json("config.json", {"verb": command, "config": dataclasses.asdict(amended)})
    return amended


def _plain(config: Any) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _differences(config: Any, before: Any) -> list[tuple[str, Any, Any]]:
    """(option, its value, its value before) of those that differ."""
    found = []
    for name, value in _plain(config).items():
        then = _plain(before).get(name)
        if isinstance(value, dict) and isinstance(then, dict) and name != "env":
            found += [(f"{name}.{key}", value[key], then.get(key)) for key in value if value[key] != then.get(key)]
        elif value != then or type(value) is not type(then):
            found.append((name, value, then))
    return found


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
