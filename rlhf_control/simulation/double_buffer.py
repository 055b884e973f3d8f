"""Environments in two lanes, each stepped by a thread of its own: while one lane is at its physics, outside Python's
lock, the other does what needs the lock. Two threads within each step of all environments would wait for each other.

The lanes share nothing, so that the results do not depend on how many cores there are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import envs as project_envs
from rlhf_control.data import Rollout
from rlhf_control.simulation.foreign import close_with_the_work
from rlhf_control.simulation.rollouts import Actor, collect
from rlhf_control.simulation.vector import Envs, start_envs

MOST = 16  # environments; more of them keep two threads busy within each step


class DoubleBufferedEnvs:
    """Environments between two rollouts: the first half in one lane, the second in another."""

    def __init__(self, lanes: Sequence[Envs]) -> None:
        self.lanes = lanes
        self.spaces, self.step_seconds = lanes[0].spaces, lanes[0].step_seconds
        self._threads = ThreadPoolExecutor(len(lanes))
        close_with_the_work(self.close)

    def collect(self, actor: Actor, num_steps: int, rng: np.random.Generator) -> Rollout:
        """As `rollouts.collect`, over all lanes side by side."""
        n = len(self.lanes)
        if n == 1:  # in this thread, where its environments were made: some may be used in no other
            return collect(self.lanes[0], actor, num_steps, rng.spawn(1)[0])
        return beside(list(self._threads.map(collect, self.lanes, [actor] * n, [num_steps] * n, rng.spawn(n))))

    @property
    def frames(self) -> bool:
        """Whether pictures are recorded; see `rollouts.start_envs`."""
        return self.lanes[0].frames

    @frames.setter
    def frames(self, on: bool) -> None:
        for lane in self.lanes:
            lane.frames = on

    def state(self) -> dict[str, Any]:
        return {str(i): lane.state() for i, lane in enumerate(self.lanes)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for i, lane in enumerate(self.lanes):
            lane.load_state(state[str(i)])

    @property
    def differs(self) -> str:
        """As of `rollouts.Envs`."""
        return next((lane.differs for lane in self.lanes if lane.differs), "")

    def probe(self) -> str:
        """As of `rollouts.Envs`."""
        return self.lanes[0].probe()

    def close(self) -> None:
        self._threads.shutdown()
        for lane in self.lanes:
            lane.close()


def beside(rollouts: Sequence[Rollout]) -> Rollout:
    """(T, N, ...) each -> (T, sum of N, ...)."""
    names = [name for name, value in vars(rollouts[0]).items() if isinstance(value, np.ndarray)]
    names[names.index("successors")] = "next_obs"
    arrays = {name: np.concatenate([getattr(r, name) for r in rollouts], axis=1) for name in names}
    returns = tuple(x for rollout in rollouts for x in rollout.episode_returns)
    lengths = tuple(x for rollout in rollouts for x in rollout.episode_lengths)
    return Rollout.of(**arrays, episode_returns=returns, episode_lengths=lengths)


def start_double_buffered(
    env_id: str, num_envs: int, *, seed: int, backend: str = "auto", env: Mapping[str, Any] | None = None,
    frames: bool = False,
) -> DoubleBufferedEnvs:  # fmt: skip
    """The environments of `start_envs`: batched MuJoCo in two lanes, others in one, for Python's lock would stop the
    second."""
    two = backend != "gymnasium" and project_envs.has_batched(env_id) and 2 <= num_envs <= MOST
    sizes = [(num_envs + 1) // 2, num_envs // 2] if two else [num_envs]
    arguments = {**(env or {}), **({"num_threads": 1} if two else {})}
    firsts = [0, sizes[0]][: len(sizes)]
    return DoubleBufferedEnvs(
        [
            start_envs(env_id, n, seed=seed, backend=backend, env=arguments, first=first, frames=frames)
            for n, first in zip(sizes, firsts, strict=True)
        ]
    )
