"""Every knob of training on one page. Frozen dataclasses; the command line makes its flags of them (`--ppo.lr 1e-4`).

This file imports nothing heavy, so that `--help` is instant. The options of the other commands are in `commands`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from rlhf_control.config.checks import POSITIONAL, explained, positive, typed, within
from rlhf_control.config.feedback import AnnotatorConfig, HumanConfig, QueryConfig
from rlhf_control.config.policy import AS_TRAINED, NetConfig, PPOConfig, ReferenceConfig
from rlhf_control.config.reward import GuardConfig, RewardConfig
from rlhf_control.config.schedules import schedule
from rlhf_control.errors import UserError


def refuse_name_alone(given: Mapping[str, Any], config: str, instead: str) -> None:
    """Refuses a preset's name without what it stands for, which would be recorded, but not used."""
    named = isinstance(given.get("preset"), str) and given["preset"]  # other types: `typed` says it
    if named and not {"total_steps", "env", "ppo"} <= given.keys():
        raise UserError(
            f"{config}(preset={given['preset']!r}) would not have the preset's hyperparameters; start from "
            f"rlhf_control.config.presets.{instead} and change it with dataclasses.replace"
        )


@explained
@dataclass(frozen=True)
class PretrainConfig:
    """Train a policy by PPO on the environment's reward."""

    env_id: Annotated[str, POSITIONAL]
    """A Gymnasium id, such as HalfCheetah-v5."""
    total_steps: int = 1_000_000
    """Environment steps, rounded down to whole iterations of ppo.num_envs * ppo.num_steps (at least one)."""
    preset: str = ""
    """Hyperparameters to start from, which the other options then change: tuned (for the return after the task's
    total_steps), fast (for the return after seconds), atari (for ALE/*-v5, as DQN and Stable-Baselines3 prepare and
    train it; there it is tuned, too), sb3 (Stable-Baselines3's defaults) or a file that `tune` left. It may name
    arguments of the environment, to which --env adds. In Python, start from `presets.preset(env_id, name)`."""
    seed: int = 0
    """Of everything random in the run: the same seed gives the same bits."""
    seeds: str = ""
    """Several side by side, a core each, as 0-4 or 0,3,7; each into OUT-SEED. Given again, goes on with them."""
    out: str = ""
    """The run's folder (default: runs/pretrain-ENV_ID-SEED)."""
    learner: Literal["ppo", "sb3", "cloning"] = "ppo"
    """sb3: Stable-Baselines3's PPO as a baseline, into the same run folder. cloning: act like the demonstrations that
    come with the environment, as with the turns of rlhf/Dialogue-v0."""
    normalize_reward: bool = True
    """Divide the reward by the running standard deviation of the discounted return."""
    normalize_obs: bool = True
    """Bring observations to mean 0 and variance 1 by running statistics."""
    backend: Literal["auto", "batched", "games", "dialogue", "ale", "gymnasium"] = "auto"
    """auto: batched MuJoCo, our own games or dialogue, or prepared ALE where the id has them, else Gymnasium's
    environments."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks that see pictures are evaluated and updated; all others are fastest on the processor. auto: the
    first GPU that torch finds, else the processor."""
    track: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """Also show the rows of metrics.jsonl, and at the end figures and video, to TensorBoard (event files in
    RUN/tensorboard), trackio (its database on this machine) or Weights & Biases (offline, in RUN/wandb). Needs `pip
    install 'rlhf_control[track]'`."""
    checkpoint_seconds: float = 5.0
    """Time between two checkpoints."""
    env_timeout: float = 300.0
    """Seconds that one call of the environment (make, reset, step, render, close) may take before the run stops and
    names it; 0: any time."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments of the environment, as in `gymnasium.make`."""
    net: NetConfig = NetConfig()
    ppo: PPOConfig = PPOConfig()

    def __new__(cls, *_: Any, **given: Any) -> "PretrainConfig":
        refuse_name_alone(given, "PretrainConfig", f"preset(env_id, {given.get('preset')!r})")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "total_steps")
        within(self, "seed", low=0, high=2**31 - 1)
        within(self, "checkpoint_seconds", "env_timeout", low=0, high=1e9)


@explained
@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune a policy on preferences.

    What is not given of --ppo.* is as the policy was trained or, if its file does not say, as the preset `tuned` of its
    task. In Python a PPOConfig is all of them; `replace(hyperparameters(policy), lr=1e-4)` changes one. Dialogue starts
    from other options than said here too, `presets.FINETUNING`; in Python `suited(policy)` is all that a command starts
    from.
    """

    policy: Annotated[str, POSITIONAL]
    """A policy file, a run's folder, the name of a policy that ships with the project, or a file of Stable-Baselines3,
    CleanRL, RLlib or rsl_rl, which needs --env-id."""
    env_id: str = ""
    """A Gymnasium id (default: the policy's own)."""
    obs_stats: str = ""
    """For a policy of another library: a file of its observation statistics (an .npz of mean, var and count)."""
    trust: bool = False
    """Read obs_stats from a pickled VecNormalize too, as data."""
    preset: str = ""
    """A file that `tune` left of a search of fine-tuning: options to start from, which the others then change. In
    Python, `presets.from_file(FinetuneConfig(policy, ppo=hyperparameters(policy)), FILE)`."""
    oracle: str = "backward"
    """Who answers: `human` (people, in a window), `env` (the environment's reward), `coin-flip`, or a behaviour:
    backward, keep-pace, hind-legs, prowl, jump, flip (HalfCheetah-v5), backflip (Hopper-v5), one-leg, crouch, stand,
    moonwalk (Walker2d-v5), spin, sidestep, three-legs (Ant-v5), gentle, from-above, lift-high, low-elbow
    (rlhf/ArmGrasp-v0), careful-door (rlhf/ArmDoor-v0), hurry, savour, calm, wary, daring, tidy (rlhf/Orchard-v0),
    home, steep (rlhf/Bricks-v0), centre, rally (ALE/Pong-v5), reach-from-above (FetchReachDense-v4), hand-high
    (MetaWorld), cheerful, brief, polite (rlhf/Dialogue-v0). `rlhf-control behaviours` says what they mean."""
    behaviours: str = ""
    """A Python file, or a module, with behaviours of your own. It is code: whatever reads the run and has to score by
    them wants it named again."""
    oracle_temperature: float = 0.0
    """0: always the better clip. Above: Boltzmann, in units of the spread of the clips' returns."""
    labelling: Literal["blocking", "async"] = "blocking"
    """How people are waited for. blocking: training pauses until a round is answered. async: it goes on after the first
    round, and learns from answers as they come."""
    annotators: int = 1
    """How many people answer each question."""
    question: str = ""
    """What people are asked, in words (default: the behaviour's question, or which one does it better)."""
    window: bool = True
    """Open the labelling window. Without it, or beside it, people vote with `rlhf-control label RUN`."""
    replay: str = ""
    """The folder of a finished run, whose answers stand in for people or oracle: with its options, the same policy bit
    for bit."""
    labels: int = 100
    """Questions to be answered, over the whole run. 0: learn from demonstrations alone. A command that asks for success
    alone asks 300 unless told otherwise, and a third of them at first, for a mark says less."""
    first_labels: int = 20
    """Of these, how many before the first update."""
    rounds: int = 9
    """Label rounds, the first included, evenly over the first label_until of the run."""
    schedule: Literal["constant", "hyperbolic", "front-loaded"] = "constant"
    """How the answers after the first round are spread over the other rounds: evenly, as 1 / (1 + t), or as 0.01^t."""
    label_until: float = 0.7
    """The share of the run after which nothing more is asked."""
    feedback: tuple[
        Literal["comparison", "ranking", "rating", "reward", "correction", "success", "take-over", "groups"], ...
    ] = ("comparison",)  # fmt: skip
    """What is asked for; several kinds share every round evenly. rating: from 1 up. reward: a number. correction: the
    best of several new attempts from the start of a clip, beside the clip. success: whether an episode that has ended
    was one. take-over: of two clips, what annotator.expert does from the start of the worse one, beside it (people
    take over by `rlhf-control play RUN`). groups: which of two groups of clips that look alike, in one answer (arXiv
    2507.04340)."""
    clips_per_query: int = 4
    """Of a ranking."""
    clips_per_group: int = 3
    """Of each of the two groups of which one is the better."""
    demonstrations: str = ""
    """A policy, a person's recording (`rlhf-control play`), or minari:NAME, a Minari data set of this machine, whose
    clips stand above the policy's own: in the first round, or, with --labels 0, when nothing else is learned from, in
    all of them."""
    demonstration_clips: int = 10
    """How many of them a round."""
    clone_epochs: int = 0
    """Behaviour cloning first: so many passes over the demonstrations' steps, by which the policy to begin from is made
    to act like them. Needs --shrink 1, or the start would undo it."""
    queries: str = "disagreement"
    """How clips are chosen: uniform, disagreement, entropy, bald, k-center, disagreement-k-center or bald-k-center."""
    clip_seconds: float = 1.5
    """Length of a clip, in the environment's time."""
    total_steps: int = 250_000
    """Environment steps, rounded down to whole iterations of ppo.num_envs * ppo.num_steps."""
    seed: int = 0
    """Of everything random in the run: the same seed gives the same bits."""
    seeds: str = ""
    """Several side by side, a core each, as 0-4 or 0,3,7; each into OUT-SEED. Given again, goes on with them."""
    out: str = ""
    """The run's folder (default: runs/finetune-ORACLE-SEED)."""
    score: str = ""
    """The behaviour whose success score is reported (default: the oracle's)."""
    learn_from: Literal["votes", "oracle", "constant"] = "votes"
    """votes: the reward model. oracle: the behaviour's own reward at every step, as an upper bound, without an anchor.
    constant: +1 at every step, as a control: what it gains, the episodes' length has leaked."""
    shrink: float = 1.0
    """Scale of the policy's last layer at the start: 1 keeps the old skill; small, such as 0.1, forgets it at once, for
    what is far from it or its opposite."""
    min_log_std: float | None = None
    """The policy's log standard deviations are raised to this at the start, to try things again (default: with shrink 1
    not at all, else to -0.7 or, if that is less, what it was made with)."""
    normalize_reward: bool = True
    """Divide the reward by the running standard deviation of the discounted return, as `pretrain` does."""
    value_epochs: int = 8
    """Value-only passes after each fit: the old values belong to the old reward."""
    rescale_value: bool = True
    """Before these passes, if there are any, bring the critic's last layer to the new reward by least squares: most of
    that is the old one, times something, plus something. A run from before there was this option has it off."""
    termination: Literal["refuse", "fixed-horizon", "truncate", "penalty", "allow"] = "refuse"
    """Environments that end early leak the task through the episode's length. fixed-horizon: switch it off
    (terminate_when_unhealthy=False). truncate: reset, but value what would have come. penalty: reset, and nothing
    comes, which costs what the answers say that an end costs, or `end_costs`. allow: as it is, and whether an end is
    good or bad is chance."""
    end_costs: float = 6.0
    """penalty: at each step that an early end leaves out, so many standard deviations of the learned reward are lost
    beside its mean, until answers say what an end costs, or all along if they are not asked; with --learn-from oracle
    what the known reward pays. The more, the more careful a policy becomes, and the slower."""
    learn_end_costs: bool = True
    """penalty: up to three in ten of the comparisons, until it is known, show a clip that an early end cuts short
    beside a whole one, for comparisons of equal clips leave open what an end costs; what the answers say counts one and
    a half times. Not where there are no comparisons, where success is marked, clips are whole episodes, or `end_costs`
    is 0. Off: it stays `end_costs`, as it does in a run from before there was this option."""
    # With the true reward four Hoppers (seeds 100 to 103) came to 1032, 740, 441 and 1198 with 2 s, and to 1246, 1066,
    # 453 and 1020 with 0.4: no worse, and fewer steps are lying about
    unhealthy_seconds: float = 0.4
    """truncate: an episode of MuJoCo's Hopper, Walker2d, Ant or Humanoid goes on for so long after it would have ended,
    so that falls are seen and valued; 0: it is cut off at once."""
    stagger: bool = True
    """Where nothing ends an episode early (termination refuse or fixed-horizon) and one is four rollouts long or more,
    cut the first episode of each environment off at another step, evenly, so that by and by, and from the time limit
    on, every rollout shows all parts of an episode; of batched MuJoCo. A run from before there was this option has it
    off."""
    backend: Literal["auto", "batched", "games", "dialogue", "ale", "gymnasium"] = "auto"
    """auto: batched MuJoCo, our own games or dialogue, or prepared ALE where the id has them, else Gymnasium's
    environments."""
    checkpoint_seconds: float = 15.0
    """Time between two checkpoints."""
    env_timeout: float = 300.0
    """Seconds that one call of the environment (make, reset, step, render, close) may take before the run stops and
    names it; 0: any time."""
    video: bool = True
    """Make before_after.mp4 at the end."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks that see pictures are evaluated and updated; all others are fastest on the processor. auto: the
    first GPU that torch finds, else the processor."""
    track: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """Also show the rows of metrics.jsonl, and at the end figures and video, to TensorBoard (event files in
    RUN/tensorboard), trackio (its database on this machine) or Weights & Biases (offline, in RUN/wandb). Needs `pip
    install 'rlhf_control[track]'`."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments of the environment, as in `gymnasium.make`."""
    annotator: AnnotatorConfig = AnnotatorConfig()
    query: QueryConfig = QueryConfig()
    human: HumanConfig = HumanConfig()
    guard: GuardConfig = GuardConfig()
    reference: ReferenceConfig = ReferenceConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = AS_TRAINED

    # What configs mean that were written before there were these options
    BEFORE = (
        ("normalize_reward", False),
        ("unhealthy_seconds", 0.0),
        ("learn_end_costs", False),
        ("rescale_value", False),
        ("stagger", False),
    )

    def __new__(cls, *_: Any, **given: Any) -> "FinetuneConfig":
        refuse_name_alone(given, "FinetuneConfig", f"from_file(FinetuneConfig(policy), {given.get('preset')!r})")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "demonstration_clips", "annotators")
        within(self, "clips_per_query", "clips_per_group", low=2, high=100)
        if not self.feedback or len(set(self.feedback)) < len(self.feedback):
            raise UserError(f"feedback is {self.feedback}; name one kind, or several different ones")
        positive(self, "first_labels", "rounds", "clip_seconds", "total_steps")
        within(self, "label_until", "shrink", low=0.0, high=1.0)
        within(self, "clip_seconds", low=0.0, high=3600.0)
        within(self, "oracle_temperature", "checkpoint_seconds", "env_timeout", "unhealthy_seconds", low=0, high=1e9)
        within(self, "end_costs", low=0, high=1e9)
        within(self, "labels", "value_epochs", "clone_epochs", low=0, high=1e9)
        if self.min_log_std is not None:
            within(self, "min_log_std", low=-20.0, high=5.0)
        within(self, "seed", low=0, high=2**31 - 1)
        if self.rounds == 1 and self.labels > self.first_labels:
            raise UserError(f"{self.labels} labels in one round, but first_labels is {self.first_labels}; raise either")
        if self.clone_epochs and self.shrink != 1:
            raise UserError(f"shrink {self.shrink:g} would undo the cloning before training begins; give --shrink 1")
        if not self.demonstrations and (self.clone_epochs or not self.labels):
            what = "clone" if self.clone_epochs else "learn from: --labels is 0"
            raise UserError(f"there is nothing to {what}; name --demonstrations, a policy or a recording")
        if self.guard.chance == "hold" and self.reward.bootstrap == 1 and self.learn_from == "votes":
            raise UserError(
                "reward.bootstrap is 1, so no answers are held out to show that the reward is better than coin flips; "
                "lower it, or give --guard.chance off"
            )
        if ("take-over" in self.feedback) != bool(self.annotator.expert):
            raise UserError(
                "--feedback take-over and --annotator.expert POLICY, who takes over, go together; give both or neither"
            )
        if self.oracle == "human":
            self._check_people()
            return
        for_people = {"--labelling async": self.labelling == "async", "--query.gold": bool(self.query.gold),
                      "--annotators": self.annotators > 1}  # fmt: skip
        if given := [option for option, is_given in for_people.items() if is_given]:
            several = "; synthetic ones who take turns are --annotator.crowd 1 1 -1, say" if self.annotators > 1 else ""
            raise UserError(f"for people: {', '.join(given)}; leave that out, or choose --oracle human{several}")

    def _check_people(self) -> None:
        if self.seeds:
            raise UserError("people cannot answer several seeds at once; start one after the other, with --seed")
        if unasked := {"reward", "correction", "take-over"} & set(self.feedback):
            raise UserError(
                f"people are not asked for a {unasked.pop()}: they rate clips (--feedback rating), correct what they "
                "see with the keyboard, and take over by `rlhf-control play RUN`, unasked; leave it out of --feedback"
            )
        if not self.labels:
            raise UserError("--labels is 0, so people are asked nothing; raise it, or leave --oracle human out")
        if self.learn_from == "oracle":
            raise UserError("people have no reward to learn from, only votes; choose another --oracle or --learn-from")

    def behaviour(self) -> str:
        """Returns the name of the behaviour whose success is reported; other oracles than behaviours have none."""
        return self.score or self.oracle

    def asks_people(self) -> bool:
        """Tells whether anybody has to be asked at all."""
        return self.oracle == "human" and not self.replay

    def judge(self) -> str:
        """Returns the oracle whose reward is reported: of people only what --score says they are after."""
        return self.score if self.oracle == "human" else self.oracle

    def repeat_share(self) -> float:
        """Returns which share of all questions is asked again."""
        share = self.query.repeat_share
        return share if share is not None else 0.05 if self.oracle == "human" else 0.0

    def labels_by_round(self) -> list[int]:
        """Returns how many answers each round asks for: `first_labels`, then the rest spread evenly."""
        first = min(self.first_labels, self.labels)
        return [first, *schedule(self.schedule, self.labels - first, self.rounds - 1)]

    def clips_by_kind(self) -> dict[str, int]:
        """Returns how many clips a query of each kind of feedback has."""
        sizes = {"comparison": 2, "ranking": self.clips_per_query, "take-over": 2, "groups": 2 * self.clips_per_group}
        return {kind: sizes.get(kind, 1) for kind in self.feedback}


def asks_for(config: PretrainConfig | FinetuneConfig, recorded: PretrainConfig | FinetuneConfig) -> bool:
    """Says whether a run whose folder has the `recorded` config is the one that this config asks for, wherever it lies.
    Hyperparameters as the policy was trained are in the record by their values."""
    if isinstance(config, FinetuneConfig) and config.ppo == AS_TRAINED:
        config = replace(config, ppo=recorded.ppo)
    return comparable(replace(recorded, out=config.out)) == comparable(config)


def comparable(config: PretrainConfig | FinetuneConfig) -> PretrainConfig | FinetuneConfig:
    """Returns the config without what is of no consequence in it, so that it equals older ones, which had no such
    option."""
    if isinstance(config, FinetuneConfig) and not learns_end_costs(replace(config, learn_end_costs=True)):
        return replace(config, learn_end_costs=False)
    return config


def learns_end_costs(config: FinetuneConfig) -> bool:
    """Tells whether answers are to say what an early end costs, where clips are parts of episodes."""
    learned = config.learn_end_costs and config.end_costs > 0 and config.learn_from == "votes"
    asked = "comparison" in config.feedback and "success" not in config.feedback
    return learned and asked and config.termination == "penalty"
