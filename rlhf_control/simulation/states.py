"""Simulator states: what of an environment decides how it looks, read at every step and put back to draw it.

N environments, D numbers of a state.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import gymnasium
import numpy as np

from envs import GameEnv
from rlhf_control.data import Array
from rlhf_control.simulation.mujoco_states import MujocoReader

PER_SECOND = 30.0  # steps of an environment without a clock
CLASSIC = "gymnasium.envs.classic_control."  # CartPole, Pendulum, MountainCar, Acrobot, and what is derived from them


def state_reader(envs: Sequence[gymnasium.Env]) -> Callable[[], Array] | None:
    """Returns a function that gives the states (N, D) float64 of copies of one environment that have been reset: those
    of `mujoco_states`, the variables of Gymnasium's classic control, or all there is of our own games. None if there is
    no such state."""
    bare: list[Any] = [env.unwrapped for env in envs]
    if all(is_game(env) for env in bare):
        return lambda: np.array([env.clone_state() for env in bare], np.float64)
    if all(has_mujoco_data(env) for env in bare):
        return MujocoReader(envs)
    if not all(is_classic(env) for env in bare):
        return None
    if hasattr(bare[0], "last_u"):  # the pendulum's arrow shows its torque; none before the first step
        return lambda: np.array([[*env.state, env.last_u or 0.0] for env in bare], np.float64)
    return lambda: np.array([env.state for env in bare], np.float64)


def step_seconds(env: gymnasium.Env) -> float:
    """Returns the simulated time of one step: by the simulator's clock where it is MuJoCo, else by the rate at which
    the environment says that it is to be played, or 30 a second."""
    bare: Any = env.unwrapped
    if has_mujoco_data(bare):
        timestep = getattr(getattr(getattr(bare, "model", None), "opt", None), "timestep", None)
        substeps = getattr(bare, "frame_skip", getattr(bare, "n_substeps", None))
        for seconds in (getattr(bare, "dt", None), substeps and timestep and substeps * timestep):
            if isinstance(seconds, Real) and 0 < float(seconds) < math.inf:
                return float(seconds)
    rate = (env.metadata or {}).get("render_fps")
    return 1 / (float(rate) if isinstance(rate, Real) and 0 < float(rate) < math.inf else PER_SECOND)


def has_mujoco_data(env: gymnasium.Env) -> bool:
    data = getattr(env.unwrapped, "data", None)
    return hasattr(data, "qpos") and hasattr(data, "qvel")


def is_classic(env: gymnasium.Env) -> bool:
    bare: Any = env.unwrapped
    family = any(cls.__module__.startswith(CLASSIC) for cls in type(bare).__mro__)
    family = family and type(bare).render.__module__.startswith(CLASSIC)  # what draws itself anew may draw more
    return family and np.ndim(getattr(bare, "state", ())) == 1


def is_game(env: gymnasium.Env) -> bool:
    """Tells whether it is one of our own games, whose state is all there is of it."""
    return isinstance(env.unwrapped, GameEnv)


def draws_itself(env: gymnasium.Env) -> bool:
    return "rgb_array" in ((env.metadata or {}).get("render_modes") or ())


def put_classic(env: gymnasium.Env, state: Array) -> None:
    """Brings an environment of classic control to a state (D,) of `state_reader`'s, as far as it shows."""
    bare: Any = env.unwrapped
    if hasattr(bare, "last_u"):
        state, bare.last_u = state[:-1], state[-1]
    bare.state = np.array(state)
