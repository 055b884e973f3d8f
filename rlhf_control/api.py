"""`finetune`, `pretrain` and `resume` as Python has them: the training, and then the report, as on the command line;
and `train`, for dialogue, in one call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs.dialogue.env import in_lines
from rlhf_control.analysis.report import report as write_report
from rlhf_control.behaviours.behaviour import Behaviour
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.dialogue import DIALOGUE, at_the_end
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.oracles import Oracle, TextOracle
from rlhf_control.runs.progress import say
from rlhf_control.runs.run import Run
from rlhf_control.train import finetune as train_finetune
from rlhf_control.train import pretrain as train_pretrain
from rlhf_control.train import resume as train_resume
from rlhf_control.training.continuing import suited


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


RewardFunction = Callable[..., Sequence[float]]  # (samples, prompts, outputs), lists of texts by these names -> numbers
FeedbackFunction = Callable[[str, str, str], int | None]  # (prompt, one reply, another) -> 0, 1 or None


def train(
    policy: str = "dialogue",
    reward_fn: RewardFunction | None = None,
    *,
    feedback: str | FeedbackFunction | None = None,
    prompts: Sequence[str] = (),
    config: FinetuneConfig | None = None,
    report: bool = True,
    **options: Any,
) -> Run:
    """Fine-tunes a dialogue policy in one call, as `trlx.train` did, and returns the run.

    reward_fn: called with `samples`, `prompts` and `outputs` (lists of texts: both together, what was said, the
    replies), returns a number for each; PPO then learns from these. feedback: who compares two replies: "human", the
    name of a behaviour, or a function of (prompt, one reply, another) that returns 0 or 1, which of them is better, or
    None; a reward is learned from that. One of both is needed. prompts: what to reply to (default: the corpus's).
    `config` (default: `suited(policy)`) and options are those of FinetuneConfig. Raises UserError, in one line, for
    what is wrong with a request.
    """
    if (reward_fn is None) == (feedback is None):
        raise UserError("train needs either reward_fn, which gives replies numbers, or feedback, which compares them")
    config = replace(config or suited(policy), policy=policy, **options)
    if prompts:
        try:
            config = replace(config, env={**config.env, "prompts": in_lines(prompts)})
        except ValueError as error:
            raise UserError(str(error)) from None
    if reward_fn is not None:
        with named_reward(reward_fn) as name:
            return finetune(replace(config, oracle=name, learn_from="oracle"), report=report)
    if isinstance(feedback, str):
        return finetune(replace(config, oracle=feedback), report=report)
    assert feedback is not None
    return finetune(config, oracle=TextOracle(feedback), report=report)


@contextmanager
def named_reward(reward_fn: RewardFunction) -> Iterator[str]:
    """Gives the name under which this reward is a behaviour of dialogue meanwhile."""

    def worth(prompts: list[str], outputs: list[str]) -> Sequence[float]:
        samples = [f"{prompt} {output}" for prompt, output in zip(prompts, outputs, strict=True)]
        return reward_fn(samples=samples, prompts=prompts, outputs=outputs)

    def score(s: Segments) -> Array:
        return at_the_end(worth)(s).sum(-1)

    name = getattr(reward_fn, "__name__", "reward_fn")
    name = "reward_fn" if name in BEHAVIOURS or not name.isidentifier() else name
    BEHAVIOURS[name] = Behaviour(DIALOGUE, "Which reply is better?", at_the_end(worth), score, f"{name} of a reply")
    try:
        yield name
    finally:
        del BEHAVIOURS[name]
