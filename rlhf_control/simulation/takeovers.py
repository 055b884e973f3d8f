"""Episodes in which a policy acts and somebody takes over: which stretches are corrections, and what the policy would
have done in their place.

Interventions of this kind are what people who fine-tune robots give (HG-DAgger, arXiv 1810.02890; HIL-SERL, arXiv
2410.21845). Here nothing is imitated: that the stretch stands above what the policy would have done is an answer like
any other. L steps of a clip, T of an episode.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rlhf_control.data import Segments
from rlhf_control.simulation.simulator import attempt_from, bare_simulator
from rlhf_control.spaces import Act, Spaces

LEAST = 2  # steps that a stretch must have: less is a key touched by mistake
Pair = tuple[Segments, Segments]  # what the policy would have done, and the taken-over stretch, (L, ...) each


@dataclass(frozen=True)
class Pilot:
    """Holds a policy as it is flown: no network here."""

    env_id: str
    env: Mapping[str, Any]
    spaces: Spaces
    act: Act
    length: int  # steps of a clip


def stretches(taken: Sequence[bool]) -> list[range]:
    """Returns the stretches of an episode that were taken over, given for each step whether it was."""
    edges = [i for i in range(len(taken) + 1) if bool(i < len(taken) and taken[i]) != bool(i and taken[i - 1])]
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def cut(stretch: range, length: int) -> list[slice]:
    """Cuts a stretch into pieces of so many steps, end to end. The last one ends with the stretch, whether or not it
    overlaps the one before; where the stretch is shorter than a piece, it begins with what the policy did before,
    which both clips of the correction have in common, as far as the episode goes back."""
    ends = [*range(stretch.start + length, stretch.stop, length), stretch.stop]
    return [slice(max(0, end - length), end) for end in ends]


def corrections_in(episode: Segments, taken: Sequence[bool], pilot: Pilot) -> list[Pair]:
    """Returns, of an episode (T, ...) in which somebody took over at these steps, each piece of a stretch and beside it
    what the policy would have done from where it begins, without noise. Raises UserError for an environment that cannot
    be put back there."""
    pieces = [piece for s in stretches(taken) if len(s) >= LEAST for piece in cut(s, pilot.length)]
    if not pieces:
        return []
    with closing(bare_simulator(pilot.env_id, pilot.env)) as simulator:
        clips = [episode[piece].without_frames() for piece in pieces]
        return [(attempt_from(simulator, pilot.act, pilot.spaces, clip, None)[0], clip) for clip in clips]
