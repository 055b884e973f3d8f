"""Options of the commands that do not train. Frozen dataclasses, like those of `training`, and as light to import."""

import getpass
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from rlhf_control.config.checks import POSITIONAL, explained, positive, typed, within
from rlhf_control.errors import UserError
from rlhf_control.wording import counted


def login_name() -> str:
    """Returns the name of whoever sits here."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in some containers
        return "person"


@explained
@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the raw returns of a policy over fresh episodes, with frozen statistics."""

    path: Annotated[str, POSITIONAL]
    """A policy file, a run's folder, the name of a policy that ships with the project, or a file of another library."""
    episodes: int = 10
    """How many."""
    env_id: str = ""
    """For a policy of an environment MODULE:ID, the same id again, to say that you trust the module; for a file of
    another library, the environment that it is for."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """For a file of another library: arguments of the environment, as in `gymnasium.make`."""
    obs_stats: str = ""
    """For a policy of another library: a file of its observation statistics (an .npz of mean, var and count)."""
    trust: bool = False
    """Read obs_stats from a pickled VecNormalize too, as data."""
    behaviours: str = ""
    """For a run about behaviours of your own: the file or module again, to say that you trust it."""
    seed: int = 10_000
    """Of the episodes; the i-th environment gets seed + i."""
    score: str = ""
    """A behaviour whose success to measure (default: the run's own, if it has one)."""
    stochastic: bool = False
    """Sample actions instead of taking the mode."""
    json: bool = False
    """Print one JSON object: returns, return_mean, success_rate where the environment tells of it, and, where a
    behaviour is named, scores and score_mean."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "episodes")
        within(self, "seed", low=0, high=2**31 - 1)


@explained
@dataclass(frozen=True)
class LabelsConfig:
    """Say what is known about a run's labels: how many of which kind, by whom, how consistent."""

    run: Annotated[str, POSITIONAL]
    """A run's folder, or a feedback store (labels.sqlite)."""
    export: str = ""
    """Also write the labels: into this folder, as JSON Lines and .npz; as minari:NAME, as a Minari data set of this
    machine; as lerobot:DIR, as a LeRobot data set, version 3.0 (the latter two need `pip install
    'rlhf_control[data]'`)."""
    load: str = ""
    """First import into the store: the folder of an export, an .npz of pairs, B-Pref's buffers (.npz or torch), or what
    imitation's PreferenceDataset.save wrote."""
    json: bool = False
    """Print one JSON object instead of the table."""

    def __post_init__(self) -> None:
        typed(self)


@explained
@dataclass(frozen=True)
class EvaluateRewardConfig:
    """Measure how right a run's reward is: accuracy, calibration, distances, leaks, over-optimisation."""

    run: Annotated[str, POSITIONAL]
    """The folder of a fine-tuning run."""
    env_id: str = ""
    """Only for a run in an environment MODULE:ID: the same id again, to say that you trust the module."""
    behaviours: str = ""
    """For a run about behaviours of your own: the file or module again, to say that you trust it."""
    truth: str = ""
    """The oracle whose reward counts as the true one (default: the run's own; people have none)."""
    expert: str = ""
    """A policy that is good at the true reward, for a row of its own; it may be another library's file."""
    obs_stats: str = ""
    """For an expert of another library: a file of its observation statistics (an .npz of mean, var and count)."""
    trust: bool = False
    """Read obs_stats from a pickled VecNormalize too, as data."""
    episodes: int = 8
    """Fresh episodes of each policy."""
    pairs: int = 500
    """Pairs of clips that accuracy is measured on, from each source."""
    seed: int = 20_000
    """Of the fresh episodes and of the pairs that are drawn."""
    json: bool = False
    """Print one JSON object instead of the tables."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "episodes", "pairs")
        within(self, "seed", low=0, high=2**31 - 1)


@explained
@dataclass(frozen=True)
class RecordConfig:
    """Make a video of one policy, or of two side by side."""

    paths: Annotated[tuple[str, ...], POSITIONAL]
    """One or two of: a policy file, a run's folder, the name of a shipped policy, a file of another library."""
    out: str = "video.mp4"
    """The video to write (.mp4 or .gif)."""
    env_id: str = ""
    """For policies of an environment MODULE:ID, the same id again, to say that you trust the module; for a file of
    another library, the environment that it is for, and so below."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """For a file of another library: arguments of the environment, as in `gymnasium.make`."""
    obs_stats: str = ""
    """For a policy of another library: a file of its observation statistics (an .npz of mean, var and count)."""
    trust: bool = False
    """Read obs_stats from a pickled VecNormalize too, as data."""
    seconds: float = 10.0
    """Of the video, at most: one episode is shown."""
    seed: int = 0
    """Of the episode."""
    captions: tuple[str, ...] = ()
    """One a policy (default: its path)."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "seconds")
        within(self, "seed", low=0, high=2**31 - 1)
        if not 1 <= len(self.paths) <= 2:
            raise UserError(f"{len(self.paths)} policies to record; give one, or two to see side by side")
        if self.captions and len(self.captions) != len(self.paths):
            policies = counted(len(self.paths), "policy", "policies")
            raise UserError(f"{counted(len(self.captions), 'caption')} for {policies}; give one each")


@explained
@dataclass(frozen=True)
class PlotConfig:
    """Draw learning curves over runs and seeds: interquartile mean and 95 % bootstrap interval."""

    runs: Annotated[tuple[str, ...], POSITIONAL]
    """Folders of runs; those that differ in nothing but the seed make one curve."""
    out: str = "curves"
    """Writes OUT.png, OUT.pdf and the table behind them, OUT.csv."""
    metrics: tuple[str, ...] = ()
    """Names from metrics.jsonl (default: those the runs have of return, score, accuracy, KL)."""
    x: Literal["env_steps", "labels", "wall_seconds"] = "env_steps"
    """What is along the x axis."""
    names: tuple[str, ...] = ()
    """Of the curves, for the legend, in the order of the runs (default: what sets them apart)."""

    def __post_init__(self) -> None:
        typed(self)
        if not self.runs:
            raise UserError("no runs to plot; name at least one run's folder")


@explained
@dataclass(frozen=True)
class LabelConfig:
    """Vote on a run's open questions, in a window or on a terminal, while the run trains or waits."""

    run: Annotated[str, POSITIONAL]
    """The run's folder."""
    annotator: str = field(default_factory=login_name)
    """Who votes (default: the login name). Several people at once: each under a name of their own."""
    speed: float = 1.0
    """Of the clips; 1 is real time."""
    size: str = ""
    """Of the window, WIDTHxHEIGHT (default: 1280x720, or the whole display if that is smaller)."""
    show_prediction: bool = False
    """After each vote, show what the reward model predicted."""
    sound: bool = False
    """When a question comes after a pause, a short sound."""
    levels: int = 5
    """Of a rating, from 1 (worst)."""
    terminal: bool = False
    """Without a window: clips go to a video file, answers are typed."""
    env_id: str = ""
    """Only for a run in an environment MODULE:ID: the same id again, to say that you trust the module."""
    seed: int | None = None
    """Of the sides that the clips are shown on (default: another one every time)."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "speed", low=0.25, high=4.0)
        within(self, "levels", low=2, high=9)
        self.width_and_height()
        if not self.annotator.strip():
            raise UserError("the annotator has no name; give one with --annotator")
        if self.seed is not None:
            within(self, "seed", low=0, high=2**31 - 1)

    def width_and_height(self) -> tuple[int, int] | None:
        """Returns the window's size in pixels; None: what fits the display."""
        if not self.size:
            return None
        match = re.fullmatch(r"(\d{3,5})x(\d{3,5})", self.size)
        if not match:
            raise UserError(f"size is '{self.size}'; write it as 1280x720")
        return int(match[1]), int(match[2])


@explained
@dataclass(frozen=True)
class PlayConfig:
    """Drive an environment with keyboard or gamepad, for a demonstration; or take over from a policy, to correct it.

    Corrections are kept where a policy is let act and goes wrong, and the run learns from them like from votes."""

    name: Annotated[str, POSITIONAL]
    """A Gymnasium id to drive yourself; a run's folder, or a policy, to take over from."""
    out: str = ""
    """The recording to write (default: recordings/ENV_ID-TIME.npz); or the store of the corrections (default: that of
    the run)."""
    annotator: str = field(default_factory=login_name)
    """Who takes over (default: the login name)."""
    env_id: str = ""
    """Only for a policy of an environment MODULE:ID: the same id again, to say that you trust the module."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments of the environment, as in `gymnasium.make`."""
    fps: float | None = None
    """Steps a second (default: the environment's own)."""
    seed: int = 0
    """Of the first episode; the next ones follow from it."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "fps")
        within(self, "seed", low=0, high=2**31 - 1)
        if not self.annotator.strip():
            raise UserError("whoever takes over has no name; give one with --annotator")


@explained
@dataclass(frozen=True)
class WatchConfig:
    """Look into a run: any question with its clips, its votes, and the reward that the model predicts along them."""

    run: Annotated[str, POSITIONAL]
    """The run's folder."""
    query: str = ""
    """Where to start: a question's number, or the beginning of its key."""
    reward: bool = True
    """Draw the predicted reward along the time line."""
    env_id: str = ""
    """Only for a run in an environment MODULE:ID: the same id again, to say that you trust the module."""

    def __post_init__(self) -> None:
        typed(self)


@explained
@dataclass(frozen=True)
class GuardChange:
    """Say what the guards of a fine-tuning run do from now on."""

    chance: Literal["hold", "off"] | None = None
    """Whether the policy waits for a reward that is shown to be better than coin flips, as in `finetune`."""
    alarm: Literal["stop", "roll-back", "warn", "off"] | None = None
    """What to do when the reward looks hacked, as in `finetune`."""

    def __post_init__(self) -> None:
        typed(self)


@explained
@dataclass(frozen=True)
class ResumeConfig:
    """Go on with a run exactly where it stopped, or from there with other options.

    Those below, and no others, leave what was done so far as it is. Changes are noted in config.json and the report; a
    run with another termination or guard on its way cannot be replayed.
    """

    run: Annotated[str, POSITIONAL]
    """The run's folder."""
    env_id: str = ""
    """Only for a run in an environment MODULE:ID: the same id again, to say that you trust the module."""
    behaviours: str = ""
    """For a run about behaviours of your own: the file or module again, to say that you trust it."""
    termination: Literal["truncate", "penalty", "allow"] | None = None
    """What to do about episodes that end early, as in `finetune`: when a run died of one."""
    question: str | None = None
    """What people are asked from now on, in words."""
    window: bool | None = None
    """Whether to open the labelling window."""
    video: bool | None = None
    """Whether to make before_after.mp4 at the end."""
    track: Literal["none", "tensorboard", "trackio", "wandb"] | None = None
    """Who is also shown the rows, those of before included, as in `finetune`."""
    checkpoint_seconds: float | None = None
    """Time between two checkpoints."""
    guard: GuardChange = GuardChange()

    def changes(self) -> dict[str, Any]:
        """Returns the options to change, by their names."""
        own = {
            name: value for name, value in vars(self).items() if name not in ("run", "env_id", "behaviours", "guard")
        }
        given = own | {f"guard.{name}": value for name, value in vars(self.guard).items()}
        return {name: value for name, value in given.items() if value is not None}

    def __post_init__(self) -> None:
        typed(self)


@explained
@dataclass(frozen=True)
class BehavioursConfig:
    """List the behaviours that an oracle can prefer, with what they mean and how success is measured."""

    env_id: str = ""
    """Only those of this environment."""
    behaviours: str = ""
    """A Python file, or a module, with behaviours of your own, which are listed too."""

    def __post_init__(self) -> None:
        typed(self)


@explained
@dataclass(frozen=True)
class ZooConfig:
    """List the policies that ship with the project, and those that one command makes, with their returns."""


@explained
@dataclass(frozen=True)
class DoctorConfig:
    """Look at this machine: versions, graphics, display, disk, threads, and how to mend what is missing."""
