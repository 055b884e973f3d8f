"""Policies: networks, their input normaliser and their action distribution, so that a policy file is whole.

B batch, O observation, A action.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.config import NetConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.distributions import Categorical, Gaussian
from rlhf_control.nets.encoders import Encoder, RunningNorm, mlp
from rlhf_control.nets.pictures import Sight, check_pictures
from rlhf_control.nets.transformer import Memory, TokenEncoder, check_tokens, dialogues
from rlhf_control.runs.files import load_state, refuse_module, save_state
from rlhf_control.spaces import Act, Spaces

LOOSE = -0.7  # log of a standard deviation


# -- networks

MAX_LOG_STD = 20.0  # of a state-dependent noise; its least is the policy's `log_std`
NUMPY_ACTIVATIONS: dict[str, Callable[..., np.ndarray]] = {
    "tanh": np.tanh, "relu": lambda x, out: np.maximum(x, np.float32(0), out=out),
}  # fmt: skip


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
    """Joins actor and critic over normalised observations.

    `features` normalises; `distribution` and `value` take features, so that an update normalises only once.
    """

    log_std: Tensor  # (A,), Box actions only: a parameter or, where the actor puts out its own, the least that counts
    critic_encoder: Encoder | TokenEncoder | None  # where the critic has one of its own

    def __init__(self, spaces: Spaces, config: NetConfig, seed: int, env_id: str, env: dict[str, Any]) -> None:
        super().__init__()
        self.spaces, self.env_id, self.env = spaces, env_id, env
        generator = torch.Generator().manual_seed(seed)
        if config.encoder != "flat":
            refuse_float_pictures(spaces, env_id)
        self.encoder = new_encoder(spaces, config, generator)
        if config.encoder not in ("auto", "flat", "transformer") and (spaces.tokens or not self.encoder.seen):
            raise UserError(
                f"--net.encoder {config.encoder} is for pictures, and {env_id} shows {spaces}; leave it out"
            )
        if config.encoder == "transformer" and not spaces.tokens:
            raise UserError(f"--net.encoder transformer is for tokens, and {env_id} shows {spaces}; leave it out")
        self.config = replace(config, encoder=self.encoder.sight.kind)  # type: ignore[arg-type]
        self.critic_encoder = new_encoder(spaces, config, generator) if config.separate_encoders else None
        trunk, actor, critic = layer_sizes(spaces, self.config)
        self.trunk = mlp(trunk, None, generator, config.activation)
        self.actor = mlp(actor, 0.01, generator, config.activation)
        self.critic = mlp(critic, 1.0, generator, config.activation)
        if spaces.action_kind == "box" and config.state_dependent_std:
            self.register_buffer("log_std", torch.full((spaces.action_size,), -MAX_LOG_STD))
            with torch.no_grad():
                self.actor[-1].bias[spaces.action_size :] = config.log_std_init  # type: ignore[operator]
        elif spaces.action_kind == "box":
            self.log_std = nn.Parameter(torch.full((spaces.action_size,), config.log_std_init))

    @property
    def obs_norm(self) -> RunningNorm:
        """Returns the normaliser of all that is no picture."""
        return self.encoder.norm

    def observe(self, obs: np.ndarray) -> None:
        """Has the normaliser take in raw observations (..., O)."""
        if self.encoder.counted:
            self.obs_norm.update(self.encoder.numbers(obs))

    def features(self, obs: np.ndarray) -> Tensor:
        """Returns what the networks read of raw observations (..., O), as far as no gradient changes it."""
        return self.encoder.prepare(obs)

    def distribution(self, features: Tensor) -> Gaussian | Categorical:
        """Returns the distribution of actions at features (..., F)."""
        return self.head(self.outputs(features))

    def outputs(self, features: Tensor, *, gradients: bool = True) -> Tensor:
        """Returns what the actor puts out, (..., A) or, with a state-dependent noise, (..., 2 A)."""
        return self.actor(self.trunk(self.encoder(features) if gradients else self.encoder.without_gradients(features)))

    def distribution_and_value(self, features: Tensor) -> tuple[Gaussian | Categorical, Tensor]:
        """Returns both at once: what actor and critic share is computed once."""
        if self.critic_encoder is not None:
            return self.distribution(features), self.value(features)
        seen = self.trunk(self.encoder(features))
        return self.head(self.actor(seen)), self.critic(seen)[..., 0]

    def head(self, out: Tensor) -> Gaussian | Categorical:
        """Returns the distribution of the actor's outputs (..., A)."""
        if self.spaces.choices:
            return Categorical(out, self.spaces.choices)
        if not self.config.state_dependent_std:
            return Gaussian(out, self.log_std.to(out.device))
        mean, log_std = out.chunk(2, -1)
        return Gaussian(mean, torch.maximum(log_std, self.log_std.to(out.device)).clamp(max=MAX_LOG_STD))

    def value(self, features: Tensor, *, gradients: bool = True) -> Tensor:
        """Returns the values, (...,), at features (..., F)."""
        encoder = self.critic_encoder or self.encoder
        return self.critic(self.trunk(encoder(features) if gradients else encoder.without_gradients(features)))[..., 0]

    def act(self, obs: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Returns actions (B, A) float32 or choices (B, G) int64 for raw observations (B, O): sampled, or the mode
        without an rng."""
        if self.encoder.seen and not self.spaces.tokens:  # a single call needs no copy of the CNN
            return self.sampling()(self.outputs(self.features(obs), gradients=False).detach().cpu().numpy(), rng)
        return self.acting()(obs, rng)

    def acting(self) -> Act:
        """Returns `act` of the policy as it now is, for many calls: in NumPy, whose calls cost a tenth of torch's."""
        if self.encoder.seen or self.config.activation not in NUMPY_ACTIVATIONS:
            return acting_in_torch(self)
        assert isinstance(self.encoder, Encoder)
        activation = NUMPY_ACTIVATIONS[self.config.activation]
        linears = [layer for layer in (*self.trunk, *self.actor) if isinstance(layer, nn.Linear)]
        layers = [(np.ascontiguousarray(w.weight.detach().numpy().T), w.bias.detach().numpy()) for w in linears]
        mean, scale = (x.numpy() for x in self.obs_norm.mean_and_scale())
        clip, sample = np.float32(self.obs_norm.limit), self.sampling()

        def act(obs: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
            h = (self.encoder.numbers(obs) - mean) * scale
            h = np.minimum(np.maximum(h, -clip, out=h), clip, out=h)  # np.clip does more checks
            for i, (weight, bias) in enumerate(layers):
                h = h @ weight
                h += bias
                if i < len(layers) - 1:
                    activation(h, out=h)
            return sample(h, rng)

        return act

    def sampling(self) -> Act:
        """Returns a function from the actor's outputs (B, A), and an rng or None, to actions."""
        choices, depends = self.spaces.choices, self.config.state_dependent_std
        if self.spaces.tokens:
            return sample_token
        least = np.empty(0, np.float32) if choices else self.log_std.detach().cpu().numpy()
        std = np.exp(least)

        def sample(out: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
            if choices:  # by the Gumbel-max trick
                logits = out if rng is None else out + rng.gumbel(size=out.shape)
                groups = np.split(logits, np.cumsum(choices)[:-1], -1)
                return np.stack([group.argmax(-1) for group in groups], -1)
            if not depends:
                return out if rng is None else out + std * rng.standard_normal(out.shape, np.float32)
            mean, log_std = np.split(out, 2, -1)
            own = np.exp(np.minimum(np.maximum(log_std, least), np.float32(MAX_LOG_STD)))
            return mean if rng is None else mean + own * rng.standard_normal(mean.shape, np.float32)

        return sample

    def predict(
        self, observation: np.ndarray, state: None = None, episode_start: np.ndarray | None = None,
        deterministic: bool = True, *, rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, None]:  # fmt: skip
        """Says what to do, as Stable-Baselines3's models do: (action, None), ready for `env.step`, for one raw
        observation or a batch of them, (B, ...). Observations other than a Box are given as
        `gymnasium.spaces.flatten` makes them. Without `deterministic` the action is sampled from `rng`. `state` and
        `episode_start` are of no account: the policy remembers nothing."""
        shape, size = (self.spaces.numbers,) if self.spaces.obs_parts else self.spaces.obs_shape, self.spaces.numbers
        obs = np.asarray(observation)
        batch = obs.ndim == len(shape) + 1 and obs.shape[1:] == shape
        if obs.dtype.kind not in "biuf" or not (batch or obs.shape in (shape, (size,))):
            raise UserError(f"the policy observes {shape}, one or a batch of them; this is {obs.shape} of {obs.dtype}")
        if not deterministic and rng is None:
            raise UserError("to sample an action, give rng=np.random.default_rng(seed), and the same one every time")
        action = self.act(self.spaces.packed(obs.reshape(-1, size)), None if deterministic else rng)
        if self.spaces.action_kind == "box":
            action = self.spaces.execute(action).reshape(-1, *self.spaces.action_shape)
        elif len(self.spaces.choices) == 1:
            action = action[:, 0]
        return (action if batch else action[0]), None

    def frozen(self) -> "Policy":
        """Returns a copy that no longer changes, its normaliser included. It is bit for bit what is read back from its
        state: the layout of a matrix in memory, which a plain copy would keep, decides the last bits of a product."""
        return to_device(Policy.from_state(self.state()).requires_grad_(False), self.encoder.device)

    @torch.no_grad()
    def loosen(self, shrink: float, min_log_std: float | None) -> None:
        """Makes a converged policy try things again: scales its last layer and raises its noise, where nothing is said
        to LOOSE or, if that is less, to what it was made with. A skill that is kept (shrink 1) keeps its noise as well:
        of an Ant that walks at log standard deviations of -1.5 nothing was left at -1.0."""
        if min_log_std is None and shrink == 1:
            return
        floor = min(LOOSE, self.config.log_std_init) if min_log_std is None else min_log_std
        last = self.actor[-1]
        assert isinstance(last, nn.Linear)
        last.weight[: self.spaces.action_size].mul_(shrink)
        last.bias[: self.spaces.action_size].mul_(shrink)
        if self.spaces.action_kind == "box":
            self.log_std.clamp_(min=floor)

    def acts_as(self, other: "Policy") -> bool:
        """Tells whether both have the same actor and noise, bit for bit, whatever their critics and normalisers."""
        theirs = dict(other.named_parameters())
        own = [(name, value) for name, value in self.named_parameters() if not name.startswith("critic")]
        return all(torch.equal(value.cpu(), theirs[name].cpu()) for name, value in own)

    # -- files

    def state(self) -> dict[str, Any]:
        """Returns all of it, as arrays and plain values."""
        return {
            "kind": "policy",
            "env_id": self.env_id,
            "env": self.env,
            "spaces": self.spaces.state(),
            "net": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.config).items()},
            "parameters": {file_name(name): tensor.cpu().numpy().copy() for name, tensor in self.state_dict().items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Policy":
        try:
            net = net_from_state(state["net"])
            spaces = Spaces.from_state(state["spaces"])
            for name, sizes in zip(("trunk", "actor", "critic"), layer_sizes(spaces, net), strict=True):
                check_sizes(sizes, state["parameters"], name)
            for prefix in ("encoder.", "critic_encoder.")[: 1 + net.separate_encoders]:
                check_encoder(spaces, net, state["parameters"], prefix)
            policy = cls(spaces, net, 0, str(state["env_id"]), dict(state["env"]))
            policy.load_parameters(state)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError, UserError) as error:
            raise CorruptFileError(f"this is not a policy of this version ({error!r})") from error
        return policy

    def load_parameters(self, state: dict[str, Any]) -> None:
        """Takes over weights and normaliser of `state`, in place."""
        check_weights(state["parameters"])
        own = self.state_dict()
        self.load_state_dict({name: torch.from_numpy(state["parameters"][file_name(name)]) for name in own})

    def save(self, path: str | Path, *, learner: Mapping[str, Any] | None = None, **facts: Any) -> None:
        """Writes one sealed .npz: the policy, what is to be known about it, and the state of the learner that made it,
        for another to go on with."""
        beside = {"facts": facts} | ({} if learner is None else {"learner": dict(learner)})
        save_state(path, {**self.state(), **beside})


def to_device(policy: Policy, device: torch.device) -> Policy:
    """Moves the networks of a policy that sees pictures there, and returns it. Others are fastest on the processor.
    What is prepared for the networks is prepared there, always."""
    if policy.encoder.seen and not policy.spaces.tokens:
        policy.to(device)
        for encoder in (policy.encoder, policy.critic_encoder):
            if encoder is not None:
                encoder.norm.cpu()
    return policy


def new_encoder(spaces: Spaces, net: NetConfig, generator: torch.Generator) -> Encoder | TokenEncoder:
    if reads_tokens(spaces, net):
        sizes = {"width": net.width, "layers": net.layers, "heads": net.heads}
        return TokenEncoder(spaces.parts, spaces.tokens, generator, **sizes)
    return Encoder(spaces.parts, generator, Sight.of(net), net.obs_clip)


def refuse_float_pictures(spaces: Spaces, env_id: str) -> None:
    """Raises UserError for a picture as floats, which no CNN would see and which would take four times the memory."""
    for part in (part for part in spaces.parts if part.float_picture):
        name = f"'{part.name}', a picture" if part.name else "a picture"
        raise UserError(
            f"{env_id} shows {name} {part.shape} of {part.dtype}; a CNN sees pictures of uint8, 0 to 255: have the "
            "environment give those, or choose --net.encoder flat to have them read as numbers"
        )


def together(policy: Policy, features: Tensor) -> np.ndarray | None:
    """Numbers rows of features (B, ...), the same number for those that cost less when they are read together; None
    where there are none."""
    return dialogues(features) if isinstance(policy.encoder, TokenEncoder) else None


def reads_tokens(spaces: Spaces, net: NetConfig) -> bool:
    """Tells whether a policy with these options reads contexts of tokens by a transformer."""
    return bool(spaces.tokens) and net.encoder in ("auto", "transformer")


def check_encoder(spaces: Spaces, net: NetConfig, parameters: Mapping[str, Any], prefix: str) -> None:
    """Raises ValueError unless the weights of an encoder are there, each as large as the options say."""
    if net.encoder == "transformer":
        sizes = {"width": net.width, "layers": net.layers, "heads": net.heads}
        return check_tokens(spaces.parts, spaces.tokens, parameters, sizes, prefix)
    check_pictures(spaces.parts, parameters, Sight.of(net), prefix)


def sample_token(logits: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Draws tokens (B, 1) by their logits (B, A), with one random number each: by the Gumbel-max trick it would be one
    for every token there is, which takes longer than the transformer."""
    if rng is None:
        return logits.argmax(-1)[:, None]
    below = np.exp(logits - logits.max(-1, keepdims=True)).cumsum(-1)
    return (below <= rng.random((len(logits), 1)) * below[:, -1:]).sum(-1)[:, None]


def acting_in_torch(policy: Policy) -> Act:
    """Does what `Policy.acting` does for networks that NumPy does not have; what was read of contexts is kept until the
    next call."""
    sample, encoder = policy.sampling(), policy.encoder
    if isinstance(encoder, TokenEncoder):
        read: Callable[[np.ndarray], Tensor] = Memory(encoder).read
    else:
        ready = encoder.made_ready()

        def read(obs: np.ndarray) -> Tensor:
            return ready.without_gradients(ready.prepare(obs))

    @torch.no_grad()
    def act(obs: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        return sample(policy.actor(policy.trunk(read(obs))).cpu().numpy(), rng)

    return act


def layer_sizes(spaces: Spaces, net: NetConfig) -> tuple[list[int], list[int], list[int]]:
    """Returns inputs, widths and outputs of what actor and critic share, of the actor and of the critic; `net.encoder`
    has been decided."""
    inputs = net.width if reads_tokens(spaces, net) else Encoder.size_of(spaces.parts, Sight.of(net))
    outputs = spaces.action_size * (2 if net.state_dependent_std and not spaces.choices else 1)
    trunk = [inputs, *net.shared]
    critic_hidden = net.hidden if net.critic_hidden is None else net.critic_hidden
    return trunk, [trunk[-1], *net.hidden, outputs], [trunk[-1], *critic_hidden, 1]


def net_from_state(state: Mapping[str, Any]) -> NetConfig:
    """Reads the options of networks from a policy's file. Older ones know fewer."""
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items()}
    return NetConfig(**{"encoder": "flat", **known})


def file_name(name: str) -> str:
    """Returns a parameter's name in files, where the normaliser's are as they were before there were encoders."""
    return name.replace("encoder.norm.", "obs_norm.") if name.startswith("encoder.") else name


def load_policy(path: str | Path, env_id: str = "") -> Policy:
    """Reads a policy from its file; `env_id` as in `files.refuse_module`."""
    state = load_state(path)
    if state.get("kind") != "policy":
        raise CorruptFileError(f"{path} does not hold a policy; give a policy.npz or a run's folder")
    return refuse_modules(Policy.from_state(state), path, env_id)


def refuse_modules(policy: Policy, path: str | Path, env_id: str) -> Policy:
    """Returns the policy, unless `files.refuse_module` refuses its environment."""
    refuse_module(policy.env_id, path, env_id)
    return policy
