"""Rollouts and evaluations of environments that are stepped side by side.

T time, N environments, O observation, A action, D simulator state.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from rlhf_control.compute.threads import one_thread
from rlhf_control.data import Array, Rollout, Segments, check_finite, widened
from rlhf_control.simulation.early_ends import evaluation_steps
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.simulation.vector import Envs, start_envs
from rlhf_control.spaces import Act, Part, Spaces, numbers_of
from rlhf_control.wording import counted


class Actor(Protocol):
    """Acts: a policy, or the learner that has one."""

    def acting(self) -> Act: ...


class EvaluatedPolicy(Protocol):
    """Names its environment and acts in it."""

    @property
    def env_id(self) -> str: ...

    @property
    def env(self) -> Mapping[str, Any]: ...

    def act(self, obs: Array, rng: np.random.Generator | None) -> Array: ...


def collect(envs: Envs, actor: Actor, num_steps: int, rng: np.random.Generator) -> Rollout:
    """Runs the actor for `num_steps` steps of every environment. Raises NonFiniteError on the step it happens."""
    T, N = num_steps, envs.num_envs
    obs = np.empty((T, N, envs.spaces.obs_size), envs.spaces.obs_dtype)
    successors: list[Array] = []
    executed = np.empty((T, N, envs.spaces.executed_size), np.float32)
    actions: list[Array] = []
    states: list[Any] = []
    pictures: list[Any] = []
    success: list[Array | None] = []
    reward, learned_from = (np.empty((T, N), np.float32) for _ in range(2))
    terminated, truncated, over = (np.empty((T, N), bool) for _ in range(3))
    act, first, check = actor.acting(), envs.first, partial(check_observations, envs.spaces.counted)
    check("observation", envs.obs, 0, first)
    for t in range(T):
        obs[t] = envs.obs
        states.append(envs.states())
        if envs.frames:
            pictures.append(envs.pictures(t))
        action = act(envs.obs, rng)
        check_finite("action", action[None], t, first)
        executed[t] = envs.spaces.execute(action)
        actions.append(action)
        next_obs, step_reward, terminated[t], truncated[t] = envs.step(action, executed[t])
        success.append(envs.success())
        check("observation", next_obs, t, first)
        done = terminated[t] | truncated[t]
        ended = done.any()
        if t == T - 1 or ended:
            successors.append(next_obs if t == T - 1 else next_obs[done])
        if ended:
            check("first observation of an episode", envs.obs, t, first)
        with np.errstate(over="ignore"):  # which the check finds
            reward[t], learned_from[t] = step_reward, envs.learned_from
        over[t] = envs.over
        check_finite("reward", reward[t][None], t, first)
    episodes = envs.count(reward, over)
    envs.tell_of_lost_digits(obs)
    state = None if states[0] is None else np.stack(widened(states))
    frames = np.array(pictures, "S") if pictures else None  # (T, N)
    return Rollout(
        obs, np.stack(actions), executed, np.concatenate(successors), reward, learned_from, terminated, truncated,
        state, *episodes, frames, success=None if any(told is None for told in success) else np.array(success),
    )  # fmt: skip


def acting_in(policy: EvaluatedPolicy, spaces: Spaces) -> Act:
    """Returns `policy.act` for packed observations of these spaces, of a policy from before they had dtypes, too."""
    if spaces != getattr(policy, "spaces", spaces) == spaces.before:
        return lambda obs, rng: policy.act(numbers_of(spaces.parts, obs), rng)
    return policy.act


def check_observations(parts: tuple[Part, ...], field: str, obs: Array, step: int, first: int) -> None:
    """Stops on NaN or infinity in these parts of observations (N, O) of a step, as `check_finite` does; names the part
    and the number in it, from 0."""
    finite = np.isfinite(numbers_of(parts, obs))
    if finite.all():
        return
    env = int(np.argmin(finite.all(-1)))
    for part in parts:
        values = part.read(obs[env])
        for index in np.argwhere(~np.isfinite(values))[:1].tolist():
            name = f"{field} {part.name}".rstrip() + (f"{index}" if part.shape else "")
            check_finite(name, values[tuple(index)][None, None], step, first + env)


@dataclass(frozen=True)
class Episodes:
    """Holds whole episodes of a policy."""

    returns: list[float]  # raw
    segments: list[Segments]
    success: list[bool] | None  # whether the task was done at any step; None where the environment does not tell


def evaluate(
    policy: EvaluatedPolicy, episodes: int, *, seed: int, backend: str = "auto", deterministic: bool = True,
    frames: bool = False,
) -> tuple[list[float], list[Segments]]:  # fmt: skip
    """Returns what `fresh_episodes` does, without the successes."""
    found = fresh_episodes(
        policy, episodes, seed=seed, backend=backend, deterministic=deterministic, frames=frames
    )  # fmt: skip
    return found.returns, found.segments


@environments_closed()
@one_thread()
def fresh_episodes(
    policy: EvaluatedPolicy, episodes: int, *, seed: int, backend: str = "auto", deterministic: bool = True,
    frames: bool = False,
    observations: bool = True,
) -> Episodes:  # fmt: skip
    """Plays fresh episodes; `frames` as in `start_envs`. Without `observations` these are (T, 0): pictures take memory,
    half an hour of ten Atari games 15 GB. The policy's statistics stay as they are. Episodes without a time limit (or
    with one beyond 100,000 steps) are cut off after CUT_OFF steps, and that is said.

    Every environment contributes its first episode only, so that short episodes are not over-counted.
    """
    envs = start_envs(policy.env_id, episodes, seed=seed, backend=backend, env=policy.env, frames=frames)
    rng = None if deterministic else np.random.default_rng(seed)
    returns = np.zeros(episodes)
    running, successes, tells = np.ones(episodes, bool), np.zeros(episodes, bool), False
    lengths = np.zeros(episodes, np.int64)
    steps: list[dict[str, Array]] = []
    longest = evaluation_steps(policy.env_id, policy.env)
    act = acting_in(policy, envs.spaces)
    while running.any() and len(steps) < longest:
        obs, state = envs.obs, envs.states()
        pictures = np.array(envs.pictures(len(steps)), "S") if envs.frames else None
        action = act(obs, rng)
        executed = envs.spaces.execute(action)
        next_obs, reward, *_ = envs.step(action, executed)
        check_finite("reward", reward[None], len(steps))
        seen = [obs, next_obs] if observations else [obs[:, :0].copy()] * 2
        step = {"obs": seen[0], "action": executed, "next_obs": seen[1], "env_reward": reward.astype(np.float32)}
        optional = {"state": state, "frames": pictures, "success": envs.success()}
        steps.append(step | {name: value for name, value in optional.items() if value is not None})
        returns += np.where(running, reward, 0)
        lengths += running
        if (succeeded := envs.success()) is not None:
            tells, successes = True, successes | (running & succeeded)
        running &= ~envs.over
    envs.close()
    if running.any():
        print(
            f"rlhf-control: {running.sum()} of {counted(episodes, 'episode')} of {policy.env_id} had not ended after "
            f"{longest:,} steps and {'was' if running.sum() == 1 else 'were'} cut off: their returns are of these "
            "steps",
            file=sys.stderr,
        )
    columns = {name: [s[name] for s in steps] for name in steps[0] if all(name in s for s in steps)}
    columns = {name: widened(column) if name == "state" else column for name, column in columns.items()}
    arrays = {name: np.stack(column, axis=1) for name, column in columns.items()}  # (N, T, ...)
    whole = [Segments(**{name: a[i, : lengths[i]] for name, a in arrays.items()}) for i in range(episodes)]
    return Episodes(returns.tolist(), whole, successes.tolist() if tells else None)
