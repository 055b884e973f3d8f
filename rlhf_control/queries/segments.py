"""Clips of the policy's own behaviour, cut from rollouts, and the bank that keeps recent and older ones.

T time, N environments, S segments, L segment length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from rlhf_control.data import Array, Rollout, Segments, widened, with_next_obs, without_next_obs
from rlhf_control.errors import UserError
from rlhf_control.runs.progress import say_once
from rlhf_control.wording import counted

MOST_ROLLOUTS = 10_000
OLDER_BYTES = 256_000_000  # of older clips, in every checkpoint too: some 790 of Humanoid's, more than a run has
MOST_EPISODES = 1000  # whose ends are kept, fewer if they are large
FRAME_BYTES = 100_000_000  # of pictures among the older clips: they are in every checkpoint


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts that follow each other in time, as one."""
    names = [f.name for f in fields(Rollout) if f.name != "successors"]
    columns = {name: [getattr(r, name) for r in rollouts] for name in (*names, "next_obs")}
    if all(isinstance(state, Array) for state in columns["state"]):
        columns["state"] = widened(columns["state"])
    joined: dict[str, Any] = {  # what one of them lacks (states, frames), all of them lack
        k: np.concatenate(v) if all(isinstance(x, Array) for x in v) else None for k, v in columns.items()
    }
    joined |= {k: sum(map(tuple, columns[k]), ()) for k in ("episode_returns", "episode_lengths")}
    return Rollout.of(**joined)


def cut_segments(rollout: Rollout, length: int, rng: np.random.Generator, *, wanted: int = 0) -> Segments:
    """Cuts clips (S, L, ...), each environment's steps end to end from a random offset; what spans an episode's end is
    left out. Where fewer than wanted are left, cuts from where episodes begin, which gives the most there are, and
    where these do not suffice, has clips overlap. Raises UserError if there are none."""
    T, N = rollout.reward.shape
    offsets = rng.integers(min(length, T - length + 1), size=N) if length <= T else np.zeros(0, np.int64)
    steps = offsets[:, None] + np.arange(0, T, length)  # (N, K)
    n, k = np.nonzero(steps + length <= T)
    t, n = whole_clips(steps[n, k], n, length, rollout.done)
    apart = length
    while len(t) < max(1, wanted) and apart:  # in short episodes a random offset seldom fits
        t, n = np.nonzero(ages(rollout.done) % apart == 0)
        t, n = whole_clips(t, n, length, rollout.done)
        apart //= 2
    if len(t) == 0:
        raise UserError(
            f"no stretch of {counted(length, 'step')} without an episode's end in the last {counted(T, 'step')} of "
            f"{counted(N, 'environment')}; shorten --clip-seconds"
        )
    index = t[:, None] + np.arange(length)
    steps_of = rollout.as_segments().arrays()
    return Segments(**{name: array[index, n[:, None]] for name, array in steps_of.items()}).compact()


def cut_episodes(rollout: Rollout, length: int) -> Segments:
    """Cuts the episodes that begin and end in a rollout, as clips (S, L, ...) of one length: the last step of the
    shorter ones again and again, and a mask. Raises UserError if there are none."""
    n, ends = np.nonzero(rollout.done.T)  # environment by environment
    again = np.flatnonzero(n[1:] == n[:-1])  # what ends first may have begun earlier
    first, last = ends[again] + 1, ends[again + 1]
    if not len(again):
        raise UserError(f"no whole episode in the last {counted(len(rollout.done), 'step')}; raise --ppo.num-steps")
    steps = np.minimum(first[:, None] + np.arange(length), last[:, None])
    clips = {name: array[steps, n[again][:, None]] for name, array in rollout.as_segments().arrays().items()}
    return Segments(**clips, mask=first[:, None] + np.arange(length) <= last[:, None])


def whole_clips(t: Array, n: Array, length: int, done: Array) -> tuple[Array, Array]:
    """Keeps, of clips that begin at these steps (S,) of these environments (S,), those within (T, N) and one
    episode."""
    t, n = t[t + length <= len(done)], n[t + length <= len(done)]
    ends_before = np.concatenate([np.zeros_like(done[:1], np.int64), np.cumsum(done, axis=0)])
    whole = ends_before[t + length - 1, n] == ends_before[t, n]  # an end at the last step is no harm
    return t[whole], n[whole]


def among(clips: Segments, others: Segments) -> Array:
    """Marks, (S,) bool, the clips that are among the others too, as where a round comes soon after the one before: one
    question would be asked twice."""
    beginnings: dict[bytes, list[int]] = {}
    for i, obs in enumerate(others.obs[:, 0]):
        beginnings.setdefault(obs.tobytes(), []).append(i)
    # The environment's reward does not count, or it would leak into what is asked
    parts = ((clips.obs, others.obs), (clips.action, others.action), (clips.next_obs[:, -1], others.next_obs[:, -1]))
    return np.array(
        [
            any(all(np.array_equal(c[k], o[i]) for c, o in parts) for i in beginnings.get(obs.tobytes(), ()))
            for k, obs in enumerate(clips.obs[:, 0])
        ],
        bool,
    )


def ages(done: Array) -> Array:
    """Counts, (T, N), the steps since the episode's first one, or since the first one here."""
    age, running = np.empty(done.shape, np.int64), np.zeros(done.shape[1], np.int64)
    for t, ended in enumerate(done):
        age[t] = running
        running = np.where(ended, 0, running + 1)
    return age


class Ends(NamedTuple):
    """Says what of episodes is kept whose success is asked about."""

    steps: int  # at most, up to the last
    episodes: int  # that the first questions need


def endings(rollout: Rollout, length: int, newest: int, *, early: bool = False) -> list[Segments]:
    """Cuts, of each episode that ended (`early`: before it was cut off) in the newest steps, its last `length` steps,
    or as many as there are: from its first step, or from the rollout's. Those of a single step are left out."""
    done, steps_of = rollout.done, rollout.as_segments().arrays()
    found = []
    for step, n in np.argwhere((rollout.terminated if early else done)[-newest:]):
        t = len(done) - newest + step
        before = np.flatnonzero(done[:t, n])
        start = max(t + 1 - length, 0, *(before[-1:] + 1))
        if t > start:
            found.append(Segments(**{name: array[start : t + 1, n].copy() for name, array in steps_of.items()}))
    return found


class SegmentBank:
    """Keeps the last rollouts whole, and a random choice of clips from earlier label rounds.

    Queries mix both: recent clips are what the policy does now, older ones keep the reward right where the policy
    has been (in PPE, 2025, either half alone brought no significant gain).
    """

    def __init__(
        self, length: int, num_envs: int, num_steps: int, *, clips: int, capacity: int = 1000,
        older_bytes: int = OLDER_BYTES, time_limit: int | None = None, ends: Ends | None = None,
    ) -> None:  # fmt: skip
        """Keeps rollouts enough for `clips` recent clips of this length, whatever the offsets they are cut at, where
        only the time limit (in steps) ends episodes; and beside them the `ends` of the newest episodes, if they are
        asked about. Raises UserError if no number of rollouts is enough."""
        self.length, self.num_steps, self.ends = length, num_steps, ends or Ends(0, 0)
        self.whole = False

        def enough(ends: Callable[[int], float]) -> int:
            """Returns the fewest rollouts. Of each environment a clip is lost to the offset and one to each end."""
            for k in range(1, MOST_ROLLOUTS):
                if num_envs * (k * num_steps // length - 1 - (ends(k * num_steps) if time_limit else 0)) >= clips:
                    return k
            steps = MOST_ROLLOUTS * num_steps
            if steps // length - 1 - (ends(steps) if time_limit else 0) > 0:  # in time, there are as many as you like
                raise UserError(
                    f"a round asks about {clips:,} clips of {length} steps at once; lower --labels or --first-labels, "
                    "or raise --rounds"
                )
            whole = f" in episodes of {time_limit}" if time_limit else ""
            raise UserError(f"there are never {clips} clips of {length} steps{whole}; shorten --clip-seconds")

        self.first_full = (
            enough(lambda steps: steps // (time_limit or 1)) - 1
        )  # iteration; of staggered episodes more end, so clips may overlap
        self.keep = max(
            4, enough(lambda steps: math.ceil(steps / (time_limit or 1))), -(-self.ends.steps // num_steps) + 1
        )
        if time_limit:  # else it is not known when episodes end
            self.first_full = max(self.first_full, -(-self.ends.episodes // num_envs * time_limit // num_steps) - 1)
        self.capacity, self.older_bytes = capacity, older_bytes  # of the older clips
        self.rollouts: list[Rollout] = []
        self.older: Segments | None = None
        self.episodes: list[Segments] = []  # (L', ...) each, at most `ends.steps` up to the last; the newest last

    def of_whole_episodes(self) -> "SegmentBank":
        """Has clips be whole episodes, of `length` at most, and keeps twice as much, so that many begin alike; returns
        itself."""
        self.whole, self.keep = True, 2 * self.keep
        return self

    @property
    def of_a_clip(self) -> int:
        """Returns how many rollouts a clip needs."""
        return -(-self.length // self.num_steps)

    @property
    def steps(self) -> int:
        """Returns how far back the rollouts reach, in steps of each environment."""
        return len(self.rollouts) * self.num_steps

    def add(self, rollout: Rollout) -> None:
        self.rollouts = [*self.rollouts, rollout][-self.keep :]
        if not self.ends.steps or not rollout.done.any():
            return
        self.episodes += endings(join(self.rollouts), self.ends.steps, len(rollout.done))
        sizes = np.array([sum(array.nbytes for array in episode.arrays().values()) for episode in self.episodes])
        kept = int((np.cumsum(sizes[::-1]) <= self.older_bytes).sum())
        self.episodes = self.episodes[-max(1, min(kept, MOST_EPISODES)) :]

    def early_ends(self) -> list[Segments]:
        """Returns the last steps, as many as a clip has at most, of the last rollouts' episodes that ended before they
        were cut off, the newest last."""
        return endings(join(self.rollouts), self.length, self.steps, early=True)

    def recent(self, rng: np.random.Generator, wanted: int = 0) -> Segments:
        """Clips of the last rollouts, as `cut_segments` cuts them."""
        if self.whole:
            return cut_episodes(join(self.rollouts), self.length)
        return cut_segments(join(self.rollouts), self.length, rng, wanted=wanted)

    def newest(self, rng: np.random.Generator) -> Segments:
        """Clips of as few of the last rollouts as one clip needs."""
        if self.whole:  # and the one before, in which they may have begun
            return cut_episodes(join(self.rollouts[-self.of_a_clip - 1 :]), self.length)
        return cut_segments(join(self.rollouts[-self.of_a_clip :]), self.length, rng)

    def pool(self, rng: np.random.Generator, wanted: int = 0) -> tuple[Segments, int]:
        """Returns recent clips and as many older ones, as far as there are any, or more, for as many as are wanted
        together; and how many of them, the first, are recent. Raises UserError if there is no clip at all."""
        if self.older is None:
            first = self.recent(rng, wanted)
            return first, len(first)
        recent = self.recent_or_none(rng, wanted - len(self.older))
        other = np.ones(len(self.older), bool) if recent is None else ~among(self.older, recent)
        if recent is not None and len(recent) + other.sum() < wanted:
            recent = self.recent(rng, wanted)  # all there are, if need be
            other = ~among(self.older, recent)
        found = 0 if recent is None else len(recent)
        if found < wanted - found:
            say_once(
                f"rlhf-control: episodes end so early that too few recent clips of {counted(self.length, 'step')} are "
                "whole; wherever it is so, older ones stand in for them"
            )
        order = rng.permutation(len(self.older))
        older = self.older[order[other[order]][: max(found, wanted - found)]]
        return older if recent is None else Segments.concatenate([recent, older]), found

    def recent_or_none(self, rng: np.random.Generator, wanted: int = 0) -> Segments | None:
        """The same, or None if no episode was long enough."""
        try:
            return self.recent(rng, wanted)
        except UserError:
            return None

    def archive(self, rng: np.random.Generator) -> None:
        """Puts recent clips, if there are any, among the older ones, which random ones leave when there are too
        many."""
        recent = self.recent_or_none(rng)
        if recent is None:
            return
        if self.older is not None and (twins := among(recent, self.older)).any():
            recent = recent[~twins]
        everything = recent if self.older is None else Segments.concatenate([self.older, recent])
        room = min(self.capacity, self.fitting(everything))
        if room < min(self.capacity, len(everything)):
            say_once(
                f"rlhf-control: only {counted(room, 'older clip')} of {counted(self.length, 'step')} kept, for their "
                "observations or pictures are large; --query.older-mb changes that of observations"
            )
        self.older = everything[np.sort(rng.permutation(len(everything))[:room])].compact()

    def fitting(self, clips: Segments) -> int:
        """Returns how many such clips fit into the memory that older ones may take."""
        arrays = clips.arrays()
        frames = arrays.pop("frames", None)
        room = self.older_bytes // sum(array[0].nbytes for array in arrays.values())
        if frames is not None:
            room = min(room, FRAME_BYTES // frames[0].nbytes)
        return max(1, room)

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        kept = {str(i): {f.name: getattr(r, f.name) for f in fields(r)} for i, r in enumerate(self.rollouts)}
        episodes = {str(i): without_next_obs(episode.arrays()) for i, episode in enumerate(self.episodes)}
        older = None if self.older is None else without_next_obs(self.older.arrays())
        return {"rollouts": kept, "older": older} | ({"episodes": episodes} if episodes else {})

    def load_state(self, state: dict[str, Any]) -> None:
        kept = state["rollouts"]
        rollouts = [kept[str(i)] for i in range(len(kept))]
        # Older checkpoints hold all successors
        self.rollouts = [Rollout.of(**r) if "next_obs" in r else Rollout(**r) for r in rollouts]
        self.older = None if state["older"] is None else Segments(**with_next_obs(state["older"])).compact()
        found = state.get("episodes", {})
        self.episodes = [Segments(**with_next_obs(found[str(i)])) for i in range(len(found))]


def cut(episodes: Sequence[Segments], length: int) -> Segments:
    """Cuts episodes (T, ...) into clips (S, L, ...), end to end, without what is left over; with length 0, leaves them
    whole."""
    if not length:
        return Segments.stack(episodes)
    clips = [e[i : i + length] for e in episodes for i in range(0, len(e) - length + 1, length)]
    if len(clips) < 2:
        raise UserError(f"the episodes are too short for two clips of {counted(length, 'step')}; raise --episodes")
    return Segments.stack(clips)
