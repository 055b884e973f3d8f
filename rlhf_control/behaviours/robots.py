"""Behaviours of other people's robots: Fetch, which reaches, and the arm of MetaWorld, whatever its task.

The rewards read observations (..., L, O), in metres: Fetch's begin with the place of the gripper and the goal's,
MetaWorld's with the hand's. The scores compute the same places from the stored states. The thresholds are design
choices of this project.
"""

import copy
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.simulation.make import mujoco_model
from rlhf_control.simulation.mujoco_states import put

FETCH_ID, METAWORLD_ID = "gymnasium_robotics:FetchReachDense-v4", "metaworld:Meta-World/MT1"
ANY_TASK = {"env_name": "reach-v3"}  # of MetaWorld: the arm is the same in all, and its joints come first
ARM = 7  # joints
NEAR = (
    0.05  # m beside the goal, within which Fetch's gripper is above it; success is the same distance in all directions
)
ABOVE = 0.1  # m over the goal, from where it is to come down
HIGH, HIGHEST = 0.25, 0.3  # m: the hand begins at about 0.2; what is preferred goes on beyond what counts as high


def _states(s: Segments) -> Array:
    if s.state is None:
        raise UserError("this behaviour reads simulator states, which these steps do not have")
    return s.state


def _sites(states: Array, env_id: str, env: Mapping[str, Any], names: tuple[str, ...]) -> Array:
    """(..., L, names, 3) m: where sites of a model are."""
    model = copy.copy(mujoco_model(env_id, env))  # whose sites are moved
    data = mujoco.MjData(model)
    places = np.empty((*states.shape[:-1], len(names), 3))
    for at in np.ndindex(states.shape[:-1]):
        put(model, data, states[at], {})
        mujoco.mj_kinematics(model, data)
        places[at] = [data.site(name).xpos for name in names]
    return places


# -- Fetch


def reach_from_above_reward(s: Segments) -> Array:
    """Rewards being over the goal, and as high above it as the way to go across asks for."""
    there = s.next_obs[..., :3] - s.next_obs[..., 3:6]
    across = np.hypot(there[..., 0], there[..., 1])
    return -across - np.abs(there[..., 2] - np.minimum(2 * across, ABOVE))


def reach_from_above_score(s: Segments) -> Array:
    """Returns how high above the goal the gripper was when it first came within NEAR of it, in cm; 0 where it never
    did, or from below."""
    places = _sites(_states(s), FETCH_ID, {}, ("robot0:grip", "target0"))
    there = places[..., 0, :] - places[..., 1, :]
    arrived = np.hypot(there[..., 0], there[..., 1]) < NEAR
    first = arrived.argmax(-1)
    height = np.take_along_axis(there[..., 2], first[..., None], -1)[..., 0]
    return np.where(arrived.any(-1), 100 * np.maximum(height, 0), 0)


# -- MetaWorld


def hand_high_reward(s: Segments) -> Array:
    return np.minimum(s.next_obs[..., 2], HIGHEST)


def hand_high_score(s: Segments) -> Array:
    states = _states(s)
    model = mujoco_model(METAWORLD_ID, ANY_TASK)
    joints = np.zeros((*states.shape[:-1], model.nq + model.nv))
    joints[..., :ARM] = states[..., :ARM]
    hand = _sites(joints, METAWORLD_ID, ANY_TASK, ("endEffector",))
    return (hand[..., 0, 2] > HIGH).mean(-1)
