"""The records that flow through the program.

segment     some steps in a row of one episode, as data
clip        its pictures, which a person sees; in names of records also the segment that they show
query       what is asked: some segments, and a kind of question about them
feedback    one answer to a query, by a person or an oracle
vote        its row in the history, which later rows may undo or replace, and none alters
label       a vote that says something: a tie does, "cannot tell" does not
rollout     what all environments did between two updates
pool        the segments that queries are chosen from
oracle      what answers in a person's place
part        a named piece of an observation, such as a camera's picture: see `spaces`

Arrays are NumPy, raw (never normalised) and time-major. Dimensions:
T time, N environments, S segments, L segment length, Q answers, K items of a query, O observation, A action,
D simulator state.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from rlhf_control.errors import NonFiniteError

Array = np.ndarray


@dataclass(frozen=True)
class Rollout:
    """Holds T steps of N environments, as `collect` saw them."""

    obs: Array  # (T, N, O) in the dtype of the space; see `spaces`
    action: Array  # (T, N, A) float32 or (T, N) int64: as sampled; PPO's log-prob is of this one
    executed: Array  # (T, N, A) float32: as carried out (clipped, or one-hot); the reward model sees this one
    # (M, O): the true successors of the M steps that `alone` names, time-major; those of the others are `obs` one step
    # later, and are kept once
    successors: Array
    env_reward: Array  # (T, N) float32: the environment's own reward; only oracles and plots may read it
    reward: Array  # (T, N) float32: what the learner maximises
    terminated: Array  # (T, N) bool: the task ended; nothing comes after
    truncated: Array  # (T, N) bool: cut off by the time limit; V(next_obs) still counts
    state: Array | None = None  # (T, N, D) float64: simulator state at `obs`, from which clips are rendered
    episode_returns: tuple[float, ...] = ()  # raw environment returns of the episodes that ended here
    episode_lengths: tuple[int, ...] = ()
    frames: Array | None = None  # (T, N) bytes: as in Segments
    success: Array | None = None  # (T, N) bool: as in Segments

    @classmethod
    def of(cls, *, next_obs: Array, terminated: Array, truncated: Array, **columns: Any) -> "Rollout":
        """Returns the rollout with these successors (T, N, O)."""
        successors = next_obs[alone(terminated | truncated)]
        return cls(successors=successors, terminated=terminated, truncated=truncated, **columns)

    @property
    def done(self) -> Array:
        """Tells at which steps an episode ended, (T, N) bool."""
        return self.terminated | self.truncated

    @property
    def next_obs(self) -> Array:
        """Returns the true successors (T, N, O), also where an episode ended; made anew at every call."""
        following = np.concatenate([self.obs[1:], self.obs[:1]])
        following[alone(self.done)] = self.successors
        return following

    def as_segments(self) -> "Segments":
        """Returns the same steps (T, N, ...) as oracles and reward models read them."""
        seen = (self.obs, self.executed, self.next_obs, self.env_reward, self.state, self.frames)
        return Segments(*seen, success=self.success)

    def with_reward(self, reward: Array) -> "Rollout":
        """Returns the same steps under another reward, (T, N); everything else stays as collected."""
        check_finite("learned reward", reward)
        return replace(self, reward=reward.astype(np.float32))


def alone(done: Array) -> Array:
    """Tells after which steps of a rollout there is no `obs` one step later, (T, N) bool: the ends of episodes (T, N)
    and the last steps."""
    return np.concatenate([done[:-1], np.ones_like(done[-1:])])


@dataclass(frozen=True)
class Segments:
    """Holds clips by value, never across an episode's end. Leading dimensions are free: (L, ...) is one segment, (S, L,
    ...) a pool, and one whole episode may stand here as well."""

    obs: Array  # (..., L, O) in the dtype of the space
    action: Array  # (..., L, A) float32: executed
    next_obs: Array  # (..., L, O): often the same memory as `obs`, one step on
    env_reward: Array  # (..., L) float32
    state: Array | None = None  # (..., L, D) float64: simulator state at `obs`, see `mujoco_states`; zeros may follow
    # (..., L) bytes, dtype "S": where such a state is not all that is to be seen, a small PNG of what is at `obs`;
    # empty at steps that were not recorded. See `pictures`.
    frames: Array | None = None
    mask: Array | None = None  # (..., L) bool: the steps there are, where clips differ in length; None: all of them
    # (..., L) bool: whether the environment says, after the step, that its task is done (info "success" or
    # "is_success"); only oracles and figures may read it
    success: Array | None = None

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, index: int | slice | Array) -> "Segments":
        both = _together(self) if isinstance(index, Array) and index.ndim == 1 else None
        if both is None:
            return Segments(**{name: value[index] for name, value in self.arrays().items()})
        others = {name: value[index] for name, value in self.arrays().items() if name not in ("obs", "next_obs")}
        return Segments(**_apart(both[index]), **others)

    def arrays(self) -> dict[str, Array]:
        """Returns the fields by name, without those that are absent."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    def present(self) -> "Segments":
        """Returns one clip (L, ...) without the steps that only fill it up."""
        return self if self.mask is None else replace(self[self.mask], mask=None)

    def digest(self) -> str:
        """Computes the SHA-256 over names, types, shapes and bytes: the same clip has the same digest in every run."""
        if self.mask is not None and self.obs.ndim == 2:  # what fills a clip up is no part of it
            return self.present().digest()
        sha = hashlib.sha256()
        if self.mask is not None:
            sha.update("".join(self[i].digest() for i in range(len(self))).encode())
            return sha.hexdigest()
        for name, value in sorted(self.arrays().items()):
            value = trimmed(value) if name == "frames" else value
            sha.update(f"{name}{value.dtype.str}{value.shape}".encode())
            sha.update(np.ascontiguousarray(value).data)
        return sha.hexdigest()

    def compact(self) -> "Segments":
        """Returns the same clips with obs and next_obs in one piece of memory, if each successor is the next step's
        obs."""
        if not follows(self.obs, self.next_obs):
            return self
        if _together(self) is not None:
            return self
        return replace(self, **_apart(np.concatenate([self.obs, self.next_obs[..., -1:, :]], -2)))

    def without_frames(self) -> "Segments":
        """Returns the same clips without their pictures, which nobody needs but who looks at them."""
        return self if self.frames is None else replace(self, frames=None)

    @staticmethod
    def concatenate(parts: Sequence["Segments"]) -> "Segments":
        """Puts pools (S, L, ...) one after the other, with the fields that all of them have; filled up to one
        length."""
        parts = _filled(parts)
        both = [_together(part) for part in parts]
        found: dict[str, Array] = {}
        if (whole := [array for array in both if array is not None]) and len(whole) == len(parts):
            found = _apart(np.concatenate(whole))
        return Segments(**found, **{
            name: np.concatenate(arrays) for name, arrays in _common(parts).items() if name not in found
        })  # fmt: skip

    @staticmethod
    def stack(parts: Sequence["Segments"]) -> "Segments":
        """Puts clips side by side along a new first dimension, with the fields that all of them have; filled up to one
        length."""
        return Segments(**{name: np.stack(arrays) for name, arrays in _common(_filled(parts)).items()})


def _together(segments: Segments) -> Array | None:
    """Returns the one piece of memory (S, ..., L + 1, O) that `compact` put large clips' obs and next_obs in, if they
    still stand there. Floats, whose last bits hang on how they lie in memory, are left as they are."""
    obs, both = segments.obs, segments.obs.base
    if obs.dtype.kind == "f" or not isinstance(both, Array) or obs.ndim < 3 or segments.next_obs.base is not both:
        return None
    if both.strides != obs.strides or segments.next_obs.strides != obs.strides or both[..., 1:, :].shape != obs.shape:
        return None
    start, of_obs, of_next = (array.__array_interface__["data"][0] for array in (both, obs, segments.next_obs))
    return both if start == of_obs == of_next - both.strides[-2] else None


def _apart(both: Array) -> dict[str, Array]:
    """Returns obs and next_obs (..., L, O) of one piece of memory (..., L + 1, O)."""
    return {"obs": both[..., :-1, :], "next_obs": both[..., 1:, :]}


def _filled(parts: Sequence[Segments]) -> Sequence[Segments]:
    """The same, the shorter ones with their last step again and again, without its reward, and a mask that leaves it
    out: who sums rewards up may forget the mask."""
    longest = max(part.env_reward.shape[-1] for part in parts)
    if all(part.env_reward.shape[-1] == longest for part in parts) and all(part.mask is None for part in parts):
        return parts
    filled = []
    for part in parts:
        length, axis = part.env_reward.shape[-1], part.env_reward.ndim - 1
        at = np.minimum(np.arange(longest), length - 1)
        mask = np.ones(part.env_reward.shape, bool) if part.mask is None else part.mask
        arrays = {name: array.take(at, axis) for name, array in part.arrays().items()}
        mask = mask.take(at, axis) & (np.arange(longest) < length)
        filled.append(Segments(**{**arrays, "env_reward": np.where(mask, arrays["env_reward"], 0), "mask": mask}))
    return filled


def mean_over_steps(values: Array, mask: Array | None) -> Array:
    """Returns the means (...,) of values (..., L) over the steps that there are."""
    return values.mean(-1) if mask is None else np.where(mask, values, 0).sum(-1) / mask.sum(-1)


def _common(parts: Sequence[Segments]) -> dict[str, list[Array]]:
    arrays = [part.arrays() for part in parts]
    common = {name: [a[name] for a in arrays] for name in arrays[0] if all(name in a for a in arrays)}
    return {name: widened(values) if name == "state" else values for name, values in common.items()}


def widened(states: Sequence[Array]) -> list[Array]:
    """Returns simulator states (..., D), with zeros behind those that are shorter than the longest."""
    longest = max((state.shape[-1] for state in states), default=0)
    return [
        state if state.shape[-1] == longest
        else np.pad(state, [(0, 0)] * (state.ndim - 1) + [(0, longest - state.shape[-1])])
        for state in states
    ]  # fmt: skip


def follows(obs: Array, next_obs: Array) -> bool:
    """Tells whether each successor (..., L, O) but the last is, to the bit, the obs one step later."""
    if obs.dtype != next_obs.dtype or obs.shape != next_obs.shape or obs.ndim < 2:
        return False
    if obs.dtype.kind in "iu":  # without copies
        return bool((obs[..., 1:, :] == next_obs[..., :-1, :]).all())
    return obs[..., 1:, :].tobytes() == next_obs[..., :-1, :].tobytes()


def without_next_obs(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns a segment's arrays with only the last successor, next_obs_last (..., 1, O), if the others follow from
    obs."""
    if not follows(arrays["obs"], arrays["next_obs"]):
        return dict(arrays)
    others = {name: array for name, array in arrays.items() if name != "next_obs"}
    return others | {"next_obs_last": arrays["next_obs"][..., -1:, :]}


def with_next_obs(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Undoes `without_next_obs`."""
    if "next_obs_last" not in arrays:
        return dict(arrays)
    others = {name: array for name, array in arrays.items() if name != "next_obs_last"}
    return others | {"next_obs": np.concatenate([arrays["obs"][..., 1:, :], arrays["next_obs_last"]], -2)}


def trimmed(frames: Array) -> Array:
    """Returns byte strings no wider than the longest of them needs: how wide their array was elsewhere leaves no
    trace."""
    longest = int(np.char.str_len(frames).max(initial=1))
    return frames.astype(f"S{longest}")


COMPARISON, RANKING, RATING, DEMONSTRATION, CORRECTION, REWARD, SUCCESS, GROUPS = KINDS = (
    "comparison", "ranking", "rating", "demonstration", "correction", "reward", "success", "groups"
)  # fmt: skip
RANKED = (COMPARISON, RANKING, DEMONSTRATION, CORRECTION, GROUPS)  # answered by ranks; the others by a value


@dataclass(frozen=True)
class Query:
    """Holds K clips to be judged.

    comparison: K = 2. ranking: K >= 2. rating and reward: K = 1. demonstration: somebody's clip first, then the
    policy's own. correction: the policy's clip first, then the improved one. success: K = 1, an episode up to its end.
    groups: K >= 4, two groups of as many clips, one after the other, which are compared as wholes: the clips of a group
    have one rank.
    """

    round: int  # label round, from 0
    index: int  # place within the round
    strategy: str  # how it was chosen: "uniform", "disagreement", ...
    segments: Segments  # (K, L, ...)
    kind: str = COMPARISON
    repeat: int = 0  # how often the same clips were asked before, to measure self-consistency


@dataclass(frozen=True)
class Feedback:
    """Holds the answer to one query: ranks for the kinds in RANKED, else a value; neither is "cannot tell"."""

    ranks: tuple[int, ...] | None  # one per clip: 0 is best, equal numbers tie
    annotator: str  # who answered
    seconds: float | None = None  # time to answer; None for an oracle
    # A rating, a whole number from 1 (worst) to at most 100; a reward; or a success mark: 1 success, 0 failure
    value: float | None = None


@dataclass(frozen=True)
class Answers:
    """Holds what a reward model learns from: Q answers of any kinds about S clips. "Cannot tell" is not among them."""

    clips: Segments  # (S, L, ...): every clip once, however often it was judged
    items: Array  # (Q, K) int64: the clips of each answer, as indices into `clips`; -1 where it has fewer than K
    ranks: Array  # (Q, K) int64: 0 is best, equal numbers tie; -1 where there is no clip; 0 for a value
    kind: Array  # (Q,) int64: index into KINDS
    value: Array  # (Q,) float64: the rating, the reward or the success mark; NaN for ranks
    at_random: Array | None = None  # (Q,) bool: about clips that no model chose, a fair sample; None: not known
    annotator: Array | None = None  # (Q,) str: who gave each; None: one and the same

    def __len__(self) -> int:
        return len(self.items)


def check_finite(field: str, value: Array, first_step: int = 0, first_env: int = 0) -> None:
    """Stops on NaN or infinity in `value` (T, N, ...), naming the field, the environment and the step."""
    if np.isfinite(value).all():
        return
    step, env = np.argwhere(~np.isfinite(value))[0][:2]
    place = f"in environment {first_env + env} at step {first_step + step} of the rollout"
    raise NonFiniteError(f"{field} is not finite: {value[step, env]} {place}")
