"""MuJoCo models and the ways to look at them: their own cameras, and three at the side, the front and the top.

D state as in `mujoco_states`, P level planes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.simulation.mujoco_states import parts, put

TRACK, SIDE, FRONT, TOP = "track", "side", "front", "top"  # the first is what Gymnasium calls its models' own camera
FREE = "free"  # as a model's <visual> and <statistic> place it, where they do
ANGLES = {SIDE: (90, -15), FRONT: (180, -15), TOP: (90, -90)}  # azimuth, elevation in degrees; 90: x to the right

UNPLACED = (90, -45)  # azimuth and elevation of a free camera that the model does not place


@dataclass(frozen=True)
class CameraPlacement:
    """Says how to look at a model that brings no camera of its own."""

    follows: bool  # the first body can leave, so the camera goes with it
    center: Array  # (3,) m, where to look otherwise
    radius: float  # m around there, which must be seen
    top: bool  # everything moves in the x-y plane, so it is looked at from above; else from the side


def placement_of(model: mujoco.MjModel) -> CameraPlacement:
    slides = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE
    hinges = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
    free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
    unbounded = free | (slides & (model.jnt_limited == 0))
    follows = bool((unbounded & (model.jnt_bodyid == 1)).any())

    data = mujoco.MjData(model)  # at the model's initial position
    place(model, data, np.concatenate([model.qpos0, np.zeros(model.nv)]))
    upright = np.abs(data.xaxis[:, 2]) > 0.9
    top = bool((hinges & upright | slides & ~upright).all() and hinges.any())

    shown = visible(model)
    if follows:
        shown = shown[model.body_rootid[model.geom_bodyid[shown]] == 1]
    if not len(shown):
        return CameraPlacement(follows, np.zeros(3), 1.0, top)
    places, sizes = data.geom_xpos[shown], model.geom_rbound[shown]
    center = data.subtree_com[1] if follows else (places.min(0) + places.max(0)) / 2
    radius = (np.linalg.norm(places - center, axis=1) + sizes).max()
    return CameraPlacement(follows, center.copy(), float(radius), top)


def camera_names(model: mujoco.MjModel) -> list[str]:
    """Returns the cameras that there are, the default first: the model's own, then side, front and top. The default is
    the camera "track", else the one that the model names (`cameraid`, or angles of its free camera), else from the
    side, or from above if everything moves in the x-y plane."""
    own = [name for i in range(model.ncam) if (name := model.camera(i).name)]
    return list(dict.fromkeys([default_camera(model), *own, SIDE, FRONT, TOP]))


def default_camera(model: mujoco.MjModel) -> str:
    """Names the camera that shows a model best."""
    look = model.vis.global_
    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, TRACK) >= 0:
        return TRACK
    if 0 <= look.cameraid < model.ncam and (name := model.camera(look.cameraid).name):
        return name
    if (look.azimuth, look.elevation) != UNPLACED:
        return FREE
    return TOP if placement_of(model).top else SIDE


def aim(eye: mujoco.MjvCamera, model: mujoco.MjModel, placement: CameraPlacement, camera: str) -> None:
    """Points the eye as one of `camera_names`, "track" being the default where it is none of them. The model's field of
    view is changed where its camera needs it."""
    camera = default_camera(model) if camera == TRACK else camera
    eye.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
    if camera == FREE:
        mujoco.mjv_defaultFreeCamera(model, eye)
        return
    if eye.fixedcamid < 0:
        eye.type = mujoco.mjtCamera.mjCAMERA_FREE
        eye.azimuth, eye.elevation = ANGLES.get(camera) or ANGLES[TOP if placement.top else SIDE]
        eye.lookat[:] = placement.center
        eye.distance = 1.1 * placement.radius / math.tan(math.radians(model.vis.global_.fovy / 2))
        return
    eye.type = mujoco.mjtCamera.mjCAMERA_FIXED
    if model.cam_mode[eye.fixedcamid] == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM:
        # It stays where it is, and zooms until the body fills the picture.
        where, up = model.cam_poscom0[eye.fixedcamid], model.cam_mat0[eye.fixedcamid, 1::3]
        reach = 1.1 * (placement.radius + abs(up @ where))
        model.cam_fovy[eye.fixedcamid] = 2 * math.degrees(math.atan(reach / np.linalg.norm(where)))


def visible(model: mujoco.MjModel) -> Array:
    """Returns the numbers of the geoms that MuJoCo shows by default (groups 0 to 2, not transparent), without
    planes."""
    plane = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    return np.flatnonzero(~plane & (model.geom_group < 3) & (model.geom_rgba[:, 3] > 0))


def visible_sites(model: mujoco.MjModel) -> Array:
    """Returns the numbers of the sites that MuJoCo shows by default."""
    return np.flatnonzero((model.site_group < 3) & (model.site_rgba[:, 3] > 0))


def place(model: mujoco.MjModel, data: mujoco.MjData, state: Array, origin: Mapping[str, Array] | None = None) -> None:
    """Brings bodies, cameras and lights to where the state (D,) has them, without any dynamics. `origin`: of what some
    states change in the model and this one does not; see `mujoco_states.put`."""
    put(model, data, state, origin or {})
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)  # where a tracking camera looks
    mujoco.mj_camlight(model, data)


def check_states(model: mujoco.MjModel, states: Array) -> None:
    """Raises UserError if these are no states (T, D) of this model."""
    if states.ndim != 2:
        raise UserError(f"the clip's states have shape {states.shape}; it was recorded in another environment")
    if len(states) and states.shape[1] != model.nq + model.nv:
        parts(model, mujoco.MjData(model), states[0])


def placement_over(
    model: mujoco.MjModel, data: mujoco.MjData, placement: CameraPlacement, states: Array, origin: Mapping[str, Array]
) -> CameraPlacement:  # fmt: skip
    """Returns the placement, from further away where something is put outside it by the states (T, D) of a clip."""
    if placement.follows or not more_than_motion(model, states):
        return placement
    low, high = placement.center - placement.radius, placement.center + placement.radius
    for state in states:
        place(model, data, state, origin)
        geoms, sites = visible(model), visible_sites(model)
        places = np.concatenate([data.geom_xpos[geoms], data.site_xpos[sites]])
        sizes = np.concatenate([model.geom_rbound[geoms], model.site_size[sites].max(1)])[:, None]
        if len(places):
            low, high = np.minimum(low, (places - sizes).min(0)), np.maximum(high, (places + sizes).max(0))
    if (high - low).max() <= 2 * placement.radius:
        return placement
    return replace(placement, center=(low + high) / 2, radius=float(np.linalg.norm(high - low)) / 2)


def more_than_motion(model: mujoco.MjModel, states: Array) -> bool:
    """Tells whether states (T, D) have more than [qpos, qvel]."""
    return states.shape[1] > model.nq + model.nv


def level_planes(model: mujoco.MjModel) -> tuple[Array, Array]:
    """Returns the numbers (P,) of the floors, and the lengths (P, 2) after which their textures repeat (m)."""
    level = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (np.abs(model.geom_quat[:, 1:3]) < 1e-6).all(1)
    floors = np.flatnonzero(level & (model.geom_bodyid == 0))
    period = np.ones((len(floors), 2))
    for i, geom in enumerate(floors):
        material, size = model.geom_matid[geom], 2 * model.geom_size[geom, :2]
        if material >= 0:
            uniform = model.mat_texuniform[material] or (size == 0).any()
            period[i] = (1 if uniform else size) / model.mat_texrepeat[material]
    return floors, period
