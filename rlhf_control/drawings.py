"""Clips as plain drawings, for machines without OpenGL.

T time, D state [qpos, qvel], H height, W width. Frames are (T, H, W, 3) uint8.
"""

import math

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from rlhf_control.data import Array
from rlhf_control.video import font
from rlhf_control.views import FRONT, SIDE, TOP, check_states, level_planes, place, view_of, visible

# What goes right and up, what comes towards us, and whether more of it is nearer
AXES = {SIDE: ([0, 2], 1, -1), FRONT: ([1, 2], 0, 1), TOP: ([0, 1], 2, 1)}
SKY, FLOOR, TILE, INK = (226, 232, 238), (158, 166, 160), (132, 141, 135), (70, 78, 74)
CIRCLE = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 24, endpoint=False)), np.sin(a)], axis=1)  # (24, 2)


def draw_flat(model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320, camera: str = "") -> Array:
    """Frames (T, H, W, 3) of states (T, D), drawn flat with Pillow from where the geoms are: from the side (x to the
    right, z up), the front or the top, as the camera's name says; a model's own cameras cannot be had. The floor's
    tiles show the motion."""
    check_states(model, states)
    view = view_of(model)
    data = mujoco.MjData(model)
    camera = camera if camera in AXES else TOP if view.top else SIDE
    axes, toward_us, facing = AXES[camera]
    shapes = {geom: _surface(model, geom) for geom in visible(model)}
    scale = 2 * min(width, height) / (2.7 * view.radius)  # pixels a metre; twice the size, halved at the end
    middle = np.array([width, height], float)
    frames = np.empty((len(states), height, width, 3), np.uint8)
    for frame, state in zip(frames, states, strict=True):
        place(model, data, state)
        center = (data.subtree_com[1] if view.follows else view.center)[axes]
        image = Image.new("RGB", (2 * width, 2 * height), SKY)
        draw = ImageDraw.Draw(image)
        _draw_ground(draw, model, camera == TOP, center, scale, middle)
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
    floors, _ = level_planes(model)
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
