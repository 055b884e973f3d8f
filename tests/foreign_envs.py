"""An environment of somebody else, who does one thing at a time that Gymnasium does not forbid, or does: `Rude-v0`."""

import random
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

ODD_INFOS: tuple[Any, ...] = (
    {"reached": None}, {"reached": 3}, {"reached": [1, 2]}, {"reached": {"deep": None}}, {"reached": {"a": {"b": 1}}},
    {"a": np.zeros(2)}, {"a": np.zeros((3, 1))}, {"a": "text"}, {"a": object()}, {"_a": 1, "a": 2}, {"_a": {"x": 1}},
    {5: 1, None: 2, (1, 2): 3}, {"final_obs": 1, "final_info": 2, "episode": {"r": "no"}}, {},
)  # fmt: skip
OBSERVATIONS = {
    "list": Box(-9, 99, (2,)), "tuple": Box(-9, 99, (2,)), "reused": Box(-9, 99, (2,)),
    "float64": Box(-9, 1e9, (2,), np.float64),
    "dict of lists": Dict({"a": Box(-9, 99, (2,)), "b": Tuple([Discrete(3), MultiBinary(2), MultiDiscrete([3, 2])])}),
    "whole floats": Box(0, 99, (2,), np.int64), "integers": Box(0, 255, (2,), np.uint8),
}  # fmt: skip
GENERATORS = {"RandomState": np.random.RandomState, "Generator": np.random.default_rng, "random": random.Random}


class Rude(gymnasium.Env):
    """Observes [episode, step]; the reward is 1; it is cut off after `length` steps. `alternating`: observes 0 instead
    of the episode in every other one, and is worth 0 there.

    at: the reset (0) or step of the second episode at which `fault` happens.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    closed = 0

    def __init__(
        self, obs: str = "list", action: str = "box", fault: str = "", at: int = 2, length: int = 5,
        generator: str = "Generator", render_mode: str | None = None, seed: Any = None, num_envs: Any = None,
        backend: Any = None, env_id: Any = None, alternating: bool = False, large: float = 0.0,
    ) -> None:  # fmt: skip
        self.kind, self.fault, self.at, self.length = obs, fault, at, length
        self.observation_space = OBSERVATIONS[obs]
        self.action_space = {"box": Box(-1, 1, (2,)), "bits": MultiBinary(3), "choices": MultiDiscrete([2, 3])}[action]
        self.generator, self.render_mode, self.arguments = generator, render_mode, (seed, num_envs, backend, env_id)
        self.array = np.zeros(2, np.float32)
        self.episode = self.steps = 0
        self.infos, self.alternating, self.large = 0, alternating, large
        if fault == "make":
            raise RuntimeError("no robot\nis connected")
        if fault == "exit at make":
            raise SystemExit(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.np_random = GENERATORS[self.generator](seed)  # type: ignore[assignment]
            self.episode = 0
        self.episode, self.steps = self.episode + 1, 0
        return self.observe(), self.info()

    def step(self, action: Any) -> Any:
        self.steps += 1
        action *= 0  # what it was sent is its own
        obs = self.observe()
        worth = float(self.episode % 2) if self.alternating else 1.0
        reward: Any = self.happens("reward", [1.0, 2.0], worth)
        return obs, reward, False, self.happens("flag", None, self.steps == self.length), self.info()

    def happens(self, fault: str, then: Any, otherwise: Any) -> Any:
        return then if self.fault == fault and (self.episode, self.steps) == (2, self.at) else otherwise

    def observe(self) -> Any:
        if self.happens("raise", True, False):
            raise ZeroDivisionError("division\nby zero")
        if self.happens("exit", True, False):
            raise SystemExit(0)
        whole: list[Any] = [self.episode % 2 if self.alternating else self.large or self.episode, self.steps]
        self.array[:] = whole
        if self.kind == "dict of lists":
            obs: Any = {"a": whole, "b": [self.steps % 3, [0, 1], (2, 1)], "unasked": None}
        else:
            obs = {
                "list": whole, "tuple": tuple(whole), "reused": self.array, "float64": self.array.astype(np.float64),
                "whole floats": [float(x) for x in whole], "integers": whole,
            }[self.kind]  # fmt: skip
        for fault, wrong in {
            "shape": [1, 2, 3], "ragged": [1, [2, 3]], "None": None, "text": ["a", "b"], "halves": [0.5, 1],
            "large": [300, 0], "no key": {"a": whole}, "outside": {"a": whole, "b": [3, [0, 1], [0, 0]]},
        }.items():  # fmt: skip
            obs = self.happens(fault, wrong, obs)
        return obs

    def info(self) -> Any:
        self.infos += 1
        return ODD_INFOS[self.infos % len(ODD_INFOS)] if self.fault == "infos" else {}

    def render(self) -> Any:
        if self.fault == "render":
            raise OSError("no graphics")
        return np.zeros((8, 8, 3), np.uint8)

    def close(self) -> None:
        Rude.closed += 1
        if self.fault == "close":
            raise OSError("the door is stuck")
