"""Clips: stored simulator states -> frames.

A clip is kept as its states, some 150 bytes a step, and drawn when somebody asks to see it. Two drawings of the same
states are byte-identical. Only environments without such states have their pictures recorded.

T time, D state as in `mujoco_states`, H height, W width. Frames are (T, H, W, 3) uint8.
"""

import copy
import functools
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import gymnasium
import mujoco
import numpy as np

from rlhf_control.data import Array, Segments
from rlhf_control.drawings import draw_flat
from rlhf_control.errors import UserError
from rlhf_control.foreign import make_env
from rlhf_control.gl import NoGLError, choose_gl, gl_context, has_display
from rlhf_control.mujoco_states import defaults
from rlhf_control.pictures import decode, fit, rendered, stride
from rlhf_control.progress import say_once
from rlhf_control.states import is_classic, put_classic, step_seconds
from rlhf_control.views import (
    TRACK,
    aim,
    camera_names,
    check_states,
    level_planes,
    more_than_motion,
    mujoco_model,
    place,
    view_of,
    view_over,
)

__all__ = [
    "NoGLError", "Painter", "Studio", "cameras", "choose_gl", "draw_flat", "has_display", "mujoco_model", "render",
    "render_mujoco",
]  # fmt: skip

MAX_FPS = 50  # of what is drawn for a viewer: Hopper lives at 125 steps a second; nobody sees that many


# -- states to frames


def render(model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320) -> Array:
    """Frames (T, H, W, 3) of states (T, D): by OpenGL, or as a plain drawing on a machine without."""
    try:
        return render_mujoco(model, states, width=width, height=height)
    except NoGLError as error:
        say_once(_without_gl(error))
        return draw_flat(model, states, width=width, height=height)


def _without_gl(error: NoGLError) -> str:
    return f"{error}. Until then clips are plain drawings."


def render_mujoco(
    model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320, camera: str = TRACK
) -> Array:
    """Frames (T, H, W, 3) of states (T, D), by OpenGL; 3 to 5 ms each on two CPU cores, after 0.2 s to begin
    with.

    Works in any thread. A model without that camera is seen from the side (or from above if it moves in the x-y
    plane), and followed where it can leave. Raises NoGLError.
    """
    check_states(model, states)
    with Studio(model, width, height) as studio:
        return studio.draw(states, camera)


class Studio:
    """An OpenGL context, with a scene, for one model and size. It takes 0.2 s to set up and then draws any number of
    clips. Belongs to the thread that made it. Raises NoGLError."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.view = view_of(model)
        self.model = _cheap(model, width, height)
        self.data, self.scene = mujoco.MjData(self.model), mujoco.MjvScene(self.model, 10_000)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.option = mujoco.MjvOption()
        self._origin: dict[str, Array] = {}  # of the model, once a clip changes more than positions
        self._stack = ExitStack()
        self._gl, self._make_current = self._stack.enter_context(gl_context(self.model))

    def draw(self, states: Array, camera: str = TRACK) -> Array:
        """Frames (T, H, W, 3) of states (T, D), seen by a camera of `cameras`."""
        model, data, scene = self.model, self.data, self.scene
        check_states(model, states)
        if not self._origin and more_than_motion(model, states):
            self._origin = defaults(model)
        self._make_current()
        eye = mujoco.MjvCamera()
        aim(eye, model, view_over(model, data, self.view, states, self._origin), camera)
        floors, period = level_planes(model)
        rect = mujoco.MjrRect(0, 0, self.width, self.height)
        frames = np.empty((len(states), self.height, self.width, 3), np.uint8)
        upside_down = np.empty((self.height, self.width, 3), np.uint8)  # OpenGL counts rows from the bottom
        for frame, state in zip(frames, states, strict=True):
            place(model, data, state, self._origin)
            if self.view.follows:
                eye.lookat[:] = data.subtree_com[1]
                # The floor comes along, in whole repeats of its texture so that nobody sees it: Gymnasium's ends
                # after 40 m, which a cheetah runs in 5 s.
                data.geom_xpos[floors, :2] += np.round(data.subtree_com[1, :2] / period) * period
            mujoco.mjv_updateCamera(model, data, eye, scene)  # or endless planes lie around the last frame's camera
            mujoco.mjv_updateScene(model, data, self.option, None, eye, mujoco.mjtCatBit.mjCAT_ALL, scene)
            mujoco.mjr_render(rect, scene, self._gl)
            mujoco.mjr_readPixels(upside_down, None, rect, self._gl)
            frame[:] = upside_down[::-1]
        return frames

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> "Studio":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _cheap(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjModel:
    """A copy that a CPU draws ten times as fast: without multisampling and shadow map."""
    model = copy.copy(model)
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    return model


# -- clips of any environment


class Painter:
    """Draws the clips of one environment, each from what it was stored with. What takes long to set up is kept, so one
    painter draws many clips; it belongs to one thread."""

    def __init__(self, env_id: str, env: Mapping[str, Any]) -> None:
        self.env_id, self.env = env_id, env
        self.notice = ""  # why clips are plain drawings, where they are
        self._studio: Studio | None = None

    def draw(self, clip: Segments, width: int, height: int, camera: int = 0) -> Array:
        """Frames (T, H, W, 3) of a clip (L, ...), which lie evenly over it, seen by that one of `cameras` (modulo their
        number). MuJoCo fills width and height; others are as large as they can be in their own proportions. Raises
        UserError for a clip that cannot be drawn."""
        if clip.frames is not None:
            return np.stack([fit(picture, width, height) for picture in decode(clip.frames)])
        if clip.state is None:
            raise UserError(
                f"this clip of {self.env_id} has neither simulator states nor pictures; it was collected for an "
                "oracle that needs none"
            )
        states = clip.state[:: self._stride]
        if isinstance(self._model, mujoco.MjModel):
            return self._draw_mujoco(self._model, states, width, height, camera)
        return self._draw_classic(self._model, states, width, height)

    @functools.cached_property
    def cameras(self) -> list[str]:
        model = getattr(self._made.unwrapped, "model", None)
        return camera_names(model) if isinstance(model, mujoco.MjModel) else ["picture"]

    @functools.cached_property
    def _stride(self) -> int:
        """Every how many steps to draw one."""
        return stride(step_seconds(self._made), MAX_FPS)

    @functools.cached_property
    def _made(self) -> gymnasium.Env:
        return make_env(self.env_id, self.env)

    @functools.cached_property
    def _model(self) -> mujoco.MjModel | gymnasium.Env:
        """The model, or an environment of classic control that draws itself."""
        model = getattr(self._made.unwrapped, "model", None)
        if isinstance(model, mujoco.MjModel):
            return model
        env = make_env(self.env_id, {**self.env, "render_mode": "rgb_array"})
        env.reset(seed=0)
        if not is_classic(env):
            raise UserError(f"the states of {self.env_id} cannot be drawn: it is no MuJoCo environment")
        return env

    def _draw_mujoco(self, model: mujoco.MjModel, states: Array, width: int, height: int, camera: int) -> Array:
        name = self.cameras[camera % len(self.cameras)]
        if not self.notice:
            try:
                if self._studio is None or (self._studio.width, self._studio.height) != (width, height):
                    self.close()
                    self._studio = Studio(model, width, height)
                return self._studio.draw(states, name)
            except NoGLError as error:
                self.notice = _without_gl(error)
        return draw_flat(model, states, width=width, height=height, camera=name)

    def _draw_classic(self, env: gymnasium.Env, states: Array, width: int, height: int) -> Array:
        pictures = []
        for state in states:
            put_classic(env, state)
            pictures.append(fit(rendered(env, self.env_id), width, height))
        return np.stack(pictures)

    def close(self) -> None:
        if self._studio is not None:
            self._studio.close()
            self._studio = None


def cameras(env_id: str, env: Mapping[str, Any]) -> list[str]:
    """Names of the views of an environment, the default first. Raises UserError for an unknown environment."""
    made = make_env(env_id, env)
    model = getattr(made.unwrapped, "model", None)
    made.close()
    return camera_names(model) if isinstance(model, mujoco.MjModel) else ["picture"]
