"""The plain drawings, of the real simulator's states."""

import numpy as np

from rlhf_control.rendering.cameras import placement_of
from rlhf_control.rendering.flat import INK, SKY, TILE, draw_flat
from rlhf_control.simulation.make import mujoco_model


def test_the_flat_drawing_follows_the_body_and_the_floor_passes():
    model = mujoco_model("HalfCheetah-v5", {})
    shifted = np.zeros((2, 18))
    shifted[1, 0] += 0.2  # m
    first, second = draw_flat(model, shifted, width=300, height=200).astype(int)
    assert first.shape == (200, 300, 3)
    rows = np.flatnonzero((first != second).any((1, 2)))
    floor = np.flatnonzero((first == INK).all(-1).mean(1) > 0.9)
    assert len(rows) and rows.min() >= floor.min(), "only the floor moves"

    # A tile's edge, a place in the world, moves to the left by 0.2 m.
    scale = 200 / (2.7 * placement_of(model).radius)  # pixels a metre
    row = floor.max() + 4
    edges = [np.flatnonzero((frame[row] == TILE).all(-1)) for frame in (first, second)]
    ends = [{int(i) for i in edge if i + 1 not in edge and i < 299} for edge in edges]
    expected = min(ends[0]) - 0.2 * scale
    assert min(abs(end - expected) for end in ends[1]) <= 2


def test_the_flat_drawing_shows_the_body_the_right_way_round():
    model = mujoco_model("HalfCheetah-v5", {})
    state = np.zeros((1, 18))
    frame = draw_flat(model, state)[0].astype(int)
    floor = np.flatnonzero((frame == INK).all(-1).mean(1) > 0.9).min()
    body = (np.abs(frame[:floor] - (204, 153, 102)).max(-1) < 8) | (np.abs(frame[:floor] - (229, 153, 153)).max(-1) < 8)
    rows, columns = np.nonzero(body)
    assert columns[rows.argmin()] > columns.mean(), "the head is in front, to the right"
    assert rows.max() > floor - 30, "it stands on the floor"


def test_the_views_show_what_moves_in_them():
    """A hopper's joints turn in the x-z plane: seen from the front, a bent knee only makes it shorter."""
    model = mujoco_model("Hopper-v5", {})
    states = np.zeros((2, 12))
    states[:, 1] = 1.25  # m, upright
    states[1, 4] = -0.8  # rad, the knee
    turned = {camera: draw_flat(model, states, camera=camera).astype(int) for camera in ("side", "front", "top", "")}
    assert np.array_equal(turned["side"], turned[""]) and not np.array_equal(turned["side"], turned["front"])
    width = {}
    for camera, frames in turned.items():
        body = (frames[1] != SKY).any(-1)
        floor = np.flatnonzero((frames[1] == INK).all(-1).mean(1) > 0.9)
        width[camera] = body[: floor.min() - 2].any(0).sum() if len(floor) else None
    assert width["front"] < 0.5 * width["side"] and width["top"] is None
