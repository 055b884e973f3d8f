"""Policies: networks, their input normaliser and their action distribution, so that a policy file is whole.

B batch, O observation, A action.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from rlhf_control.config import NetConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.files import load_state, refuse_module, save_state

LOG_2PI = math.log(2 * math.pi)
Act = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]  # (B, ...), rng (None: the mode) -> actions


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and NumPy's BLAS on one thread: networks of this size are fastest so (two can be forty times slower on a
    busy machine), and the number of threads decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


# -- distributions: closed forms


@dataclass(frozen=True)
class Gaussian:
    """Diagonal normal distribution over Box actions."""

    mean: Tensor  # (..., A)
    log_std: Tensor  # (..., A) or (A,)

    def log_prob(self, action: Tensor) -> Tensor:
        """(...,): density of `action` (..., A), unclipped."""
        z = (action - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - 0.5 * LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """(...,) nats."""
        return (self.log_std + 0.5 + 0.5 * LOG_2PI).expand_as(self.mean).sum(-1)

    def kl(self, other: Any) -> Tensor:
        """(...,) nats: KL(self || other), another Gaussian."""
        var_ratio = torch.exp(2 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * torch.exp(-other.log_std)).square()
        return 0.5 * (var_ratio + distance - 1 - var_ratio.log()).sum(-1)

    def detached(self) -> "Gaussian":
        """As it is now, whatever happens to the parameters; a row of log_std for each of the mean."""
        return Gaussian(self.mean.detach(), self.log_std.detach().expand_as(self.mean).clone())

    def __getitem__(self, index: Any) -> "Gaussian":
        return Gaussian(self.mean[index], self.log_std if self.log_std.ndim == 1 else self.log_std[index])


@dataclass(frozen=True)
class Categorical:
    """Independent distributions over one or several choices: Discrete, MultiDiscrete and MultiBinary actions."""

    logits: Tensor  # (..., A), log-probabilities up to a constant for each choice; the choices side by side
    sizes: tuple[int, ...]  # (G,) options of each choice; they add up to A

    def log_p(self) -> list[Tensor]:
        """(..., size) log-probabilities of every option, choice by choice."""
        return [logits.log_softmax(-1) for logits in self.logits.split(self.sizes, -1)]

    def log_prob(self, action: Tensor) -> Tensor:
        """(...,): log-probability of the integer `action` (..., G)."""
        taken = action.long()[..., None].unbind(-2)
        return torch.cat([p.gather(-1, a) for p, a in zip(self.log_p(), taken, strict=True)], -1).sum(-1)

    def entropy(self) -> Tensor:
        """(...,) nats."""
        return torch.stack([-(p.exp() * p).sum(-1) for p in self.log_p()]).sum(0)

    def kl(self, other: Any) -> Tensor:
        """(...,) nats: KL(self || other), another Categorical."""
        both = zip(self.log_p(), other.log_p(), strict=True)
        return torch.stack([(p.exp() * (p - q)).sum(-1) for p, q in both]).sum(0)

    def detached(self) -> "Categorical":
        return Categorical(self.logits.detach(), self.sizes)

    def __getitem__(self, index: Any) -> "Categorical":
        return Categorical(self.logits[index], self.sizes)


# -- spaces


@dataclass(frozen=True)
class Spaces:
    """What a policy reads and does: enough to build its networks and to refuse another environment."""

    obs_shape: tuple[int, ...]
    action_kind: str  # "box" or "discrete"
    action_shape: tuple[int, ...]  # of a Box; else the options of each choice: (n,) for Discrete(n)
    low: tuple[float, ...] = ()  # a Box's bounds, flat
    high: tuple[float, ...] = ()

    @classmethod
    def of(cls, observation: gymnasium.Space, action: gymnasium.Space) -> "Spaces":
        """Raises UserError for spaces other than Box observations and Box, Discrete, MultiDiscrete (a choice each) or
        MultiBinary (a choice of two for each place) actions."""
        if not isinstance(observation, gymnasium.spaces.Box):
            raise UserError(f"observation space {observation} is not supported; it must flatten to a Box")
        if not math.prod(observation.shape):
            raise UserError(
                f"observation space {observation} is not supported: it is empty; give the policy something to see"
            )
        match action:
            case gymnasium.spaces.Box():
                if not np.can_cast(np.float32, action.dtype):  # what the space's own `contains` asks
                    raise UserError(
                        f"action space {action} is not supported: actions are float32; make it a Box of floats, or "
                        "MultiDiscrete if only whole numbers will do"
                    )
                low, high = (tuple(bound.ravel().tolist()) for bound in (action.low, action.high))
                return cls(observation.shape, "box", action.shape, low, high)
            case gymnasium.spaces.Discrete():
                return cls(observation.shape, "discrete", (int(action.n),))
            case gymnasium.spaces.MultiDiscrete():
                return cls(observation.shape, "discrete", tuple(action.nvec.ravel().tolist()))
            case gymnasium.spaces.MultiBinary():
                return cls(observation.shape, "discrete", (2,) * math.prod(action.shape))
        raise UserError(f"action space {action} is not supported; it must be Box or made of discrete choices")

    @property
    def obs_size(self) -> int:
        return math.prod(self.obs_shape)

    @property
    def action_size(self) -> int:
        """A: numbers in a Box, or options of all choices."""
        return sum(self.choices) if self.choices else math.prod(self.action_shape)

    @property
    def choices(self) -> tuple[int, ...]:
        """Options of each discrete choice; () for a Box."""
        return self.action_shape if self.action_kind == "discrete" else ()

    def execute(self, action: np.ndarray) -> np.ndarray:
        """(B, A) float32: the sampled action (B, A) or choices (B, G) as the environment carries it out: clipped to a
        Box's bounds (as Stable-Baselines3 does), one-hot for each choice."""
        if self.choices:
            hot = [np.eye(n, dtype=np.float32)[action[:, i]] for i, n in enumerate(self.choices)]
            return np.concatenate(hot, -1)
        return action.clip(*float32_bounds(self.low, self.high))

    def chosen(self, executed: np.ndarray) -> np.ndarray:
        """What was sampled, (B, A) or choices (B, G), of an action as carried out (B, A), as far as it can be known."""
        if not self.choices:
            return executed
        return np.stack([hot.argmax(-1) for hot in np.split(executed, np.cumsum(self.choices)[:-1], -1)], -1)

    def __str__(self) -> str:
        action = f"choices of {self.choices}" if self.choices else f"Box{self.action_shape}"
        return f"observations Box{self.obs_shape}, actions {action}"


@lru_cache
def float32_bounds(low: tuple[float, ...], high: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(A,) float32 each, not beyond the bounds: the nearest number to -0.1 lies below it."""
    ends = []
    for bound, inward in ((low, np.inf), (high, -np.inf)):
        exact = np.array(bound, np.float64)
        nearest = exact.astype(np.float32)
        beyond = nearest < exact if inward > 0 else nearest > exact
        ends.append(np.where(beyond, np.nextafter(nearest, np.float32(inward)), nearest))
    return ends[0], ends[1]


# -- networks


class RunningNorm(nn.Module):
    """Observations to mean 0 and variance 1 by the statistics of all data so far, clipped to +-10.

    The statistics move only when `update` is called: between two iterations, never during a rollout, an update or
    an evaluation. Without any update it is the identity.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, data: np.ndarray) -> None:
        """Takes in rows (..., O), exactly as if all rows ever seen came at once (Chan et al. 1979)."""
        rows = torch.from_numpy(data.reshape(-1, len(self.mean))).double()
        n, mean, var = len(rows), rows.mean(0), rows.var(0, correction=0)
        total = self.count + n
        delta = mean - self.mean
        self.var.copy_((self.var * self.count + var * n + delta**2 * self.count * n / total) / total)
        self.mean += delta * n / total
        self.count += n

    @property
    def limit(self) -> float:
        """Beyond which the normalised observations are clipped."""
        return self.clip if self.count else math.inf

    def mean_and_scale(self) -> tuple[Tensor, Tensor]:
        """(O,) float32 each: what is taken off, and what the rest is multiplied by."""
        if self.count == 0:
            return torch.zeros_like(self.mean).float(), torch.ones_like(self.var).float()
        return self.mean.float(), (self.var + 1e-8).rsqrt().float()

    def forward(self, x: Tensor) -> Tensor:
        if self.count == 0:
            return x
        mean, scale = self.mean_and_scale()
        return ((x - mean) * scale).clamp(-self.clip, self.clip)


def mlp(sizes: Sequence[int], out_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Tanh layers with orthogonal weights (gain sqrt 2, `out_gain` for the last) and zero biases."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        nn.init.orthogonal_(linear.weight, out_gain if last else math.sqrt(2), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


def check_sizes(sizes: Sequence[int], parameters: Mapping[str, Any], name: str) -> None:
    """Raises ValueError unless the weights of these layers are there, each as large as said: a network is made only of
    what a file has, however much it claims."""
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        found = tuple(parameters[f"{name}.{2 * i}.weight"].shape)
        if found != (n_out, n_in):
            raise ValueError(f"{name}.{2 * i}.weight is {found}, not {(n_out, n_in)}")


def check_weights(arrays: Mapping[str, Any]) -> None:
    """Raises ValueError for an array that holds NaN or infinity."""
    for name, array in arrays.items():
        if not torch.isfinite(torch.as_tensor(array)).all():
            raise ValueError(f"{name} is not finite")


class Policy(nn.Module):
    """Actor and critic over normalised observations.

    `features` normalises; `distribution` and `value` take features, so that an update normalises only once.
    """

    log_std: nn.Parameter  # (A,), Box actions only

    def __init__(self, spaces: Spaces, config: NetConfig, seed: int, env_id: str, env: dict[str, Any]) -> None:
        super().__init__()
        self.spaces, self.config, self.env_id, self.env = spaces, config, env_id, env
        generator = torch.Generator().manual_seed(seed)
        self.obs_norm = RunningNorm(spaces.obs_size)
        self.actor = mlp([spaces.obs_size, *config.hidden, spaces.action_size], 0.01, generator)
        self.critic = mlp([spaces.obs_size, *config.hidden, 1], 1.0, generator)
        if spaces.action_kind == "box":
            self.log_std = nn.Parameter(torch.full((spaces.action_size,), config.log_std_init))

    def features(self, obs: np.ndarray) -> Tensor:
        """(..., O) raw float32 -> normalised, ready for the networks."""
        return self.obs_norm(torch.from_numpy(obs))

    def distribution(self, features: Tensor) -> Gaussian | Categorical:
        return self.head(self.actor(features))

    def head(self, out: Tensor) -> Gaussian | Categorical:
        """The distribution of the actor's outputs (..., A)."""
        return Categorical(out, self.spaces.choices) if self.spaces.choices else Gaussian(out, self.log_std)

    def value(self, features: Tensor) -> Tensor:
        """(...,)"""
        return self.critic(features)[..., 0]

    def act(self, obs: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Actions (B, A) float32 or choices (B, G) int64 for raw observations (B, O): sampled, or the mode without an
        rng."""
        return self.acting()(obs, rng)

    def acting(self) -> Act:
        """`act` of the policy as it now is, for many calls: in NumPy, whose calls cost a tenth of torch's."""
        linears = [layer for layer in self.actor if isinstance(layer, nn.Linear)]
        layers = [(np.ascontiguousarray(w.weight.detach().numpy().T), w.bias.detach().numpy()) for w in linears]
        mean, scale = (x.numpy() for x in self.obs_norm.mean_and_scale())
        clip, sample = np.float32(self.obs_norm.limit), self.sampling()

        def act(obs: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
            h = (obs - mean) * scale
            h = np.minimum(np.maximum(h, -clip, out=h), clip, out=h)  # np.clip does more checks
            for i, (weight, bias) in enumerate(layers):
                h = h @ weight
                h += bias
                if i < len(layers) - 1:
                    np.tanh(h, out=h)
            return sample(h, rng)

        return act

    def sampling(self) -> Act:
        """From the actor's outputs (B, A), and an rng or None, to actions."""
        choices = self.spaces.choices
        std = np.empty(0, np.float32) if choices else np.exp(self.log_std.detach().numpy())

        def sample(out: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
            if choices:  # by the Gumbel-max trick
                logits = out if rng is None else out + rng.gumbel(size=out.shape)
                groups = np.split(logits, np.cumsum(choices)[:-1], -1)
                return np.stack([group.argmax(-1) for group in groups], -1)
            return out if rng is None else out + std * rng.standard_normal(out.shape, np.float32)

        return sample

    def predict(
        self, observation: np.ndarray, state: None = None, episode_start: np.ndarray | None = None,
        deterministic: bool = True, *, rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, None]:  # fmt: skip
        """Says what to do, as Stable-Baselines3's models do: (action, None), ready for `env.step`, for one raw
        observation or a batch of them, (B, ...). Observations other than a Box are given as
        `gymnasium.spaces.flatten` makes them. Without `deterministic` the action is sampled from `rng`. `state` and
        `episode_start` are of no account: the policy remembers nothing."""
        shape = self.spaces.obs_shape
        obs = np.asarray(observation)
        batch = obs.ndim == len(shape) + 1 and obs.shape[1:] == shape
        if obs.dtype.kind not in "biuf" or not (batch or obs.shape in (shape, (self.spaces.obs_size,))):
            raise UserError(f"the policy observes {shape}, one or a batch of them; this is {obs.shape} of {obs.dtype}")
        if not deterministic and rng is None:
            raise UserError("to sample an action, give rng=np.random.default_rng(seed), and the same one every time")
        action = self.act(obs.reshape(-1, self.spaces.obs_size).astype(np.float32), None if deterministic else rng)
        if self.spaces.action_kind == "box":
            action = self.spaces.execute(action).reshape(-1, *self.spaces.action_shape)
        elif len(self.spaces.choices) == 1:
            action = action[:, 0]
        return (action if batch else action[0]), None

    def frozen(self) -> "Policy":
        """A copy that no longer changes, its normaliser included, and bit for bit what is read back from its state: the
        layout of a matrix in memory, which a plain copy would keep, decides the last bits of a product."""
        return Policy.from_state(self.state()).requires_grad_(False)

    @torch.no_grad()
    def loosen(self, shrink: float, min_log_std: float) -> None:
        """Makes a converged policy try things again: scales its last layer and raises its noise."""
        last = self.actor[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(shrink)
        last.bias.mul_(shrink)
        if self.spaces.action_kind == "box":
            self.log_std.clamp_(min=min_log_std)

    def acts_as(self, other: "Policy") -> bool:
        """Whether both have the same actor and noise, bit for bit, whatever their critics and normalisers."""
        theirs = dict(other.named_parameters())
        own = [(name, value) for name, value in self.named_parameters() if not name.startswith("critic")]
        return all(torch.equal(value, theirs[name]) for name, value in own)

    # -- files

    def state(self) -> dict[str, Any]:
        """All of it, as arrays and plain values."""
        return {
            "kind": "policy",
            "env_id": self.env_id,
            "env": self.env,
            "spaces": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.spaces).items()},
            "net": {"hidden": list(self.config.hidden), "log_std_init": self.config.log_std_init},
            "parameters": {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Policy":
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in state["spaces"].items()}
            net = NetConfig(tuple(state["net"]["hidden"]), state["net"]["log_std_init"])
            spaces = Spaces(**fields)
            check_sizes([spaces.obs_size, *net.hidden, spaces.action_size], state["parameters"], "actor")
            policy = cls(spaces, net, 0, str(state["env_id"]), dict(state["env"]))
            policy.load_parameters(state)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError, UserError) as error:
            raise CorruptFileError(f"this is not a policy of this version ({error!r})") from error
        return policy

    def load_parameters(self, state: dict[str, Any]) -> None:
        """Weights and normaliser of `state`, in place."""
        check_weights(state["parameters"])
        self.load_state_dict({k: torch.from_numpy(v) for k, v in state["parameters"].items()})

    def save(self, path: str | Path, **facts: Any) -> None:
        save_state(path, {**self.state(), "facts": facts})


def load_policy(path: str | Path, env_id: str = "") -> Policy:
    """A policy from its file; `env_id` as in `files.refuse_module`."""
    state = load_state(path)
    if state.get("kind") != "policy":
        raise CorruptFileError(f"{path} does not hold a policy; give a policy.npz or a run's folder")
    return refuse_modules(Policy.from_state(state), path, env_id)


def refuse_modules(policy: Policy, path: str | Path, env_id: str) -> Policy:
    """The policy, unless `files.refuse_module` refuses its environment."""
    refuse_module(policy.env_id, path, env_id)
    return policy
