"""The records that flow through the program.

Arrays are NumPy, raw (never normalised) and time-major. Dimensions:
T time, N environments, S segments, L segment length, Q answers, K items of a query, O observation, A action,
D simulator state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from rlhf_control.errors import NonFiniteError

Array = np.ndarray


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, as `collect` saw them."""

    obs: Array  # (T, N, O) float32
    action: Array  # (T, N, A) float32 or (T, N) int64: as sampled; PPO's log-prob is of this one
    executed: Array  # (T, N, A) float32: as carried out (clipped, or one-hot); the reward model sees this one
    next_obs: Array  # (T, N, O) float32: the true successor, also where the episode ended
    env_reward: Array  # (T, N) float32: the environment's own reward; only oracles and plots may read it
    reward: Array  # (T, N) float32: what the learner maximises
    terminated: Array  # (T, N) bool: the task ended; nothing comes after
    truncated: Array  # (T, N) bool: cut off by the time limit; V(next_obs) still counts
    state: Array | None = None  # (T, N, D) float64: simulator state at `obs`, from which clips are rendered
    episode_returns: tuple[float, ...] = ()  # raw environment returns of the episodes that ended here
    episode_lengths: tuple[int, ...] = ()
    frames: Array | None = None  # (T, N) bytes: as in Segments

    @property
    def done(self) -> Array:
        """(T, N) bool: an episode ended at this step."""
        return self.terminated | self.truncated

    def as_segments(self) -> "Segments":
        """The same steps (T, N, ...) as oracles and reward models read them."""
        return Segments(self.obs, self.executed, self.next_obs, self.env_reward, self.state, self.frames)

    def with_reward(self, reward: Array) -> "Rollout":
        """The same steps under another reward, (T, N); everything else stays as collected."""
        check_finite("learned reward", reward)
        return replace(self, reward=reward.astype(np.float32))


@dataclass(frozen=True)
class Segments:
    """Clips by value, never across an episode's end. Leading dimensions are free: (L, ...) is one segment,
    (S, L, ...) a pool, and one whole episode may stand here as well."""

    obs: Array  # (..., L, O) float32
    action: Array  # (..., L, A) float32: executed
    next_obs: Array  # (..., L, O) float32
    env_reward: Array  # (..., L) float32
    state: Array | None = None  # (..., L, D) float64: simulator state at `obs`, see `mujoco_states`; zeros may follow
    # (..., L) bytes, dtype "S": where such a state is not all that is to be seen, a small PNG of what is at `obs`;
    # empty at steps that were not recorded. See `pictures`.
    frames: Array | None = None

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, index: int | slice | Array) -> "Segments":
        return Segments(**{name: value[index] for name, value in self.arrays().items()})

    def arrays(self) -> dict[str, Array]:
        """Field name -> array, without the fields that are absent."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and bytes: the same clip has the same digest in every run."""
        sha = hashlib.sha256()
        for name, value in sorted(self.arrays().items()):
            value = trimmed(value) if name == "frames" else value
            sha.update(f"{name}{value.dtype.str}{value.shape}".encode())
            sha.update(np.ascontiguousarray(value).data)
        return sha.hexdigest()

    def without_frames(self) -> "Segments":
        """The same clips without their pictures, which nobody needs but who looks at them."""
        return self if self.frames is None else replace(self, frames=None)

    @staticmethod
    def concatenate(parts: Sequence["Segments"]) -> "Segments":
        """One after the other, with the fields that all of them have."""
        return Segments(**{name: np.concatenate(arrays) for name, arrays in _common(parts).items()})

    @staticmethod
    def stack(parts: Sequence["Segments"]) -> "Segments":
        """Side by side along a new first dimension, with the fields that all of them have."""
        return Segments(**{name: np.stack(arrays) for name, arrays in _common(parts).items()})


def _common(parts: Sequence[Segments]) -> dict[str, list[Array]]:
    arrays = [part.arrays() for part in parts]
    common = {name: [a[name] for a in arrays] for name in arrays[0] if all(name in a for a in arrays)}
    return {name: widened(values) if name == "state" else values for name, values in common.items()}


def widened(states: Sequence[Array]) -> list[Array]:
    """Simulator states (..., D), with zeros behind those that are shorter than the longest."""
    longest = max((state.shape[-1] for state in states), default=0)
    return [
        state if state.shape[-1] == longest
        else np.pad(state, [(0, 0)] * (state.ndim - 1) + [(0, longest - state.shape[-1])])
        for state in states
    ]  # fmt: skip


def trimmed(frames: Array) -> Array:
    """Byte strings, no wider than the longest of them needs: how wide their array was elsewhere leaves no trace."""
    longest = int(np.char.str_len(frames).max(initial=1))
    return frames.astype(f"S{longest}")


COMPARISON, RANKING, RATING, DEMONSTRATION, CORRECTION, REWARD = KINDS = (
    "comparison", "ranking", "rating", "demonstration", "correction", "reward"
)  # fmt: skip
RANKED = (COMPARISON, RANKING, DEMONSTRATION, CORRECTION)  # answered by ranks; the others by a value


@dataclass(frozen=True)
class Query:
    """K clips to be judged.

    comparison: K = 2. ranking: K >= 2. rating and reward: K = 1. demonstration: somebody's clip first, then the
    policy's own. correction: the policy's clip first, then the improved one.
    """

    round: int  # label round, from 0
    index: int  # place within the round
    strategy: str  # how it was chosen: "uniform", "disagreement", ...
    segments: Segments  # (K, L, ...)
    kind: str = COMPARISON
    repeat: int = 0  # how often the same clips were asked before, to measure self-consistency


@dataclass(frozen=True)
class Feedback:
    """The answer to one query: ranks for the kinds in RANKED, else a value; neither is "cannot tell"."""

    ranks: tuple[int, ...] | None  # one per clip: 0 is best, equal numbers tie
    annotator: str  # who answered
    seconds: float | None = None  # time to answer; None for an oracle
    value: float | None = None  # a rating, a whole number from 1 (worst) to at most 100; or a reward


@dataclass(frozen=True)
class Answers:
    """What a reward model learns from: Q answers of any kinds about S clips. "Cannot tell" is not among them."""

    clips: Segments  # (S, L, ...): every clip once, however often it was judged
    items: Array  # (Q, K) int64: the clips of each answer, as indices into `clips`; -1 where it has fewer than K
    ranks: Array  # (Q, K) int64: 0 is best, equal numbers tie; -1 where there is no clip; 0 for a value
    kind: Array  # (Q,) int64: index into KINDS
    value: Array  # (Q,) float64: the rating or the reward; NaN for ranks
    at_random: Array | None = None  # (Q,) bool: about clips that no model chose, a fair sample; None: not known

    def __len__(self) -> int:
        return len(self.items)


def check_finite(field: str, value: Array, first_step: int = 0, first_env: int = 0) -> None:
    """Stops on NaN or infinity in `value` (T, N, ...), naming the field, the environment and the step."""
    if np.isfinite(value).all():
        return
    step, env = np.argwhere(~np.isfinite(value))[0][:2]
    place = f"in environment {first_env + env} at step {first_step + step} of the rollout"
    raise NonFiniteError(f"{field} is not finite: {value[step, env]} {place}")
