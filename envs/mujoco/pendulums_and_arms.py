"""InvertedPendulum, InvertedDoublePendulum, Reacher and Pusher, version 5; see `envs/mujoco/task.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from envs.mujoco.simulation import Simulation
from envs.mujoco.task import (
    Outcome,
    Start,
    Task,
    clip,
    never,
    norm,
    scalar_square,
    sum_of_squares,
    uniform_and_normal_noise,
    uniform_noise,
)


@dataclass(frozen=True, kw_only=True)
class InvertedPendulum(Task):
    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    reset_noise_scale: float = 0.01

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return sim.motion.copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        terminated = np.abs(sim.qpos[:, 1]) > 0.2
        survive = (~terminated).astype(np.int64)
        return survive.astype(np.float64), terminated, {"reward_survive": survive}


@dataclass(frozen=True, kw_only=True)
class InvertedDoublePendulum(Task):
    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1
    derived_fields: ClassVar[tuple[str, ...]] = ("site_xpos", "qfrc_constraint")

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_and_normal_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        angles = sim.qpos[:, 1:].copy()
        qvel = clip(sim.qvel, -10, 10)
        cart_constraint = clip(sim.qfrc_constraint[:, :1], -10, 10)
        return np.concatenate((sim.qpos[:, :1], np.sin(angles), np.cos(angles), qvel, cart_constraint), axis=1)

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        x, _, y = sim.site_xpos[:, 0].T  # the tip of the upper pole
        terminated = y <= 1
        dist_penalty = 0.01 * scalar_square(x) + scalar_square(y - 2)
        vel_penalty = 1e-3 * scalar_square(sim.qvel[:, 1]) + 5e-3 * scalar_square(sim.qvel[:, 2])
        alive_bonus = self.healthy_reward * (~terminated).astype(np.int64)
        terms = {"reward_survive": alive_bonus, "distance_penalty": -dist_penalty, "velocity_penalty": -vel_penalty}
        return alive_bonus - dist_penalty - vel_penalty, terminated, terms


@dataclass(frozen=True, kw_only=True)
class Reacher(Task):
    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    reward_dist_weight: float = 1
    reward_control_weight: float = 1
    derived_fields: ClassVar[tuple[str, ...]] = ("xpos",)

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        qpos = rng.uniform(-0.1, 0.1, size=sim.model.nq) + sim.init_qpos
        goal = rng.uniform(-0.2, 0.2, size=2)
        while np.linalg.norm(goal) >= 0.2:
            goal = rng.uniform(-0.2, 0.2, size=2)
        qvel = sim.init_qvel + rng.uniform(-0.005, 0.005, size=sim.model.nv)
        qpos[-2:] = goal
        qvel[-2:] = 0
        return qpos, qvel

    def to_target(self, sim: Simulation) -> np.ndarray:
        """Return the vector from the target to the fingertip, (n, 3) m."""
        return sim.xpos[:, sim.body_ids["fingertip"]] - sim.xpos[:, sim.body_ids["target"]]

    def observation(self, sim: Simulation) -> np.ndarray:
        angles = sim.qpos[:, :2].copy()
        target = self.to_target(sim)[:, :2]
        return np.concatenate((np.cos(angles), np.sin(angles), sim.qpos[:, 2:], sim.qvel[:, :2], target), axis=1)

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        reward_dist = -norm(self.to_target(sim)) * self.reward_dist_weight
        reward_ctrl = -sum_of_squares(actions) * self.reward_control_weight
        return reward_dist + reward_ctrl, never(sim), {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl}


@dataclass(frozen=True, kw_only=True)
class Pusher(Task):
    xml_file: str = "pusher_v5.xml"
    frame_skip: int = 5
    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1
    reward_control_weight: float = 0.1
    derived_fields: ClassVar[tuple[str, ...]] = ("xpos",)

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        goal = np.zeros(2)
        cylinder = goal
        while np.linalg.norm(cylinder - goal) <= 0.17:
            cylinder = np.concatenate((rng.uniform(-0.3, 0, size=1), rng.uniform(-0.2, 0.2, size=1)))
        qpos = sim.init_qpos.copy()
        qvel = sim.init_qvel + rng.uniform(-0.005, 0.005, size=sim.model.nv)
        qpos[-4:] = (*cylinder, *goal)
        qvel[-4:] = 0
        return qpos, qvel

    def body(self, sim: Simulation, name: str) -> np.ndarray:
        """Return the position of a body, (n, 3) m."""
        return sim.xpos[:, sim.body_ids[name]]

    def observation(self, sim: Simulation) -> np.ndarray:
        bodies = [self.body(sim, name) for name in ("tips_arm", "object", "goal")]
        return np.concatenate((sim.qpos[:, :7], sim.qvel[:, :7], *bodies), axis=1)

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        to_tips = self.body(sim, "object") - self.body(sim, "tips_arm")
        to_goal = self.body(sim, "object") - self.body(sim, "goal")
        reward_near = -norm(to_tips) * self.reward_near_weight
        reward_dist = -norm(to_goal) * self.reward_dist_weight
        reward_ctrl = -sum_of_squares(actions) * self.reward_control_weight
        terms = {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl, "reward_near": reward_near}
        return reward_dist + reward_ctrl + reward_near, never(sim), terms
