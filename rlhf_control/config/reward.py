"""Options of the reward ensemble and of the guards around it."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from rlhf_control.config.checks import explained, flag, positive, typed, within
from rlhf_control.errors import UserError


@explained
@dataclass(frozen=True)
class RewardConfig:
    """Set the reward ensemble and how it is fitted (arXiv 1706.03741)."""

    members: int = 5
    """Networks in the ensemble."""
    hidden: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of a member."""
    inputs: Literal["state-action", "state", "next-state"] = "state-action"
    """state-action: obs and executed action. state: obs alone. next-state: next_obs alone, what a person sees."""
    pictures: Literal["policy", "heads", "networks"] = "policy"
    """How pictures are seen. policy: through the CNN of the pretrained policy, which no longer changes. heads: through
    one CNN that is learned with the reward, of which each member is a head. networks: through one each. The latter two
    have Christiano et al.'s layers (arXiv 1706.03741)."""
    critics_view: Literal["auto", "on", "off"] = "auto"
    """Beside the numbers observed, what the pretrained policy's critic makes of them: its last hidden layer and its
    value. auto: where the environment tells of success, the old skill is kept (shrink 1), all numbers count
    (obs_parts) and no success is marked: a critic knows how near the task is to being done, and marks say what is still
    missing. How well a robot runs its numbers say themselves, and others only blur that."""
    squares: Literal["auto", "on", "off"] = "auto"
    """Beside each number that the reward sees, its square, so that how near a step is to what is sought is told from
    few answers. auto: where success is marked, the old skill is kept (shrink 1) and no pictures are seen."""
    linear: Literal["auto", "on", "off"] = "auto"
    """Below the networks a straight line in the numbers that the reward sees, their squares and effort, most of whose
    weights are nothing unless answers speak for them; networks add to it where held-out answers are twenty times
    likelier with what they have learned of the rest. auto: where observations are at most 1,000 numbers, neither
    pictures, words nor the critic's view are seen, and episodes are not judged as wholes. Where success is marked there
    never is."""
    obs_parts: tuple[str, ...] = ()
    """Parts of the observation that count, such as 0:27 (Ant-v5 without contact forces) or 8 (default: all). The others
    count for its uncertainty: what answers were given about, people saw whole."""
    max_frames: int = 10
    """Of longer clips a gradient step looks at every n-th step, from a random one on, so that they have at most this
    many; at all of them where neighbouring steps have nothing in common. When a clip is judged, all of its steps
    count."""
    crop: float = 1.0
    """Below 1, a gradient step sees stretches of its clips, of this share to all of them (SURF, arXiv 2203.10050)."""
    start: Literal["scratch", "warm"] = "scratch"
    """warm: a fit goes on from the weights of the one before; above a straight line, from those of hidden layers."""
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
    """Chance that an answer is a coin flip: P = lapse / 2 + (1 - lapse) * sigmoid(...). Of a reward with a straight
    line the least: at each fit it is this, 0.2 or 0.4, under which held-out answers are likeliest."""
    logit_scale: float = 30.0
    """The sigmoid's argument is this times the difference of the clips' mean (tanh) outputs."""
    trust: bool = True
    """Where several people answer, find out how far each is to be trusted, from 1 to -1 (always says the opposite), and
    learn from each accordingly."""
    calibrate: bool = False
    """Divide the logits by the temperature under which the held-out answers are likeliest (arXiv 1706.04599), each
    under the members that did not see it. Their mean is less sure than they are: of precise annotators it needs no
    more."""
    conservative: float = 0.0
    """Take off the reward this times its uncertainty."""
    combine: Literal["mean", "worst-case"] = "mean"
    """What of the members' opinions is the reward: their mean or, step by step, the lowest (Coste et al., arXiv
    2310.02743)."""

    # What configs mean that were written before there was this option
    BEFORE = (("critics_view", "off"), ("squares", "off"), ("linear", "off"))

    def __post_init__(self) -> None:
        typed(self)
        if self.critics_view == "on" and self.obs_parts:
            raise UserError(
                f"{flag(self, 'critics_view')} is on, but the critic sees more than {flag(self, 'obs_parts')} names; "
                "leave either out"
            )
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
class GuardConfig:
    """Set what keeps the policy from learning from a reward that cannot be trusted; `training/guard` has the
    statistics."""

    chance: Literal["hold", "off"] = "hold"
    """hold: the policy stays as it is, and questions are random, until the reward is shown to be better than coin
    flips. off: it learns from any fitted reward, as controls with coin-flip answers must."""
    odds: float = 20.0
    """How many times likelier than by coin flips the answers must be under the reward, before it is fitted to them."""
    sooner: bool = True
    """While the policy is held, the next questions of the budget come as soon as there are new clips, and what is left
    of it is spread over the rest of the run; else at their time."""
    alarm: Literal["stop", "roll-back", "warn", "off"] = "stop"
    """When the reward looks hacked. stop: save and exit with code 3; a resumed run goes on from there. roll-back: back
    to the last good policy, wait for new answers if any are to come, and go on with twice the reference.beta."""
    surprise: float = 0.02
    """Alarm when the learned reward has risen, but so few of the newest answers are as it predicts that the chance of
    that in any round of the run, were it still as good as when it was fitted, is below this."""
    kl_jump: float | None = None
    """Alarm when the KL from the pretrained policy is so many times that at the last fit (or 1 nat a step, if more);
    None: never, for a policy that learns moves away too."""
    uncertainty_jump: float = 1.0
    """Alarm when the learned reward has risen, but is so many times as uncertain of what the policy does as it was of
    the clips at its fit, or as `unsure`, if that is more ..."""
    unsure: float | None = None
    """... in its own standard deviations (default: 0.3, or 0.5 without a straight line below the networks, whose
    members then differ more) ..."""
    moved: float = 1.25
    """... and the KL of the policy from the anchor's, by default that of the last label round, is this at least (nats a
    step)."""
    window: int = 10
    """Iterations whose median KL and uncertainty count."""
    min_log_std: float | None = -3.0
    """The policy's log standard deviations are kept at or above this all along; None: only raised at the start."""

    def settled(self, *, line: bool) -> "GuardConfig":
        """Returns it with a threshold of uncertainty for a reward with or without a straight line."""
        return self if self.unsure is not None else replace(self, unsure=0.3 if line else 0.5)

    # What configs mean that were written before there were these options
    BEFORE = (("sooner", False), ("unsure", 0.8), ("moved", 0.0))

    def __post_init__(self) -> None:
        typed(self)
        within(self, "odds", "uncertainty_jump", low=1.0, high=1e9)
        if self.kl_jump is not None:
            within(self, "kl_jump", low=1.0, high=1e9)
        within(self, "surprise", low=0.0, high=1.0)
        within(self, "moved", low=0.0, high=1e9)
        if self.unsure is not None:
            within(self, "unsure", low=0.0, high=1e9)
        within(self, "window", low=1, high=1e9)
        if self.min_log_std is not None:
            within(self, "min_log_std", low=-20.0, high=5.0)
