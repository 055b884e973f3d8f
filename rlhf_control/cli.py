"""`rlhf-control COMMAND` and `python -m rlhf_control COMMAND`. Nothing heavy is imported before it is needed."""

import importlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf_control.arguments import parse, starting_from
from rlhf_control.config import commands as v
from rlhf_control.config import comparing
from rlhf_control.config import training as c
from rlhf_control.config.checks import summary
from rlhf_control.config.export import ExportConfig
from rlhf_control.config.sweeps import SweepConfig, TuneConfig
from rlhf_control.errors import UserError, guarded, tell, unknown_name
from rlhf_control.simulation.env_ids import look_here
from rlhf_control.wording import counted


def pretrain(config: c.PretrainConfig) -> int | None:
    from rlhf_control.analysis.report import report_pretraining
    from rlhf_control.train import pretrain

    if config.seeds:
        return several("pretrain", config, config.env_id)
    print(report_pretraining(pretrain(config), config.env_id))
    return None


def finetune(config: c.FinetuneConfig) -> int | None:
    from rlhf_control.analysis.report import report_finetuning
    from rlhf_control.train import finetune

    if config.seeds:
        return several("finetune", config, config.oracle)
    print(report_finetuning(finetune(config), env_id=config.env_id))
    return None


def several(command: str, config: Any, what: str) -> int:
    """Trains all seeds side by side, then prints a table over them."""
    from rlhf_control.analysis.curves import summary_table
    from rlhf_control.sweeps.seeds import for_each_seed, side_by_side

    configs = for_each_seed(config, config.out or f"runs/{command}-{what}")
    code = side_by_side(one_seed, configs)
    if not code:
        print(summary_table([seed.out for seed in configs]))
    return code


def one_seed(config: Any) -> int:
    """Trains one of several runs: from the start, or from where its folder stands; nothing if it is finished."""
    from rlhf_control.runs.run import Run
    from rlhf_control.sweeps.sweep import wait_for
    from rlhf_control.training.again import nothing_to_lose

    def work() -> int | None:
        folder = Path(config.out)
        wait_for(folder)
        other = (folder / "config.json").is_file() and not c.asks_for(config, Run(folder).config()[1])
        if other and not nothing_to_lose(Run(folder)):
            raise UserError(f"{folder} was started with other options; name another --out, or give the same ones")
        whole = (folder / "policy.npz").is_file() and (folder / "results.json").is_file()
        if whole and Run(folder).finished():
            return None
        if (folder / "config.json").is_file() and not other:
            resume(v.ResumeConfig(config.out, config.env_id, getattr(config, "behaviours", "")))
            return None
        return (pretrain if isinstance(config, c.PretrainConfig) else finetune)(config)

    return guarded(work)


def sweep(config: SweepConfig) -> int:
    from rlhf_control.analysis.sweep_report import Outcome, sweep_report
    from rlhf_control.sweeps.matrix import read_matrix
    from rlhf_control.sweeps.sweep import Place, run_sweep
    from rlhf_control.training.requests import refuse_unknown

    out = config.folder()
    matrix = read_matrix(config.file, out, starting_from)
    for env_id in dict.fromkeys(cell.config.env_id for cell in matrix.cells):
        look_here(env_id)
    for name, cell in {(cell.task, cell.method): cell for cell in matrix.cells}.items():
        refuse_unknown(cell.config, f"{config.file}: {'/'.join(filter(None, name))}")
    failed = run_sweep(matrix.cells, out, one_seed, Place(config.ray, config.address, config.workers))
    outcomes = [
        Outcome(cell.name, cell.config.out, cell.task, cell.method, cell.config.seed, failed.get(cell.name, ""))
        for cell in matrix.cells
    ]
    print(sweep_report(outcomes, matrix.metric, Path(out)))
    if failed:
        tell(f"{counted(len(failed), 'run')} failed: {', '.join(failed)}; the same command makes them again")
    return int(bool(failed))


def tune(config: TuneConfig) -> None:
    from rlhf_control.analysis.tune_report import tune_report
    from rlhf_control.sweeps.sweep import Place
    from rlhf_control.sweeps.tune import run_search
    from rlhf_control.sweeps.tune_file import read_search
    from rlhf_control.training.requests import refuse_unknown

    search, about = read_search(config, starting_from)
    look_here(search.config.env_id)
    refuse_unknown(search.config, config.what)
    trials, mattered = run_search(search, one_seed, Place(config.ray, config.address, config.workers))
    print(tune_report(trials, mattered, search.space, about, search.out))


def resume(config: v.ResumeConfig) -> None:
    from rlhf_control.analysis.report import report
    from rlhf_control.train import resume

    print(
        report(
            resume(config.run, env_id=config.env_id, behaviours=config.behaviours, changes=config.changes()),
            config.env_id,
        )
    )


def evaluate(config: v.EvaluateConfig) -> None:
    from rlhf_control.analysis.evaluate import evaluation

    result = evaluation(config)
    if config.json:
        print(json.dumps(result))
        return
    print(
        f"return {result['return_mean']:.1f} over {counted(len(result['returns']), 'episode')} "
        f"({min(result['returns']):.1f} to {max(result['returns']):.1f})"
    )
    if "success_rate" in result:
        print(f"success {result['success_rate']:.0%} (at any step of an episode)")
    if "score_mean" in result:
        print(f"score {result['score_mean']:.3f} {result['score_unit']}")


def evaluate_reward(config: v.EvaluateRewardConfig) -> None:
    from rlhf_control.analysis.figures import plot_reward_evaluation
    from rlhf_control.analysis.reward_evaluation import evaluate_reward
    from rlhf_control.analysis.reward_report import report_text

    result = evaluate_reward(config)
    plot_reward_evaluation(result, Path(config.run) / "reward_evaluation")
    print(json.dumps(result) if config.json else report_text(result))


def label(config: v.LabelConfig) -> int:
    from rlhf_control.viewer.vote.label import label

    return label(config)


def play(config: v.PlayConfig) -> int:
    from rlhf_control.queries.takeovers import cockpit, names_a_policy

    if names_a_policy(config.name):
        from rlhf_control.viewer.play.take_over import take_over

        pilot, store = cockpit(config.name, config.out, config.env_id, config.env)
        return take_over(pilot, store, config.annotator, seed=config.seed, rate=config.fps)
    from rlhf_control.viewer.play.play import play

    return play(config)


def watch(config: v.WatchConfig) -> int:
    from rlhf_control.viewer.watch.watch import watch

    return watch(config)


def labels(config: v.LabelsConfig) -> None:
    from rlhf_control.analysis.datacard import labels

    print(labels(config))


def record(config: v.RecordConfig) -> None:
    from rlhf_control.analysis.videos import record_video
    from rlhf_control.interop.policies import find_each

    policies = find_each(config.paths, config)
    captions = config.captions or config.paths
    record_video(list(zip(captions, policies, strict=True)), config.out, seed=config.seed, seconds=config.seconds)
    print(config.out)


def export(config: ExportConfig) -> None:
    from rlhf_control.interop.export import export
    from rlhf_control.interop.policies import find_named

    for path in export(find_named(config.path, config), config.to, config.out):
        print(path)


def plot(config: v.PlotConfig) -> None:
    from rlhf_control.analysis.curves import summary_table
    from rlhf_control.analysis.figures import plot_runs

    for path in plot_runs(config.runs, config.out, metrics=config.metrics or None, x=config.x, names=config.names):
        print(path)
    print(summary_table(config.runs, names=config.names))


def compare(config: comparing.CompareConfig) -> None:
    from rlhf_control.analysis.comparison import compare, comparison_text
    from rlhf_control.analysis.figures import plot_profiles
    from rlhf_control.runs.files import write_atomic

    result = compare(config)
    if config.out:
        write_atomic(Path(f"{config.out}.json"), json.dumps(result, indent=1).encode())
        plot_profiles(result, config.out)
    print(json.dumps(result) if config.json else comparison_text(result))


def bench(config: comparing.BenchConfig) -> None:
    module = importlib.import_module(f"rlhf_control.bench.{config.what}")
    print(getattr(module, f"bench_{config.what}")(config))


def behaviours(config: v.BehavioursConfig) -> None:
    from rlhf_control.behaviours.own import load_behaviours, table

    if config.behaviours:
        load_behaviours(config.behaviours)
    print(table(config.env_id))


def zoo(config: v.ZooConfig) -> None:
    from rlhf_control.nets.zoo import table

    print(table())


def doctor(config: v.DoctorConfig) -> int:
    from rlhf_control.doctor import doctor

    return 0 if doctor() else 1


COMMANDS: dict[str, tuple[type, Callable[[Any], int | None]]] = {
    "pretrain": (c.PretrainConfig, pretrain),
    "finetune": (c.FinetuneConfig, finetune),
    "label": (v.LabelConfig, label),
    "play": (v.PlayConfig, play),
    "watch": (v.WatchConfig, watch),
    "evaluate": (v.EvaluateConfig, evaluate),
    "labels": (v.LabelsConfig, labels),
    "evaluate-reward": (v.EvaluateRewardConfig, evaluate_reward),
    "record": (v.RecordConfig, record),
    "export": (ExportConfig, export),
    "plot": (v.PlotConfig, plot),
    "compare": (comparing.CompareConfig, compare),
    "resume": (v.ResumeConfig, resume),
    "sweep": (SweepConfig, sweep),
    "tune": (TuneConfig, tune),
    "bench": (comparing.BenchConfig, bench),
    "behaviours": (v.BehavioursConfig, behaviours),
    "zoo": (v.ZooConfig, zoo),
    "doctor": (v.DoctorConfig, doctor),
}


def usage() -> str:
    commands = [f"  {command:<16} {summary(config).splitlines()[0]}" for command, (config, _) in COMMANDS.items()]
    hint = (
        "rlhf-control COMMAND --help lists a command's options, --help-all all of them; "
        "--debug shows where errors come from."
    )
    return "\n".join(["usage: rlhf-control COMMAND ...", "", *commands, "", hint])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for an error that the user can mend, 3 if a guard stopped the
    run, 128 + N after signal N."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal in ASCII, say: what it cannot show is shown as \\xb1
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # read when it is imported
    try:
        try:
            return answer(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()  # or the interpreter does, and complains
    except BrokenPipeError:  # whoever read has what they wanted, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def answer(arguments: Sequence[str]) -> int:
    """Carries out a command line and returns the exit code."""
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from rlhf_control import __version__

        print(__version__)
        return 0
    return guarded(lambda: run_command(arguments[0], arguments[1:]), debug)


def run_command(command: str, arguments: Sequence[str]) -> int:
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    config_type, function = COMMANDS[command]
    config = parse(config_type, command, arguments)
    look_here(getattr(config, "env_id", ""))
    return function(config) or 0
