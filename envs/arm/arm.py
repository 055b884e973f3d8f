"""What the tasks of the arm have in common: how it is controlled, what of it is observed, how its rewards are shaped.

A task is a frozen dataclass in a file of its own beside its model; its docstring is the task's manual and its fields
are its options. All that changes is in [qpos, qvel]: goals are joints, and no solver starts from its last guess, so
that a state and the actions from there on give the same bits again, in any instance.

Letters in shapes: n environments, O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import mujoco
import numpy as np

from envs.mujoco.simulation import Simulation
from envs.mujoco.task import Outcome, Start, Task, Terms, clip, norm

JOINTS, FINGERS = slice(0, 7), slice(7, 9)  # in qpos and qvel
ROBOT = 9  # where the task's own begins
CARTESIAN, JOINT = 1, 2  # the actuators' groups
OPEN = 0.05  # m, a finger's way
FASTEST = 0.5  # m/s, the gripper along each axis
SWIVEL = 1.4  # rad, to either side
TURNING = 1.5  # rad/s, a joint


@dataclass(frozen=True, kw_only=True)
class Arm(Task):
    """Holds the options that all tasks of the arm have."""

    frame_skip: int = 4
    control: str = "cartesian"
    reward: str = "dense"
    success_reward: float = 1.0
    action_cost: float = 0.02
    terminate_on_success: bool = False
    start_noise: float = 0.1  # rad
    derived_fields: ClassVar[tuple[str, ...]] = ("site_xpos",)
    current: ClassVar[bool] = True
    tells_all: ClassVar[bool] = True
    home: ClassVar[tuple[float, ...]]  # (7,) rad, where the joints begin

    def __post_init__(self) -> None:
        for name, choices in (("control", ("cartesian", "joint")), ("reward", ("dense", "sparse"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose {' or '.join(choices)}")
        for option in fields(self):
            value = getattr(self, option.name)
            if option.type == "bool" and value not in (False, True):
                raise ValueError(f"{option.name} is True or False, not {value!r}")
            if option.type == "float" and not (isinstance(value, int | float | np.number) and np.isfinite(value)):
                raise ValueError(f"{option.name} is a finite number, not {value!r}")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Return what the numbers of an action do, more and less, as the robot sees it."""
        if self.control == "cartesian":
            return "forward, back", "left, right", "up, down", "turn", "gripper"
        return *(f"joint {i + 1}" for i in range(7)), "gripper"

    def prepare(self, model: mujoco.MjModel) -> None:
        model.opt.disableactuator = 1 << (JOINT if self.control == "cartesian" else CARTESIAN)

    def action_bounds(self, model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
        high = np.ones(5 if self.control == "cartesian" else 8, np.float32)
        return -high, high

    def controls(self, actions: np.ndarray) -> np.ndarray:
        """Return what the 16 actuators are told by actions (n, A)."""
        actions = clip(actions.astype(np.float64), -1, 1)
        told = np.zeros((len(actions), 16))
        if self.control == "cartesian":
            told[:, :3] = actions[:, :3] * FASTEST
            told[:, 6] = actions[:, 3] * SWIVEL
        else:
            told[:, 7:14] = actions[:, :7] * TURNING
        told[:, 14:] = (actions[:, -1:] + 1) * (OPEN / 2)
        return told

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        qpos = sim.init_qpos.copy()
        qpos[JOINTS] = self.home + rng.uniform(-self.start_noise, self.start_noise, 7)
        qpos[FINGERS] = OPEN
        self.place(qpos[ROBOT:], rng)
        return qpos, sim.init_qvel.copy()

    def observation(self, sim: Simulation) -> np.ndarray:
        robot = (sim.qpos[:, :ROBOT], sim.qvel[:, :ROBOT], self.grip(sim))
        return np.concatenate((*robot, *self.seen(sim)), axis=1)

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        success, shaping, measures = self.judged(sim)
        terms = {f"reward_{name}": value for name, value in shaping.items()}
        terms["reward_success"] = self.success_reward * success
        squares = np.square(clip(actions.astype(np.float64), -1, 1))
        terms["reward_action"] = -self.action_cost * (squares.sum(axis=1) / actions.shape[1])
        reward = sum(terms.values(), np.zeros(())) if self.reward == "dense" else success * 1.0
        return reward, success & self.terminate_on_success, {"success": success, **measures, **terms}

    def state_info(self, sim: Simulation) -> Terms:
        success, _, measures = self.judged(sim)
        return {"success": success, **measures}

    def success(self, sim: Simulation) -> np.ndarray:
        return self.judged(sim)[0]

    def grip(self, sim: Simulation) -> np.ndarray:
        """Return the points between the fingertips, (n, 3) m."""
        return sim.site_xpos[:, sim.site_ids["grip"]]

    # -- what a task says

    def place(self, qpos: np.ndarray, rng: np.random.Generator) -> None:
        """Draw where the task's own joints begin, and its goal, into their part of one qpos."""
        raise NotImplementedError

    def seen(self, sim: Simulation) -> tuple[np.ndarray, ...]:
        """Return what is observed beside the robot, (n, ...) each."""
        raise NotImplementedError

    def judged(self, sim: Simulation) -> tuple[np.ndarray, Terms, Terms]:
        """Tell where the task is done, (n,) bool, and return the terms of the dense reward beside success and action,
        and what else goes into the info, (n,) each: together, for they are of the same distances."""
        raise NotImplementedError


def model_file(name: str) -> str:
    """Return the path of a model beside this file."""
    return str(Path(__file__).with_name(name))


def near(distance: np.ndarray, scale: float) -> np.ndarray:
    """Return 1 at distance 0, a half at `scale` (m), then ever less; steepest at 0."""
    return scale / (scale + distance)


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distances (n,) of points (n, 3)."""
    return norm(a - b)
