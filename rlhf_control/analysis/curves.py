"""Runs -> curves -> bands: the numbers behind every figure and table.

A curve is one run. The runs of one group differ in nothing but their seed; a band is their interquartile mean with
a bootstrap interval (Agarwal et al., "Deep RL at the edge of the statistical precipice", arXiv 2108.13264).

I iterations (rows of metrics.jsonl), R runs of a group, X points of their common grid.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.analysis.statistics import bootstrap_interval, interquartile_mean, moving_mean, on_common_grid
from rlhf_control.data import Array
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.rng import stream
from rlhf_control.runs.progress import say_once
from rlhf_control.runs.run import Run

# The fields in which the runs of a group may differ: none of them changes a number
NOT_A_GROUP = ("seed", "out", "seeds", "video", "window", "question", "replay", "checkpoint_seconds")
BEHIND = 0.9  # while no run of a group has finished, one with fewer of the furthest one's steps has stopped early
MAY_BE_UNKNOWN = ("env_return", "episode_length")  # in an iteration in which no episode ended
X_AXES = {"env_steps": "environment steps", "labels": "labels (answers)", "wall_seconds": "wall time (s)"}


# -- runs


@dataclass(frozen=True)
class Curve:
    """Holds one run's metrics."""

    path: Path
    group: str  # runs of one group differ in their seed only
    seed: int
    command: str  # pretrain or finetune
    env: str  # the environment's id; empty where the run does not say
    behaviour: str  # what `score` scores; empty in pretraining
    unit: str  # of the score
    steps: Array  # (I,) float64: env steps
    metrics: dict[str, Array]  # name -> (I,) float64, NaN where a row has none; X_AXES are among them
    planned: int = 0  # env steps that the config asks for
    lost: str = ""  # a metric that is NaN or infinite at the end

    @property
    def finished(self) -> bool:
        return bool(self.steps[-1] >= self.planned)

    def series(self, metric: str, x: str = "env_steps") -> tuple[Array, Array]:
        """Returns (x, y) where both were measured, x increasing. Of several rows at one x (label counts stand
        still between rounds) the last one counts: what came of these labels in the end."""
        nothing = np.full(len(self.steps), np.nan)
        xs, ys = self.metrics.get(x, nothing), self.metrics.get(metric, nothing)
        there = np.isfinite(xs) & np.isfinite(ys)
        xs, ys = xs[there], ys[there]
        grid, last = np.unique(xs[::-1], return_index=True)
        return grid, ys[::-1][last]


def load_curves(run_paths: Sequence[str | Path], ignore: Sequence[str] = ()) -> list[Curve]:
    """Reads run folders. Runs whose configs are equal but for seed, out and the fields in `ignore` (such as "policy",
    where each seed starts from a policy of its own) form a group, named by the fields in which the groups differ:
    "finetune backward, 100 labels"."""
    paths = list(dict.fromkeys(Path(path) for path in run_paths))
    if not paths:
        raise UserError("no run to plot; name at least one run's folder")
    runs = [Run.open(path) for path in paths]
    described = [run.config() for run in runs]
    settings = [{"command": command, **flattened(asdict(config))} for command, config in described]
    left_out = {*NOT_A_GROUP, *ignore}
    names = _group_names([{k: v for k, v in setting.items() if k not in left_out} for setting in settings])
    seen: dict[tuple[str, int], Path] = {}
    curves = []
    for run, setting, name in zip(runs, settings, names, strict=True):
        first = seen.setdefault((name, setting["seed"]), run.path)
        if first != run.path:  # counted twice, it would make the interval narrower than it is
            raise UserError(
                f"{first} and {run.path} have the same config and the same seed ({setting['seed']}); leave one out"
            )
        rows = run.metrics()
        metrics = _columns(rows)
        if "env_steps" not in metrics:
            raise UserError(f"{run.path} has no metrics yet; wait for its first iteration, or leave it out")
        env = setting.get("env_id") or run.read_json("manifest.json").get("env_id") or ""
        behaviour = setting.get("score") or setting.get("oracle") or ""
        unit = run.read_json("manifest.json").get("score_unit") or "" if behaviour else ""
        steps = metrics["env_steps"]
        curves.append(
            Curve(
                run.path, name, setting["seed"], setting["command"], env, behaviour, unit, steps, metrics,
                planned=planned_steps(setting), lost=lost_metric(rows[-1]),
            )
        )  # fmt: skip
    return curves


def planned_steps(setting: Mapping[str, Any]) -> int:
    """Counts the env steps of the whole iterations that a flat config asks for."""
    iteration = setting["ppo.num_envs"] * setting["ppo.num_steps"]
    return int(max(1, setting["total_steps"] // iteration) * iteration)


def lost_metric(row: Mapping[str, Any]) -> str:
    """Names the first metric of a row that is not finite (null in JSON), but for what may be unknown: a return where no
    episode ended, and what there were no answers to measure by. Empty if there is none."""
    ended = row.get("episode_length") is not None
    for name, value in row.items():
        unknown = name.startswith("reward/") or (name in MAY_BE_UNKNOWN and not ended)
        if (value is None and not unknown) or (isinstance(value, float) and not np.isfinite(value)):
            return name
    return ""


def whole_runs(curves: Sequence[Curve]) -> list[Curve]:
    """Returns the runs that count "at the end": of each group those that have finished, or, while none has, those about
    as far as the furthest; and none whose numbers have become NaN. The others are named on stderr, once."""
    kept = []
    for group in groups_of(curves):
        members = [c for c in curves if c.group == group]
        sound = [c for c in members if not c.lost]
        done = any(c.finished for c in sound)
        furthest = max((c.steps[-1] for c in sound), default=0)
        for c in members:
            short = not c.finished if done else c.steps[-1] < BEHIND * furthest
            at = f"{c.steps[-1]:,.0f} of {c.planned:,} steps"
            if c.lost or short:
                why = f"its {c.lost} is not finite at the end, at {at}" if c.lost else f"it stopped at {at}"
                say_once(f"rlhf-control: {c.path} is left out: {why}")
            else:
                kept.append(c)
    return kept


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Rows -> name -> (I,) float64; NaN where a row has no number. Names without any number are left out."""

    def number(value: Any) -> float:
        return float(value) if isinstance(value, int | float) else np.nan

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: np.array([number(row.get(name)) for row in rows]) for name in names}
    return {name: column for name, column in columns.items() if np.isfinite(column).any()}


def flattened(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"ppo": {"lr": 1}} -> {"ppo.lr": 1}, the names of the command line's flags."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _group_names(keys: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name a run, equal where the keys are: the command, what it was about, and what sets it apart."""
    names = []
    for key in keys:
        subject = "oracle" if key["command"] == "finetune" else "env_id"
        peers = [other for other in keys if other["command"] == key["command"]]
        fields = dict.fromkeys(name for other in peers for name in other)
        apart = [f for f in fields if f != subject and len({json.dumps(p.get(f, "?")) for p in peers}) > 1]
        # A field left at nothing needs no word, unless it must be told from a run that does not know the field.
        said = [f for f in apart if f in key and (key[f] not in (None, "") or any(f not in p for p in peers))]
        parts = [_setting_text(f, key[f]) for f in said]
        names.append(", ".join([f"{key['command']} {key.get(subject, '')}".strip(), *parts]))
    return names


def _setting_text(name: str, value: Any) -> str:
    """("labels", 100) -> "100 labels"; ("ppo.lr", 0.001) -> "ppo.lr 0.001"."""
    if name in ("labels", "first_labels", "rounds", "total_steps"):
        text = f"{value:,} {name.replace('_', ' ')}"
        return text.removesuffix("s") if value == 1 else text
    if value is None or value == "":
        return f"{name} default"
    return f"{name} {value}" if isinstance(value, str) else f"{name} {json.dumps(value)}"


def renamed(curves: Sequence[Curve], names: Sequence[str]) -> list[Curve]:
    """Gives the curves other names for their groups, in the groups' order; no names leave them as they are."""
    groups = groups_of(curves)
    if not names:
        return list(curves)
    if len(names) != len(groups) or len(set(names)) < len(names):
        raise UserError(f"{len(names)} names for {len(groups)} curves; give each its own, in this order: {groups}")
    by_group = dict(zip(groups, names, strict=True))
    return [replace(c, group=by_group[c.group]) for c in curves]


# -- bands


@dataclass(frozen=True)
class Band:
    """Holds one metric of one group."""

    group: str
    runs: int  # R, those that have the metric
    x: Array  # (X,)
    iqm: Array  # (X,) interquartile mean over the runs
    low: Array  # (X,) 95 % bootstrap interval; NaN with one run
    high: Array  # (X,)


def aggregate(
    curves: Sequence[Curve], metric: str, rng: np.random.Generator, x: str = "env_steps", smooth: int = 1
) -> list[Band]:
    """Returns a band of the whole runs of each group that has the metric. `smooth` > 1: each run is averaged over so
    many measurements first."""
    check_x(x)
    if smooth < 1:
        raise UserError(f"smooth is {smooth}; it is a number of measurements, 1 for none")
    bands, curves = [], whole_runs(curves)
    for group in groups_of(curves):
        members = [(c, *c.series(metric, x)) for c in curves if c.group == group]
        members = [(c, xs, ys) for c, xs, ys in members if len(xs)]
        if not members:
            continue
        grid, scores = on_common_grid([(xs, moving_mean(ys, smooth)) for _, xs, ys in members])
        if not len(grid):
            shortest = min(members, key=lambda m: m[1][-1])[0].path
            raise UserError(f"the runs of '{group}' share no range of {x} for {metric}; try without {shortest}")
        low, high = bootstrap_interval(scores, rng)
        bands.append(Band(group, len(members), grid, interquartile_mean(scores), low, high))
    return bands


def groups_of(curves: Sequence[Curve]) -> list[str]:
    """Returns the groups' names, in the order in which they were first met."""
    return list(dict.fromkeys(curve.group for curve in curves))


def metrics_of(curves: Sequence[Curve]) -> list[str]:
    """Names what can be drawn: every metric that at least one run has."""
    return sorted({name for curve in curves for name in curve.metrics} - {"iteration", "env_steps"})


def summary_table(
    run_paths: Sequence[str | Path], metric: str | None = None, ignore: Sequence[str] = (), names: Sequence[str] = ()
) -> str:
    """Returns a Markdown table: the interquartile mean of the final values (never the best ones) of each group's whole
    runs, with its interval; while none has finished, of the last step that all of them have. Default metric: the score
    where there is one, else the environment's return."""
    curves = renamed(whole_runs(load_curves(run_paths, ignore)), names)
    if not curves:
        raise UserError("no run is left to tell of; name at least one whose numbers are finite")
    there = metrics_of(curves)
    metric = metric or next((m for m in ("score", "env_return") if m in there), there[0])
    require_metrics(curves, [metric], "env_steps")
    rng = stream(0, "summary_table")
    lines = [f"| group | runs | {metric} at the end, IQM | 95 % interval |", "|---|---:|---:|---:|"]
    for group in groups_of(curves):
        members = [c for c in curves if c.group == group and len(c.series(metric)[0])]
        if not members:
            continue
        if all(c.finished for c in members):
            final = np.array([c.series(metric)[1][-1] for c in members])
        else:
            grid, scores = on_common_grid([c.series(metric) for c in members])
            if not len(grid):
                raise UserError(f"the runs of '{group}' share no step with {metric}; wait until they have")
            final, at = scores[:, -1], f"{grid[-1]:,.0f} of {members[0].planned:,} steps"
            say_once(f"rlhf-control: no run of '{group}' has finished: its {metric} is that at {at}")
        low, high = bootstrap_interval(final, rng)
        interval = f"{low:.4g} to {high:.4g}" if len(final) > 1 else "–"
        lines.append(f"| {group} | {len(final)} | {interquartile_mean(final):.4g} | {interval} |")
    return "\n".join(lines) + "\n"


def check_x(x: str) -> None:
    if x not in X_AXES:
        raise unknown_name("x axis", x, X_AXES)


def require_metrics(curves: Sequence[Curve], metrics: Sequence[str], x: str) -> None:
    """Stops where no run has a metric, or has it without the x axis."""
    for metric in metrics:
        if any(len(c.series(metric, x)[0]) for c in curves):
            continue
        why = f"no run has the metric '{metric}'" if metric not in metrics_of(curves) else f"no run has {metric} by {x}"
        raise UserError(f"{why}; there are: {', '.join(metrics_of(curves))}")


def csv_table(bands: Mapping[str, Sequence[Band]]) -> str:
    """Returns the table behind the curves, in full precision; no interval is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "x", "metric", "iqm", "low", "high", "runs"])
    for metric, of_metric in bands.items():
        for b in of_metric:
            for numbers in zip(b.x, b.iqm, b.low, b.high, strict=True):
                at, *values = [repr(float(v)) if np.isfinite(v) else "" for v in numbers]
                writer.writerow([b.group, at, metric, *values, b.runs])
    return text.getvalue()


def label_rounds(curve: Curve) -> tuple[Array, Array]:
    """Returns (steps, labels) of the rows in which the number of answers grew."""
    steps, labels = curve.steps, np.nan_to_num(curve.metrics.get("labels", np.zeros(len(curve.steps))))
    grew = np.diff(labels, prepend=0) > 0
    return steps[grew], labels[grew]
