"""Simulator states: what of an environment decides how it looks, read at every step and put back to draw it.

N environments, D numbers of a state.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import gymnasium
import mujoco
import numpy as np

from rlhf_control.compute.gl import choose_gl
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.simulation.mujoco_states import MujocoReader, is_own, origin, put_back
from rlhf_control.simulation.pictures import rendered

PER_SECOND = 30.0  # steps of an environment without a clock
LOOK_AFTER, VISIBLE = 5, 32  # steps; of 255, a difference in a picture
CLASSIC = "gymnasium.envs.classic_control."  # CartPole, Pendulum, MountainCar, Acrobot, and what is derived from them


def state_reader(envs: Sequence[gymnasium.Env]) -> Callable[[], Array] | None:
    """A function that gives the states (N, D) float64 of copies of one environment that have been reset: those of
    `mujoco_states`, or the variables of Gymnasium's classic control. None if there is no such state."""
    bare: list[Any] = [env.unwrapped for env in envs]
    if all(has_mujoco_data(env) for env in bare):
        return MujocoReader(envs)
    if not all(is_classic(env) for env in bare):
        return None
    if hasattr(bare[0], "last_u"):  # the pendulum's arrow shows its torque; none before the first step
        return lambda: np.array([[*env.state, env.last_u or 0.0] for env in bare], np.float64)
    return lambda: np.array([env.state for env in bare], np.float64)


def step_seconds(env: gymnasium.Env) -> float:
    """Simulated time of one step: by the simulator's clock where it is MuJoCo, else by the rate at which the
    environment says that it is to be played, or 30 a second."""
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


def seen_whole(env: gymnasium.Env, make: Callable[[], gymnasium.Env]) -> bool:
    """Whether a clip can be drawn from its states: whether two copies of the environment (`make` makes them, with the
    render mode rgb_array) draw themselves alike once one has been given the state of the other. Where that cannot be
    tried, yes."""
    if type(env.unwrapped).__module__.startswith(CLASSIC) or (has_mujoco_data(env) and is_own(env)):
        return True
    if not draws_itself(env) or (has_mujoco_data(env) and choose_gl() == "none"):
        return True
    one, two = make(), make()
    try:
        return _alike(one, two)
    finally:
        one.close()
        two.close()


def draws_itself(env: gymnasium.Env) -> bool:
    return "rgb_array" in ((env.metadata or {}).get("render_modes") or ())


def _alike(one: gymnasium.Env, two: gymnasium.Env) -> bool:
    one.reset(seed=1)
    one.action_space.seed(0)
    for _ in range(LOOK_AFTER):
        if any(one.step(one.action_space.sample())[2:4]):
            one.reset()
    two.reset(seed=2)
    read, bare = state_reader([one]), one.unwrapped
    assert read is not None
    try:
        if has_mujoco_data(one):
            mujoco.mj_forward(bare.model, bare.data)  # type: ignore[attr-defined]  # a step ends a substep behind
            put_back(two, read()[0], origin(two))
        else:
            put_classic(two, read()[0])
    except (UserError, ValueError, IndexError):  # it is of another size
        return False
    try:
        first, second = (rendered(env, "") for env in (one, two))
    except UserError:
        return True
    return first.shape == second.shape and int(np.abs(first.astype(int) - second).max()) < VISIBLE


def put_classic(env: gymnasium.Env, state: Array) -> None:
    """Brings an environment of classic control to a state (D,) of `state_reader`'s, as far as it shows."""
    bare: Any = env.unwrapped
    if hasattr(bare, "last_u"):
        state, bare.last_u = state[:-1], state[-1]
    bare.state = np.array(state)
