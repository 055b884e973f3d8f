"""Environments stepped side by side. The only file that knows about autoreset.

N environments, O observation, A action, D simulator state.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from gymnasium.vector import SyncVectorEnv, VectorEnv

import envs as project_envs
from rlhf_control.compute.gl import has_display
from rlhf_control.data import Array
from rlhf_control.errors import NonFiniteError, UserError
from rlhf_control.runs.progress import say_once
from rlhf_control.simulation.backends.gymnasium import Replayable, probe
from rlhf_control.simulation.foreign import described, make_env, told
from rlhf_control.simulation.make import make_flat, make_vector
from rlhf_control.simulation.mujoco_states import MujocoReader
from rlhf_control.simulation.pictures import encode, rendered, stride
from rlhf_control.simulation.states import draws_itself, seen_whole, state_reader, step_seconds
from rlhf_control.spaces import Spaces

EXACT = 2**24  # whole numbers up to here are exact in float32


class Envs:
    """N environments between two rollouts: where they stand, and what their episodes have returned so far."""

    def __init__(self, vector: VectorEnv, seed: int, first: int = 0, name: str = "the environment") -> None:
        self.vector, self.name = vector, name
        self.first = first  # the number of the first one, where these are some of many
        self.num_envs = vector.num_envs
        if isinstance(vector, project_envs.MujocoVectorEnv):
            vector.infos = False
        self.spaces = Spaces.of(vector.single_observation_space, vector.single_action_space)
        self.obs = self._flat(vector.reset(seed=seed)[0])  # (N, O) float32
        self._read_states = state_reader(vector.envs) if isinstance(vector, SyncVectorEnv) else None
        self._frames = False
        self.differs = ""  # what, from where the checkpoint left them
        self.twin: Callable[[], Replayable] | None = None  # makes another one of those that are brought back by replay
        self.returns = np.zeros(self.num_envs)  # of the running episodes, raw
        self.lengths = np.zeros(self.num_envs, np.int64)

    def step(self, action: Array, executed: Array) -> tuple[Array, Array, Array, Array]:
        """(next_obs, reward, terminated, truncated), each (N, ...), with the true successor at an episode's end.
        `self.obs` is then the first observation of the next episode there."""
        space = self.vector.single_action_space
        action = (action if self.spaces.choices else executed).reshape(-1, *(space.shape or ()))
        if isinstance(space, Discrete | MultiDiscrete):
            action = action + space.start
        try:
            obs, reward, terminated, truncated, info = self.vector.step(action)
        except project_envs.SimulationError as error:
            place = f"environment {error.env_index + self.first}: {error.field}: {error.problem}"
            raise NonFiniteError(f"the simulation diverged: {place}; lower the learning rate") from error
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.name} fails in a step: {told(error)}; look at the arguments in --env") from error
        self.obs = self._flat(obs)
        next_obs = self.obs
        done = terminated | truncated
        if done.any():
            next_obs = self.obs.copy()
            next_obs[done] = np.stack([self._flat(o[None])[0] for o in info["final_obs"][done]])
        return next_obs, reward, terminated, truncated

    def count(self, reward: Array, done: Array) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Returns and lengths of the episodes that ended in a rollout (T, N), in the order of their ends."""
        returns: list[float] = []
        lengths: list[int] = []
        start = 0
        for t in [*np.flatnonzero(done.any(1)).tolist(), len(done) - 1]:
            self.returns += reward[start : t + 1].sum(0, dtype=np.float64)
            self.lengths += t + 1 - start
            start, ended = t + 1, done[t]
            returns += self.returns[ended].tolist()
            lengths += self.lengths[ended].tolist()
            self.returns[ended] = 0
            self.lengths[ended] = 0
            if start == len(done):
                break
        return tuple(returns), tuple(lengths)

    def tell_of_lost_digits(self, obs: Array) -> None:
        """Says once if observations (..., O) of a space of more digits are so large that float32 rounds them."""
        dtype = self.vector.single_observation_space.dtype
        if dtype is not None and not np.can_cast(dtype, np.float32, "safe") and abs(obs).max() > EXACT:
            say_once(
                f"rlhf-control: {self.name} observes {dtype} numbers beyond {EXACT:,}, of which float32, which "
                "policies read, keeps 7 digits; if smaller differences matter, scale or shift them in a wrapper"
            )

    def states(self) -> Array | None:
        """(N, D) float64 from which clips are drawn: see `mujoco_states`, or the variables of classic control; else
        None."""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            return self.vector.states
        return self._read_states() if self._read_states else None

    @property
    def frames(self) -> bool:
        """Whether pictures are recorded. Can be switched between rollouts, on only where `start_envs` did it first."""
        return self._frames

    @frames.setter
    def frames(self, on: bool) -> None:
        drawing = isinstance(self.vector, SyncVectorEnv) and self.vector.envs[0].render_mode == "rgb_array"
        self._frames = on and drawing

    def pictures(self, step: int) -> list[bytes]:
        """A small PNG of each environment as it is now; empty at steps between those that are recorded."""
        assert isinstance(self.vector, SyncVectorEnv)
        if step % stride(self.step_seconds):
            return [b""] * self.num_envs
        return [self._picture(env) for env in self.vector.envs]

    def _picture(self, env: gymnasium.Env) -> bytes:
        try:
            return encode(rendered(env, self.name))
        except UserError as error:  # one picture less
            say_once(f"rlhf-control: {error}; clips lack such pictures")
            return b""

    @property
    def step_seconds(self) -> float:
        """Simulated time of one step. Environments without a clock count as 30 steps a second."""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            return self.vector.dt
        assert isinstance(self.vector, SyncVectorEnv)
        return step_seconds(self.vector.envs[0])

    def state(self) -> dict[str, Any]:
        """All that decides what comes next; `load_state` continues from it bit for bit."""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            inner: Mapping[str, Any] = self.vector.snapshot()
        else:
            inner = {str(i): env.snapshot() for i, env in enumerate(self._replayable())}
        watched = self._read_states.fields if isinstance(self._read_states, MujocoReader) else []
        counts = {"returns": self.returns.copy(), "lengths": self.lengths.copy()}
        return {"inner": inner, "watched": watched, "obs": self.obs.copy(), **counts}

    def load_state(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from `state`. Where an environment does not come back, `differs` says how, and all begin new
        episodes."""
        self.differs = ""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            self.obs = self._flat(self.vector.restore(snapshot["inner"]))
        else:
            try:
                inner = snapshot["inner"]
                self.obs = self._flat(
                    np.stack([env.restore(inner[str(i)]) for i, env in enumerate(self._replayable())])
                )
            except UserError as error:
                self.differs = str(error)
        if isinstance(self._read_states, MujocoReader):
            self._read_states.watch(snapshot.get("watched", []))
        if not self.differs and not np.array_equal(self.obs, snapshot["obs"], equal_nan=True):
            self.differs = "the observations are others"
        self.returns, self.lengths = snapshot["returns"].copy(), snapshot["lengths"].copy()
        if self.differs:
            self.obs = self._flat(self.vector.reset()[0])
            self.returns[:], self.lengths[:] = 0, 0

    def probe(self) -> str:
        """As `replayable.probe`, of such environments."""
        return probe(self.twin) if self.twin else ""

    def _replayable(self) -> list[Replayable]:
        assert isinstance(self.vector, SyncVectorEnv)
        return [env for env in self.vector.envs if isinstance(env, Replayable)]

    def _flat(self, obs: Array) -> Array:
        return obs.reshape(len(obs), -1).astype(np.float32)

    def close(self) -> None:
        self.vector.close()


def start_envs(
    env_id: str,
    num_envs: int,
    *,
    seed: int,
    backend: str = "auto",
    env: Mapping[str, Any] | None = None,
    first: int = 0,
    frames: bool = False,
) -> Envs:
    """The same as `collect` steps them: number `first`, `first` + 1, ... of those of this seed. Raises UserError for
    unsupported spaces too.

    frames: people will look at the clips, so environments that cannot be drawn from their states record pictures. That
    costs some milliseconds a step; `Envs.frames` switches it off and on between rollouts.
    """
    arguments = dict(env or {})

    def start() -> Envs:
        vector = make_vector(env_id, num_envs, seed + first, backend, arguments, first)
        made = Envs(vector, seed + first, first, described(env_id, arguments))
        made.twin = partial(make_flat, env_id, arguments) if isinstance(vector, SyncVectorEnv) else None
        return made

    drawing = {**arguments, "render_mode": "rgb_array"}
    envs = start()
    if not frames or not isinstance(envs.vector, SyncVectorEnv):
        return envs
    if envs.states() is not None and seen_whole(envs.vector.envs[0], lambda: make_env(env_id, drawing)):
        return envs
    envs.close()
    if not draws_itself(envs.vector.envs[0]):
        raise UserError(
            f"people cannot judge clips of {env_id}: it has neither simulator states to draw from nor the render mode "
            "rgb_array; answer by an oracle"
        )
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or the games' pygame prints that it found none
    arguments = drawing
    envs = start()
    assert isinstance(envs.vector, SyncVectorEnv)
    try:
        rendered(envs.vector.envs[0], env_id)
    except UserError as error:
        raise UserError(f"people cannot judge clips of it: {error}; answer by an oracle") from error
    envs.frames = True
    return envs
