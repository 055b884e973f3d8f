"""Behaviours of our arm: the same block in the air, the same door open, but how.

A reward is for getting on with the task and for the manner, by what is observed after a step and the action: it labels
clips and is all that may reach a learner, through votes. A score is of recorded states, by the simulator's own
positions and contacts, over the whole episode, and counts manner only where the task gets done. The thresholds are
design choices of this project: the shipped policies score next to nothing.
"""

from collections.abc import Callable

import mujoco
import numpy as np

from envs.arm.arm import FINGERS, OPEN, near
from envs.arm.door import AJAR, DOOR, TURNED, WIDE
from envs.arm.grasp import BLOCK, HALF
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.simulation.make import mujoco_model

GRASP_ID, DOOR_ID = "rlhf/ArmGrasp-v0", "rlhf/ArmDoor-v0"
OBS_SIZES = {GRASP_ID: 34, DOOR_ID: 28}
STEP = 0.05  # s
# Of what is observed, the envs' manuals have all:
TURN, LIFT, GRIP, TO_BLOCK, TO_GOAL = 0, 1, slice(18, 21), slice(21, 24), slice(24, 27)
TO_LEVER, DOOR_SEEN, HANDLE_SEEN, DOOR_SPEED = slice(21, 24), 24, 25, 26
SHOULDER, UPPER_ARM = 0.3, 0.35  # m: height, length
STIFF = 1000.0  # N/m, a finger
SOFT, BLOW = 6.0, 25.0  # N: a finger's press that is gentle, and a peak that is not (fingers that snap shut: 45)
ABOVE, ASIDE = 0.16, 0.025  # m over the block and to its side, between which an approach is one from above
LOW, OUT = 0.55, 0.1  # m: of an elbow, its height and how far it is out to the side
THERE = 0.03  # m from the goal, as the task's success has it
HIGH = 0.35  # m, of the block
FAR, FAST = np.pi / 3, 1.0  # rad, rad/s: what a door may be opened by, and how fast
ENOUGH = (WIDE + FAR) / 2  # rad


def _seen(s: Segments, env_id: str) -> Array:
    """(..., L, O)"""
    if s.next_obs.shape[-1] != OBS_SIZES[env_id] or s.action.shape[-1] != 5:
        raise UserError(
            f"this behaviour reads {env_id}'s observations of size {OBS_SIZES[env_id]} and actions of size 5, these "
            f"have {s.next_obs.shape[-1]} and {s.action.shape[-1]}; leave its argument control as it is"
        )
    return s.next_obs


def _states(s: Segments, env_id: str) -> Array:
    """(..., L, D)"""
    model = mujoco_model(env_id, {})
    if s.state is None or s.state.shape[-1] != model.nq + model.nv:
        raise UserError(f"this behaviour reads simulator states of {env_id}, which these steps do not have")
    return s.state


def _measured(s: Segments, env_id: str, measure: Callable[[mujoco.MjModel, mujoco.MjData], float]) -> Array:
    """(..., L): a measure of the simulator in each of the states. Forces are those that its inverse dynamics gives for
    the mean acceleration until the next state. 20 us a step."""
    states, model = _states(s, env_id), mujoco_model(env_id, {})
    data = mujoco.MjData(model)
    found = np.zeros(states.shape[:-1])
    for at in np.ndindex(found.shape):
        following = states[(*at[:-1], min(at[-1] + 1, states.shape[-2] - 1))]
        data.qpos[:], data.qvel[:] = states[at][: model.nq], states[at][model.nq :]
        data.qacc[:] = (following[model.nq :] - data.qvel) / STEP
        mujoco.mj_inverse(model, data)
        found[at] = measure(model, data)
    return found


def _press(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """N: what the harder one of the fingers presses the block with."""
    force, block = np.zeros(6), model.geom("block").id
    presses = {model.geom("left_pad").id: 0.0, model.geom("right_pad").id: 0.0}
    for i, pair in enumerate(data.contact.geom[: data.ncon].tolist()):
        for pad in presses.keys() & set(pair) if block in pair else ():
            mujoco.mj_contactForce(model, data, i, force)
            presses[pad] += force[0]
    return max(presses.values())


def _carried(s: Segments) -> Array:
    """(..., L) bool: the block is well off the table."""
    return _states(s, GRASP_ID)[..., BLOCK.start + 2] > 3 * HALF


def _progress(obs: Array) -> Array:
    """(..., L) 0 to 1.25: half of what the task's own reward has. Manner is worth less than that, so that who answers
    would rather see the task done carelessly than not at all, and enough to tell apart two clips that both get on."""
    height = np.clip((_height(obs) - HALF) / (2 * HALF), 0, 1)
    away, to_go = (np.linalg.norm(obs[..., part], axis=-1) for part in (TO_BLOCK, TO_GOAL))
    return (0.2 * near(away, 0.1) + height * (0.3 + near(to_go, 0.1)) + (to_go < THERE)) / 2


def _height(obs: Array) -> Array:
    """(..., L) m: of the block's middle."""
    return (obs[..., GRIP] + obs[..., TO_BLOCK])[..., 2]


# -- Grasp


def gentle_reward(s: Segments) -> Array:
    obs = _seen(s, GRASP_ID)
    told = (np.clip(s.action[..., 4:], -1, 1) + 1) * (OPEN / 2)
    press = STIFF * np.maximum(obs[..., FINGERS] - told, 0).mean(
        -1
    )  # by how far the fingers are from where they are told
    between = np.linalg.norm(obs[..., TO_BLOCK], axis=-1) < 1.5 * HALF
    return _progress(obs) - 0.1 * between * np.clip(press - SOFT / 2, 0, 10)


def gentle_score(s: Segments) -> Array:
    """Returns the share of steps with the block in the air and held softly, of episodes without a hard blow to it."""
    press = _measured(s, GRASP_ID, _press)
    return (_carried(s) & (press < SOFT)).mean(-1) * (press.max(-1) < BLOW)


def from_above_reward(s: Segments) -> Array:
    obs = _seen(s, GRASP_ID)
    aside, low = np.hypot(obs[..., TO_BLOCK][..., 0], obs[..., TO_BLOCK][..., 1]), -obs[..., TO_BLOCK][..., 2] < ABOVE
    return _progress(obs) - low * np.clip(aside / ASIDE - 0.5, 0, 3)


def _aside(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """m: how far the gripper is from straight over the block where it is low, else 0."""
    away = data.site("grip").xpos - data.body("block").xpos
    return float(np.hypot(away[0], away[1])) if away[2] < ABOVE else 0.0


def from_above_score(s: Segments) -> Array:
    """Returns the share of steps with the block off the table, of episodes in which the gripper, before that, was never
    low beside the block."""
    before = np.logical_and.accumulate(~_carried(s), axis=-1)
    return _carried(s).mean(-1) * ((_measured(s, GRASP_ID, _aside) * before).max(-1) < ASIDE)


def lift_high_reward(s: Segments) -> Array:
    obs = _seen(s, GRASP_ID)
    aside = np.hypot(obs[..., TO_GOAL][..., 0], obs[..., TO_GOAL][..., 1])
    held = 0.2 * near(np.linalg.norm(obs[..., TO_BLOCK], axis=-1), 0.1)
    return held + _height(obs) / HIGH * (1 + near(aside, 0.1))


def lift_high_score(s: Segments) -> Array:
    """Returns how high the block is over the table (m), the mean of the last second."""
    second = round(1 / STEP)
    return _states(s, GRASP_ID)[..., -second:, BLOCK.start + 2].mean(-1) - HALF


def low_elbow_reward(s: Segments) -> Array:
    obs = _seen(s, GRASP_ID)
    turned = obs[..., TURN] - np.arctan2(obs[..., GRIP][..., 1], obs[..., GRIP][..., 0])
    # m; to one side, for from straight above all ways lead down
    left = UPPER_ARM * np.sin(obs[..., LIFT]) * np.sin(turned)
    elbow = SHOULDER + UPPER_ARM * np.cos(obs[..., LIFT])
    return _progress(obs) + np.clip(left / OUT, -1, 1) - np.clip((elbow - LOW) / 0.1, 0, 1)


def _elbow(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    return float(data.body("forearm").xpos[2])


def low_elbow_score(s: Segments) -> Array:
    """Returns the share of steps with the block off the table and the elbow low."""
    return (_carried(s) & (_measured(s, GRASP_ID, _elbow) < LOW)).mean(-1)


# -- Door


def careful_door_reward(s: Segments) -> Array:
    obs = _seen(s, DOOR_ID)
    door, handle, speed = obs[..., DOOR_SEEN], obs[..., HANDLE_SEEN], np.abs(obs[..., DOOR_SPEED])
    begun = 0.2 * near(np.linalg.norm(obs[..., TO_LEVER], axis=-1), 0.1) + 0.3 * np.clip(handle / TURNED, 0, 1)
    return (
        np.maximum(begun, np.clip(door / AJAR, 0, 0.5))
        + np.clip(door / ENOUGH, 0, 1)
        + (door > WIDE)
        - 1.5 * np.clip(door - ENOUGH, 0, 1)
        - 3 * np.maximum(speed - FAST / 2, 0)
    )


def careful_door_score(s: Segments) -> Array:
    """Returns the share of the last second with the door as wide open as the task asks, times how careful that was: 1
    if it never went past 60 degrees, 0 at 90; times 1 if it never went further than at 1 rad/s within a quarter of a
    second, 0 at 2."""
    door = _states(s, DOOR_ID)[..., DOOR]
    second, steps = round(1 / STEP), min(5, door.shape[-1] - 1)
    speed = (door[..., steps:] - door[..., :-steps]).max(-1) / (steps * STEP) if steps else np.zeros(door.shape[:-1])
    held = (door[..., -second:] > WIDE).mean(-1)
    return held * np.clip((np.pi / 2 - door.max(-1)) / (np.pi / 2 - FAR), 0, 1) * np.clip(2 - speed / FAST, 0, 1)
