"""Gymnasium's MuJoCo tasks, version 5, as array functions over a batch of simulations.

Each task is a frozen dataclass: its fields are the options of Gymnasium's constructor, with the same names and
defaults, and its methods are the task itself. The formulas, down to the order of their operations, are those of
`gymnasium/envs/mujoco/*_v5.py`, so that results equal Gymnasium's bit for bit. To add a task, write one class and add
one line to `TASKS`.

Letters in shapes: n environments, O observation, A action, the rest as in `mujoco.MjModel` (nq, nv, nbody, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from envs.mujoco_simulation import Simulation

Range = tuple[float, float]
Terms = dict[str, np.ndarray]  # what goes into `info`, (n, ...) each
Start = tuple[np.ndarray, np.ndarray]  # one environment's initial qpos (nq,) and qvel (nv,)
Outcome = tuple[np.ndarray, np.ndarray, Terms]  # reward (n,), terminated (n,) bool, info


@dataclass(frozen=True, kw_only=True)
class Task:
    """The methods a task needs. They read `sim` and change nothing; the arrays they return are fresh."""

    xml_file: str  # a path, or the name of one of Gymnasium's models
    frame_skip: int  # simulator steps an environment step
    derived_fields: ClassVar[tuple[str, ...]] = ()  # what the task reads of `sim` besides qpos, qvel and ctrl

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        """Draw one environment's initial state."""
        raise NotImplementedError

    def observation(self, sim: Simulation) -> np.ndarray:
        """(n, O) float64."""
        raise NotImplementedError

    def position(self, sim: Simulation) -> np.ndarray:
        """(n, k) m, the coordinates whose velocity `outcome` is given."""
        return np.empty((sim.num_envs, 0))

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        """What the step that led to `sim` brought.

        Args:
            sim: the simulations after the step.
            velocity: (n, k) m/s, mean velocity of `position` over the step.
            actions: (n, A), as given by the caller: neither clipped nor converted.
        """
        raise NotImplementedError

    def reset_info(self, sim: Simulation) -> Terms:
        """The part of the info that exists after a reset too."""
        return {}


def uniform_noise(sim: Simulation, rng: np.random.Generator, scale: float) -> Start:
    """The model's initial state with uniform noise on qpos and qvel."""
    qpos = sim.init_qpos + rng.uniform(-scale, scale, size=sim.model.nq)
    qvel = sim.init_qvel + rng.uniform(-scale, scale, size=sim.model.nv)
    return qpos, qvel


def uniform_and_normal_noise(sim: Simulation, rng: np.random.Generator, scale: float) -> Start:
    """The model's initial state with uniform noise on qpos and normal noise on qvel."""
    qpos = sim.init_qpos + rng.uniform(-scale, scale, size=sim.model.nq)
    qvel = sim.init_qvel + scale * rng.standard_normal(sim.model.nv)
    return qpos, qvel


def sum_of_squares(values: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n,), in the dtype given: Gymnasium's control cost of float32 actions is a float32 too."""
    return np.square(values).reshape(len(values), -1).sum(axis=1)


def norm(vectors: np.ndarray) -> np.ndarray:
    """(n, k) -> (n,). `vecdot` calls the BLAS routine that `np.linalg.norm` of one vector calls; a sum rounds apart."""
    return np.sqrt(np.vecdot(vectors, vectors))


def scalar_square(values: np.ndarray) -> np.ndarray:
    """(n,) -> (n,), `x**2` as of a scalar: libm's pow, which differs from x * x about once in a thousand."""
    return np.array([value**2 for value in values.tolist()])


def inside(values: np.ndarray, bounds: Range) -> np.ndarray:
    """Whether each value is strictly between the bounds."""
    return (bounds[0] < values) & (values < bounds[1])


def never(sim: Simulation) -> np.ndarray:
    """`terminated` of a task that only the time limit ends."""
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
        return forward_reward - ctrl_cost, never(sim), x_position(sim) | terms

    def reset_info(self, sim: Simulation) -> Terms:
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
        return forward_reward - ctrl_cost, never(sim), xy_position_and_distance(sim) | terms

    def reset_info(self, sim: Simulation) -> Terms:
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

    def reset_info(self, sim: Simulation) -> Terms:
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

    def reset_info(self, sim: Simulation) -> Terms:
        return xz_position(sim)


def planar_walker_observation(task: Hopper | Walker2d, sim: Simulation) -> np.ndarray:
    qpos = sim.qpos[:, 1 * task.exclude_current_positions_from_observation :]
    return np.concatenate((qpos, np.clip(sim.qvel, -10, 10)), axis=1)


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
    terminated = ~healthy & task.terminate_when_unhealthy
    return forward_reward + healthy_reward - ctrl_cost, terminated, xz_position(sim) | terms


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
        contact_forces = np.clip(sim.cfrc_ext[:, 1:], *self.contact_force_range)
        return np.concatenate((motion, contact_forces.reshape(sim.num_envs, -1)), axis=1)

    def position(self, sim: Simulation) -> np.ndarray:
        body = self.main_body if isinstance(self.main_body, int) else sim.body_ids[self.main_body]
        return sim.xpos[:, body, :2].copy()

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        x_velocity, y_velocity = velocity.T
        min_z, max_z = self.healthy_z_range
        healthy = (min_z <= sim.qpos[:, 2]) & (sim.qpos[:, 2] <= max_z)

        forward_reward = x_velocity * self.forward_reward_weight
        healthy_reward = healthy * self.healthy_reward
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(actions)
        contact_cost = self.contact_cost_weight * sum_of_squares(np.clip(sim.cfrc_ext, *self.contact_force_range))
        terms = {
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
            "reward_contact": -contact_cost,
            "reward_survive": healthy_reward,
        }
        reward = (forward_reward + healthy_reward) - (ctrl_cost + contact_cost)
        return reward, ~healthy & self.terminate_when_unhealthy, xy_position_and_distance(sim) | terms

    def reset_info(self, sim: Simulation) -> Terms:
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
    derived_fields: ClassVar[tuple[str, ...]] = (
        *("xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ten_length", "ten_velocity"),
    )

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
        return reward, ~healthy & self.terminate_when_unhealthy, self.reset_info(sim) | terms

    def reset_info(self, sim: Simulation) -> Terms:
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
    derived_fields: ClassVar[tuple[str, ...]] = (
        *("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ten_length", "ten_velocity"),
    )

    def start(self, sim: Simulation, rng: np.random.Generator) -> Start:
        return uniform_noise(sim, rng, self.reset_noise_scale)

    def observation(self, sim: Simulation) -> np.ndarray:
        return humanoid_observation(self, sim)

    def outcome(self, sim: Simulation, velocity: np.ndarray, actions: np.ndarray) -> Outcome:
        uph_cost = sim.qpos[:, 2] / sim.model.opt.timestep
        ctrl_cost = self.ctrl_cost_weight * sum_of_squares(sim.ctrl)
        impact_cost = np.clip(self.impact_cost_weight * sum_of_squares(sim.cfrc_ext), *self.impact_cost_range)
        terms = {"reward_linup": uph_cost, "reward_quadctrl": -ctrl_cost, "reward_impact": -impact_cost}
        return uph_cost - ctrl_cost - impact_cost + 1, never(sim), self.reset_info(sim) | terms

    def reset_info(self, sim: Simulation) -> Terms:
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
        qvel = np.clip(sim.qvel, -10, 10)
        cart_constraint = np.clip(sim.qfrc_constraint[:, :1], -10, 10)
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
        """(n, 3) m."""
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
        """(n, 3) m."""
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


TASKS: dict[str, type[Task]] = {
    "Ant-v5": Ant,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "HumanoidStandup-v5": HumanoidStandup,
    "InvertedDoublePendulum-v5": InvertedDoublePendulum,
    "InvertedPendulum-v5": InvertedPendulum,
    "Pusher-v5": Pusher,
    "Reacher-v5": Reacher,
    "Swimmer-v5": Swimmer,
    "Walker2d-v5": Walker2d,
}
