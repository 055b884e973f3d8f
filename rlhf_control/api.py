"""`finetune`, `pretrain` and `resume` as Python has them: the training, and then the report, as on the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_control.analysis.report import report as write_report
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.feedback.oracles import Oracle
from rlhf_control.runs.progress import say
from rlhf_control.runs.run import Run
from rlhf_control.train import finetune as train_finetune
from rlhf_control.train import pretrain as train_pretrain
from rlhf_control.train import resume as train_resume


def finetune(config: FinetuneConfig, *, oracle: Oracle | None = None, report: bool = True) -> Run:
    """Fine-tunes a policy on preferences and returns the run, whose folder then has the policy, `results.json`,
    `report.md`, curves and a video; progress, and at the end the table, go to the terminal (into a notebook or a file,
    with RLHF_CONTROL_PROGRESS=N set, a line every N seconds).

    `oracle(query, pool, rng) -> Feedback` answers instead of the config's. Without `report`, the training alone;
    `report_finetuning(run)` writes it later. Raises UserError for what is wrong with a request, Stopped after SIGINT or
    SIGTERM, and Halted where a guard stops the run: `resume` goes on.
    """
    return _reported(train_finetune(config, oracle=oracle), report, config.env_id)


def pretrain(config: PretrainConfig, *, report: bool = True) -> Run:
    """Trains a policy by PPO on the environment's own reward and returns the run, whose folder then has the policy,
    `results.json` and `curves.png`; the rest as in `finetune`, and `report_pretraining(run)`."""
    return _reported(train_pretrain(config), report, config.env_id)


def resume(
    path: str | Path, *, oracle: Oracle | None = None, env_id: str = "", behaviours: str = "",
    changes: Mapping[str, Any] | None = None, report: bool = True,
) -> Run:  # fmt: skip
    """Goes on with a run exactly where it stopped, and returns it: the rest is bit-equal to that of a run that never
    stopped. A run with an oracle of its own needs it again; a run in an environment MODULE:ID, that id as `env_id`,
    and one about behaviours of your own, their file as `behaviours`. `changes` are other options from now on, as in
    {"termination": "truncate"}."""
    run = train_resume(path, oracle=oracle, env_id=env_id, behaviours=behaviours, changes=changes)
    return _reported(run, report, env_id)


def _reported(run: Run, report: bool, env_id: str) -> Run:
    if report:
        say(write_report(run, env_id))
    return run
