"""A small MuJoCo environment that changes more than positions and velocities."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box

XML = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <geom name="floor" type="plane" size="2 2 .1" rgba=".8 .8 .8 1"/>
    <body name="goal" mocap="true">
      <geom name="goal" type="sphere" size=".15" rgba="1 0 0 1" contype="0" conaffinity="0"/>
    </body>
    <site name="mark" type="sphere" size=".12" rgba="0 0 1 1" pos="0 0 .12"/>
    <body name="car" pos="0 0 .1">
      <joint name="x" type="slide" axis="1 0 0" damping="1"/><joint name="y" type="slide" axis="0 1 0" damping="1"/>
      <geom type="box" size=".1 .1 .1" rgba="0 1 0 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="x"/><motor joint="y"/></actuator>
</mujoco>
"""


class Goal(gymnasium.Env):
    """Drive to the goal. `hide`: where it lies an attribute alone knows; `secret`: one that is no number.
    `own_picture`: `render` alone draws it."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, render_mode: str | None = None, hide: bool = False, own_picture: bool = False, secret: bool = False
    ) -> None:
        self.model = mujoco.MjModel.from_xml_string(XML)
        self.data = mujoco.MjData(self.model)
        self.frame_skip, self.render_mode, self.hide, self.own_picture = 10, render_mode, hide, own_picture
        self.secret: Any = [np.zeros(2)] if secret else None
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (6,)), Box(-1, 1, (2,))
        self.hidden = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.hidden = self.np_random.uniform(-1, 1, 2)
        if self.secret:
            self.secret[0] = self.hidden.copy()
        if not self.hide:
            self.data.mocap_pos[0, :2] = self.hidden
            self.model.site_pos[0, :2] = self.np_random.uniform(-1, 1, 2)
            self.model.geom_rgba[1, :3] = self.np_random.uniform(0, 1, 3)
        mujoco.mj_forward(self.model, self.data)
        return self._get_obs(), {}

    def step(self, action: Any) -> Any:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, self.frame_skip)
        if not self.hide and self.data.time > 0.25:
            self.model.site_rgba[0, :3] = 1, 1, 0  # in a step, for the first time
        return self._get_obs(), -float(np.abs(self._goal() - self.data.qpos).sum()), False, False, {}

    def render(self) -> Any:
        picture = np.zeros((64, 64, 3), np.uint8)
        if self.own_picture:
            x, y = (32 + 20 * self.hidden).astype(int)
            picture[y - 3 : y + 3, x - 3 : x + 3] = 255
        return picture

    def _goal(self) -> Any:
        if self.secret:
            return self.secret[0]
        return self.hidden if self.hide else self.data.mocap_pos[0, :2]

    def _get_obs(self) -> Any:
        return np.concatenate([self.data.qpos, self.data.qvel, self._goal()]).astype(np.float32)


gymnasium.register("Goal-v0", Goal, max_episode_steps=20, disable_env_checker=True)
