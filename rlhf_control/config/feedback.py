"""Options of annotators, synthetic and human, and of what they are asked."""

from dataclasses import dataclass

from rlhf_control.config.checks import explained, positive, typed, within
from rlhf_control.errors import UserError


@explained
@dataclass(frozen=True)
class AnnotatorConfig:
    """Say how a synthetic annotator departs from always naming the better clip. What it compares are clips' returns,
    and everything is relative to the returns of the pool, so that a number means the same in every environment.

    B-Pref's annotators (arXiv 2111.03026, algorithm 2) are temperature 1, mistake 0.1, skip 0.1, equal 0.1 and discount
    0.9, one at a time.
    """

    mistake: float = 0.0
    """Chance that an answer is turned upside down."""
    mistake_alike: float = 0.0
    """Added to that chance where a question's clips look as alike as any two of the pool's, less the more they differ:
    half of it on the mean of random pairs."""
    mistake_fast: float = 0.0
    """Added where one of them moves faster than all of the pool's, less the slower they are."""
    fatigue: float = 0.0
    """What each answer within a round adds to that chance, up to 1/2."""
    skip: float = 0.0
    """"Cannot tell" where every clip is below this quantile of the pool's returns."""
    equal: float = 0.0
    """A tie where returns differ by less than this many standard deviations of the pool's."""
    discount: float = 1.0
    """Myopic below 1: the reward k steps before a clip's end counts discount**k."""
    position_bias: float = 0.0
    """Chance to answer by the place alone: the first clip is best."""
    temperature_drift: float = 0.0
    """Added to the temperature in every round after the first."""
    drift: float = 0.0
    """Preference drift: the share by which `drift_to` replaces the reward, more in every round after the first."""
    drift_to: str = "env"
    """Where the preference drifts: a behaviour's name or env."""
    crowd: tuple[float, ...] = ()
    """Several annotators who answer by turns, each so honest: 1 says what it thinks, 0 says that or the opposite by
    the toss of a coin, -1 always the opposite; 1 1 1 -1 are three honest ones and a liar."""
    levels: int = 5
    """Of a rating, from 1 (worst); equally many of the pool's clips deserve each."""
    expert: str = ""
    """A policy, as POLICY, that takes over (--feedback take-over)."""
    success: float | None = None
    """An episode is a success from this score of the behaviour on (of the oracle env: mean reward a step). Default:
    with the oracle env where the environment itself says so at any step shown, if it tells of it; else it must be
    better, a step, than half of the pool's clips, so that the standard rises with the policy."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "mistake", "mistake_alike", "mistake_fast", "fatigue", "skip", low=0.0, high=1.0)
        within(self, "discount", "position_bias", "drift", low=0.0, high=1.0)
        within(self, "equal", "temperature_drift", low=0.0, high=1e9)
        within(self, "levels", low=2, high=100)
        if any(not -1 <= honesty <= 1 for honesty in self.crowd):
            raise UserError(f"annotator.crowd is {' '.join(map(str, self.crowd))}; each is from -1 to 1")


@explained
@dataclass(frozen=True)
class QueryConfig:
    """Say which clips a round asks about, besides the strategy."""

    candidates: int = 10
    """Random groups of clips that a strategy looks at, for each one it asks."""
    random_share: float = 0.4
    """Of every round, this share is random whatever the strategy: to measure accuracy on, and against blind spots."""
    recent_share: float = 0.0
    """At least this share of every round's queries are about recent clips only; the others mix them with older ones."""
    older_share: float = 0.0
    """At least this share are about older clips only, once there are any."""
    older_mb: float = 256.0
    """How many megabytes of older clips are kept, in memory and in every checkpoint: 1,000 clips at most, fewer where
    observations are large."""
    min_difference: float = 0.1
    """Clips of one query look different by at least this many standard deviations of the pool's steps."""
    repeat_share: float | None = None
    """Of all questions, this share is asked a second time, to see how far answers can be trusted (default: 0.05 for
    people, 0 for oracles)."""
    gold: str = ""
    """Questions with known answers, to check people by: an exported store, or an .npz of pairs. Shown among the others,
    one in twenty; counted apart and not learned from."""
    episode_seconds: float = 10.0
    """Of an episode whose success is asked about, how many seconds up to its end are shown and judged; less where it is
    shorter."""
    attempts: int = 4
    """New attempts from the start of a clip, the best of which is its correction."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "candidates", "attempts", "older_mb", "episode_seconds")
        within(self, "random_share", "recent_share", "older_share", low=0.0, high=1.0)
        if self.recent_share + self.older_share > 1:
            raise UserError(
                f"recent_share {self.recent_share:g} and older_share {self.older_share:g} are more than the whole; "
                "lower either"
            )
        within(self, "min_difference", low=0.0, high=1e9)
        if self.repeat_share is not None:
            within(self, "repeat_share", low=0.0, high=0.5)


@explained
@dataclass(frozen=True)
class HumanConfig:
    """Say how far training and people may be apart under asynchronous labelling (--labelling async)."""

    open_queries: int = 6
    """Questions kept open: as they are answered, others about the newest policy follow, half of these at a time."""
    refit_answers: int = 5
    """The reward is fitted anew when so many questions were answered since the last fit ..."""
    refit_share: float = 0.1
    """... and this share of all that were answered."""
    lead: float = 0.25
    """How far training may be ahead of the answers, as a share of the time in which they are asked for, before it waits
    for people after all; 1: it never waits, and what is not answered when it ends is lost."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "open_queries", "refit_answers")
        within(self, "refit_share", "lead", low=0.0, high=1.0)
