"""Double-buffered sampling (Petrenko et al., arXiv 2006.11751): environments in two groups, each stepped by a thread of
its own. While one group is at its physics, outside Python's lock, the other does what needs the lock. Two threads
within each step of all environments would wait for each other.

The groups share nothing, so that the results do not depend on how many cores there are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import envs as project_envs
from rlhf_control.compute.threads import available_cores
from rlhf_control.data import Rollout
from rlhf_control.simulation.atari.ids import is_atari
from rlhf_control.simulation.backends.mujoco import MujocoBackend
from rlhf_control.simulation.foreign import close_with_the_work
from rlhf_control.simulation.rollouts import Actor, collect
from rlhf_control.simulation.vector import Envs, start_envs

MOST = 16  # environments; more of them keep two threads busy within each step


class DoubleBufferedEnvs:
    """Holds environments between two rollouts: the first half in one group, the second in another."""

    def __init__(self, groups: Sequence[Envs]) -> None:
        self.groups = groups
        self.spaces, self.step_seconds = groups[0].spaces, groups[0].step_seconds
        self._threads = ThreadPoolExecutor(len(groups))
        close_with_the_work(self.close)

    def collect(self, actor: Actor, num_steps: int, rng: np.random.Generator) -> Rollout:
        """Does what `rollouts.collect` does, over all groups side by side."""
        n = len(self.groups)
        if n == 1:  # in this thread, where its environments were made: some may be used in no other
            return collect(self.groups[0], actor, num_steps, rng.spawn(1)[0])
        return beside(list(self._threads.map(collect, self.groups, [actor] * n, [num_steps] * n, rng.spawn(n))))

    @property
    def frames(self) -> bool:
        """Tells whether pictures are recorded; see `vector.start_envs`."""
        return self.groups[0].frames

    @frames.setter
    def frames(self, on: bool) -> None:
        for group in self.groups:
            group.frames = on

    def cut_off(self, unhealthy_seconds: float) -> None:
        """Has episodes that have been unhealthy for so long, on end, count as truncated; for batched MuJoCo with
        termination switched off."""
        steps = max(1, round(unhealthy_seconds / self.step_seconds))
        for group in self.groups:
            assert isinstance(group.backend, MujocoBackend)
            group.backend.cut_off_after = steps

    def stagger(self, limit: int) -> None:
        """Has the running episodes cut off at other steps, evenly up to this time limit: where nothing else ends an
        episode, environments that begin together stay in step for ever, and a rollout sees one part of an episode (as
        `init_at_random_ep_len` of RSL-RL). What these return is not told. For batched MuJoCo."""
        total = sum(group.num_envs for group in self.groups)
        for group in self.groups:
            assert isinstance(group.backend, MujocoBackend)
            taken = (group.first + np.arange(group.num_envs)) * limit // total
            group.backend.elapse(taken)
            group.returns[taken > 0] = np.nan

    def state(self) -> dict[str, Any]:
        return {str(i): group.state() for i, group in enumerate(self.groups)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for i, group in enumerate(self.groups):
            group.load_state(state[str(i)])

    @property
    def differs(self) -> str:
        """Says what `Envs.differs` says, of the first group in which something does."""
        return next((group.differs for group in self.groups if group.differs), "")

    def probe(self) -> str:
        """Does what `Envs.probe` does."""
        return self.groups[0].probe()

    def close(self) -> None:
        self._threads.shutdown()
        for group in self.groups:
            group.close()


def beside(rollouts: Sequence[Rollout]) -> Rollout:
    """Puts rollouts (T, N, ...) side by side: (T, sum of N, ...)."""
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
    """Starts the environments of `start_envs`: batched MuJoCo and Atari games, which have a process each group, in two
    groups, others in one, for Python's lock would stop the second."""
    atari = is_atari(env_id)
    two = (atari or (backend != "gymnasium" and project_envs.has_batched(env_id))) and 2 <= num_envs <= MOST
    sizes = [(num_envs + 1) // 2, num_envs // 2] if two else [num_envs]
    alone = {"num_processes": min(1, len(available_cores()) - 1)} if atari else {"num_threads": 1}
    arguments = {**(env or {}), **(alone if two else {})}
    firsts = [0, sizes[0]][: len(sizes)]
    return DoubleBufferedEnvs(
        [
            start_envs(env_id, n, seed=seed, backend=backend, env=arguments, first=first, frames=frames)
            for n, first in zip(sizes, firsts, strict=True)
        ]
    )
