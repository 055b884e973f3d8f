"""HalfCheetah, Swimmer, Hopper, Walker2d, Ant, Humanoid and HumanoidStandup, version 5; see `envs/mujoco/task.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from envs.mujoco.simulation import Simulation
from envs.mujoco.task import (
    Outcome,
    Range,
    Start,
    Task,
    Terms,
    clip,
    inside,
    never,
    sum_of_squares,
    tendons,
    uniform_and_normal_noise,
    uniform_noise,
    x_position,
    xy_position,
    xy_position_and_distance,
    xz_position,
)

HUMANOID_FIELDS = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ten_length", "ten_velocity")


@dataclass(frozen=True, kw_only=True)
class HalfCheetah(Task):
    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_and_normal_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return sim.motion[:, 1 * self.exclude_current_positions_from_observation :].copy()

    def position(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, :1].copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        x_velocity = velocity[:, 0]
        forward_reward = self.forward_reward_weight * x_velocity
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(actions)
        terms = {"x_velocity": x_velocity, "reward_forward": forward_reward, "reward_ctrl": -ctrl_cost}
        return forward_reward - ctrl_cost, never(sim), terms

    def state_info(self, sim: Simulation) -> Terms:
        return x_position(sim)


@dataclass(frozen=True, kw_only=True)
class Swimmer(Task):
    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return sim.motion[:, 2 * self.exclude_current_positions_from_observation :].copy()

    def position(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, :2].copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        x_velocity, y_velocity = velocity.T
        forward_reward = self.forward_reward_weight * x_velocity
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(actions)
        terms = {
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
        }
        return forward_reward - ctrl_cost, never(sim), terms

    def state_info(self, sim: Simulation) -> Terms:
        return xy_position_and_distance(sim)


@dataclass(frozen=True, kw_only=True)
class Hopper(Task):
    xml_file: str = "hopper.xml"
    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_state_range: Range = (-100.0, 100.0)
    healthy_z_range: Range = (0.7, float("inf"))
    healthy_angle_range: Range = (-0.2, 0.2)
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return planar_walker_observation(self, sim)

    def position(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, :1].copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        healthy = inside(sim.qpos[:, 1], self.healthy_z_range) & inside(sim.qpos[:, 2], self.healthy_angle_range)
        healthy &= inside(sim.motion[:, 2:], self.healthy_state_range).all(axis=1)
        return planar_walker_outcome(self, sim, velocity, actions, healthy)

    def state_info(self, sim: Simulation) -> Terms:
        return xz_position(sim)


@dataclass(frozen=True, kw_only=True)
class Walker2d(Task):
    xml_file: str = "walker2d_v5.xml"
    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (0.8, 2.0)
    healthy_angle_range: Range = (-1.0, 1.0)
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return planar_walker_observation(self, sim)

    def position(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, :1].copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        healthy = inside(sim.qpos[:, 1], self.healthy_z_range) & inside(sim.qpos[:, 2], self.healthy_angle_range)
        return planar_walker_outcome(self, sim, velocity, actions, healthy)

    def state_info(self, sim: Simulation) -> Terms:
        return xz_position(sim)


def planar_walker_observation(task: Hopper | Walker2d, sim: Simulation) -> np.ndarray:
    qpos = sim.qpos[:, 1 * task.exclude_current_positions_from_observation :]
    return np.concatenate((qpos, clip(sim.qvel, -10, 10)), axis=1)


def planar_walker_outcome(
    task: Hopper | Walker2d, sim: Simulation, velocity: np.ndarray, actions: np.ndarray, healthy: np.ndarray
) -> Outcome:
    x_velocity = velocity[:, 0]
    forward_reward = task.forward_reward_weight * x_velocity
    healthy_reward = healthy * task.healthy_reward
    ctrl_cost = task.ctrl_cost_weight * sum_of_squares(actions)
    terms = {
        "x_velocity": x_velocity,
        "reward_forward": forward_reward,
        "reward_ctrl": -ctrl_cost,
        "reward_survive": healthy_reward,
    }
    terminated = ~healthy & bool(task.terminate_when_unhealthy)
    return forward_reward + healthy_reward - ctrl_cost, terminated, terms


@dataclass(frozen=True, kw_only=True)
class Ant(Task):
    xml_file: str = "ant.xml"
    frame_skip: int = 5
    forward_reward_weight: float = 1
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int | str = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (0.2, 1.0)
    contact_force_range: Range = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    derived_fields: ClassVar[tuple[str, ...]] = ("xpos", "cfrc_ext")

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_and_normal_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        motion = sim.motion[:, 2 * self.exclude_current_positions_from_observation :]
        if not self.include_cfrc_ext_in_observation:
            return motion.copy()
        contact_forces = clip(sim.cfrc_ext[:, 1:], *self.contact_force_range)
        return np.concatenate((motion, contact_forces.reshape(sim.num_envs, -1)), axis=1)

    def position(self, sim: Simulation) -> np.ndarray:
        return sim.xpos[:, sim.body_ids[self.main_body], :2].copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        x_velocity, y_velocity = velocity.T
        min_z, max_z = self.healthy_z_range
        healthy = (min_z <= sim.qpos[:, 2]) & (sim.qpos[:, 2] <= max_z)

        forward_reward = x_velocity * self.forward_reward_weight
        healthy_reward = healthy * self.healthy_reward
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(actions)
        contact_cost = self.contact_cost_weight * sum_of_squares(clip(sim.cfrc_ext, *self.contact_force_range))
        terms = {
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
            "reward_contact": -contact_cost,
            "reward_survive": healthy_reward,
        }
        reward = (forward_reward + healthy_reward) - (ctrl_cost + contact_cost)
        return reward, ~healthy & bool(self.terminate_when_unhealthy), terms

    def state_info(self, sim: Simulation) -> Terms:
        return xy_position_and_distance(sim)


@dataclass(frozen=True, kw_only=True)
class Humanoid(Task):
    xml_file: str = "humanoid.xml"
    frame_skip: int = 5
    forward_reward_weight: float = 1.25
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    contact_cost_range: Range = (-np.inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (1.0, 2.0)
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    derived_fields: ClassVar[tuple[str, ...]] = ("xipos", *HUMANOID_FIELDS)

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return humanoid_observation(self, sim)

    def position(self, sim: Simulation) -> np.ndarray:
        mass = sim.model.body_mass
        return (np.einsum("b,nbj->nj", mass, sim.xipos) / mass.sum())[:, :2]

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        x_velocity, y_velocity = velocity.T
        healthy = inside(sim.qpos[:, 2], self.healthy_z_range)
        forward_reward = self.forward_reward_weight * x_velocity
        healthy_reward = healthy * self.healthy_reward
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(sim.ctrl)
        contact_cost = np.clip(self.contact_cost_weight * sum_of_squares(sim.cfrc_ext), *self.contact_cost_range)
        terms = {
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "reward_survive": healthy_reward,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
            "reward_contact": -contact_cost,
        }
        reward = (forward_reward + healthy_reward) - (ctrl_cost + contact_cost)
        return reward, ~healthy & bool(self.terminate_when_unhealthy), terms

    def state_info(self, sim: Simulation) -> Terms:
        return xy_position_and_distance(sim) | tendons(sim)


@dataclass(frozen=True, kw_only=True)
class HumanoidStandup(Task):
    xml_file: str = "humanoidstandup.xml"
    frame_skip: int = 5
    uph_cost_weight: float = 1  # accepted, and without effect, as in Gymnasium
    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: Range = (-np.inf, 10.0)
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    derived_fields: ClassVar[tuple[str, ...]] = HUMANOID_FIELDS

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return humanoid_observation(self, sim)

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        uph_cost = sim.qpos[:, 2] / sim.model.opt.timestep
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(sim.ctrl)
        impact_cost = np.clip(self.impact_cost_weight * sum_of_squares(sim.cfrc_ext), *self.impact_cost_range)
        terms = {"reward_linup": uph_cost, "reward_quadctrl": -ctrl_cost, "reward_impact": -impact_cost}
        return uph_cost - ctrl_cost - impact_cost + 1, never(sim), terms

    def state_info(self, sim: Simulation) -> Terms:
        z_distance = {"z_distance_from_origin": sim.qpos[:, 2] - sim.init_qpos[2]}
        return xy_position(sim) | z_distance | tendons(sim)


def humanoid_observation(task: Humanoid | HumanoidStandup, sim: Simulation) -> np.ndarray:
    parts = [sim.motion[:, 2 * task.exclude_current_positions_from_observation :]]
    if task.include_cinert_in_observation:
        parts.append(sim.cinert[:, 1:].reshape(sim.num_envs, -1))
    if task.include_cvel_in_observation:
        parts.append(sim.cvel[:, 1:].reshape(sim.num_envs, -1))
    if task.include_qfrc_actuator_in_observation:
        parts.append(sim.qfrc_actuator[:, 6:])
    if task.include_cfrc_ext_in_observation:
        parts.append(sim.cfrc_ext[:, 1:].reshape(sim.num_envs, -1))
    return np.concatenate(parts, axis=1)
