"""The arm as one Gymnasium environment, that draws itself; its tasks' docstrings are the manuals."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from envs.arm.arm import Arm
from envs.mujoco.simulation import Single


class ArmEnv(MujocoEnv):
    """Simulates one arm. For the same seed and actions the same bits as that place of a `MujocoVectorEnv`."""

    task_class: ClassVar[type[Arm]]
    metadata: dict[str, Any] = {  # noqa: RUF012 an instance has its own
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 20,
    }  # fmt: skip

    def __init__(
        self, render_mode: str | None = None, width: int = 480, height: int = 480, camera_id: int | None = None,
        camera_name: str | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """Make it; `options` are the fields of its task."""
        self.task = self.task_class(**options)
        camera_name = "track" if camera_id is None and camera_name is None else camera_name
        self.metadata = {key: value for key, value in self.metadata.items() if key != "render_fps"}
        super().__init__(
            self.task.xml_file, self.task.frame_skip, None, render_mode=render_mode, width=width, height=height,
            camera_id=camera_id, camera_name=camera_name,
        )  # fmt: skip
        self.metadata["render_fps"] = round(1 / self.dt)
        self.task.prepare(self.model)
        self.action_space = Box(*self.task.action_bounds(self.model), dtype=np.float32)
        self._sim = Single(self.model, self.data, self.task.frame_skip, self.task.derived_fields)
        self.observation_space = Box(-np.inf, np.inf, self._get_obs().shape, np.float64)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Return the names of the numbers of an action, for whoever drives it by hand."""
        return self.task.action_names

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        actions = np.asarray(action)[None]
        self._sim.step(self.task.controls(actions))
        reward, terminated, terms = self.task.outcome(self._sim, np.empty((1, 0)), actions)
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), reward[0], bool(terminated[0]), False, _first(terms)

    def reset_model(self) -> np.ndarray:
        self.set_state(*self.task.start(self._sim, self.np_random))
        return self._get_obs()

    def _get_obs(self) -> np.ndarray:
        return self.task.observation(self._sim)[0]

    def _get_reset_info(self) -> dict[str, Any]:
        return _first(self.task.state_info(self._sim))


def _first(terms: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: values[0].item() for name, values in terms.items()}
