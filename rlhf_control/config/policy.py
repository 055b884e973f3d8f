"""Options of the learner, of its networks and of the KL anchor."""

from dataclasses import dataclass
from typing import Literal

from rlhf_control.config.checks import explained, flag, positive, typed, within
from rlhf_control.errors import UserError


@explained
@dataclass(frozen=True)
class PPOConfig:
    """Set proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

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
    """linear: to zero over the run, from its first update on. adaptive: from lr, up or down by half after each update
    to hold its KL near target_kl."""
    gamma: float = 0.99
    """Discount a step."""
    gae_lambda: float = 0.95
    """Of generalised advantage estimation (arXiv 1506.02438): 1 is Monte Carlo, 0 one-step TD."""
    clip: float = 0.2
    """The surrogate's ratio is clipped to 1 +- this."""
    clip_schedule: Literal["linear", "constant"] = "constant"
    """linear: clip falls to zero over the run, from its first update on."""
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


@dataclass(frozen=True)
class AsTrained(PPOConfig):
    """Stands for the hyperparameters of a policy's own training, which `training.continuing` puts in its place."""

    def __post_init__(self) -> None:
        """Checks no value: these are not the ones that will count."""


AS_TRAINED = AsTrained()


@explained
@dataclass(frozen=True)
class NetConfig:
    """Set the policy's networks."""

    hidden: tuple[int, ...] = (64, 64)
    """Width of each layer of the actor, and of the critic unless critic_hidden says otherwise."""
    log_std_init: float = -0.5
    """Log of the Gaussian's initial standard deviation, for Box actions."""
    encoder: Literal["auto", "flat", "cnn", "cnn-small", "impala", "transformer"] = "auto"
    """Of pictures (uint8, height x width x channels), a network each. cnn, and auto where there are any: that of Mnih
    et al. (Nature 2015). cnn-small: the one before it (arXiv 1312.5602), a third of the work. impala: residual (arXiv
    1802.01561), six times the work. flat: as so many numbers. transformer, and auto where observations are tokens: a
    causal transformer."""
    activation: Literal[
        "tanh", "relu", "elu", "leaky-relu", "gelu", "silu", "mish", "selu", "sigmoid", "softplus", "identity"
    ] = "tanh"
    """After each hidden layer. Updates of others than tanh are not compiled."""
    critic_hidden: tuple[int, ...] | None = None
    """Width of each layer of the critic, where it is not the actor's."""
    shared: tuple[int, ...] = ()
    """Width of each layer that actor and critic have in common, before those of their own."""
    state_dependent_std: bool = False
    """The actor's network puts out the Gaussian's standard deviation too, rather than one for all states."""
    obs_clip: float = 10.0
    """Normalised observations are clipped to +- so many standard deviations."""
    picture_features: int = 512
    """What the CNN makes of a picture, so many numbers."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the CNN's products. bfloat16: two to three times as fast where the processor has it in hardware (AVX512_BF16,
    AMX), else much slower."""
    separate_encoders: bool = False
    """Actor and critic look at pictures through a CNN each, or read tokens by a transformer each."""
    width: int = 64
    """Of a transformer: numbers a token, ..."""
    layers: int = 3
    """... layers ..."""
    heads: int = 4
    """... and heads of attention a layer."""

    def __post_init__(self) -> None:
        typed(self)
        within(self, "log_std_init", low=-20.0, high=5.0)
        positive(self, "obs_clip", "picture_features", "width", "layers", "heads")
        if self.width % self.heads:
            raise UserError(f"{flag(self, 'width')} is {self.width}; it must be a multiple of the {self.heads} heads")
        for name in ("hidden", "shared", "critic_hidden"):
            if any(width < 1 for width in getattr(self, name) or ()):
                raise UserError(f"{flag(self, name)} is {getattr(self, name)}; every width must be positive")


@explained
@dataclass(frozen=True)
class ReferenceConfig:
    """Set the KL anchor: the learner maximises r - beta * KL(policy || reference)."""

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
