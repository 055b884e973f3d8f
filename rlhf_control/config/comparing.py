"""Options of the commands that compare: policies, runs, speeds. Frozen dataclasses, like those of `training`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from rlhf_control.config.checks import POSITIONAL, explained, positive, typed, within
from rlhf_control.errors import UserError


@explained
@dataclass(frozen=True)
class CompareConfig:
    """Say which is better and how sure that is: two policies by their episodes, or two groups of runs by their seeds.

    The interval holds however often one looks, so more runs or episodes may be added until it is decided.
    """

    runs: Annotated[tuple[str, ...], POSITIONAL]
    """Folders of runs, or one policy, which may be another library's file."""
    against: tuple[str, ...] = ()
    """The others. One and one are compared by episodes, several by what the runs came to in the last
    tenth of their steps."""
    metric: str = ""
    """Of one and one: return or score (default: return). Of runs: a name from metrics.jsonl (default: score, else
    env_return). The higher counts as the better."""
    episodes: int = 500
    """Of one and one, at most, each; it ends as soon as it is decided."""
    score: str = ""
    """Of one and one: a behaviour whose success to compare, with --metric score (default: the run's own)."""
    level: float = 0.95
    """Of the intervals."""
    out: str = ""
    """Also write OUT.json, and performance profiles into OUT.png and OUT.pdf."""
    seed: int = 10_000
    """Of the episodes; the i-th of either has seed + i."""
    env_id: str = ""
    """For policies of an environment MODULE:ID, the same id again, to say that you trust the module; for a file of
    another library, the environment that it is for, and so below."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """For a file of another library: arguments of the environment, as in `gymnasium.make`."""
    obs_stats: str = ""
    """For a policy of another library: a file of its observation statistics (an .npz of mean, var and count)."""
    trust: bool = False
    """Read obs_stats from a pickled VecNormalize too, as data."""
    behaviours: str = ""
    """For runs about behaviours of your own: the file or module again, to say that you trust it."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "episodes")
        within(self, "level", low=0.5, high=0.9999)
        within(self, "seed", low=0, high=2**31 - 1)
        if not self.runs or not self.against:
            raise UserError("nothing to compare; write compare RUN... --against RUN...")


@explained
@dataclass(frozen=True)
class BenchConfig:
    """Measure how fast it is, beside the peers that are installed. Leave the machine alone meanwhile."""

    what: Annotated[Literal["ppo", "window", "reward", "games", "sweep", "loop", "dialogue"], POSITIONAL]
    """ppo: 8 environments, minibatches of 64, 10 epochs, 2x64 tanh, against Stable-Baselines3, SBX (`pip install
    rlhf_control[bench]`) and RLlib (--rllib-python); ALE/*-v5 with the preset atari, once with the CNN
    in bfloat16, against Stable-Baselines3 with the same. reward: fitting the reward, against imitation
    (--imitation-python). window: the labelling window, from key to vote and to the next pair. games: steps a
    core-second of our own games, against other fast ones (--games-python). sweep: short runs through Ray, against our
    own pool of processes. loop: a whole fine-tuning, against another build
    (--against) and imitation's loop (--imitation-python). dialogue: PPO on tokens,
    against the same around a GPT-2 of Hugging Face (--dialogue-python)."""
    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "CartPole-v1")
    """Gymnasium ids, for ppo."""
    runs: int = 5
    """Of each learner, by turns."""
    seconds: float = 3.0
    """Of a run, rounded up to whole iterations."""
    million: int = 0
    """So many turns of a million steps of HalfCheetah-v5 as well, from process start to saved policy."""
    against: str = ""
    """For loop: a commit of this package's repository, such as HEAD~20."""
    out: str = ""
    """For all raw figures (default: bench_WHAT.json)."""
    sb3_python: str = ""
    """The interpreter of an environment with Stable-Baselines3, where it is another one (for ALE with OpenCV)."""
    rllib_python: str = ""
    """The interpreter of an environment with RLlib, which pins a Gymnasium of its own."""
    imitation_python: str = ""
    """The interpreter of an environment with imitation 1.0.1, which pins an older one."""
    games_python: str = ""
    """The interpreter of an environment with env-breakoutatari2600-turbo-native and ale-py."""
    dialogue_python: str = ""
    """The interpreter of an environment with torch and transformers."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "runs", "seconds")
        within(self, "million", low=0, high=1000)
        if not self.tasks:
            raise UserError("no tasks to time; name at least one, or leave --tasks out")

    def path(self) -> str:
        """Returns where the raw figures go."""
        return self.out or f"bench_{self.what}.json"
