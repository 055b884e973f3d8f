"""What came of a sweep: a table of methods by tasks, as Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.analysis.curves import load_curves, metrics_of
from rlhf_control.analysis.statistics import bootstrap_interval, interquartile_mean
from rlhf_control.errors import tell, unknown_name
from rlhf_control.rng import stream
from rlhf_control.runs.files import write_atomic
from rlhf_control.wording import counted


@dataclass(frozen=True)
class Outcome:
    """Holds the end of one run of a sweep."""

    name: str
    path: str
    task: str
    method: str
    seed: int
    failure: str  # nothing if it came to its end


def sweep_report(outcomes: Sequence[Outcome], metric: str, out: Path) -> str:
    """Writes summary.json and summary.md into `out` and returns the table: interquartile mean over seeds of a metric's
    last values, with its 95 % bootstrap interval. Default metric: the score where there is one, else the return."""
    done = [outcome for outcome in outcomes if not outcome.failure]
    values: dict[str, float] = {}
    if done:
        curves = {outcome.name: load_curves([outcome.path])[0] for outcome in done}
        there = metrics_of(list(curves.values()))
        if metric and metric not in there:
            raise unknown_name("metric", metric, there)
        metric = metric or next((name for name in ("score", "env_return") if name in there), "")
        for name, curve in curves.items():
            if curve.lost:
                tell(f"{name} is left out of the table: its {curve.lost} is not finite at the end")
            elif metric and len(series := curve.series(metric)[1]):
                values[name] = float(series[-1])
    groups = _groups(outcomes, values)
    failed = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure}
    runs = [{**vars(outcome), "value": values.get(outcome.name)} for outcome in outcomes]
    summary = {"metric": metric, "groups": groups, "failed": failed, "runs": runs}
    write_atomic(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    text = "\n".join(_table(groups, metric, failed)) + "\n"
    write_atomic(out / "summary.md", text.encode())
    return text


def _groups(outcomes: Sequence[Outcome], values: Mapping[str, float]) -> list[dict[str, Any]]:
    """One entry for each task and method."""
    groups = []
    for task, method in dict.fromkeys((outcome.task, outcome.method) for outcome in outcomes):
        members = [o for o in outcomes if (o.task, o.method) == (task, method)]
        scores = np.array([values[o.name] for o in members if o.name in values])
        group: dict[str, Any] = {"task": task, "method": method, "runs": len(scores)}
        if len(scores):
            low, high = bootstrap_interval(scores, stream(0, "sweep_report"))
            group |= {"iqm": float(interquartile_mean(scores))}
            group |= {"low": float(low), "high": float(high)} if len(scores) > 1 else {}
        groups.append(group)
    return groups


def _table(groups: Sequence[Mapping[str, Any]], metric: str, failed: Mapping[str, str]) -> list[str]:
    tasks = list(dict.fromkeys(group["task"] for group in groups))
    methods = list(dict.fromkeys(group["method"] for group in groups))
    at = {(group["task"], group["method"]): group for group in groups}
    lines = [f"{metric or 'no metric'} at the end: interquartile mean over runs (95 % bootstrap interval)", ""]
    lines += [f"| method | {' | '.join(task or 'all' for task in tasks)} |", "|---|" + "---:|" * len(tasks)]
    for method in methods:
        cells = [_cell(at.get((task, method), {})) for task in tasks]
        lines.append(f"| {method or 'all'} | {' | '.join(cells)} |")
    lines += ["", *(f"- {name} failed: {why}" for name, why in failed.items())]
    return lines if failed else lines[:-1]


def _cell(group: Mapping[str, Any]) -> str:
    if "iqm" not in group:
        return ""
    interval = f" ({group['low']:.4g} to {group['high']:.4g})" if "low" in group else ""
    return f"{group['iqm']:.4g}{interval}, {counted(group['runs'], 'run')}"
