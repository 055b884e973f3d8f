"""How likely an annotator is to be mistaken about these clips: pure functions.

Labels of real people are wrong where clips look alike or move fast, not by the toss of a coin, and methods that are
robust to coins are not to that (feature-dependent noise: Li et al., arXiv 2601.01904). S clips of L steps.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rlhf_control.config import AnnotatorConfig
from rlhf_control.data import Array, Segments

COLUMNS = 500  # of an observation


def mistake_rate(config: AnnotatorConfig, index: int) -> float:
    """Returns the chance of a mistake in the answer at this place of a round: it grows with fatigue, up to 1/2."""
    return max(config.mistake, min(0.5, config.mistake + config.fatigue * index))


@dataclass(frozen=True)
class Looks:
    """What is usual among clips: by their observations, each column in its own standard deviations."""

    scale: Array  # (O,)
    apart: Array  # (S,) sorted: how far two clips of the pool are apart
    moving: Array  # (S,) sorted: how fast one moves

    @classmethod
    def of(cls, pool: Segments) -> "Looks":
        """Measures a pool (S, L, O)."""
        obs = seen(pool)
        scale = np.maximum(obs.reshape(-1, obs.shape[-1]).std(0, dtype=np.float64), 1e-9)
        at = places(obs, scale)
        return cls(scale, np.sort(rms(at - np.roll(at, len(at) // 2, axis=0))), np.sort(speeds(obs, scale)))

    def mistake_rate(self, config: AnnotatorConfig, clips: Segments) -> float:
        """Returns the chance of a mistake about clips (K, L, O) that comes of how they look: `alike` times the share of
        pairs that are further apart than the two most alike of these, plus `fast` times the share of clips that are
        slower than the fastest of these."""
        rate, obs = 0.0, seen(clips)
        if config.mistake_alike and len(clips) > 1:
            at = places(obs, self.scale)
            nearest = rms(np.array([a - b for a, b in combinations(at, 2)])).min()
            rate += config.mistake_alike * (1 - np.searchsorted(self.apart, nearest) / len(self.apart))
        if config.mistake_fast:
            fastest = speeds(obs, self.scale).max()
            rate += config.mistake_fast * np.searchsorted(self.moving, fastest) / len(self.moving)
        return min(1.0, float(rate))


def seen(clips: Segments) -> Array:
    """Returns some COLUMNS of what is to be seen, evenly over a picture, for a pool of pictures has gigabytes."""
    return clips.obs[..., :: -(-clips.obs.shape[-1] // COLUMNS)]


def places(obs: Array, scale: Array) -> Array:
    """Returns where clips (S, L, O) are on the mean, (S, O)."""
    return obs.mean(1, dtype=np.float64) / scale


def speeds(obs: Array, scale: Array) -> Array:
    """Returns how much clips (S, L, O) change from step to step, (S,)."""
    return rms(np.diff(obs.astype(np.float64), axis=1) / scale).mean(-1) if obs.shape[1] > 1 else np.zeros(len(obs))


def rms(values: Array) -> Array:
    """Returns the root mean square over the last axis."""
    return np.sqrt(np.square(values).mean(-1))
