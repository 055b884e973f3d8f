"""What the multi-seed experiments share: sweeps of runs, and curves small enough for git."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rlhf_control.analysis.axes import WIDTH, draw_bands, label_axes, style
from rlhf_control.analysis.curves import Curve, aggregate, groups_of, load_curves
from rlhf_control.analysis.figures import save_figure
from rlhf_control.analysis.statistics import bootstrap_interval, interquartile_mean
from rlhf_control.cli import one_seed
from rlhf_control.config import FinetuneConfig, GuardConfig, PretrainConfig
from rlhf_control.errors import UserError, guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import LOOSE
from rlhf_control.rng import stream
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.sweeps.pool import RunCell
from rlhf_control.sweeps.seeds import parse_seeds
from rlhf_control.sweeps.sweep import Place, run_sweep
from rlhf_control.training.guard import Guard

RESULTS = Path(__file__).parent / "results"
POINTS = 40  # of a kept curve
LAST = 0.1  # of a run: its episodes are what a final return in training is the mean of
EPISODES = 20  # of the final policy


def add_place(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds the options of where runs are made, as `rlhf-control sweep` has them; `names`: others of --workers."""
    help_ = "runs side by side (default: one for each core)"
    parser.add_argument("--workers", *names, dest="workers", type=int, default=0, help=help_)
    parser.add_argument("--ray", action="store_true", help="through a Ray of this machine")
    parser.add_argument("--address", default="", help="through the Ray cluster at HOST:PORT")


def as_called() -> str:
    """The command that this experiment was called by, for its result."""
    return f"python experiments/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"


def earlier(path: Path, parts: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a result that are kept already, if they are of the same settings: it may be made in pieces."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    return dict(kept[parts]) if kept and all(kept.get(name) == value for name, value in settings.items()) else {}


@functools.cache
def bolder(policy: str, env_id: str = "") -> float:
    """Log standard deviations to begin with: 1 above what they are on the mean, at which an arm can still do its task;
    what the arms were measured with before noise was left as it is by default."""
    trained = find_policy(policy, env_id)
    return min(LOOSE, trained.config.log_std_init, trained.log_std.mean().item() + 1.0)


def make_runs(
    configs: Iterable[PretrainConfig | FinetuneConfig], runs: Path, arguments: argparse.Namespace,
    work: Callable[[Any], object] = one_seed,
) -> None:  # fmt: skip
    """Makes the runs that are not finished yet, as `rlhf-control sweep` does, each into its `out`, below the folder
    `runs`, by `work(config)`. Exits, with what is finished kept, if one failed or it is stopped."""
    cells = [RunCell(Path(config.out).name, config) for config in configs]
    print(f"{len(cells)} runs to be made, in {runs}", flush=True)

    def sweep() -> None:
        place = Place(arguments.ray, arguments.address, arguments.workers)
        if failed := run_sweep(cells, str(runs), work, place):
            raise UserError(f"{len(failed)} of {len(cells)} runs failed: {', '.join(failed)}; the same command goes on")

    if code := guarded(sweep):
        sys.exit(code)


def task_arguments(
    doc: str | None, name: str, tasks: Iterable[str], seeds: str, default: Iterable[str] | None = None
) -> argparse.Namespace:
    """The command line of an experiment that trains its tasks (by default all of them), on several seeds."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(default or tasks), choices=list(tasks))
    parser.add_argument("--seeds", default=seeds, help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path(f"runs/{name}"))
    add_place(parser)
    return parser.parse_args()


def make_tasks(
    arguments: argparse.Namespace, config_of: Callable[[str], PretrainConfig],
    work: Callable[[Any], object] = one_seed,
) -> dict[str, list[PretrainConfig]]:  # fmt: skip
    """Makes the runs of every task, whose config is `config_of(task)`, and seed, by `work(config)`; returns their
    configs, by task."""
    seeds = parse_seeds(arguments.seeds)
    configs = {
        task: [
            replace(config_of(task), seed=seed, out=str(arguments.runs / f"{task.removeprefix('rlhf/')}-{seed}"))
            for seed in seeds
        ]
        for task in arguments.tasks
    }
    # seed by seed, so that a stopped one has something of everything
    in_turn = [config for of_seed in zip(*configs.values(), strict=True) for config in of_seed]
    make_runs(in_turn, arguments.runs, arguments, work)
    return configs


class Recorded:
    """Stands for a rollout, and for a reward that is as uncertain of it as it was in a run."""

    fitted, unsure = True, 0.0

    def uncertainty(self, _: object) -> np.ndarray:
        return np.array([self.unsure])

    def as_segments(self) -> list[None]:
        return []


def has_line(run: Path) -> bool:
    """Tells whether there may be a straight line below the networks of a run's reward, which sees numbers."""
    config = Run.open(run).config()[1]
    return isinstance(config, FinetuneConfig) and config.reward.linear != "off"


def alarm(rows: Sequence[Mapping[str, Any]], config: GuardConfig, *, line: bool) -> tuple[int, str] | None:
    """Returns in which iteration of a run, by the rows of its metrics, the alarm would first go off by these
    thresholds, and why; None: in none. `line`: as `has_line`. A run that it only warns of is the same whatever they
    are, so it need not be made again (but for what the newest answers say after an alarm of then, which is counted from
    that on)."""
    guard, step = Guard(replace(config.settled(line=line), chance="off")), Recorded()
    for i, row in enumerate(rows):
        if "reward/fit_seconds" in row:
            guard.holding = False  # or it would say that it no longer is
            guard.fitted(row)
        if "newest answers" in row.get("guard/event", ""):
            return i, row["guard/event"]
        if row.get("guard/uncertainty") is None:
            continue
        step.unsure, guard.holding = row["guard/uncertainty"], bool(row.get("guard/holding"))
        guard.watch(step, step, np.array([row["reward_mean"]]), row)  # type: ignore[arg-type]
        if guard.alarm:
            return i, guard.alarm
    return None


def minutes(run: Path) -> float:
    """How long a run took, from the start of its process to its last update."""
    return float(Run.open(run).metrics()[-1]["wall_seconds"]) / 60


def mode_return(run: Path) -> float:
    """Mean return of the final policy, without exploration noise, over fresh episodes."""
    return float(np.mean(evaluate(find_policy(run), EPISODES, seed=10_000)[0]))


def training_return(run: Path) -> float:
    """Mean of the raw returns of the episodes (of the sampling policy) that ended in the last tenth of a run; of the
    last ones, if none did."""
    steps, returns = episodes(run)
    late = returns[steps > (1 - LAST) * Run.open(run).metrics()[-1]["env_steps"]]
    return float(late.mean() if len(late) else returns[-1])


def episodes(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(steps, mean return) of the iterations in which episodes ended."""
    rows = [row for row in Run.open(run).metrics() if row["env_return"] is not None]
    return np.array([row["env_steps"] for row in rows]), np.array([row["env_return"] for row in rows])


def curve(run: Path) -> dict[str, Any]:
    """The run's two final returns, and its curve in POINTS means."""
    steps, returns = episodes(run)
    parts = [part for part in np.array_split(np.arange(len(steps)), POINTS) if len(part)]
    return {
        "mode": mode_return(run),
        "training": training_return(run),
        "commit": Run.open(run).read_json("manifest.json")["git_commit"],
        "steps": [int(steps[part].mean()) for part in parts],
        "returns": [round(float(returns[part].mean()), 2) for part in parts],
    }


def over_seeds(curves: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of both final returns: interquartile mean and its 95 % bootstrap interval."""
    runs = list(curves)
    return {name: interval([run[name] for run in runs]) for name in ("mode", "training")}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Interquartile mean over runs and its 95 % bootstrap interval."""
    scores = np.array(values)
    low, high = bootstrap_interval(scores, stream(0, "bootstrap"))
    return {"iqm": float(interquartile_mean(scores)), "low": float(low), "high": float(high)}


def told(values: Sequence[float], form: str = ".2f") -> str:
    """A cell of a table: interquartile mean over runs, and its 95 % interval."""
    found = {name: format(value, form) for name, value in interval(values).items()}
    return f"{found['iqm']} ({found['low']} to {found['high']})"


def score_cells(name: str, before: Mapping[str, float], runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Cells of a table: a behaviour's name, its score before, and that of each condition's runs."""
    return [name, f"{before['score']:.2f}", *(told([run["score"] for run in of_one]) for of_one in runs.values())]


def kept_shares(runs: Iterable[Sequence[Mapping[str, float]]]) -> list[float]:
    """How often the old task was still done, by condition: interquartile means over seeds."""
    return [interval([run["success"] for run in of_one])["iqm"] for of_one in runs]


def keep_table(name: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes results/NAME.md: the first column to the left, numbers to the right."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, f"|---{'|---:' * (len(head) - 1)}|")
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


def plot_by_task(
    runs: Mapping[str, Mapping[str, Sequence[Path]]], out: Path, smooth: int = 10,
    metric: str = "env_return", label: str = "return of an episode",
) -> None:  # fmt: skip
    """Task -> learner -> its runs, into OUT.png and OUT.pdf: a panel for each task, a line for each learner."""
    curves = {
        task: [replace(curve, group=learner) for learner, paths in of_task.items() for curve in load_curves(paths)]
        for task, of_task in runs.items()
    }
    plot_curves_by_task(curves, out, smooth, metric, label)


def plot_curves_by_task(
    curves: Mapping[str, Sequence[Curve]], out: Path, smooth: int = 10,
    metric: str = "env_return", label: str = "return of an episode",
) -> None:  # fmt: skip
    """Task -> its curves, whose groups are the learners, as `plot_by_task`."""
    learners = groups_of([curve for of_task in curves.values() for curve in of_task])
    columns = min(len(curves), 4 if len(curves) > 6 else 3)
    rows = -(-len(curves) // columns)
    with style():
        size = (WIDTH, 0.3 + 1.5 * rows + (0.25 if len(learners) > 1 else 0))
        fig = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05))  # inches
        axes = fig.subplots(rows, columns, squeeze=False).ravel()
        for ax, (env_id, of_task) in zip(axes, curves.items(), strict=False):
            bands = aggregate(of_task, metric, stream(0, f"plot_by_task {env_id}"), smooth=smooth)
            label_axes(draw_bands(ax, bands, learners), "env_steps", "")
            ax.set_xlabel("")
            ax.set_title(env_id, fontsize=8)
        if len(learners) > 1:
            has_all = [groups_of(of_task) == learners for of_task in curves.values()].index(True)
            fig.legend(axes[has_all].get_lines(), learners, loc="outside upper center", ncols=4, frameon=False)
        for ax in axes[len(curves) :]:
            ax.remove()
        fig.supxlabel("environment steps", fontsize=8)
        fig.supylabel(label, fontsize=8)
        save_figure(fig, out)


def keep(name: str, result: dict[str, Any]) -> None:
    """Writes results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result) + "\n")
