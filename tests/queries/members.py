"""A stand-in for the ensemble."""

from dataclasses import dataclass

from rlhf_control.data import Array, Segments


@dataclass
class Members:
    """Members that are linear in a clip's mean observation, and count what they score."""

    weights: Array  # (E, O)
    fitted: bool = True
    scored: int = 0

    def clip_logits(self, clips: Segments) -> Array:
        self.scored += len(clips)
        return self.weights @ clips.obs.mean(1).T
