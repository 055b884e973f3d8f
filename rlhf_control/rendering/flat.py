"""Clips as plain drawings, for machines without OpenGL.

T time, D state as in `mujoco_states`, H height, W width. Frames are (T, H, W, 3) uint8.
"""

import copy
import math
from dataclasses import dataclass

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from rlhf_control.data import Array
from rlhf_control.rendering.cameras import (
    FRONT,
    SIDE,
    TOP,
    check_states,
    level_planes,
    more_than_motion,
    place,
    placement_of,
    placement_over,
    visible,
    visible_sites,
)
from rlhf_control.rendering.video import font
from rlhf_control.simulation.mujoco_states import defaults

# What goes right and up, what comes towards us, and whether more of it is nearer
AXES = {SIDE: ([0, 2], 1, -1), FRONT: ([1, 2], 0, 1), TOP: ([0, 1], 2, 1)}
SKY, FLOOR, TILE, INK = (226, 232, 238), (158, 166, 160), (132, 141, 135), (70, 78, 74)
CIRCLE = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 24, endpoint=False)), np.sin(a)], axis=1)  # (24, 2)


def draw_flat(model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320, camera: str = "") -> Array:
    """Draws frames (T, H, W, 3) of states (T, D), flat, with Pillow, from where geoms and sites are: from the side
    (x to the right, z up), the front or the top, as the camera's name says; a model's own cameras cannot be had. The
    floor's tiles show the motion."""
    check_states(model, states)
    placement = placement_of(model)
    more = more_than_motion(model, states)
    model, origin = (copy.copy(model), defaults(model)) if more else (model, {})
    data = mujoco.MjData(model)
    placement = placement_over(model, data, placement, states, origin)
    camera = camera if camera in AXES else TOP if placement.top else SIDE
    axes, toward_us, facing = AXES[camera]
    shapes = _shapes(model, data)
    scale = 2 * min(width, height) / (2.7 * placement.radius)  # pixels a metre; twice the size, halved at the end
    middle = np.array([width, height], float)
    frames = np.empty((len(states), height, width, 3), np.uint8)
    for frame, state in zip(frames, states, strict=True):
        place(model, data, state, origin)
        if more:
            shapes = _shapes(model, data)
        center = (data.subtree_com[1] if placement.follows else placement.center)[axes]
        image = Image.new("RGB", (2 * width, 2 * height), SKY)
        draw = ImageDraw.Draw(image)
        _draw_ground(draw, model, camera == TOP, center, scale, middle)
        for shape in sorted(shapes, key=lambda s: facing * s.place[toward_us]):  # far ones first
            flat = (shape.points @ shape.turn.reshape(3, 3).T + shape.place)[:, axes]
            # The outline of a convex shape: its furthest point in each direction.
            outline = flat[np.argmax(flat @ CIRCLE.T, axis=0)] + shape.swell * CIRCLE
            pixels = (outline - center) * (scale, -scale) + middle
            shade = tuple(c // 2 for c in shape.color)
            draw.polygon(list(map(tuple, pixels)), fill=shape.color, outline=shade, width=3)
        frame[:] = np.asarray(image.reduce(2))
    return frames


@dataclass(frozen=True)
class Shape:
    """Describes a geom or a site."""

    points: Array  # (P, 3) in its own frame
    swell: float  # m, the radius by which they swell
    color: tuple[int, ...]
    place: Array  # (3,) and `turn` (9,): the simulator's memory, so where it is now
    turn: Array


def _shapes(model: mujoco.MjModel, data: mujoco.MjData) -> list[Shape]:
    geoms = [
        Shape(
            *_surface(model.geom_type[i], model.geom_size[i], model.geom_aabb[i]),
            _color(model, model.geom_rgba[i], model.geom_matid[i]), data.geom_xpos[i], data.geom_xmat[i],
        )
        for i in visible(model)
    ]  # fmt: skip
    sites = [
        Shape(
            *_surface(model.site_type[i], model.site_size[i], np.concatenate([np.zeros(3), model.site_size[i]])),
            _color(model, model.site_rgba[i], model.site_matid[i]), data.site_xpos[i], data.site_xmat[i],
        )
        for i in visible_sites(model)
    ]  # fmt: skip
    return geoms + sites


def _surface(kind: int, size: Array, aabb: Array) -> tuple[Array, float]:
    """Points (P, 3) of a geom or a site in its own frame, and the radius by which they swell (m)."""
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.zeros((1, 3)), size[0]
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return np.array([[0, 0, -size[1]], [0, 0, size[1]]]), size[0]
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        rims = [np.pad(size[0] * CIRCLE, ((0, 0), (0, 1)), constant_values=z) for z in (-size[1], size[1])]
        return np.concatenate(rims), 0.0
    corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    return aabb[:3] + corners * aabb[3:], 0.0  # a box; others as boxes


def _color(model: mujoco.MjModel, rgba: Array, material: int) -> tuple[int, ...]:
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
    """Returns the largest of 1, 2, 5, 10, ... (times any power of ten) that is no longer than `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length)
