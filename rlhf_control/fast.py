"""PPO's minibatch step with its gradients written out: the mathematics of `ppo.ppo_loss`, gradient clipping and Adam,
in NumPy. On a minibatch of 64 rows autograd's bookkeeping costs many times the arithmetic.

K networks side by side (0 the actor, 1 the critic), B rows of the minibatch, A actions, P parameters of a network.
`d_x` is dL/dx, the gradient of the minibatch's loss L with respect to x, and has the shape of x.

Actor and critic have the same hidden widths, so each layer of both is one stacked product. The critic's last layer is
padded with zeros to the actor's width; nothing reads those outputs, so their gradients and Adam's steps stay zero.
Larger products use as many cores as NumPy's BLAS is allowed: see `nets.one_thread`.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.config import PPOConfig
from rlhf_control.data import Array
from rlhf_control.nets import LOG_2PI, Policy

if TYPE_CHECKING:
    from rlhf_control.ppo import Batch

BETA1, BETA2, EPS = 0.9, 0.999, 1e-5  # Adam's; EPS as in Stable-Baselines3
total = np.add.reduce  # np.sum over the first axis, without a microsecond of argument handling

# -- advantage and surrogate


def normalized(advantage: Array) -> Array:
    """To mean 0 and (unbiased) standard deviation 1."""
    n = len(advantage)
    centred = advantage - total(advantage) / n
    return centred / (math.sqrt(total(np.square(centred)) / (n - 1)) + 1e-8)


def clipped_surrogate(ratio: Array, advantage: Array, clip: float) -> tuple[Array, Array]:
    """min(r A, clip(r) A) (eq. 7) and its derivative with respect to log r, both (B,).

    d(r A)/d(log r) = r A; that of clip(r) A is the same inside the range and 0 outside. As torch.min does, min passes
    the gradient to the smaller operand, and half to each of two equal ones: inside the range the halves add up to r A.
    """
    clipped_ratio = ratio.clip(1 - clip, 1 + clip)
    objective, clipped = ratio * advantage, clipped_ratio * advantage
    outside = np.heaviside(clipped - objective, 0.5)  # 1 where r A is the smaller, 1/2 where equal
    return np.minimum(objective, clipped), objective * np.where(clipped_ratio == ratio, 1, outside)


# -- action distributions: what nets.Gaussian and nets.Categorical compute, with its gradient


class GaussianHead:
    """Diagonal normal distribution with mean (B, A) and log standard deviation (A,), at the actions taken."""

    def __init__(self, mean: Array, log_std: Array, action: Array) -> None:
        self.mean, self.log_std, self.inverse_std = mean, log_std, np.exp(-log_std)
        self.z = (action - mean) * self.inverse_std
        # per action: log_prob = -z^2 / 2 - log_std - log(2 pi) / 2 and entropy = log_std + log(2 pi e) / 2
        constant = float(total(log_std)) + 0.5 * LOG_2PI * len(log_std)
        self.log_prob = -0.5 * np.einsum("ba,ba->b", self.z, self.z) - constant  # (B,)
        self.entropy = constant + 0.5 * len(log_std)  # mean over the batch

    def backward(self, d_log_prob: Array, d_entropy: float, d_mean: Array, d_log_std: Array) -> None:
        """d log_prob / d mean = z / std; d log_prob / d log_std = z^2 - 1, as dz / d log_std = -z;
        d entropy / d log_std = 1."""
        np.multiply(self.z, d_log_prob[:, None], out=d_mean)
        np.einsum("ba,ba->a", self.z, d_mean, out=d_log_std)
        d_log_std += d_entropy - total(d_log_prob)
        d_mean *= self.inverse_std

    def kl(self, old: Any, d_kl: float, d_mean: Array, d_log_std: Array) -> float:
        """Mean KL(new || old), another Gaussian; adds its gradient, d_kl being its weight in the loss.

        KL = sum of (v + m^2 - 1 - log v) / 2 with v = (std / old_std)^2 and m = (mean - old_mean) / old_std, so
        d KL / d mean = m / old_std; d KL / d log_std = v - 1, as dv / d log_std = 2 v.
        """
        old_inverse_std = np.exp(-old.log_std.numpy())
        log_v = 2 * (self.log_std - old.log_std.numpy())
        v, m, n = np.exp(log_v), (self.mean - old.mean.numpy()) * old_inverse_std, len(self.mean)
        d_mean += m * old_inverse_std * (d_kl / n)
        d_log_std += total(np.broadcast_to(v - 1, m.shape)) * (d_kl / n)
        return float((v + m * m - 1 - log_v).sum()) / (2 * n)


class CategoricalHead:
    """Distribution over A actions with logits (B, A), at the actions taken (B,). It has no use for log_std."""

    def __init__(self, logits: Array, log_std: Array, action: Array) -> None:
        self.taken = np.arange(len(logits)), action
        self.log_p = log_softmax(logits)
        self.p = np.exp(self.log_p)
        self.row_entropy = -(self.p * self.log_p).sum(1, keepdims=True)  # (B, 1)
        self.log_prob, self.entropy = self.log_p[self.taken], float(self.row_entropy.sum()) / len(logits)

    def backward(self, d_log_prob: Array, d_entropy: float, d_logits: Array, d_log_std: Array) -> None:
        """d log p_a / d logit_k = [k = a] - p_k, as log p_a = logit_a - log sum exp logits; so for H = -sum p log p
        d H / d logit_k = -p_k (log p_k + H)."""
        d_row_entropy = d_entropy / len(self.p)
        np.multiply(self.p, -d_log_prob[:, None] - d_row_entropy * (self.log_p + self.row_entropy), out=d_logits)
        d_logits[self.taken] += d_log_prob

    def kl(self, old: Any, d_kl: float, d_logits: Array, d_log_std: Array) -> float:
        """KL = sum p (log p - log q); d KL / d logit_k = p_k (log p_k - log q_k - KL), as for the entropy."""
        log_ratio = self.log_p - log_softmax(old.logits.numpy())
        kl = (self.p * log_ratio).sum(1, keepdims=True)
        d_logits += self.p * (log_ratio - kl) * (d_kl / len(self.p))
        return float(kl.sum()) / len(self.p)


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


# -- networks


def layers_of(flat: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Views of (K, P): for each layer its weight (K, out, in) and its bias (K, 1, out)."""
    layers, start = [], 0
    for n_in, n_out in pairwise(sizes):
        end = start + n_in * n_out
        weight, bias = flat[:, start:end], flat[:, end : end + n_out]
        layers.append((weight.reshape(-1, n_out, n_in), bias.reshape(-1, 1, n_out)))
        start = end + n_out
    return layers


class Networks:
    """K tanh networks of one shape: outputs, and gradients by backpropagation."""

    def __init__(self, parameters: Array, d_parameters: Array, sizes: Sequence[int]) -> None:
        self.layers, self.d_layers = layers_of(parameters, sizes), layers_of(d_parameters, sizes)
        self.memory: dict[int, list[tuple[Array, ...]]] = {}  # B -> for each layer its output and d_output, (K, B, out)

    def forward(self, x: Array) -> tuple[Array, ...]:
        """Outputs (K, B, out) for x (B, in), which every network reads, and the place for d_output.

        h <- tanh(h W^T + b) layer by layer, the last without tanh.
        """
        if len(x) not in self.memory:
            shapes = [(2, len(bias), len(x), bias.shape[-1]) for _, bias in self.layers]
            self.memory[len(x)] = [tuple(np.zeros(shape, x.dtype)) for shape in shapes]
        memory, h = self.memory[len(x)], x
        for i, (weight, bias) in enumerate(self.layers):
            h = np.matmul(h, weight.transpose(0, 2, 1), out=memory[i][0])
            h += bias
            if i < len(self.layers) - 1:
                np.tanh(h, out=h)
        return memory[-1]

    def backward(self, x: Array) -> None:
        """The gradients of all parameters, from d_output; uses up the hidden activations.

        z = h W^T + b, so d_W = d_z^T h, d_b = sum of d_z over rows, d_h = d_z W; h = tanh z, so d_z = d_h (1 - h^2).
        """
        memory, ones = self.memory[len(x)], np.ones((1, len(x)), x.dtype)
        for i in reversed(range(len(self.layers))):
            d_z, (d_weight, d_bias) = memory[i][1], self.d_layers[i]
            h, d_h = memory[i - 1] if i > 0 else (x, None)
            np.matmul(d_z.transpose(0, 2, 1), h, out=d_weight)
            np.matmul(ones, d_z, out=d_bias)
            if d_h is not None:
                np.matmul(d_z, self.layers[i][0], out=d_h)
                d_h *= np.subtract(1, np.square(h, out=h), out=h)


# -- the update


class FastUpdate:
    """PPO's minibatch step. The policy's parameters become views of one buffer here, so the policy itself takes every
    step; a copy of the policy has parameters of its own."""

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        self.config, spaces = config, policy.spaces
        self.head = GaussianHead if spaces.action_kind == "box" else CategoricalHead
        self.sizes = [spaces.obs_size, *policy.config.hidden, spaces.action_size]
        layers_end = sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))
        dtype = next(policy.parameters()).detach().numpy().dtype
        # (K, P) each; a row is a network's layers, then log_std, for which the critic has no use
        self.buffers = np.zeros((4, 2, layers_end + spaces.action_size), dtype)
        self.parameters, self.d_parameters, self.exp_avg, self.exp_avg_sq = self.buffers  # the last two are Adam's
        self.log_std, self.d_log_std = self.buffers[:2, 0, layers_end:]
        self.steps = [0, 0]  # of Adam: the critic runs ahead of the actor after steps of its own
        self.both, self.actor, self.critic = (
            Networks(self.parameters[k], self.d_parameters[k], self.sizes) for k in (slice(2), slice(1), slice(1, 2))
        )
        self.names = [name for name, _ in policy.named_parameters()]
        for parameter, view in zip(policy.parameters(), self.views(self.parameters), strict=True):
            view[...] = parameter.detach().numpy()
            parameter.data = torch.from_numpy(view)

    def views(self, flat: Array) -> list[Array]:
        """(K, P) as arrays like the policy's parameters, in their order."""
        views = {"log_std": flat[0, -self.sizes[-1] :]}
        for i, (weight, bias) in enumerate(layers_of(flat, self.sizes)):
            for row, network in enumerate(("actor", "critic")):
                n = 1 if network == "critic" and i == len(self.sizes) - 2 else None  # without the padding
                views[f"{network}.{2 * i}.weight"] = weight[row, :n]  # the tanhs stand at the odd places
                views[f"{network}.{2 * i}.bias"] = bias[row, 0, :n]
        return [views[name] for name in self.names]

    def log_prob(self, features: Tensor, action: Tensor) -> Tensor:
        """(N,), a minibatch at a time (the last one overlaps), as `gradient` does: so the ratio starts at exactly 1."""
        x, a, size = features.numpy(), action.numpy(), min(self.config.minibatch_size, len(features))
        log_prob = np.empty(len(x), x.dtype)
        for end in range(size, len(x) + size, size):
            rows = slice(min(end, len(x)) - size, min(end, len(x)))
            out, _ = self.actor.forward(x[rows])
            log_prob[rows] = self.head(out[0], self.log_std, a[rows]).log_prob
        return torch.from_numpy(log_prob)

    def gradient(self, batch: "Batch", clip: float, kl_coef: float) -> dict[str, float]:
        """Computes the gradient of `ppo_loss`, for `apply`; returns the same metrics."""
        config, n, x = self.config, len(batch), batch.features.numpy()
        out, d_out = self.both.forward(x)
        new, d_new = self.head(out[0], self.log_std, batch.action.numpy()), (d_out[0], self.d_log_std)
        log_ratio = new.log_prob - batch.old_log_prob.numpy()
        ratio = np.exp(log_ratio)
        advantage = batch.advantage.numpy()
        advantage = normalized(advantage) if config.normalize_advantage else advantage
        if config.step_control == "clip":
            objective, d_objective = clipped_surrogate(ratio, advantage, clip)
        else:
            objective = d_objective = ratio * advantage
        policy_loss = -float(total(objective)) / n
        new.backward(d_objective / -n, -config.entropy_coef, *d_new)
        if config.step_control == "kl-penalty":
            policy_loss += kl_coef * new.kl(batch.old, kl_coef, *d_new)
        value_loss = self._value_loss(out[-1], batch, d_out[-1])
        self.both.backward(x)
        distance = ratio - 1
        return {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": new.entropy,
            "approx_kl": float(total(distance - log_ratio)) / n,  # k3, as in ppo_loss
            "clip_fraction": float(total(np.abs(distance) > clip)) / n,
        }

    def apply(self, lr: float, first: int = 0) -> None:
        """Clips the gradient, as `clip_grad_norm_`, and takes Adam's step (arXiv 1412.6980, the bias corrections within
        the scalars as at the end of section 2), for the networks from `first` on."""
        d_parameters = self.d_parameters[first:]
        scale = self.config.max_grad_norm / (math.sqrt(np.square(d_parameters).sum()) + 1e-6)
        if scale < 1:
            d_parameters *= scale
        for network in range(first, 2):
            p, g, m, v = self.buffers[:, network]
            self.steps[network] += 1
            correction1, correction2 = 1 - BETA1 ** self.steps[network], math.sqrt(1 - BETA2 ** self.steps[network])
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * np.square(g)
            p -= (lr * correction2 / correction1) * m / (np.sqrt(v) + EPS * correction2)

    def step(self, batch: "Batch", lr: float, clip: float, kl_coef: float) -> dict[str, float]:
        metrics = self.gradient(batch, clip, kl_coef)
        self.apply(lr)
        return metrics

    def value_step(self, batch: "Batch", lr: float) -> None:
        """A step of the critic alone, on its part of the loss; the actor and its moments stay as they are."""
        x = batch.features.numpy()
        out, d_out = self.critic.forward(x)
        self._value_loss(out[-1], batch, d_out[-1])
        self.critic.backward(x)
        self.apply(lr, first=1)

    def _value_loss(self, out: Array, batch: "Batch", d_out: Array) -> float:
        """The mean of (V - R)^2, V being the first output. Its weight is value_coef: d_V = 2 value_coef (V - R) / B."""
        error = out[:, 0] - batch.returns.numpy()
        np.multiply(error, 2 * self.config.value_coef / len(error), out=d_out[:, 0])
        return float(total(np.square(error))) / len(error)

    # -- checkpoints: the entries of torch.optim.Adam, so that either continues from the other; none is no step yet

    def state(self) -> dict[str, dict[str, Array]]:
        return {
            str(i): {"step": np.array(self.steps[network], np.float32), "exp_avg": m.copy(), "exp_avg_sq": v.copy()}
            for i, (network, m, v) in enumerate(self._moments())
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.buffers[2:], self.steps = 0, [0, 0]
        for i, (network, m, v) in enumerate(self._moments()):
            if entry := state.get(str(i)):
                self.steps[network], m[...], v[...] = int(entry["step"]), entry["exp_avg"], entry["exp_avg_sq"]

    def _moments(self) -> Iterator[tuple[int, Array, Array]]:
        """For each of the policy's parameters: its network (log_std is the actor's), and Adam's moments."""
        networks = (int(name.startswith("critic")) for name in self.names)
        return zip(networks, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
