"""Environments stepped side by side. The only file that knows about autoreset.

N environments, O observation, A action, D simulator state.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlhf_control.compute.gl import has_display
from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.runs.progress import say_once
from rlhf_control.simulation.backends.protocol import Backend
from rlhf_control.simulation.foreign import described, told
from rlhf_control.simulation.make import make_backend
from rlhf_control.simulation.pictures import encode, observed_picture, stride
from rlhf_control.spaces import Spaces

EXACT = 2**24  # whole numbers up to here are exact in float32


class Envs:
    """Holds N environments between two rollouts: where they stand, and what their episodes have returned so far."""

    def __init__(self, backend: Backend, seed: int, first: int = 0, name: str = "the environment") -> None:
        self.backend, self.name = backend, name
        self.first = first  # the number of the first one, where these are some of many
        self.vector, self.num_envs = backend.vector, backend.vector.num_envs
        self.spaces = Spaces.of(self.vector.single_observation_space, self.vector.single_action_space)
        self.step_seconds = backend.step_seconds  # simulated time of one step
        self.obs = self.spaces.flat(backend.reset(seed))  # (N, O)
        self._frames = False
        self.shown = next((part for part in self.spaces.parts if part.picture), None)  # a picture that is observed
        self.differs = ""  # what, from where the checkpoint left them
        self.returns = np.zeros(self.num_envs)  # of the running episodes, raw; NaN: not to be told
        self.lengths = np.zeros(self.num_envs, np.int64)
        self.learned_from, self.over = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)  # see `step`

    def step(self, action: Array, executed: Array) -> tuple[Array, Array, Array, Array]:
        """Takes a step; returns (next_obs, reward, terminated, truncated), each (N, ...), with the true successor at an
        episode's end. `self.obs` is then the first observation of the next episode there; `self.learned_from` (N,) the
        reward that is to be learned from, where that is not of which returns are made; `self.over` (N,) tells whose
        return is complete."""
        space = self.vector.single_action_space
        action = (action if self.spaces.choices else executed).reshape(-1, *(space.shape or ()))
        if isinstance(space, Discrete | MultiDiscrete):
            action = action + space.start
        try:
            obs, reward, terminated, truncated, last, learned_from, over = self.backend.step(action)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.name} fails in a step: {told(error)}; look at the arguments in --env") from error
        self.obs = self.spaces.flat(obs)
        next_obs, done = self.obs, terminated | truncated
        self.learned_from = reward if learned_from is None else learned_from
        self.over = done if over is None else over
        if last is not None:
            next_obs = self.obs.copy()
            next_obs[done] = np.concatenate([self.spaces.flat(o[None]) for o in last[done]])
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
            whole = ended & ~np.isnan(self.returns)
            returns += self.returns[whole].tolist()
            lengths += self.lengths[whole].tolist()
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
        """Returns the states (N, D) float64 from which clips are drawn: see `mujoco_states`, or the variables of
        classic control; else None."""
        return self.backend.states()

    @property
    def frames(self) -> bool:
        """Tells whether pictures are recorded. Can be switched between rollouts, on only where `start_envs` did it
        first."""
        return self._frames

    @frames.setter
    def frames(self, on: bool) -> None:
        self._frames = on and (self.vector.render_mode == "rgb_array" or self._draws_what_it_observes())

    def _draws_what_it_observes(self) -> bool:
        return self.shown is not None and not self.backend.draws

    def pictures(self, step: int) -> list[bytes]:
        """Returns a small PNG of each environment as it is now; empty at steps between those that are recorded."""
        if step % stride(self.step_seconds):
            return [b""] * self.num_envs
        return [self._picture(i) for i in range(self.num_envs)]

    def picture(self, i: int) -> Array:
        """Returns how environment i draws itself, or the picture that it observes, (H, W, 3) uint8. Raises
        UserError."""
        if self.shown is not None and self._draws_what_it_observes():
            return observed_picture(self.shown.read(self.obs[i]))
        return self.backend.picture(i)

    def _picture(self, i: int) -> bytes:
        try:
            if self.shown is not None and self._draws_what_it_observes():
                return encode(observed_picture(self.shown.read(self.obs[i])))
            return self.backend.png(i)
        except UserError as error:  # one picture less
            say_once(f"rlhf-control: {error}; clips lack such pictures")
            return b""

    def success(self) -> Array | None:
        """Returns which environments were told in the last step that their task is done, (N,) bool; None where they do
        not tell."""
        told_of = getattr(self.vector, "success", None)
        return None if told_of is None or np.isnan(told_of).all() else told_of == 1

    def state(self) -> dict[str, Any]:
        """Returns all that decides what comes next; `load_state` continues from it bit for bit."""
        counts = {"returns": self.returns.copy(), "lengths": self.lengths.copy()}
        return {**self.backend.state(), "obs": self.obs.copy(), **counts}

    def load_state(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from `state`. Where an environment does not come back, `differs` says how, and all begin new
        episodes. Raises UserError where observations were kept in another form."""
        if snapshot["obs"].shape != self.obs.shape:
            raise UserError(
                f"this run was begun by an older version, which kept observations of {self.name} as "
                f"{snapshot['obs'].shape[-1]} numbers of one dtype, and cannot be gone on with; its policy can: name "
                "the run as POLICY of another"
            )
        self.differs = ""
        try:
            self.obs = self.spaces.flat(self.backend.load_state(snapshot))
        except UserError as error:
            self.differs = str(error)
        if not self.differs and not np.array_equal(self.obs, snapshot["obs"], equal_nan=True):
            self.differs = "the observations are others"
        self.returns, self.lengths = snapshot["returns"].copy(), snapshot["lengths"].copy()
        if self.differs:
            self.obs = self.spaces.flat(self.backend.reset())
            self.returns[:], self.lengths[:] = 0, 0

    def probe(self) -> str:
        """Says in what environments that are brought back will differ: "" if in nothing."""
        return self.backend.probe()

    def close(self) -> None:
        self.backend.close()


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
    """Makes environments as `collect` steps them: number `first`, `first` + 1, ... of those of this seed. Raises
    UserError for unsupported spaces too.

    frames: people will look at the clips, so environments that cannot be drawn from their states record pictures. That
    costs some milliseconds a step; `Envs.frames` switches it off and on between rollouts.
    """
    arguments = dict(env or {})

    def start() -> Envs:
        made = make_backend(env_id, num_envs, seed + first, backend, arguments, first)
        return Envs(made, seed + first, first, described(env_id, arguments))

    envs = start()
    if not frames or (envs.states() is not None and envs.backend.drawn_whole(env_id, arguments)):
        return envs
    envs.close()
    if not envs.backend.draws and envs.shown is not None:
        envs = start()
        envs.frames = True
        return envs
    if not envs.backend.draws:
        raise UserError(
            f"people cannot judge clips of {env_id}: it has neither simulator states to draw from nor the render mode "
            "rgb_array, and observes no picture; answer by an oracle"
        )
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or the games' pygame prints that it found none
    arguments = {**arguments, "render_mode": "rgb_array"}
    envs = start()
    try:
        envs.backend.picture(0)
    except UserError as error:
        raise UserError(f"people cannot judge clips of it: {error}; answer by an oracle") from error
    envs.frames = True
    return envs
