"""PPO's minibatch step with its gradients written out: the mathematics of `ppo.ppo_loss`, gradient clipping and Adam
without autograd, whose bookkeeping costs many times the arithmetic on a minibatch of 64 rows.

K networks side by side (row 0 the actor, row 1 the critic), B rows of the minibatch, A actions, P parameters of a network.
`d_x` is dL/dx, the gradient of the minibatch's loss L with respect to x, and has the shape of x.

Actor and critic have the same hidden widths, so each layer of both is one stacked product. The critic's last layer is
padded with zeros to the actor's width; nothing reads those outputs, so their gradients and Adam's steps are zero as well.

Torch does the products and Adam; NumPy does what is element by element, on the same memory: its tanh is five times
faster. NumPy's own products would follow the number of BLAS threads, which nothing here could hold at one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlhf_control.config import PPOConfig
from rlhf_control.data import Array
from rlhf_control.nets import LOG_2PI, Categorical, Gaussian, Policy
from rlhf_control.ppo import Batch

# -- advantage and surrogate


def normalized(advantage: Array) -> Array:
    """To mean 0 and (unbiased) standard deviation 1."""
    n = len(advantage)
    centred = advantage - advantage.sum() / n
    return centred / (math.sqrt(np.square(centred).sum() / (n - 1)) + 1e-8)


def clipped_surrogate(ratio: Array, advantage: Array, clip: float) -> tuple[Array, Array]:
    """min(r A, clip(r) A) (eq. 7) and its derivative with respect to log r, both (B,).

    d(r A)/d(log r) = r A; that of clip(r) A is the same inside the range and 0 outside. As torch.min does, min passes
    the gradient to the smaller operand, and half to each of two equal ones: inside the range the halves add up to r A.
    """
    clipped_ratio = ratio.clip(1 - clip, 1 + clip)
    objective, clipped = ratio * advantage, clipped_ratio * advantage
    through_ratio = np.heaviside(clipped - objective, 0.5)  # 1 where r A is smaller, 1/2 where equal
    through_clip = 0.5 * (clipped_ratio == ratio)
    return np.minimum(objective, clipped), objective * (through_ratio + through_clip)


# -- action distributions: what nets.Gaussian and nets.Categorical compute, with its gradient


class GaussianHead:
    """Diagonal normal distribution with mean (B, A) and log standard deviation (A,), at the actions taken."""

    def __init__(self, mean: Array, log_std: Array, action: Array) -> None:
        self.mean, self.log_std = mean, log_std
        self.inverse_std = np.exp(-log_std)
        self.z = (action - mean) * self.inverse_std
        self.sum_log_std = float(log_std.sum())

    def log_prob(self) -> Array:
        """(B,): the sum over actions of -z^2 / 2 - log_std - log(2 pi) / 2."""
        return -0.5 * np.einsum("ba,ba->b", self.z, self.z) - (self.sum_log_std + 0.5 * LOG_2PI * len(self.log_std))

    def entropy(self) -> float:
        """Mean over the batch of the sum over actions of log_std + log(2 pi e) / 2."""
        return self.sum_log_std + 0.5 * (1 + LOG_2PI) * len(self.log_std)

    def through_log_prob(self, d_log_prob: Array, d_mean: Array, d_log_std: Array) -> None:
        """d log_prob / d mean = z / std; d log_prob / d log_std = z^2 - 1, as dz / d log_std = -z."""
        np.multiply(self.z, d_log_prob[:, None], out=d_mean)
        np.einsum("ba,ba->a", self.z, d_mean, out=d_log_std)
        d_log_std -= d_log_prob.sum()
        d_mean *= self.inverse_std

    def through_entropy(self, d_entropy: float, d_mean: Array, d_log_std: Array) -> None:
        """d H / d log_std = 1, whatever the mean."""
        d_log_std += d_entropy

    def through_kl(self, old: Gaussian, d_kl: float, d_mean: Array, d_log_std: Array) -> float:
        """Mean KL(new || old); adds its gradient, d_kl being its weight in the loss.

        KL = sum of (v + m^2 - 1 - log v) / 2 with v = (std / old_std)^2 and m = (mean - old_mean) / old_std, so
        d KL / d mean = m / old_std; d KL / d log_std = v - 1, as dv / d log_std = 2 v.
        """
        old_inverse_std = np.exp(-old.log_std.numpy())
        log_v = 2 * (self.log_std - old.log_std.numpy())
        v, m, n = np.exp(log_v), (self.mean - old.mean.numpy()) * old_inverse_std, len(self.mean)
        d_mean += m * old_inverse_std * (d_kl / n)
        d_log_std += np.broadcast_to(v - 1, m.shape).sum(0) * (d_kl / n)
        return float((v + m * m - 1 - log_v).sum()) / (2 * n)


class CategoricalHead:
    """Distribution over A actions with logits (B, A), at the actions taken (B,). It has no use for log_std."""

    def __init__(self, logits: Array, log_std: Array, action: Array) -> None:
        self.taken = np.arange(len(logits)), action
        self.log_p = log_softmax(logits)
        self.p = np.exp(self.log_p)
        self.row_entropy = -(self.p * self.log_p).sum(1, keepdims=True)

    def log_prob(self) -> Array:
        return self.log_p[self.taken]

    def entropy(self) -> float:
        return float(self.row_entropy.sum()) / len(self.p)

    def through_log_prob(self, d_log_prob: Array, d_logits: Array, d_log_std: Array) -> None:
        """d log p_a / d logit_k = [k = a] - p_k, as log p_a = logit_a - log sum exp logits."""
        np.multiply(self.p, -d_log_prob[:, None], out=d_logits)
        d_logits[self.taken] += d_log_prob

    def through_entropy(self, d_entropy: float, d_logits: Array, d_log_std: Array) -> None:
        """H = -sum p log p and d p_j / d logit_k = p_j ([j = k] - p_k), so d H / d logit_k = -p_k (log p_k + H)."""
        d_logits -= self.p * (self.log_p + self.row_entropy) * (d_entropy / len(self.p))

    def through_kl(self, old: Categorical, d_kl: float, d_logits: Array, d_log_std: Array) -> float:
        """KL = sum p (log p - log q); d KL / d logit_k = p_k (log p_k - log q_k - KL), as for the entropy."""
        log_ratio = self.log_p - log_softmax(old.logits.numpy())
        kl = (self.p * log_ratio).sum(1, keepdims=True)
        d_logits += self.p * (log_ratio - kl) * (d_kl / len(self.p))
        return float(kl.sum()) / len(self.p)


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


# -- networks


@dataclass(frozen=True)
class Layer:
    """Views of one linear layer of all K networks, in their parameters or in the gradient of these."""

    weight: Tensor  # (K, out, in)
    bias: Tensor  # (K, 1, out)


class Activation(NamedTuple):
    """One layer's output h (K, B, out) and its gradient, which starts as d_h and becomes d_z, h = tanh z.
    Each as a tensor and as the array on the same memory."""

    h: Tensor
    d_z: Tensor
    h_array: Array
    d_z_array: Array


def layers_of(flat: Tensor, sizes: Sequence[int]) -> list[Layer]:
    """The layers within (K, P): each weight, then its bias."""
    layers, start = [], 0
    for n_in, n_out in pairwise(sizes):
        end = start + n_in * n_out
        bias = flat[:, end : end + n_out].view(-1, 1, n_out)
        layers.append(Layer(flat[:, start:end].view(-1, n_out, n_in), bias))
        start = end + n_out
    return layers


class Networks:
    """K tanh networks of one shape: outputs, and gradients by backpropagation."""

    def __init__(self, parameters: Tensor, d_parameters: Tensor, sizes: Sequence[int]) -> None:
        self.layers, self.d_layers = layers_of(parameters, sizes), layers_of(d_parameters, sizes)
        self.activations: dict[int, list[Activation]] = {}  # B -> a layer's; allocated once

    def forward(self, x: Tensor) -> list[Activation]:
        """All layers' outputs for x (B, in), which every network reads: h <- tanh(h W^T + b), the last without tanh."""
        k, rows = len(self.layers[0].weight), len(x)
        if rows not in self.activations:
            pairs = [x.new_zeros(2, k, rows, layer.bias.shape[-1]) for layer in self.layers]
            self.activations[rows] = [Activation(*pair, *pair.numpy()) for pair in pairs]
        activations = self.activations[rows]
        h = x.expand(k, -1, -1)
        for layer, out in zip(self.layers, activations, strict=True):
            h = torch.baddbmm(layer.bias, h, layer.weight.mT, out=out.h)
            if out is not activations[-1]:
                np.tanh(out.h_array, out=out.h_array)
        return activations

    def backward(self, x: Tensor, activations: list[Activation]) -> None:
        """The gradients of all parameters from the last layer's d_z. Uses up the activations.

        z = h W^T + b, so d_W = d_z^T h, d_b = the sum of d_z over rows, d_h = d_z W; h = tanh z, so d_z = d_h (1 - h^2).
        """
        for i in reversed(range(len(self.layers))):
            d_z, d_layer = activations[i].d_z, self.d_layers[i]
            torch.sum(d_z, 1, keepdim=True, out=d_layer.bias)
            if i == 0:
                torch.bmm(d_z.mT, x.expand(len(d_z), -1, -1), out=d_layer.weight)
                return
            below = activations[i - 1]
            torch.bmm(d_z.mT, below.h, out=d_layer.weight)
            torch.bmm(d_z, self.layers[i].weight, out=below.d_z)
            slope = np.square(below.h_array, out=below.h_array)
            np.subtract(1, slope, out=slope)
            np.multiply(below.d_z_array, slope, out=below.d_z_array)


# -- the update


class FastUpdate:
    """PPO's minibatch step. The policy's parameters become views of one flat buffer here, so the policy itself takes
    every step; a copy of the policy has parameters of its own."""

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        self.config, spaces = config, policy.spaces
        self.head = GaussianHead if spaces.action_kind == "box" else CategoricalHead
        self.sizes = [spaces.obs_size, *policy.config.hidden, spaces.action_size]
        self.log_std_at = sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))
        like = next(policy.parameters()).detach()
        # (K, P) each; a row is a network's layers, then log_std, which the critic's has no use for
        self.buffers = like.new_zeros(4, 2, self.log_std_at + spaces.action_size)
        self.parameters, self.d_parameters, self.exp_avg, self.exp_avg_sq = self.buffers  # the last two are Adam's
        self.steps = torch.zeros(2)  # of Adam: steps of the critic alone put it ahead of the actor
        self.rows = [list(x.unbind()) for x in (*self.buffers, self.steps)]
        self.both = Networks(self.parameters, self.d_parameters, self.sizes)
        self.critic = Networks(self.parameters[1:], self.d_parameters[1:], self.sizes)
        self.log_std, self.d_log_std = (x[0, self.log_std_at :].numpy() for x in (self.parameters, self.d_parameters))
        self.names = [name for name, _ in policy.named_parameters()]
        for parameter, view in zip(policy.parameters(), self.views(self.parameters), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view

    def views(self, flat: Tensor) -> list[Tensor]:
        """(K, P) as tensors like the policy's parameters, in their order."""
        views = {"log_std": flat[0, self.log_std_at :]}
        for i, layer in enumerate(layers_of(flat, self.sizes)):
            last = i == len(self.sizes) - 2
            for row, network in enumerate(("actor", "critic")):
                n_out = 1 if last and network == "critic" else self.sizes[i + 1]
                views[f"{network}.{2 * i}.weight"] = layer.weight[row, :n_out]  # the tanhs stand at the odd places
                views[f"{network}.{2 * i}.bias"] = layer.bias[row, 0, :n_out]
        return [views[name] for name in self.names]

    def gradient(self, batch: Batch, clip: float, kl_coef: float) -> dict[str, float]:
        """Computes the gradient of `ppo_loss` for `apply`; returns the same metrics."""
        config, n = self.config, len(batch)
        activations = self.both.forward(batch.features)
        out, d_out = activations[-1].h_array, activations[-1].d_z_array
        new = self.head(out[0], self.log_std, batch.action.numpy())
        through = d_out[0], self.d_log_std

        log_ratio = new.log_prob() - batch.old_log_prob.numpy()
        ratio = np.exp(log_ratio)
        advantage = batch.advantage.numpy()
        if config.normalize_advantage:
            advantage = normalized(advantage)
        if config.step_control == "clip":
            objective, d_objective = clipped_surrogate(ratio, advantage, clip)
        else:
            objective = d_objective = ratio * advantage
        policy_loss = -float(objective.sum()) / n
        new.through_log_prob(d_objective / -n, *through)
        if config.step_control == "kl-penalty":
            policy_loss += kl_coef * new.through_kl(batch.old, kl_coef, *through)  # type: ignore[arg-type]
        if config.entropy_coef != 0:
            new.through_entropy(-config.entropy_coef, *through)
        value_loss = self._through_value(out[1], batch.returns, d_out[1])
        self.both.backward(batch.features, activations)
        return {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": new.entropy(),
            "approx_kl": float((ratio - 1 - log_ratio).sum()) / n,  # k3, as in ppo_loss
            "clip_fraction": float(np.count_nonzero(np.abs(ratio - 1) > clip)) / n,
        }

    def apply(self, lr: float) -> None:
        """Clips the gradient and takes Adam's step."""
        self._adam(0, lr)

    def step(self, batch: Batch, lr: float, clip: float, kl_coef: float) -> dict[str, float]:
        metrics = self.gradient(batch, clip, kl_coef)
        self.apply(lr)
        return metrics

    def value_step(self, batch: Batch, lr: float) -> None:
        """A step of the critic alone, on its part of the loss; the actor and its moments stay as they are."""
        activations = self.critic.forward(batch.features)
        self._through_value(activations[-1].h_array[0], batch.returns, activations[-1].d_z_array[0])
        self.critic.backward(batch.features, activations)
        self._adam(1, lr)

    def _through_value(self, out: Array, returns: Tensor, d_out: Array) -> float:
        """The mean of (V - R)^2. It has the weight value_coef, so d_V = 2 value_coef (V - R) / B. V is the first output."""
        error = out[:, 0] - returns.numpy()
        np.multiply(error, 2 * self.config.value_coef / len(error), out=d_out[:, 0])
        return float(np.square(error).sum()) / len(error)

    def _adam(self, first: int, lr: float) -> None:
        """`clip_grad_norm_`, then Adam's step, for the networks from `first` on."""
        d_parameters = self.d_parameters[first:]
        scale = self.config.max_grad_norm / (torch.linalg.vector_norm(d_parameters).item() + 1e-6)
        if scale < 1:
            d_parameters.mul_(scale)
        *tensors, steps = (x[first:] for x in self.rows)
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(  # the kernel of torch.optim.Adam(fused=True), without the 70 us that lead to it
            *tensors,
            [],
            steps,
            lr=lr,
            beta1=0.9,
            beta2=0.999,
            eps=1e-5,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )

    # -- checkpoints: the entries of torch.optim.Adam, so that either can continue from the other

    def state(self) -> dict[str, dict[str, Array]]:
        moments = zip(self.names, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        return {
            str(i): {k: x.numpy().copy() for k, x in [("step", self._step(name)), ("exp_avg", m), ("exp_avg_sq", v)]}
            for i, (name, m, v) in enumerate(moments)
        }

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """A parameter without an entry has not taken a step."""
        self.buffers[2:].zero_()
        self.steps.zero_()
        for i, (name, m, v) in enumerate(
            zip(self.names, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        ):
            if str(i) in state:
                entry = {k: torch.as_tensor(x) for k, x in state[str(i)].items()}
                self._step(name).copy_(entry["step"])
                m.copy_(entry["exp_avg"])
                v.copy_(entry["exp_avg_sq"])

    def _step(self, name: str) -> Tensor:
        """() Adam's count for a parameter."""
        return self.steps[1 if name.startswith("critic") else 0]
