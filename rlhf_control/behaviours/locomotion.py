"""Behaviours that the environment's reward does not state: what an oracle prefers, and how success is measured.

Both read raw steps (..., L, ...). The reward labels clips and is all that may reach a learner, through votes. The
score is computed another way, from positions and over time, and is for reports only. To add a behaviour, write two
functions and one entry in BEHAVIOURS. The thresholds are design choices of this project: random actions score next to
nothing, and so does the shipped runner but for backward (-2.5), keep-pace (0.16) and prowl (0.12).

Hopper, Walker2d and Ant are meant with a fixed horizon (`terminate_when_unhealthy=False`): where falling ends the
episode, a score says nothing of the time after the fall.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.simulation.make import mujoco_model

CHEETAH, HOPPER, WALKER, ANT = "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"
DT = {CHEETAH: 0.05, HOPPER: 0.008, WALKER: 0.008, ANT: 0.05}  # s
# Observations start with what follows here; the Ant's go on with contact forces.
#   HalfCheetah, Walker2d: z, pitch, 6 joints; 8 vx, 9 vz, 10 pitch rate, 6 joint velocities
#   Hopper: z, pitch, 3 joints; 5 vx, 6 vz, 7 pitch rate, 3 joint velocities
#   Ant: z, quaternion (w, x, y, z), 8 joints; 13 vx, vy, vz, 16 angular velocity of the torso, 8 joint velocities
# Simulator states are the same with x (and y) before z and without the forces. A positive pitch rate is forward.
OBS_SIZES = {CHEETAH: (17,), HOPPER: (11,), WALKER: (17,), ANT: (27, 105)}

PACE = 2.0  # m/s
CHEETAH_STANDS = -0.1  # m, z of the cheetah's state when it stands
BODY_AND_FRONT_LEG = ("torso", "head", "ffoot", "fshin", "fthigh")
LEFT_LEG = ("foot_left_geom", "leg_left_geom", "thigh_left_geom")
FAR_RIGHT_LEG = ("left_ankle_geom", "left_leg_geom")


# -- what rewards read: the observation after each step


def _seen(s: Segments, env_id: str) -> Array:
    """(..., L, O)"""
    if s.next_obs.shape[-1] not in OBS_SIZES[env_id]:
        raise UserError(
            f"behaviours read {env_id}'s observations of size {OBS_SIZES[env_id][0]}, these have "
            f"{s.next_obs.shape[-1]}; leave its arguments about observations as they are"
        )
    return s.next_obs


def _cheetah_vx(s: Segments) -> Array:
    return _seen(s, CHEETAH)[..., 8]


def _walker(s: Segments) -> tuple[Array, Array, Array, Array]:
    """(..., L) each: z, pitch, vx, and 1 where the walker is healthy as Gymnasium has it, else 0."""
    obs = _seen(s, WALKER)
    z, pitch, vx = obs[..., 0], obs[..., 1], obs[..., 8]
    return z, pitch, vx, ((z > 0.8) & (z < 2) & (np.abs(pitch) < 1)).astype(np.float32)


def _touching(s: Segments, env_id: str, geoms: Sequence[str]) -> Array:
    """(..., L) bool: one of these touches the floor before the step. States hold no contacts, so bodies are put where
    they were and collided again; 6 us a step."""
    states = _states(s)
    model = mujoco_model(env_id, {})
    data = mujoco.MjData(model)
    floor, ids = model.geom("floor").id, [model.geom(name).id for name in geoms]
    touching = np.zeros(states.shape[:-1], bool)
    for at in np.ndindex(touching.shape):
        data.qpos[:] = states[at][: model.nq]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        pairs = data.contact.geom[: data.ncon].tolist()
        touching[at] = any(floor in pair and (pair[0] in ids or pair[1] in ids) for pair in pairs)
    return touching


# -- what scores read: positions, over time


def _states(s: Segments) -> Array:
    if s.state is None:
        raise UserError("this behaviour reads simulator states, which this environment does not give")
    return s.state


def _velocity(s: Segments, env_id: str, axis: int = 0) -> Array:
    """(..., L - 1) m/s along x or y between one step's position and the next one's."""
    return np.diff(_states(s)[..., axis], axis=-1) / DT[env_id]


def _second(env_id: str) -> int:
    """Steps a second."""
    return round(1 / DT[env_id])


def _lasting(ok: Array, steps: int) -> Array:
    """(..., L) bool: where `ok` (..., L) holds without a break for at least `steps` steps. Never in a shorter clip."""
    if ok.shape[-1] < steps:
        return np.zeros_like(ok)
    whole = sliding_window_view(ok, steps, axis=-1).all(-1)
    margin = [(0, 0)] * (ok.ndim - 1) + [(steps - 1, steps - 1)]
    return np.asarray(sliding_window_view(np.pad(whole, margin), steps, axis=-1).any(-1))


def _speed_while(ok: Array, velocity: Array) -> Array:
    """(...,) m/s over the clip of which only the way made while `ok` (..., L) held counts."""
    return (velocity * ok[..., :-1]).mean(-1)


def _turns(pitch: Array, upright: Array) -> Array:
    """(...,) whole turns forward from the first upright step to the last one, of the unwrapped pitch (..., L)."""
    turns = np.round(pitch / (2 * np.pi))
    last = pitch.shape[-1] - 1 - upright[..., ::-1].argmax(-1)
    ends = [np.take_along_axis(turns, i[..., None], -1)[..., 0] for i in (last, upright.argmax(-1))]
    return np.where(upright.any(-1), ends[0] - ends[1], 0.0)


def _wrapped(angle: Array) -> Array:
    """The same angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _per_10_seconds(count: Array, s: Segments, env_id: str) -> Array:
    return 10 * count / (DT[env_id] * _states(s).shape[-2])


def _walker_upright(s: Segments) -> Array:
    """(..., L) bool"""
    state = _states(s)
    return (state[..., 1] > 0.8) & (np.abs(state[..., 2]) < 0.7)


def _ant_upright(quaternion: Array) -> Array:
    """(..., L) bool: the torso leans by less than 60 degrees, of quaternions (..., L, 4)."""
    cosine: Array = 1 - 2 * np.square(quaternion[..., 1:3]).sum(-1)
    return cosine > 0.5


# -- HalfCheetah


def backward_reward(s: Segments) -> Array:
    return -_cheetah_vx(s) - 0.1 * np.square(s.action).sum(-1)


def backward_score(s: Segments) -> Array:
    return -_velocity(s, CHEETAH).mean(-1)


def keep_pace_reward(s: Segments) -> Array:
    return -np.abs(_cheetah_vx(s) - PACE)


def keep_pace_score(s: Segments) -> Array:
    return (np.abs(_velocity(s, CHEETAH) - PACE) < 0.25).mean(-1)


def hind_legs_reward(s: Segments) -> Array:
    lean = np.clip(_seen(s, CHEETAH)[..., 1], -1, 1)  # or it would run on, nose down, on the front leg
    return np.clip(_cheetah_vx(s), 0, 2) - lean - 2.0 * _touching(s, CHEETAH, BODY_AND_FRONT_LEG)


def hind_legs_score(s: Segments) -> Array:
    lifted = _lasting(~_touching(s, CHEETAH, BODY_AND_FRONT_LEG), _second(CHEETAH))
    return (lifted[..., :-1] & (_velocity(s, CHEETAH) > 1)).mean(-1)


def prowl_reward(s: Segments) -> Array:
    return -5.0 * np.abs(_seen(s, CHEETAH)[..., 0] + 0.15) + 0.5 * np.clip(_cheetah_vx(s), 0, 2)


def prowl_score(s: Segments) -> Array:
    low = np.abs(_states(s)[..., :-1, 1] + 0.15) < 0.05
    return (low & (_velocity(s, CHEETAH) > 1)).mean(-1)


def jump_reward(s: Segments) -> Array:
    obs = _seen(s, CHEETAH)
    return np.maximum(obs[..., 9], 0) + 2 * obs[..., 0]


def jump_score(s: Segments) -> Array:
    parts = ("bfoot", "bshin", "bthigh", *BODY_AND_FRONT_LEG)
    high = (_states(s)[..., 1] > CHEETAH_STANDS + 0.4) & ~_touching(s, CHEETAH, parts)
    steps = min(_second(CHEETAH), high.shape[-1])
    return sliding_window_view(high, steps, axis=-1).any(-1).mean(-1)


def flip_reward(s: Segments) -> Array:
    """Returns the turning speed (rad/s), over a clip the net turn: rocking earns nothing. The pitch rate at the steps'
    ends would: between them it swings back. Nor does running earn anything, which is easier than turning."""
    return (_seen(s, CHEETAH)[..., 1] - s.obs[..., 1]) / DT[CHEETAH]


def flip_score(s: Segments) -> Array:
    pitch = _states(s)[..., 2]
    return _per_10_seconds(_turns(pitch, np.abs(_wrapped(pitch)) < 0.5), s, CHEETAH)


# -- Hopper


def backflip_reward(s: Segments) -> Array:
    """Rewards as in OpenAI's "Learning from human preferences" (2017): backward turning, more of it high up and
    pushing."""
    obs = _seen(s, HOPPER)
    pushing = (s.action * obs[..., 8:11]).sum(-1)
    return -obs[..., 7] * (1 + 0.3 * obs[..., 0] + 0.1 * pushing - 0.05 * obs[..., 5])


def backflip_score(s: Segments) -> Array:
    state = _states(s)
    landed = (np.abs(_wrapped(state[..., 2])) < 0.5) & (state[..., 1] > 0.7)
    return _per_10_seconds(_turns(-state[..., 2], landed), s, HOPPER)


# -- Walker2d


def one_leg_reward(s: Segments) -> Array:
    _, _, vx, healthy = _walker(s)
    return np.clip(vx, 0, 2) + healthy - 2.0 * _touching(s, WALKER, LEFT_LEG)


def one_leg_score(s: Segments) -> Array:
    ok = _walker_upright(s) & ~_touching(s, WALKER, LEFT_LEG)
    return _speed_while(_lasting(ok, _second(WALKER)), _velocity(s, WALKER))


def crouch_reward(s: Segments) -> Array:
    z, _, vx, _ = _walker(s)
    return np.clip(vx, 0, 2) - 4 * np.abs(z - 0.95)


def crouch_score(s: Segments) -> Array:
    low = np.abs(_states(s)[..., 1] - 0.95) < 0.05
    return (low[..., :-1] & (_velocity(s, WALKER) > 0.5)).mean(-1)


def stand_reward(s: Segments) -> Array:
    _, _, vx, healthy = _walker(s)
    return healthy - np.abs(vx)


def stand_score(s: Segments) -> Array:
    x, second = _states(s)[..., 0], _second(WALKER)
    if x.shape[-1] <= second:
        return np.zeros(x.shape[:-1])
    upright = sliding_window_view(_walker_upright(s), second + 1, axis=-1).all(-1)
    return (upright & (np.abs(x[..., second:] - x[..., :-second]) < 0.1)).mean(-1)


def moonwalk_reward(s: Segments) -> Array:
    _, pitch, vx, healthy = _walker(s)
    return -vx + healthy - np.abs(pitch)


def moonwalk_score(s: Segments) -> Array:
    return _speed_while(_lasting(_walker_upright(s), _second(WALKER)), -_velocity(s, WALKER))


# -- Ant


def spin_reward(s: Segments) -> Array:
    obs = _seen(s, ANT)
    return obs[..., 18] * _ant_upright(obs[..., 1:5]) - 0.2 * np.linalg.norm(obs[..., 13:15], axis=-1)


def spin_score(s: Segments) -> Array:
    w, x, y, z = np.moveaxis(_states(s)[..., 3:7], -1, 0)
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    step = _wrapped(np.diff(yaw, axis=-1)) * _ant_upright(_states(s)[..., :-1, 3:7])
    return _per_10_seconds(step.sum(-1) / (2 * np.pi), s, ANT)


def sidestep_reward(s: Segments) -> Array:
    obs = _seen(s, ANT)
    return obs[..., 14] - 0.3 * np.abs(obs[..., 13])


def sidestep_score(s: Segments) -> Array:
    state, second = _states(s), _second(ANT)
    if state.shape[-2] <= second:
        return np.zeros(state.shape[:-2])
    x, y = np.moveaxis(state[..., second:, :2] - state[..., :-second, :2], -1, 0)  # m in each second
    return np.where(np.abs(x) < y / 2, y, 0.0).mean(-1)


def three_legs_reward(s: Segments) -> Array:
    obs = _seen(s, ANT)
    return obs[..., 13] + _ant_upright(obs[..., 1:5]) - 2.0 * _touching(s, ANT, FAR_RIGHT_LEG)


def three_legs_score(s: Segments) -> Array:
    ok = _ant_upright(_states(s)[..., 3:7]) & ~_touching(s, ANT, FAR_RIGHT_LEG)
    return _speed_while(_lasting(ok, _second(ANT)), _velocity(s, ANT))
