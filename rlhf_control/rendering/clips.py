"""Clips: stored simulator states -> frames.

A clip is kept as its states, some 150 bytes a step, and drawn when somebody asks to see it. Two drawings of the same
states are byte-identical. Only environments without such states have their pictures recorded.

T time, D state as in `mujoco_states`, H height, W width. Frames are (T, H, W, 3) uint8.
"""

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from rlhf_control.compute.gl import NoGLError, choose_gl, has_display
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from rlhf_control.rendering.cameras import camera_names
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.rendering.mujoco_renderer import Studio, render, render_mujoco, without_gl
from rlhf_control.rendering.text import draw_text, is_dialogue
from rlhf_control.simulation.atari.ids import is_atari
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.make import mujoco_model
from rlhf_control.simulation.pictures import decode, fit, observed_picture, rendered, stride
from rlhf_control.simulation.simulator import Simulator
from rlhf_control.simulation.states import is_classic, is_game, step_seconds
from rlhf_control.spaces import Part, Spaces, packing

__all__ = [
    "ClipRenderer",
    "NoGLError",
    "Studio",
    "cameras",
    "choose_gl",
    "draw_flat",
    "has_display",
    "mujoco_model",
    "render",
    "render_mujoco",
]  # fmt: skip

MAX_FPS = 50  # of what is drawn for a viewer: Hopper lives at 125 steps a second; nobody sees that many


# -- clips of any environment


class ClipRenderer:
    """Draws the clips of one environment, each from what it was stored with. What takes long to set up is kept, so one
    renderer draws many clips; it belongs to one thread."""

    def __init__(self, env_id: str, env: Mapping[str, Any]) -> None:
        self.env_id, self.env = env_id, env
        self.notice = ""  # why clips are plain drawings, where they are
        self._studio: Studio | None = None

    def draw(self, clip: Segments, width: int, height: int, camera: int = 0) -> Array:
        """Draws the frames (T, H, W, 3) of a clip (L, ...), which lie evenly over it, seen by that one of `cameras`
        (modulo their number). MuJoCo fills width and height; others are as large as they can be in their own
        proportions. Raises UserError for a clip that cannot be drawn."""
        clip = clip.present()
        if is_dialogue(self.env_id):
            return draw_text(clip, width, height)
        if clip.frames is not None:
            return np.stack([fit(picture, width, height) for picture in decode(clip.frames)])
        nothing_to_draw = clip.state is None or is_atari(self.env_id)  # whose states are for oracles
        if nothing_to_draw and self._seen is not None:  # and no pictures for people were recorded
            return np.stack([fit(observed_picture(self._seen.read(obs)), width, height) for obs in clip.obs])
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
    def _seen(self) -> Part | None:
        """Returns the picture that the environment observes, if it does one."""
        parts = Spaces.of(packing(self._made.observation_space)[0], self._made.action_space).parts
        return next((part for part in parts if part.picture), None)

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
        """Returns the model, or an environment of classic control, or a game, that draws itself."""
        model = getattr(self._made.unwrapped, "model", None)
        if isinstance(model, mujoco.MjModel):
            return model
        env = make_env(self.env_id, {**self.env, "render_mode": "rgb_array"})
        env.reset(seed=0)
        if not (is_classic(env) or is_game(env)):
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
                self.notice = without_gl(error)
        return draw_flat(model, states, width=width, height=height, camera=name)

    def _draw_classic(self, env: gymnasium.Env, states: Array, width: int, height: int) -> Array:
        pictures = []
        simulator = Simulator(self.env_id, env)
        for state in states:
            simulator.put(state)
            pictures.append(fit(rendered(env, self.env_id), width, height))
        return np.stack(pictures)

    def close(self) -> None:
        if self._studio is not None:
            self._studio.close()
            self._studio = None


def cameras(env_id: str, env: Mapping[str, Any]) -> list[str]:
    """Names the cameras of an environment, the default first. Raises UserError for an unknown environment."""
    made = make_env(env_id, env)
    model = getattr(made.unwrapped, "model", None)
    made.close()
    return camera_names(model) if isinstance(model, mujoco.MjModel) else ["picture"]
