"""A policy tried out in its environment before a run: do episodes end early, are they long enough for clips, and does
it tell of success?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.simulation.early_ends import refuse_terminated
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces
from rlhf_control.wording import counted

PROBES, STEPS = 3, 1000  # environments with the policy's actions, and as many with random ones


def try_out(
    policy: Policy, env: Mapping[str, Any], length: int, seed: int, *, steps: int = STEPS, clips: int = 1,
    refuse_early: bool,
) -> None:  # fmt: skip
    """Raises UserError if so many steps of the policy are expected to give fewer whole clips (of `length` steps), or,
    with `refuse_early`, if an episode ends before its time limit: its length alone would then tell the learner about
    the task (Christiano et al. 2017, section 3.1; imitation refuses such environments too). Random actions end most of
    those that end by a failure, and the policy's those that end by a success.
    """
    envs = start_envs(policy.env_id, 2 * PROBES, seed=seed, env=env)
    rng, act = np.random.default_rng(seed), policy.acting()
    running, longest, seen = np.zeros(PROBES, np.int64), 0, 0
    tried = PROBES * max(STEPS, length)
    try:
        for t in range(max(STEPS, length)):
            action = np.concatenate([random_actions(envs.spaces, rng), act(envs.obs[PROBES:], rng)])
            _, _, terminated, truncated = envs.step(action, envs.spaces.execute(action))
            if refuse_early:
                refuse_terminated(terminated[None], policy.env_id, t)
            running += 1
            longest = max(longest, int(running.max()))
            seen += int((running % length == 0).sum())
            running[(terminated | truncated)[PROBES:]] = 0
            if seen * steps >= clips * tried and not refuse_early:
                return
    finally:
        envs.close()
    begun = PROBES if seen else 0  # clips that the end of the probe cut off
    if (seen + begun) * steps < clips * tried:
        seconds = min(length, longest) * envs.step_seconds / 2
        raise UserError(
            f"a clip has {length} steps, and the policy's episodes in {policy.env_id} seldom or never have so many (at "
            f"most {longest}): of the {counted(clips, 'clip')} that the first questions need, "
            f"{seen * steps // tried} are to be expected; give --clip-seconds {seconds:.2g}, say"
        )


def tells_success(policy: Policy, env: Mapping[str, Any]) -> bool:
    """Returns whether the policy's environment says of a step if its task is done."""
    envs = start_envs(policy.env_id, 1, seed=0, env=env)
    try:
        action = policy.acting()(envs.obs, np.random.default_rng(0))
        envs.step(action, envs.spaces.execute(action))
        return envs.success() is not None
    finally:
        envs.close()


def random_actions(spaces: Spaces, rng: np.random.Generator) -> Array:
    """Draws actions (PROBES, A) float32 or choices (PROBES, G)."""
    if spaces.choices:
        return rng.integers(spaces.choices, size=(PROBES, len(spaces.choices)))
    return rng.standard_normal((PROBES, spaces.action_size), np.float32)
