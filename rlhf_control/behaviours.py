"""Behaviours that the environment's reward does not state: what an oracle prefers, and how success is measured.

Both read raw steps (..., L, ...). The reward labels clips and is all that may reach a learner, through votes; the
score is computed another way and is for reports only. To add a behaviour, write two functions and one entry in
BEHAVIOURS. dt is 0.05 s in HalfCheetah; the sources and thresholds are design choices of this project.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import gymnasium
import mujoco
import numpy as np

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError

# HalfCheetah-v5 observations: z, pitch, 6 joints, then 8 vx, 9 vz, 10 pitch rate, 6 joint velocities.
# Simulator states: qpos (x, z, pitch, 6 joints), then 9 velocities.
HALF_CHEETAH_DT = 0.05
PACE = 2.0  # m/s
FRONT_LEG = ("ffoot", "fshin", "fthigh")


@dataclass(frozen=True)
class Behaviour:
    """A behaviour of one environment."""

    env_id: str
    question: str  # put to a person
    reward: Callable[[Segments], Array]  # (..., L): per step, in arbitrary units
    score: Callable[[Segments], Array]  # (...,): per clip or episode
    unit: str  # of the score


def _vx(s: Segments) -> Array:
    """(..., L) forward velocity after each step, m/s."""
    return s.next_obs[..., 8]


def _torque(s: Segments) -> Array:
    """(..., L) sum of squared actions."""
    return np.square(s.action).sum(-1)


def _displacement(s: Segments) -> Array:
    """(...,) forward m/s over the whole clip, from the positions that the observation leaves out."""
    x = _states(s)[..., 0]
    return (x[..., -1] - x[..., 0]) / (HALF_CHEETAH_DT * (x.shape[-1] - 1))


def _front_leg_down(s: Segments) -> Array:
    """(..., L) bool: some part of the front leg touches the floor."""
    states = _states(s)
    model, data = _half_cheetah()
    floor = model.geom("floor").id
    leg = [model.geom(name).id for name in FRONT_LEG]
    down = np.zeros(states.reshape(-1, states.shape[-1]).shape[0], bool)
    for i, state in enumerate(states.reshape(-1, states.shape[-1])):
        data.qpos[:], data.qvel[:] = state[: model.nq], state[model.nq :]
        mujoco.mj_fwdPosition(model, data)
        pairs = data.contact.geom[: data.ncon]
        down[i] = bool((np.isin(pairs, leg).any(1) & (pairs == floor).any(1)).any())
    return down.reshape(states.shape[:-1])


def _states(s: Segments) -> Array:
    if s.state is None:
        raise UserError("this behaviour reads simulator states, which this environment does not give")
    return s.state


@cache
def _half_cheetah() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = gymnasium.make("HalfCheetah-v5").unwrapped.model  # type: ignore[attr-defined]
    return model, mujoco.MjData(model)


def _backward_reward(s: Segments) -> Array:
    return -_vx(s) - 0.1 * _torque(s)


def _keep_pace_reward(s: Segments) -> Array:
    return -np.abs(_vx(s) - PACE)


def _keep_pace_score(s: Segments) -> Array:
    x = _states(s)[..., 0]
    return (np.abs(np.diff(x, axis=-1) / HALF_CHEETAH_DT - PACE) < 0.25).mean(-1)


def _hind_legs_reward(s: Segments) -> Array:
    return np.clip(_vx(s), 0, 4) - 2.0 * _front_leg_down(s)


def _hind_legs_score(s: Segments) -> Array:
    vx = np.diff(_states(s)[..., 0], axis=-1) / HALF_CHEETAH_DT
    return ((vx > 1) & ~_front_leg_down(s)[..., :-1]).mean(-1)


def _prowl_reward(s: Segments) -> Array:
    return -5.0 * np.abs(s.next_obs[..., 0] + 0.15) + 0.5 * np.clip(_vx(s), 0, 2)


def _prowl_score(s: Segments) -> Array:
    states = _states(s)
    vx = np.diff(states[..., 0], axis=-1) / HALF_CHEETAH_DT
    return ((vx > 1) & (np.abs(states[..., :-1, 1] + 0.15) < 0.05)).mean(-1)


BEHAVIOURS = {
    "backward": Behaviour(
        "HalfCheetah-v5", "Which cheetah runs backward better?",
        _backward_reward, lambda s: -_displacement(s), "m/s backward",
    ),
    "keep-pace": Behaviour(
        "HalfCheetah-v5", "Which cheetah keeps closer to a pace of 2 m/s?",
        _keep_pace_reward, _keep_pace_score, "share of steps within 0.25 m/s of the pace",
    ),
    "hind-legs": Behaviour(
        "HalfCheetah-v5", "Which cheetah runs better on its hind leg?",
        _hind_legs_reward, _hind_legs_score, "share of steps faster than 1 m/s with the front leg up",
    ),
    "prowl": Behaviour(
        "HalfCheetah-v5", "Which cheetah prowls lower while it moves on?",
        _prowl_reward, _prowl_score, "share of steps low and faster than 1 m/s",
    ),
}  # fmt: skip
