"""What a MuJoCo task is, and the functions that several of Gymnasium's tasks share.

A task is a frozen dataclass: its fields are the options of Gymnasium's constructor, with the same names and defaults,
and its methods are array functions over a batch of simulations. The formulas, down to the order of their operations,
are those of `gymnasium/envs/mujoco/*_v5.py`, so that results equal Gymnasium's bit for bit. To add a task, write one
class and add one line to `TASKS` in `envs/mujoco/vector.py`.

Letters in shapes: n environments, O observation, A action, the rest as in `mujoco.MjModel` (nq, nv, nbody, ...).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import mujoco
import numpy as np

from envs.mujoco.simulation import Simulation

Range = tuple[float, float]
Terms = dict[str, np.ndarray]  # what goes into `info`, (n, ...) each
Start = tuple[np.ndarray, np.ndarray]  # one environment's initial qpos (nq,) and qvel (nv,)
Outcome = tuple[np.ndarray, np.ndarray, Terms]  # reward (n,), terminated (n,) bool, what the reward is made of


@dataclass(frozen=True, kw_only=True)
class Task:
    """Declare the methods a task needs. They read `sim` and change nothing; the arrays they return are fresh."""

    xml_file: str  # a path, or the name of one of Gymnasium's models
    frame_skip: int  # simulator steps an environment step
    derived_fields: ClassVar[tuple[str, ...]] = ()  # what the task reads of `sim` besides qpos, qvel and ctrl
    current: ClassVar[bool] = False  # they are to describe the state after a step; see `Simulation`

    tells_all: ClassVar[bool] = False  # the terms of an outcome are the whole info, "success" among them

    def prepare(self, model: mujoco.MjModel) -> None:
        """Change the model as the options ask for it."""

    def action_bounds(self, model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest actions, (A,) float32 each."""
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        return low, high

    def controls(self, actions: np.ndarray) -> np.ndarray:
        """Return what the model's actuators are told, (n, nu), by actions (n, A)."""
        return actions

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        """Draw one environment's initial state."""
        raise NotImplementedError

    def observation(self, sim: Simulation) -> np.ndarray:
        """Return the observations, (n, O) float64."""
        raise NotImplementedError

    def position(self, sim: Simulation) -> np.ndarray:
        """Return the coordinates whose velocity `outcome` is given, (n, k) m."""
        return np.empty((sim.num_envs, 0))

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        """Return what the step that led to `sim` brought.

        Args:
            sim: the simulations after the step.
            velocity: (n, k) m/s, mean velocity of `position` over the step.
            actions: (n, A), as given by the caller: neither clipped nor converted.
        """
        raise NotImplementedError

    def success(self, sim: Simulation) -> np.ndarray:
        """Tell where the task is done now, (n,): 1 or 0, or NaN if it has no such end."""
        return np.full(sim.num_envs, np.nan)

    def unhealthy(self, sim: Simulation) -> np.ndarray:
        """Return what would be terminated with `terminate_when_unhealthy`, (n,) bool; nothing in a task without it."""
        if not hasattr(self, "terminate_when_unhealthy"):
            return never(sim)
        strict: Any = replace(self, terminate_when_unhealthy=True)  # type: ignore[call-arg]
        return strict.outcome(sim, np.zeros_like(self.position(sim)), np.zeros(sim.ctrl.shape))[1]

    def state_info(self, sim: Simulation) -> Terms:
        """Return the part of the info that a state has without a step to it: after a reset too."""
        return {}


def uniform_noise(sim: Simulation, rng: np.random.Generator, scale: float) -> Start:
    """Draw the model's initial state with uniform noise on qpos and qvel."""
    qpos = sim.init_qpos + rng.uniform(-scale, scale, size=sim.model.nq)
    qvel = sim.init_qvel + rng.uniform(-scale, scale, size=sim.model.nv)
    return qpos, qvel


def uniform_and_normal_noise(sim: Simulation, rng: np.random.Generator, scale: float) -> Start:
    """Draw the model's initial state with uniform noise on qpos and normal noise on qvel."""
    qpos = sim.init_qpos + rng.uniform(-scale, scale, size=sim.model.nq)
    qvel = sim.init_qvel + scale * rng.standard_normal(sim.model.nv)
    return qpos, qvel


def clip(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clip as `np.clip` without its checks, which cost more than the clipping of a few rows."""
    return np.minimum(np.maximum(values, low), high)


def sum_of_squares(values: np.ndarray) -> np.ndarray:
    """Sum the squares, (n, ...) -> (n,), in the dtype given: Gymnasium's control cost of float32 actions is a float32
    too."""
    return np.square(values).reshape(len(values), -1).sum(axis=1)


def norm(vectors: np.ndarray) -> np.ndarray:
    """Return the norms, (n, k) -> (n,). `vecdot` calls the BLAS routine that `np.linalg.norm` of one vector calls; a
    sum rounds apart."""
    return np.sqrt(np.vecdot(vectors, vectors))


def scalar_square(values: np.ndarray) -> np.ndarray:
    """Square (n,) -> (n,) as `x**2` of a scalar: by libm's pow, which differs from x * x about once in a thousand."""
    return np.array([value**2 for value in values.tolist()])


def inside(values: np.ndarray, bounds: Range) -> np.ndarray:
    """Tell whether each value is strictly between the bounds."""
    return (bounds[0] < values) & (values < bounds[1])


def never(sim: Simulation) -> np.ndarray:
    """Return the `terminated` of a task that only the time limit ends."""
    return np.zeros(sim.num_envs, dtype=np.bool_)


def x_position(sim: Simulation) -> Terms:
    return {"x_position": sim.qpos[:, 0].copy()}


def xy_position(sim: Simulation) -> Terms:
    return x_position(sim) | {"y_position": sim.qpos[:, 1].copy()}


def xy_position_and_distance(sim: Simulation) -> Terms:
    return xy_position(sim) | {"distance_from_origin": norm(sim.qpos[:, :2])}


def xz_position(sim: Simulation) -> Terms:
    return x_position(sim) | {"z_distance_from_origin": sim.qpos[:, 1] - sim.init_qpos[1]}


def tendons(sim: Simulation) -> Terms:
    return {"tendon_length": sim.ten_length.copy(), "tendon_velocity": sim.ten_velocity.copy()}
