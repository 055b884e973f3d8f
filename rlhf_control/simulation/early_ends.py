"""Episodes that end before their time limit: refused, switched off or treated."""

import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs import has_batched
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import SUCCESS, Array, Rollout
from rlhf_control.errors import UserError
from rlhf_control.runs.run import command_for
from rlhf_control.simulation.atari.ids import is_atari
from rlhf_control.simulation.atari.preprocessing import preprocessing
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.simulation.make import make_backend
from rlhf_control.simulation.robots import own_limit

IN_STEP = 4  # rollouts that an episode lasts, from which on environments that stay in step are staggered
CUT_OFF = 10_000  # steps, after which an evaluation cuts off what has no time limit, or has one above the next
MAX_EVALUATION_STEPS = 100_000


def fixed_horizon(env_id: str, env: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the environment's arguments with early termination switched off. Raises UserError where it has no such
    switch."""
    if is_atari(env_id):
        return {**env, "endless": True}
    module, _, name = env_id.rpartition(":")
    if module:
        make_backend(env_id, 1, 0, "auto", env).close()  # imports the module, which registers the name
    entry_point = gymnasium.spec(name).entry_point
    make = gymnasium.envs.registration.load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    if make is None or "terminate_when_unhealthy" not in inspect.signature(make).parameters:
        raise UserError(
            f"{env_id} has no terminate_when_unhealthy to switch off; use --termination truncate, penalty or allow"
        )
    return {**env, "terminate_when_unhealthy": False}


def judged_whole(env_id: str) -> bool:
    """Tells whether clips of an environment that was made are whole episodes, as its class says of itself
    (`metadata["whole_episodes"]`): a reply is judged from its first word to its last. When to end is then part of what
    is judged, and no failure."""
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    make: Any = spec.entry_point if spec is not None else None
    make = gymnasium.envs.registration.load_env_creator(make) if isinstance(make, str) else make
    return bool((getattr(make, "metadata", None) or {}).get("whole_episodes"))


def time_limit(env_id: str, env: Mapping[str, Any]) -> int | None:
    """Returns after how many steps every episode of an environment that was made is cut off; None if never, or if it
    does not say."""
    if is_atari(env_id):
        options = preprocessing({k: v for k, v in env.items() if k not in ("render_mode", "num_processes")})
        return math.ceil(options.max_num_frames_per_episode / options.frameskip) or None
    name = env_id.rpartition(":")[2]  # without the MODULE of MODULE:ID, which was imported when it was made
    limit = env.get("max_episode_steps", gymnasium.spec(name).max_episode_steps or own_limit(name))
    return int(limit) if limit and int(limit) > 0 else None


def evaluation_steps(env_id: str, env: Mapping[str, Any]) -> int:
    """Returns after how many steps an evaluation is over at the latest."""
    limit = time_limit(env_id, env)
    return limit if limit and limit <= MAX_EVALUATION_STEPS else CUT_OFF


def tell_of_endless_episodes(env_id: str, env: Mapping[str, Any]) -> None:
    """Says on stderr what follows where nothing cuts an episode off."""
    if time_limit(env_id, env) is None:
        print(
            f"rlhf-control: {env_id} names no time limit: an episode that does not end by itself has no return in "
            f"training, and evaluations cut it off after {CUT_OFF:,} steps; --env max_episode_steps 1000 gives it one",
            file=sys.stderr,
        )


@environments_closed()
def refuse_terminated(terminated: Array, env_id: str, first_step: int = 0, run: Path | None = None) -> None:
    """Raises UserError if an episode in `terminated` (T, N) ended early; of a run that has begun, which then can go on
    otherwise."""
    if terminated.any():
        step, env = np.argwhere(terminated)[0]
        raise UserError(
            f"{env_id} ended early (environment {env}, step {first_step + step}), and an episode's length leaks the "
            "task to the learner; "
            + (
                "say how to treat it with --termination fixed-horizon, truncate, penalty or allow"
                if run is None
                else f"say how to go on: `{command_for(run, 'resume', '--termination', 'truncate')}`, penalty or allow"
            )
        )


def environment_arguments(config: FinetuneConfig, env_id: str, env: dict[str, Any]) -> dict[str, Any]:
    """Returns the environment's arguments under the chosen treatment of early ends."""
    switched_off = config.termination == "fixed-horizon" or cuts_off_late(config, env_id, env)
    return fixed_horizon(env_id, env) if switched_off else env


def cuts_off_late(config: FinetuneConfig, env_id: str, env: Mapping[str, Any]) -> bool:
    """Tells whether an early end is cut off only after the unhealthy time that the config names: where our batched
    environments say what is healthy."""
    late = config.termination == "truncate" and config.unhealthy_seconds > 0
    batched = config.backend in ("auto", "batched") and has_batched(env_id) and env.get("render_mode") is None
    if not late or not batched:
        return False
    try:
        fixed_horizon(env_id, env)
    except UserError:
        return False
    return True


def steps_to_stagger(config: FinetuneConfig, env_id: str, env: Mapping[str, Any]) -> int:
    """Returns the time limit over which first episodes are to be cut off one after the other, as the config asks where
    environments that begin together would stay in step; else 0. That is where nothing ends an episode early, one is
    many rollouts long, and no success is marked, which cut episodes would not have. For our batched MuJoCo."""
    batched = config.backend in ("auto", "batched") and has_batched(env_id) and env.get("render_mode") is None
    ends = config.termination in ("truncate", "penalty", "allow") or SUCCESS in config.feedback
    if not config.stagger or not batched or ends:
        return 0
    limit = time_limit(env_id, env) or 0
    return limit if limit >= IN_STEP * config.ppo.num_steps else 0


def treat_termination(rollout: Rollout, treatment: str, env_id: str, run: Path) -> Rollout:
    """Treats early ends of a rollout as chosen. truncate: what ended early counts as cut off, so that its value is
    bootstrapped."""
    if treatment == "refuse" and not judged_whole(env_id):
        refuse_terminated(rollout.terminated, env_id, run=run)
    if treatment == "truncate":
        nothing = np.zeros_like(rollout.terminated)
        return replace(rollout, truncated=rollout.done, terminated=nothing)
    return rollout
