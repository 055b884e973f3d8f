"""Draws MuJoCo states by OpenGL, cheaply: without shadows, reflections and multisampling."""

import copy
from contextlib import ExitStack

import mujoco
import numpy as np

from rlhf_control.compute.gl import NoGLError, gl_context
from rlhf_control.data import Array
from rlhf_control.rendering.cameras import (
    TRACK,
    aim,
    check_states,
    level_planes,
    more_than_motion,
    place,
    placement_of,
    placement_over,
)
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.runs.progress import say_once
from rlhf_control.simulation.mujoco_states import defaults


def render(model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320) -> Array:
    """Draws frames (T, H, W, 3) of states (T, D): by OpenGL, or as a plain drawing on a machine without."""
    try:
        return render_mujoco(model, states, width=width, height=height)
    except NoGLError as error:
        say_once(without_gl(error))
        return draw_flat(model, states, width=width, height=height)


def without_gl(error: NoGLError) -> str:
    return f"{error}. Until then clips are plain drawings."


def render_mujoco(
    model: mujoco.MjModel, states: Array, *, width: int = 320, height: int = 320, camera: str = TRACK
) -> Array:
    """Draws frames (T, H, W, 3) of states (T, D), by OpenGL; 3 to 5 ms each on two CPU cores, after 0.2 s to begin
    with.

    Works in any thread. A model without that camera is seen from the side (or from above if it moves in the x-y
    plane), and followed where it can leave. Raises NoGLError.
    """
    check_states(model, states)
    with Studio(model, width, height) as studio:
        return studio.draw(states, camera)


class Studio:
    """Keeps an OpenGL context, with a scene, for one model and size. It takes 0.2 s to set up and then draws any number
    of clips. Belongs to the thread that made it. Raises NoGLError."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.placement = placement_of(model)
        self.model = _cheap(model, width, height)
        self.data, self.scene = mujoco.MjData(self.model), mujoco.MjvScene(self.model, 10_000)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.option = mujoco.MjvOption()
        self._origin: dict[str, Array] = {}  # of the model, once a clip changes more than positions
        self._stack = ExitStack()
        self._gl, self._make_current = self._stack.enter_context(gl_context(self.model))

    def draw(self, states: Array, camera: str = TRACK) -> Array:
        """Draws frames (T, H, W, 3) of states (T, D), seen by a camera of `cameras`."""
        model, data, scene = self.model, self.data, self.scene
        check_states(model, states)
        if not self._origin and more_than_motion(model, states):
            self._origin = defaults(model)
        self._make_current()
        eye = mujoco.MjvCamera()
        aim(eye, model, placement_over(model, data, self.placement, states, self._origin), camera)
        floors, period = level_planes(model)
        rect = mujoco.MjrRect(0, 0, self.width, self.height)
        frames = np.empty((len(states), self.height, self.width, 3), np.uint8)
        upside_down = np.empty((self.height, self.width, 3), np.uint8)  # OpenGL counts rows from the bottom
        for frame, state in zip(frames, states, strict=True):
            place(model, data, state, self._origin)
            if self.placement.follows:
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
    """Returns a copy that a CPU draws ten times as fast: without multisampling and shadow map."""
    model = copy.copy(model)
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    return model
