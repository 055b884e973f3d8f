"""Clips: stored simulator states -> frames.

A clip is kept as its states, some 150 bytes a step, and drawn when somebody asks to see it. Two drawings of the same
states are byte-identical.

T time, D state [qpos, qvel], H height, W width. Frames are (T, H, W, 3) uint8.
"""

import contextlib
import copy
import functools
import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from PIL import Image, ImageDraw

from rlhf_control.data import Array
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.video import font

BACKENDS = ("egl", "osmesa", "glfw")  # ways of MuJoCo to OpenGL: the first two need no display
OFF = ("disable", "disabled", "off", "false", "0")  # what MuJoCo understands as "no OpenGL" in MUJOCO_GL
BACKGROUND = 24  # grey level around the clips of a video


# -- OpenGL


class NoGLError(UserError):
    """OpenGL does not work here."""


# Runs in a process of its own, because a broken driver may crash it and PyOpenGL is bound to the first platform it
# meets. Leaves without cleaning up: MuJoCo would free the context after its display.
PROBE = """
import os, mujoco
context = mujoco.GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_50)
os._exit(0)
"""


@functools.cache
def choose_gl() -> str:
    """The OpenGL backend that works here, by trying (about 0.5 s, once): "egl", "osmesa", "glfw", or "none".

    One that MUJOCO_GL names is taken untried. If it names none, it is set to the answer, so that Gymnasium's renderer
    and child processes follow.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in BACKENDS:
        return chosen
    if chosen in OFF:
        return "none"
    for backend in BACKENDS if has_display() else BACKENDS[:2]:
        command, environment = [sys.executable, "-P", "-c", PROBE], {**os.environ, "MUJOCO_GL": backend}
        try:
            probe = subprocess.run(command, env=environment, capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return backend
    return "none"


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextlib.contextmanager
def _gl_context(model: mujoco.MjModel) -> Iterator[mujoco.MjrContext]:
    """What `mjr_render` needs, in an OpenGL context that is current in this thread; freed afterwards."""
    backend = choose_gl()
    if backend == "none":
        off = os.environ.get("MUJOCO_GL")
        remedy = f"MUJOCO_GL={off} turns it off" if off else "try apt install libegl1 libgl1-mesa-dri"
        raise NoGLError(f"OpenGL does not work here; {remedy}")
    try:
        # Not mujoco.GLContext: that one was chosen when mujoco was imported, which is long ago.
        platform = importlib.import_module(f"mujoco.{backend}")
        window = platform.GLContext(model.vis.global_.offwidth, model.vis.global_.offheight)
        window.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    except Exception as error:  # each backend fails in its own ways
        raise NoGLError(f"MUJOCO_GL={backend} does not work here ({error}); unset it to try the others") from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    try:
        yield context
    finally:
        context.free()
        window.free()


# -- models


def mujoco_model(env_id: str, env_kwargs: Mapping[str, Any]) -> mujoco.MjModel:
    """The model of a Gymnasium MuJoCo environment; made once. Raises UserError if it has none."""
    return _mujoco_model(env_id, json.dumps(dict(env_kwargs), sort_keys=True))


@functools.cache
def _mujoco_model(env_id: str, env_kwargs: str) -> mujoco.MjModel:
    if ":" not in env_id and env_id not in gymnasium.registry:
        raise unknown_name("environment", env_id, gymnasium.registry)
    try:
        env = gymnasium.make(env_id, **json.loads(env_kwargs))
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise UserError(f"cannot make {env_id} with {env_kwargs}: {error}") from error
    model = getattr(env.unwrapped, "model", None)
    env.close()
    if not isinstance(model, mujoco.MjModel):
        raise UserError(f"{env_id} is not a MuJoCo environment, so its stored states cannot be drawn")
    return model


@dataclass(frozen=True)
class View:
    """How to look at a model that brings no camera of its own."""

    follows: bool  # the first body can leave, so the camera goes with it
    center: Array  # (3,) m, where to look otherwise
    radius: float  # m around there, which must be seen
    top: bool  # everything moves in the x-y plane, so it is looked at from above; else from the side


def _view(model: mujoco.MjModel) -> View:
    slides = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE
    hinges = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
    free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
    unbounded = free | (slides & (model.jnt_limited == 0))
    follows = bool((unbounded & (model.jnt_bodyid == 1)).any())

    data = mujoco.MjData(model)  # at the model's initial position
    _place(model, data, np.concatenate([model.qpos0, np.zeros(model.nv)]))
    upright = np.abs(data.xaxis[:, 2]) > 0.9
    top = bool((hinges & upright | slides & ~upright).all() and hinges.any())

    shown = _visible(model)
    if follows:
        shown = shown[model.body_rootid[model.geom_bodyid[shown]] == 1]
    if not len(shown):
        return View(follows, np.zeros(3), 1.0, top)
    places, sizes = data.geom_xpos[shown], model.geom_rbound[shown]
    center = data.subtree_com[1] if follows else (places.min(0) + places.max(0)) / 2
    radius = (np.linalg.norm(places - center, axis=1) + sizes).max()
    return View(follows, center.copy(), float(radius), top)


def _visible(model: mujoco.MjModel) -> Array:
    """Numbers of the geoms that MuJoCo shows by default (groups 0 to 2, not transparent), without planes."""
    plane = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    return np.flatnonzero(~plane & (model.geom_group < 3) & (model.geom_rgba[:, 3] > 0))


def _place(model: mujoco.MjModel, data: mujoco.MjData, state: Array) -> None:
    """Brings bodies, cameras and lights to where the state (D,) has them, without any dynamics."""
    data.qpos[:] = state[: model.nq]
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)  # where a tracking camera looks
    mujoco.mj_camlight(model, data)


def _check_states(model: mujoco.MjModel, states: Array) -> None:
    if states.ndim != 2 or states.shape[1] != model.nq + model.nv:
        raise UserError(
            f"the clip's states have shape {states.shape} where the model needs (T, {model.nq + model.nv}); "
            "it was recorded in another environment"
        )


# -- states to frames


def render(model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320) -> Array:
    """Frames (T, H, W, 3) of states (T, D): by OpenGL, or as a plain drawing on a machine without."""
    try:
        return render_mujoco(model, states, width=width, height=height)
    except NoGLError as error:
        _say_once(f"{error}. Until then clips are plain drawings.")
        return draw_flat(model, states, width=width, height=height)


@functools.cache
def _say_once(message: str) -> None:
    print(message, file=sys.stderr)


def render_mujoco(
    model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320, camera: str = "track"
) -> Array:
    """Frames (T, H, W, 3) of states (T, D), by OpenGL; 3 to 5 ms each on two CPU cores, after 0.2 s to begin
    with.

    Works in any thread. A model without that camera is seen from the side (or from above if it moves in the x-y
    plane), and followed where it can leave. Raises NoGLError.
    """
    _check_states(model, states)
    view = _view(model)
    model = _cheap(model, width, height)
    data = mujoco.MjData(model)
    scene, option, eye = mujoco.MjvScene(model, 10_000), mujoco.MjvOption(), mujoco.MjvCamera()
    scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    eye.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
    if eye.fixedcamid >= 0:
        eye.type = mujoco.mjtCamera.mjCAMERA_FIXED
        if model.cam_mode[eye.fixedcamid] == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM:
            # It stays where it is, and zooms until the body fills the picture.
            place, up = model.cam_poscom0[eye.fixedcamid], model.cam_mat0[eye.fixedcamid, 1::3]
            reach = 1.1 * (view.radius + abs(up @ place))
            model.cam_fovy[eye.fixedcamid] = 2 * math.degrees(math.atan(reach / np.linalg.norm(place)))
    else:
        eye.type = mujoco.mjtCamera.mjCAMERA_FREE
        eye.azimuth, eye.elevation = 90, -90 if view.top else -15  # degrees: x to the right
        eye.lookat[:] = view.center
        eye.distance = 1.1 * view.radius / math.tan(math.radians(model.vis.global_.fovy / 2))
    floors, period = _floors(model)
    rect = mujoco.MjrRect(0, 0, width, height)
    frames = np.empty((len(states), height, width, 3), np.uint8)
    upside_down = np.empty((height, width, 3), np.uint8)  # OpenGL counts rows from the bottom
    with _gl_context(model) as gl:
        for frame, state in zip(frames, states, strict=True):
            _place(model, data, state)
            if view.follows:
                eye.lookat[:] = data.subtree_com[1]
                # The floor comes along, in whole repeats of its texture so that nobody sees it: Gymnasium's ends
                # after 40 m, which a cheetah runs in 5 s.
                data.geom_xpos[floors, :2] += np.round(data.subtree_com[1, :2] / period) * period
            mujoco.mjv_updateCamera(model, data, eye, scene)  # or endless planes lie around the last frame's camera
            mujoco.mjv_updateScene(model, data, option, None, eye, mujoco.mjtCatBit.mjCAT_ALL, scene)
            mujoco.mjr_render(rect, scene, gl)
            mujoco.mjr_readPixels(upside_down, None, rect, gl)
            frame[:] = upside_down[::-1]
    return frames


def _cheap(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjModel:
    """A copy that a CPU draws ten times as fast: without multisampling and shadow map."""
    model = copy.copy(model)
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    return model


def _floors(model: mujoco.MjModel) -> tuple[Array, Array]:
    """Numbers (P,) of the level planes, and the lengths (P, 2) after which their textures repeat (m)."""
    level = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (np.abs(model.geom_quat[:, 1:3]) < 1e-6).all(1)
    floors = np.flatnonzero(level & (model.geom_bodyid == 0))
    period = np.ones((len(floors), 2))
    for i, geom in enumerate(floors):
        material, size = model.geom_matid[geom], 2 * model.geom_size[geom, :2]
        if material >= 0:
            uniform = model.mat_texuniform[material] or (size == 0).any()
            period[i] = (1 if uniform else size) / model.mat_texrepeat[material]
    return floors, period


# -- states to frames without OpenGL

SKY, FLOOR, TILE, INK = (226, 232, 238), (158, 166, 160), (132, 141, 135), (70, 78, 74)
CIRCLE = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 24, endpoint=False)), np.sin(a)], axis=1)  # (24, 2)


def draw_flat(model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320) -> Array:
    """Frames (T, H, W, 3) of states (T, D), drawn flat with Pillow from where the geoms are: from the side (x to the
    right, z up), or from above if everything moves in the x-y plane. The floor's tiles show the motion."""
    _check_states(model, states)
    view = _view(model)
    data = mujoco.MjData(model)
    axes = [0, 1] if view.top else [0, 2]  # what goes right and up
    toward_us, facing = (2, 1) if view.top else (1, -1)
    shapes = {geom: _surface(model, geom) for geom in _visible(model)}
    scale = 2 * min(width, height) / (2.7 * view.radius)  # pixels a metre; twice the size, halved at the end
    middle = np.array([width, height], float)
    frames = np.empty((len(states), height, width, 3), np.uint8)
    for frame, state in zip(frames, states, strict=True):
        _place(model, data, state)
        center = (data.subtree_com[1] if view.follows else view.center)[axes]
        image = Image.new("RGB", (2 * width, 2 * height), SKY)
        draw = ImageDraw.Draw(image)
        _draw_ground(draw, model, view.top, center, scale, middle)
        for geom in sorted(shapes, key=lambda g: facing * data.geom_xpos[g, toward_us]):  # far ones first
            points, swell = shapes[geom]
            flat = (points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])[:, axes]
            # The outline of a convex shape: its furthest point in each direction.
            outline = flat[np.argmax(flat @ CIRCLE.T, axis=0)] + swell * CIRCLE
            pixels = (outline - center) * (scale, -scale) + middle
            color = _color(model, geom)
            shade = tuple(c // 2 for c in color)
            draw.polygon(list(map(tuple, pixels)), fill=color, outline=shade, width=3)
        frame[:] = np.asarray(image.reduce(2))
    return frames


def _surface(model: mujoco.MjModel, geom: int) -> tuple[Array, float]:
    """Points (P, 3) of a geom in its own frame, and the radius by which they swell (m)."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.zeros((1, 3)), size[0]
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return np.array([[0, 0, -size[1]], [0, 0, size[1]]]), size[0]
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        rims = [np.pad(size[0] * CIRCLE, ((0, 0), (0, 1)), constant_values=z) for z in (-size[1], size[1])]
        return np.concatenate(rims), 0.0
    corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    return model.geom_aabb[geom, :3] + corners * model.geom_aabb[geom, 3:], 0.0  # a box; others as boxes


def _color(model: mujoco.MjModel, geom: int) -> tuple[int, ...]:
    rgba, material = model.geom_rgba[geom], model.geom_matid[geom]
    if material >= 0 and (rgba == 0.5).sum() == 3:  # MuJoCo's default, under which the material shows
        rgba = model.mat_rgba[material]
    return tuple(int(255 * c) for c in rgba[:3])


def _draw_ground(
    draw: ImageDraw.ImageDraw, model: mujoco.MjModel, top: bool, center: Array, scale: float, middle: Array
) -> None:
    """Tiles of a round size, numbered in metres; from the side only along the floor's edge."""
    reach = middle / scale  # (2,) m, from the middle to the picture's edges
    tile = _round_length(reach[0])
    first, last = (math.floor((center[0] + side * reach[0]) / tile) for side in (-1, 1))
    columns = range(first, last + 1)
    left = {i: (i * tile - center[0]) * scale + middle[0] for i in [*columns, last + 1]}
    if top:
        draw.rectangle([0, 0, *(2 * middle)], fill=FLOOR)
        lowest, highest = (math.floor((center[1] + side * reach[1]) / tile) for side in (-1, 1))
        rows = {j: (center[1] - j * tile) * scale + middle[1] for j in range(lowest, highest + 2)}
        for i in columns:
            for j in range(lowest, highest + 1):
                if (i + j) % 2:
                    draw.rectangle([left[i], rows[j + 1], left[i + 1], rows[j]], fill=TILE)
        return
    floors, _ = _floors(model)
    if not len(floors):
        return
    floor = model.geom_pos[floors, 2].min()
    edge = (center[1] - floor) * scale + middle[1]
    if edge >= 2 * middle[1]:
        return
    draw.rectangle([0, edge, *(2 * middle)], fill=FLOOR)
    thick = 0.12 * middle[1]
    for i in columns:
        if i % 2:
            draw.rectangle([left[i], edge, left[i + 1], edge + thick], fill=TILE)
        draw.text((left[i], edge + thick), f"{i * tile:g} m", fill=INK, font=font(20), anchor="ma")
    draw.line([0, edge, 2 * middle[0], edge], fill=INK, width=4)


def _round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... (times any power of ten) that is no longer than `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length)
