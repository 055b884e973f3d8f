"""Every knob of training on one page. Frozen dataclasses; the command line makes its flags of them (`--ppo.lr 1e-4`).

This file imports nothing heavy, so that `--help` is instant. The options of the other verbs are in `verbs`.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from rlhf_control.errors import UserError
from rlhf_control.options import explained, flag, positive, typed, within
from rlhf_control.schedules import schedule


@explained
@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

    num_envs: int = 16
    """Environments stepped side by side."""
    num_steps: int = 128
    """Steps of each environment between two updates."""
    minibatch_size: int = 64
    """Transitions a gradient step."""
    epochs: int = 10
    """Passes over the rollout in one update."""
    lr: float = 3e-4
    """Adam's learning rate, at the start."""
    lr_schedule: Literal["linear", "constant", "adaptive"] = "linear"
    """linear: to zero over the run. adaptive: from lr, up or down by half after each update to hold its KL near
    target_kl."""
    gamma: float = 0.99
    """Discount a step."""
    gae_lambda: float = 0.95
    """Of generalised advantage estimation (arXiv 1506.02438): 1 is Monte Carlo, 0 one-step TD."""
    clip: float = 0.2
    """The surrogate's ratio is clipped to 1 +- this."""
    clip_schedule: Literal["linear", "constant"] = "constant"
    """linear: clip falls to zero over the run."""
    step_control: Literal["clip", "kl-penalty"] = "clip"
    """clip: the clipped surrogate. kl-penalty: ratio * A - kl_coef * KL(new || old), with a coefficient that
    adapts to keep the KL near target_kl (the paper's section 4)."""
    target_kl: float | None = None
    """clip: an update stops before a minibatch whose approximate KL exceeds 1.5 times this (none: never).
    kl-penalty, or an adaptive lr: the KL a whole update aims at (none: 0.01)."""
    value_coef: float = 0.5
    """Weight of the value function's loss beside the surrogate's."""
    entropy_coef: float = 0.0
    """Weight of the policy's entropy, which keeps it exploring."""
    max_grad_norm: float = 0.5
    """A gradient's norm is clipped to this."""
    gradients: Literal["compiled", "autograd"] = "compiled"
    """compiled: in C, written out by hand, many times as fast; needs a C compiler, else autograd does the work.
    autograd: the reference it is held to."""
    normalize_advantage: bool = True
    """Per minibatch, to mean 0 and standard deviation 1."""
    recompute_advantages: bool = False
    """Before every epoch, by the critic as it then is, rather than once (arXiv 2006.05990, section 3.5)."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "num_envs", "num_steps", "epochs", "lr", "clip", "max_grad_norm", "target_kl")
        within(self, "gamma", "gae_lambda", low=0.0, high=1.0)
        within(self, "value_coef", "entropy_coef", low=0.0, high=1e6)
        if self.step_control == "kl-penalty" and self.lr_schedule == "adaptive":
            raise UserError("a KL penalty and an adaptive learning rate aim at the same KL; choose one of them")
        batch = self.num_envs * self.num_steps
        if not 2 <= self.minibatch_size <= batch:
            raise UserError(
                f"minibatch_size is {self.minibatch_size}; it must lie in [2, num_envs * num_steps = {batch}]"
            )


@explained
@dataclass(frozen=True)
class NetConfig:
    """The policy network."""

    hidden: tuple[int, ...] = (64, 64)
    """Width of each tanh layer, for actor and critic alike."""
    log_std_init: float = -0.5
    """Log of the Gaussian's initial standard deviation, for Box actions."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "log_std_init", low=-20.0, high=5.0)
        if any(width < 1 for width in self.hidden):
            raise UserError(f"{flag(self, 'hidden')} is {self.hidden}; every width must be positive")


@explained
@dataclass(frozen=True)
class PretrainConfig:
    """PPO on the environment's reward."""

    env_id: Annotated[str, tyro.conf.Positional]
    """A Gymnasium id, such as HalfCheetah-v5."""
    total_steps: int = 1_000_000
    """Environment steps, rounded down to whole iterations of ppo.num_envs * ppo.num_steps (at least one)."""
    preset: str = ""
    """Hyperparameters to start from, which the other options then change: tuned (for the return after the task's
    total_steps), fast (for the return after seconds) or sb3 (Stable-Baselines3's defaults). It may name arguments of
    the environment, to which --env adds. In Python, start from `presets.preset(env_id, name)`."""
    seed: int = 0
    """Of everything random in the run: the same seed gives the same bits."""
    seeds: str = ""
    """Several side by side, a core each, as 0-4 or 0,3,7; each into OUT-SEED. Given again, goes on with them."""
    out: str = ""
    """The run's folder (default: runs/pretrain-ENV_ID-SEED)."""
    learner: Literal["ppo", "sb3"] = "ppo"
    """sb3: Stable-Baselines3's PPO as a baseline, into the same run folder."""
    normalize_reward: bool = True
    """Divide the reward by the running standard deviation of the discounted return."""
    normalize_obs: bool = True
    """Bring observations to mean 0 and variance 1 by running statistics."""
    backend: Literal["auto", "batched", "gymnasium"] = "auto"
    """auto: batched MuJoCo where the id has it, else Gymnasium's own vector environments."""
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
        """Refuses a preset's name without what it stands for, which would be recorded, but not used."""
        named = isinstance(given.get("preset"), str) and given["preset"]  # other types: `typed` says it
        if named and not {"total_steps", "env", "net", "ppo"} <= given.keys():
            raise UserError(
                f"PretrainConfig(preset={given['preset']!r}) would not have the preset's hyperparameters; start from "
                f"rlhf_control.presets.preset(env_id, {given['preset']!r}) and change it with dataclasses.replace"
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "total_steps")
        within(self, "seed", low=0, high=2**31 - 1)
        within(self, "checkpoint_seconds", "env_timeout", low=0, high=1e9)


@explained
@dataclass(frozen=True)
class RewardConfig:
    """The reward ensemble and how it is fitted (arXiv 1706.03741)."""

    members: int = 5
    """Networks in the ensemble."""
    hidden: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of a member."""
    inputs: Literal["state-action", "state", "next-state"] = "state-action"
    """state-action: obs and executed action. state: obs alone. next-state: next_obs alone, what a person sees."""
    obs_parts: tuple[str, ...] = ()
    """Parts of the observation that count, such as 0:27 (Ant-v5 without contact forces) or 8 (default: all)."""
    max_frames: int = 10
    """Of longer clips a gradient step looks at every n-th step, from a random one on, so that they have at most this
    many; at all of them where neighbouring steps have nothing in common. When a clip is judged, all of its steps
    count."""
    crop: float = 1.0
    """Below 1, a gradient step sees stretches of its clips, of this share to all of them (SURF, arXiv 2203.10050)."""
    start: Literal["scratch", "warm"] = "scratch"
    """warm: a fit goes on from the weights of the one before."""
    steps: int = 200
    """Gradient steps of one fit at most: it ends when the held-out loss falls no more, and keeps the weights of the
    lowest."""
    batch_size: int = 24
    """Answers a gradient step."""
    lr: float = 1e-3
    """AdamW's learning rate."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    adaptive_l2: bool = False
    """Move weight_decay so that the held-out loss is 1.1 to 1.5 times the training loss (arXiv 1706.03741)."""
    bootstrap: float = 0.8
    """Share of the answers each member sees; the rest is its held-out set."""
    lapse: float = 0.1
    """Chance that an answer is a coin flip: P = lapse / 2 + (1 - lapse) * sigmoid(...)."""
    logit_scale: float = 30.0
    """The sigmoid's argument is this times the difference of the clips' mean (tanh) outputs."""
    calibrate: bool = False
    """Divide the logits by the temperature under which the held-out answers are likeliest (arXiv 1706.04599), each
    under the members that did not see it. Their mean is less sure than they are: of precise annotators it needs no
    more."""
    conservative: float = 0.0
    """Take off the reward this times its uncertainty."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "members", "steps", "batch_size", "lr", "logit_scale", "bootstrap", "max_frames", "crop")
        within(self, "bootstrap", "lapse", "crop", low=0.0, high=1.0)
        within(self, "weight_decay", "conservative", low=0.0, high=1e6)
        for part in self.obs_parts:
            if not re.fullmatch(r"\d+|\d*:\d*", part):
                raise UserError(f"{flag(self, 'obs_parts')} has '{part}'; a part is an index or a range, such as 0:27")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"{flag(self, 'hidden')} is {self.hidden}; every width must be positive")


@explained
@dataclass(frozen=True)
class ReferenceConfig:
    """The KL anchor: the learner maximises r - beta * KL(policy || reference)."""

    policy: Literal["round", "pretrained"] = "round"
    """round: the policy at the start of each label round (a ratchet). pretrained: where it all started."""
    beta: float = 0.02
    """Weight of the KL (nats a step) against the reward (standard deviations)."""
    target: float | None = None
    """Adapt beta to hold the KL near this many nats (Ziegler et al., arXiv 1909.08593, section 2.2)."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "beta", low=0.0, high=1e9)
        positive(self, "target")
        if self.target is not None and self.beta == 0:
            raise UserError("with a target, beta must be positive, or there is nothing to adapt")


@explained
@dataclass(frozen=True)
class AnnotatorConfig:
    """How a synthetic annotator departs from always naming the better clip. What it compares are clips' returns, and
    everything is relative to the returns of the pool, so that a number means the same in every environment.

    B-Pref's annotators (arXiv 2111.03026, algorithm 2) are temperature 1, mistake 0.1, skip 0.1, equal 0.1 and discount
    0.9, one at a time.
    """

    mistake: float = 0.0
    """Chance that an answer is turned upside down."""
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
    levels: int = 5
    """Of a rating, from 1 (worst); equally many of the pool's clips deserve each."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "mistake", "fatigue", "skip", "discount", "position_bias", "drift", low=0.0, high=1.0)
        within(self, "equal", "temperature_drift", low=0.0, high=1e9)
        within(self, "levels", low=2, high=100)


@explained
@dataclass(frozen=True)
class QueryConfig:
    """Which clips a round asks about, besides the strategy."""

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
    tries: int = 4
    """New tries from the start of a clip, the best of which is its correction."""

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "candidates", "tries", "older_mb")
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
    """Asynchronous labelling (--labelling async)."""

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


@explained
@dataclass(frozen=True)
class GuardConfig:
    """What keeps the policy from learning from a reward that cannot be trusted; `guards` has the statistics."""

    chance: Literal["hold", "off"] = "hold"
    """hold: the policy stays as it is while the reward is not shown to be better than coin flips. off: it learns from
    any fitted reward, as controls with coin-flip answers must."""
    odds: float = 20.0
    """How many times likelier than by coin flips the held-out answers must be under the reward."""
    alarm: Literal["stop", "roll-back", "warn", "off"] = "stop"
    """When the reward looks hacked. stop: save and exit with code 3; a resumed run goes on from there. roll-back: back
    to the last good policy, wait for new answers if any are to come, and go on with twice the reference.beta."""
    surprise: float = 0.01
    """Alarm when the learned reward has risen, but so few of the newest answers are as it predicts that the chance of
    that, were it still as good as when it was fitted, is below this."""
    kl_jump: float = 4.0
    """Alarm when the KL from the pretrained policy is so many times that at the last fit (or 1 nat a step, if more)."""
    uncertainty_jump: float = 3.0
    """Alarm when the reward is so many times as uncertain of what the policy does as it was of the clips at its fit."""
    window: int = 5
    """Iterations whose median KL and uncertainty count."""
    min_log_std: float | None = -3.0
    """The policy's log standard deviations are kept at or above this all along; None: only raised at the start."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "odds", "kl_jump", "uncertainty_jump", low=1.0, high=1e9)
        within(self, "surprise", low=0.0, high=1.0)
        within(self, "window", low=1, high=1e9)
        if self.min_log_std is not None:
            within(self, "min_log_std", low=-20.0, high=5.0)


@explained
@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune a policy on preferences."""

    policy: Annotated[str, tyro.conf.Positional]
    """A policy file, a run's folder, or the name of a policy that ships with the project."""
    env_id: str = ""
    """A Gymnasium id (default: the policy's own)."""
    oracle: str = "backward"
    """Who answers: `human` (people, in a window), `env` (the environment's reward), `coin-flip`, or a behaviour:
    backward, keep-pace, hind-legs, prowl, jump, flip (HalfCheetah-v5), backflip (Hopper-v5), one-leg, crouch, stand,
    moonwalk (Walker2d-v5), spin, sidestep, three-legs (Ant-v5). `rlhf-control behaviours` says what they mean."""
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
    """Questions to be answered, over the whole run. 0: learn from demonstrations alone."""
    first_labels: int = 20
    """Of these, how many before the first update."""
    rounds: int = 9
    """Label rounds, the first included, evenly over the first label_until of the run."""
    schedule: Literal["constant", "hyperbolic", "front-loaded"] = "constant"
    """How the answers after the first round are spread over the other rounds: evenly, as 1 / (1 + t), or as 0.01^t."""
    label_until: float = 0.7
    """The share of the run after which nothing more is asked."""
    feedback: tuple[Literal["comparison", "ranking", "rating", "reward", "correction"], ...] = ("comparison",)
    """What is asked for; several kinds share every round evenly. rating: from 1 up. reward: a number. correction: the
    best of several new tries from the start of a clip, beside the clip."""
    clips_per_query: int = 4
    """Of a ranking."""
    demonstrations: str = ""
    """A policy, or a person's recording (`rlhf-control play`), whose clips stand above the policy's own: in the first
    round, or, with --labels 0, when nothing else is learned from, in all of them."""
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
    """votes: the reward model. oracle: the behaviour's own reward at every step, as an upper bound.
    constant: +1 at every step, as a control: what it gains, the episodes' length has leaked."""
    shrink: float = 1.0
    """Scale of the policy's last layer at the start: 1 keeps the old skill; small, such as 0.1, forgets it at once, for
    what is far from it or its opposite."""
    min_log_std: float = -0.7
    """The policy's log standard deviations are raised to this at the start, to try things again."""
    value_epochs: int = 8
    """Value-only passes after each fit: the old values belong to the old reward."""
    termination: Literal["refuse", "fixed-horizon", "truncate", "allow"] = "refuse"
    """Environments that end early leak the task through the episode's length. fixed-horizon: switch it off
    (terminate_when_unhealthy=False). truncate: reset, but value what would have come. allow: as it is."""
    backend: Literal["auto", "batched", "gymnasium"] = "auto"
    """auto: batched MuJoCo where the id has it, else Gymnasium's own vector environments."""
    checkpoint_seconds: float = 15.0
    """Time between two checkpoints."""
    env_timeout: float = 300.0
    """Seconds that one call of the environment (make, reset, step, render, close) may take before the run stops and
    names it; 0: any time."""
    video: bool = True
    """Make before_after.mp4 at the end."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments of the environment, as in `gymnasium.make`."""
    annotator: AnnotatorConfig = AnnotatorConfig()
    query: QueryConfig = QueryConfig()
    human: HumanConfig = HumanConfig()
    guard: GuardConfig = GuardConfig()
    reference: ReferenceConfig = ReferenceConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()

    def __post_init__(self) -> None:
        typed(self)
        positive(self, "demonstration_clips", "annotators")
        within(self, "clips_per_query", low=2, high=100)
        if not self.feedback or len(set(self.feedback)) < len(self.feedback):
            raise UserError(f"feedback is {self.feedback}; name one kind, or several different ones")
        positive(self, "first_labels", "rounds", "clip_seconds", "total_steps")
        within(self, "label_until", "shrink", low=0.0, high=1.0)
        within(self, "clip_seconds", low=0.0, high=3600.0)
        within(self, "oracle_temperature", "checkpoint_seconds", "env_timeout", low=0, high=1e9)
        within(self, "labels", "value_epochs", "clone_epochs", low=0, high=1e9)
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
        if self.oracle == "human":
            self._check_people()
        elif self.labelling == "async" or self.annotators > 1 or self.query.gold:
            raise UserError(
                "labelling async, several annotators and gold are for people; leave them out, or choose --oracle human"
            )

    def _check_people(self) -> None:
        if self.seeds:
            raise UserError("people cannot answer several seeds at once; start one after the other, with --seed")
        if unasked := {"reward", "correction"} & set(self.feedback):
            raise UserError(
                f"people are not asked for a {unasked.pop()}: they rate clips (--feedback rating), and correct "
                "what they see with the keyboard, unasked; leave it out of --feedback"
            )
        if not self.labels:
            raise UserError("--labels is 0, so people are asked nothing; raise it, or leave --oracle human out")
        if self.learn_from == "oracle":
            raise UserError("people have no reward to learn from, only votes; choose another --oracle or --learn-from")

    def behaviour(self) -> str:
        """The name of the behaviour whose success is reported; other oracles than behaviours have none."""
        return self.score or self.oracle

    def asks_people(self) -> bool:
        """Whether anybody has to be asked at all."""
        return self.oracle == "human" and not self.replay

    def judge(self) -> str:
        """The oracle whose reward is reported: of people only what --score says they are after."""
        return self.score if self.oracle == "human" else self.oracle

    def repeat_share(self) -> float:
        """Of all questions, how many are asked again."""
        share = self.query.repeat_share
        return share if share is not None else 0.05 if self.oracle == "human" else 0.0

    def labels_by_round(self) -> list[int]:
        """How many answers each round asks for: `first_labels`, then the rest spread evenly."""
        first = min(self.first_labels, self.labels)
        return [first, *schedule(self.schedule, self.labels - first, self.rounds - 1)]

    def clips_by_kind(self) -> dict[str, int]:
        """Kind of feedback -> clips of a query."""
        return {kind: {"comparison": 2, "ranking": self.clips_per_query}.get(kind, 1) for kind in self.feedback}
