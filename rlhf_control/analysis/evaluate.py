"""A policy's episodes as a report gives them: returns, scores, spreads."""

from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.behaviours.catalogue import BEHAVIOURS, check_env_of
from rlhf_control.behaviours.own import behaviours_of, load_behaviours
from rlhf_control.config.commands import EvaluateConfig
from rlhf_control.errors import unknown_name
from rlhf_control.interop.policies import find_named
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.run import Run
from rlhf_control.simulation.atari.ids import is_atari
from rlhf_control.simulation.early_ends import evaluation_steps, time_limit
from rlhf_control.simulation.rollouts import fresh_episodes

EPISODES = 10
SEED = 10_000  # of the evaluation episodes


def evaluation(config: EvaluateConfig) -> dict[str, Any]:
    """Returns `returns` (one number an episode), `return_mean`; where the environment tells of it, `successes` (whether
    there was one at any step) and `success_rate`; and where a behaviour is named, `scores`, `score_mean`,
    `score_unit`."""
    if config.behaviours and config.score:
        load_behaviours(config.behaviours)
    name = config.score or run_score(Path(config.path), config.behaviours)
    policy = find_named(config.path, config)
    return measure(policy, name, config.episodes, config.seed, deterministic=not config.stochastic)


def measure(
    policy: Policy, score: str, episodes: int, seed: int, *, deterministic: bool = True, backend: str = "auto"
) -> dict[str, Any]:
    """Measures a policy in fresh episodes, with `score` the name of a behaviour or ""."""
    if score and score not in BEHAVIOURS:
        raise unknown_name("behaviour", score, BEHAVIOURS)
    if score:
        check_env_of(score, policy.env_id)
    found = fresh_episodes(
        policy, episodes, seed=seed, deterministic=deterministic, backend=backend,
        observations=bool(score) and not is_atari(policy.env_id),  # whose behaviours read the RAM
    )  # fmt: skip
    returns, whole = found.returns, found.segments
    result: dict[str, Any] = {"returns": returns, "return_mean": float(np.mean(returns))}
    longest = evaluation_steps(policy.env_id, policy.env)
    if longest != time_limit(policy.env_id, policy.env) and max(map(len, whole)) == longest:
        result["cut_off_after"] = longest
    if found.success is not None:
        result |= {"successes": found.success, "success_rate": float(np.mean(found.success))}
    if score:
        scores = [float(BEHAVIOURS[score].score(episode)) for episode in whole]
        result |= {"scores": scores, "score_mean": float(np.mean(scores)), "score_unit": BEHAVIOURS[score].unit}
    return result


def run_score(path: Path, behaviours: str = "") -> str:
    """Names the behaviour that a fine-tuning run is scored by, or "". `behaviours`: see `own.behaviours_of`."""
    if not (path / "config.json").is_file():
        return ""
    run = Run.open(path)
    command, config = run.config()
    behaviours_of(run, behaviours)
    return config.behaviour() if command == "finetune" and config.behaviour() in BEHAVIOURS else ""
