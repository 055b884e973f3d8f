"""A search by Optuna over the pool: it proposes options, runs are made of them, and learning curves end the poor ones.

The study is a journal in the search's folder, written by this process alone: Optuna's journal does not survive a writer
that is killed within a line, nor does it notice runs that nobody works on any more.
"""

import json
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.search_space import Space, Span, chosen
from rlhf_control.errors import Stopped, UserError, tell
from rlhf_control.runs.files import open_own, read_own
from rlhf_control.runs.machine import deferred_signals
from rlhf_control.runs.progress import ProgressLine
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.parcels import mend
from rlhf_control.sweeps.pool import Ended, RunCell
from rlhf_control.sweeps.sweep import Place, is_done
from rlhf_control.wording import counted

INSTALL = "pip install 'rlhf_control[tune]'"
JOURNAL = "study.journal"
SHARES = 20  # of a run, at each of which it is compared to the others
LAST = 0.1  # of a run, whose mean is its value
WARM_UP = 5  # trials before any is pruned, and shares of a run


@dataclass(frozen=True)
class Search:
    """Holds what is searched: the config that options are changes of, their space, and the metric to raise."""

    config: PretrainConfig | FinetuneConfig
    space: Space
    metric: str
    out: Path
    trials: int
    seed: int = 0
    prune: bool = True


@dataclass
class Attempt:
    """Holds a trial while it runs."""

    trial: Any
    cell: RunCell
    curve: dict[int, list[float]] = field(default_factory=dict)  # share of the run -> values seen
    pruned: bool = False


@dataclass(frozen=True)
class Found:
    """Holds a trial that has ended."""

    number: int
    options: dict[str, Any]
    value: float | None
    state: str  # complete, pruned or fail


def run_search(search: Search, work: Callable[[Any], object], place: Place) -> tuple[list[Found], dict[str, float]]:
    """Makes the trials that are missing and returns all, and how much each option mattered (empty where too few trials
    tell). Raises Stopped after SIGINT or SIGTERM; the same call goes on."""
    place.check()
    optuna = import_optuna()
    search.out.mkdir(parents=True, exist_ok=True)
    lock = Run(search.out)
    lock.lock()
    try:
        study = open_study(optuna, search)
        todo = interrupted(optuna, study)
        left = search.trials - sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
        if left > 0:
            with place.pool(work, left) as pool:
                _search(search, study, todo, pool)
        return results(study), importances(optuna, study)
    finally:
        lock.unlock()


def _search(search: Search, study: Any, todo: list[Any], pool: Any) -> None:
    running: dict[str, Attempt] = {}
    ended = {"done": 0, "failed": 0}
    finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    steps = search.config.total_steps * search.trials
    with deferred_signals() as caught, ProgressLine(counted(search.trials, "trial"), steps) as line:
        stopping = False
        while running or (not caught and finished < search.trials):
            while not caught and finished + len(running) < search.trials and pool.room():
                attempt = begun(search, todo.pop(0) if todo else study.ask())
                running[attempt.cell.name] = attempt
                pool.start(attempt.cell)
            if caught and not stopping:
                stopping = True
                pool.stop()
            for attempt in running.values():
                if watched(search, attempt, pool.last_row(attempt.cell)) and not stopping:
                    pool.stop(attempt.cell)
            for end in pool.ended():
                attempt = running.pop(end.cell.name)
                finished += 1
                if end.how == "stopped" and not attempt.pruned and not is_done(end.cell.config):
                    if not caught:
                        tell(f"{end.cell.name} was interrupted: {end.why}; the same command goes on with it")
                    continue  # the study has it as running
                ended["failed" if end.how == "failed" else "done"] += 1
                conclude(search, study, attempt, end)
            line.show({"env_steps": finished * search.config.total_steps, "running": len(running), **ended})
    if caught:
        raise Stopped(caught[0], "give the same command again to go on")


def begun(search: Search, trial: Any) -> Attempt:
    """The run of a trial, with the options that Optuna proposes (or proposed, of one to go on with)."""
    values = {name: suggested(trial, name, domain) for name, domain in search.space.items()}
    name = f"trial-{trial.number:04}"
    config = chosen(search.config, values, seed=search.seed + trial.number, seeds="", out=str(search.out / name))
    mend(Path(config.out))
    return Attempt(trial, RunCell(name, config))


def suggested(trial: Any, name: str, domain: Span | tuple[Any, ...]) -> Any:
    """Choices go through JSON, for Optuna keeps no lists."""
    if isinstance(domain, Span):
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    value = json.loads(trial.suggest_categorical(name, [json.dumps(choice) for choice in domain]))
    return tuple(value) if isinstance(value, list) else value


def watched(search: Search, attempt: Attempt, row: dict[str, Any] | None) -> bool:
    """Takes note of a run's newest row of metrics. Returns whether the run is to end early, the first time."""
    value = row.get(search.metric) if row else None
    if attempt.pruned or row is None or value is None:
        return False
    share = int(SHARES * row["env_steps"] / attempt.cell.config.total_steps)
    if share not in attempt.curve and attempt.curve:  # the one before is over
        before = max(attempt.curve)
        seen = attempt.curve[before]
        attempt.trial.report(sum(seen) / len(seen), before)
        attempt.pruned = search.prune and attempt.trial.should_prune()
    attempt.curve.setdefault(share, []).append(value)
    return attempt.pruned


def conclude(search: Search, study: Any, attempt: Attempt, end: Ended) -> None:
    """Tells Optuna, and whoever looks, how a trial ended. One that its guard halted is pruned, not failed: its options
    make a reward that gets hacked, whatever its curve says, and the sampler is to learn to keep away from them."""
    run = Run(Path(attempt.cell.config.out))
    value = None if end.how in ("failed", "halted") else final_value(run, search.metric)
    if end.how == "halted":
        tell(f"{attempt.cell.name} counts as pruned: {end.why}")
        study.tell(attempt.trial.number, state=_states().PRUNED)
    elif end.how == "failed" or (value is None and not attempt.pruned):
        tell(f"{attempt.cell.name} failed: {end.why or f'it has no {search.metric}'}")
        study.tell(attempt.trial.number, state=_states().FAIL)
    elif attempt.pruned and not run.finished():
        study.tell(attempt.trial.number, state=_states().PRUNED)
    else:
        study.tell(attempt.trial.number, value)


def final_value(run: Run, metric: str) -> float | None:
    """The mean of a metric's last values, as many as a tenth of the run has rows (where episodes are long, few have a
    return). None if there is none, or it is not finite."""
    rows = run.metrics()
    values = [row[metric] for row in rows if row.get(metric) is not None]
    late = values[-max(1, round(LAST * len(rows))) :]
    value = sum(late) / len(late) if late else math.nan
    return value if math.isfinite(value) else None


# -- the study


def import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError(f"tune needs Optuna: {INSTALL}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _states() -> Any:
    return import_optuna().trial.TrialState


def open_study(optuna: Any, search: Search) -> Any:
    """The study in the search's folder, which this process has locked. Raises UserError if it is about others."""
    journal = search.out / JOURNAL
    (search.out / f"{JOURNAL}.lock").unlink(missing_ok=True)  # of a process that was killed
    repair(journal)
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    try:
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend), study_name="tune", direction="maximize",
            load_if_exists=True, pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=WARM_UP),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{journal} is not a study's journal ({error!r}); name another --out") from error
    proposed = len(study.get_trials(deepcopy=False))  # or it would propose the first ones once more
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + proposed)
    about = json.loads(json.dumps({"space": {name: str(domain) for name, domain in search.space.items()},
                                   "metric": search.metric}))  # fmt: skip
    known = study.user_attrs.get("about")
    if known is None:
        study.set_user_attr("about", about)
    elif known != about:
        raise UserError(f"{search.out} has a search of another space or metric; name another --out")
    return study


def repair(journal: Path) -> None:
    """Cuts off a last line that a killed process left unfinished; Optuna would never open the file again."""
    with suppress(FileNotFoundError):
        content = read_own(journal)
        whole, _, rest = content.rpartition(b"\n")
        if rest:
            with open_own(journal, "r+b") as file:
                file.truncate(len(whole) + bool(whole))


def interrupted(optuna: Any, study: Any) -> list[Any]:
    """Trials that were running when the process that looked after them ended."""
    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    return [optuna.trial.Trial(study, trial._trial_id) for trial in running]


def results(study: Any) -> list[Found]:
    """All trials that have ended, by number."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            options = {name: json.loads(v) if isinstance(v, str) else v for name, v in trial.params.items()}
            found.append(Found(trial.number, options, trial.value, trial.state.name.lower()))
    return found


def importances(optuna: Any, study: Any) -> dict[str, float]:
    """How much of what sets the best trials apart each option explains (PED-ANOVA, arXiv 2304.10255)."""
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < WARM_UP:
        return {}
    with suppress(ValueError, RuntimeError), warnings.catch_warnings():  # as when all values are equal
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return dict(
            optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
        )
    return {}
