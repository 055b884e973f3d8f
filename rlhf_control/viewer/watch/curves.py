"""The curves below the clips: what the reward model, or the environment, gives for each step.

L steps of a clip.
"""

from collections.abc import Sequence

import numpy as np

from rlhf_control.data import Array
from rlhf_control.viewer.kit.canvas import (
    LINE,
    MUTED,
    PANEL,
    TEXT,
    Canvas,
    Color,
    Rect,
)

ENV_REWARD: Color = (150, 150, 158)


def span(curves: Sequence[Array | None]) -> tuple[float, float]:
    """Returns the lowest and highest value of all curves, which share one scale; never both the same."""
    values = [curve for curve in curves if curve is not None and len(curve)]
    if not values:
        return -1.0, 1.0
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def scaled(curve: Array, low: float, high: float) -> Array:
    """Scales values (L,) to between 0, lowest, and 1."""
    return (np.asarray(curve, float) - low) / (high - low)


def inner(canvas: Canvas, place: Rect) -> Rect:
    """Returns where in its strip a curve is drawn: below the numbers."""
    x, y, width, height = place
    return x, y + canvas.px(28), width, height - canvas.px(36)


def draw_curve(canvas: Canvas, place: Rect, heights: Array, color: Color, thick: float) -> None:
    """Draws a line through the heights (L,), each in the middle of its step."""
    x, y, width, height = inner(canvas, place)
    if len(heights) == 1:
        canvas.disc((x + width / 2, y + height * (1 - heights[0])), 3, color)
        return
    at = x + (np.arange(len(heights)) + 0.5) * width / len(heights)
    points = np.stack([at, y + height * (1 - heights)], 1)  # (L, 2)
    along = np.diff(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1, keepdims=True)
    across *= max(0.5, thick * canvas.unit / 2)
    for a, b, n in zip(points[:-1], points[1:], across, strict=True):
        canvas.polygon([tuple(a + n), tuple(b + n), tuple(b - n), tuple(a - n)], color)


def draw_zero(canvas: Canvas, place: Rect, low: float, high: float) -> None:
    """Marks where the reward is 0: what the policy gets on the mean."""
    if low < 0 < high:
        x, y, width, height = inner(canvas, place)
        canvas.box((x, y + height * high / (high - low), width, 1), LINE)


def draw_values(canvas: Canvas, place: Rect, curve: Array | None, env_reward: Array | None, share: float) -> None:
    """Draws the means above the curves, and the prediction at the cursor, as far as there is room."""
    x, y, width, _ = place
    line, gap, wide = y + canvas.px(15), canvas.px(12), width > canvas.px(250)
    parts: list[tuple[str, Color]] = []
    if curve is not None:
        parts.append((f"predicted {curve.mean():+.2f}" if wide else f"{curve.mean():+.2f}", TEXT))
    if env_reward is not None:
        parts.append((f"{'environment' if wide else 'env'} {env_reward.mean():+.2f}", ENV_REWARD))
    if curve is not None and (wide or len(parts) == 1):
        parts.append((f"now {at_cursor(curve, share):+.2f}", MUTED))
    left, right = x + gap, x + width - gap
    for i, (part, ink) in enumerate(parts):
        bold = ink is TEXT
        part_width = canvas.measure(part, 14, bold=bold)[0]
        if left + part_width <= right:
            at = right - part_width if i and i == len(parts) - 1 else left
            canvas.text(part, (at, line), 14, ink, bold=bold, middle=True)
            left += part_width + gap


def draw_cursor(canvas: Canvas, place: Rect, share: float, now: float | None, scale: tuple[float, float]) -> None:
    """Marks where the clip is, and on the curve how much the model gives for that."""
    x, y, width, height = place
    thick = max(1, canvas.px(1.5))
    at = x + min(share * width, width - thick)
    canvas.box((at, y + canvas.px(28), thick, height - canvas.px(32)), MUTED)
    if now is not None:
        _, top, _, tall = inner(canvas, place)
        level = top + tall * (1 - (now - scale[0]) / (scale[1] - scale[0]))
        canvas.disc((at + thick / 2, level), 6, PANEL)
        canvas.disc((at + thick / 2, level), 4.5, TEXT)


def at_cursor(curve: Array, share: float) -> float:
    """Returns a curve's (L,) value at this share of the clip, between the middles of two steps."""
    return float(np.interp(share * len(curve) - 0.5, np.arange(len(curve)), curve))
