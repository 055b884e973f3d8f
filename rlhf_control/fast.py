"""The minibatch step of PPO with its gradients written out: the mathematics of `ppo.ppo_loss`, gradient clipping and
Adam, without autograd, whose bookkeeping costs many times the arithmetic when a minibatch has 64 rows.

Dimensions: K networks side by side (row 0 the actor, row 1 the critic), B rows of the minibatch, A actions, P parameters.
`d_x` is dL/dx, the gradient of the minibatch's loss L with respect to x, and has the shape of x.

Actor and critic have equal hidden widths, so each layer of both is one stacked product. The critic's last layer is padded
with zeros to the actor's width; nothing reads those outputs, so their gradients, and Adam's steps on them, are zero too.

Torch does the products and Adam, NumPy what is element by element (its tanh is several times faster): both on the same
memory, on one thread, so that the same input gives the same bits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.config import PPOConfig
from rlhf_control.data import Array
from rlhf_control.nets import LOG_2PI, Categorical, Gaussian, Policy
from rlhf_control.ppo import Batch

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-5, "weight_decay": 0.0, "amsgrad": False, "maximize": False}


# -- the surrogate


def clipped_surrogate(ratio: Array, advantage: Array, clip: float) -> tuple[Array, Array]:
    """min(r A, clip(r) A) (eq. 7) and its derivative with respect to log r, both (B,).

    d(r A)/d(log r) = r A, and the derivative of clip(r) A is the same inside the range and 0 outside. min passes the
    gradient to the smaller operand and half to each of two equal ones, as torch.min does: inside the range r A = clip(r) A
    and the halves add up to r A.
    """
    clipped_ratio = ratio.clip(1 - clip, 1 + clip)
    objective, clipped = ratio * advantage, clipped_ratio * advantage
    through_ratio = np.heaviside(clipped - objective, 0.5)  # 1 where r A is smaller, 1/2 where equal
    through_clip = 0.5 * (clipped_ratio == ratio)  # inside the range the operands are equal
    return np.minimum(objective, clipped), objective * (through_ratio + through_clip)


def normalized(advantage: Array) -> Array:
    """To mean 0 and (unbiased) standard deviation 1."""
    n = len(advantage)
    centred = advantage - advantage.sum() / n
    return centred / (math.sqrt(np.square(centred).sum() / (n - 1)) + 1e-8)


# -- action distributions: what `nets.Gaussian` and `nets.Categorical` compute, and its gradient


class GaussianHead:
    """Diagonal normal distribution with mean (B, A) and log standard deviation (A,)."""

    def __init__(self, mean: Array, log_std: Array, action: Array) -> None:
        self.mean, self.log_std = mean, log_std
        self.inverse_std = np.exp(-log_std)
        self.z = (action - mean) * self.inverse_std
        self.z_square = self.z * self.z

    def log_prob(self) -> Array:
        """(B,): sum over actions of -z^2 / 2 - log_std - log(2 pi) / 2."""
        constant = self.log_std.sum() + 0.5 * LOG_2PI * len(self.log_std)
        return -0.5 * self.z_square.sum(1) - constant

    def entropy(self) -> float:
        """Mean over the batch: sum over actions of log_std + log(2 pi e) / 2."""
        return float(self.log_std.sum()) + 0.5 * (1 + LOG_2PI) * len(self.log_std)

    def through_log_prob(self, d_log_prob: Array, d_mean: Array, d_log_std: Array) -> None:
        """d log_prob / d mean = z / std;  d log_prob / d log_std = z^2 - 1, as dz / d log_std = -z."""
        np.multiply(self.z * self.inverse_std, d_log_prob[:, None], out=d_mean)
        d_log_std[:] = d_log_prob @ self.z_square - d_log_prob.sum()

    def through_entropy(self, d_entropy: float, d_mean: Array, d_log_std: Array) -> None:
        """d entropy / d log_std = 1, whatever the mean."""
        d_log_std += d_entropy

    def through_kl(self, old: Gaussian, d_kl: float, d_mean: Array, d_log_std: Array) -> float:
        """KL(new || old), mean over the batch; with its weight d_kl, adds its gradient.

        KL = sum of (v + m^2 - 1 - log v) / 2, v = (std / old_std)^2, m = (mean - old_mean) / old_std:
        d KL / d mean = m / old_std;  d KL / d log_std = v - 1, as dv / d log_std = 2 v.
        """
        old_inverse_std = np.exp(-old.log_std.numpy())
        log_v = 2 * (self.log_std - old.log_std.numpy())
        v, m, n = np.exp(log_v), (self.mean - old.mean.numpy()) * old_inverse_std, len(self.mean)
        d_mean += m * old_inverse_std * (d_kl / n)
        d_log_std += np.broadcast_to(v - 1, m.shape).sum(0) * (d_kl / n)
        return float((v + m * m - 1 - log_v).sum()) / (2 * n)


class CategoricalHead:
    """Distribution over A actions with logits (B, A). It has no log_std; that of the call is empty."""

    def __init__(self, logits: Array, log_std: Array, action: Array) -> None:
        self.rows, self.action = np.arange(len(logits)), action
        self.log_p = log_softmax(logits)
        self.p = np.exp(self.log_p)
        self.row_entropy = -(self.p * self.log_p).sum(1, keepdims=True)

    def log_prob(self) -> Array:
        return self.log_p[self.rows, self.action]

    def entropy(self) -> float:
        return float(self.row_entropy.sum()) / len(self.p)

    def through_log_prob(self, d_log_prob: Array, d_logits: Array, d_log_std: Array) -> None:
        """d log p_a / d logit_k = [k = a] - p_k, as log p_a = logit_a - log sum exp logits."""
        np.multiply(self.p, -d_log_prob[:, None], out=d_logits)
        d_logits[self.rows, self.action] += d_log_prob

    def through_entropy(self, d_entropy: float, d_logits: Array, d_log_std: Array) -> None:
        """H = -sum p log p and d p_j / d logit_k = p_j ([j = k] - p_k):  d H / d logit_k = -p_k (log p_k + H)."""
        d_logits -= self.p * (self.log_p + self.row_entropy) * (d_entropy / len(self.p))

    def through_kl(self, old: Categorical, d_kl: float, d_logits: Array, d_log_std: Array) -> float:
        """KL = sum p (log p - log q):  d KL / d logit_k = p_k (log p_k - log q_k - KL), as for the entropy."""
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
    """Views of one linear layer of all K networks, in the parameters or in their gradient."""

    weight: Tensor  # (K, out, in)
    bias: Tensor  # (K, 1, out)


def layers_of(flat: Tensor, sizes: Sequence[int]) -> list[Layer]:
    """The layers in (K, P): each weight, then its bias."""
    layers, start = [], 0
    for n_in, n_out in pairwise(sizes):
        end = start + n_in * n_out
        weight = flat[:, start:end].view(-1, n_out, n_in)
        layers.append(Layer(weight, flat[:, end : end + n_out].view(-1, 1, n_out)))
        start = end + n_out
    return layers


class Networks:
    """K tanh networks of one shape: outputs, and gradients by backpropagation."""

    def __init__(self, parameters: Tensor, gradient: Tensor, sizes: Sequence[int]) -> None:
        self.layers, self.gradients, self.sizes = layers_of(parameters, sizes), layers_of(gradient, sizes), sizes
        self.memory: dict[int, list[tuple[Tensor, Tensor]]] = {}  # B -> for each layer, its output and d_output

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (K, B, out) for x (B, in), which all networks read: h <- tanh(h W^T + b), the last without tanh."""
        k, rows = len(self.layers[0].weight), len(x)
        if rows not in self.memory:
            self.memory[rows] = [(x.new_zeros(k, rows, n), x.new_zeros(k, rows, n)) for n in self.sizes[1:]]
        h = self.input = x.expand(k, -1, -1)
        for i, (layer, (out, _)) in enumerate(zip(self.layers, self.memory[rows], strict=True)):
            h = torch.baddbmm(layer.bias, h, layer.weight.mT, out=out)
            if i < len(self.layers) - 1:
                np.tanh(h.numpy(), out=h.numpy())
        return h

    def d_output(self, rows: int) -> Tensor:
        """(K, B, out): where the caller puts the gradient of the outputs before `backward`."""
        return self.memory[rows][-1][1]

    def backward(self, rows: int) -> None:
        """The gradients of all parameters from `d_output`, of the last `forward`.

        z = h W^T + b:  d_W = d_z^T h,  d_b = sum of d_z over rows,  d_h = d_z W.  h = tanh z:  d_z = d_h (1 - h^2).
        """
        memory = self.memory[rows]
        for i in reversed(range(len(self.layers))):
            d_z = memory[i][1]
            h, d_h = memory[i - 1] if i > 0 else (self.input, None)
            torch.bmm(d_z.mT, h, out=self.gradients[i].weight)
            torch.sum(d_z, 1, keepdim=True, out=self.gradients[i].bias)
            if d_h is not None:
                torch.bmm(d_z, self.layers[i].weight, out=d_h)
                activation, slope = h.numpy(), d_h.numpy()
                slope *= 1 - activation * activation


# -- the update


class FastUpdate:
    """PPO's minibatch step. The policy's parameters become views of one flat buffer here, so the policy itself takes
    every step; a copy of the policy has parameters of its own."""

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        self.config, self.spaces, self.hidden = config, policy.spaces, policy.config.hidden
        self.names = [name for name, _ in policy.named_parameters()]
        sizes = [self.spaces.obs_size, *self.hidden, self.spaces.action_size]
        self.log_std_at = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        buffers = torch.zeros(4, 2, self.log_std_at + self.spaces.action_size, dtype=next(policy.parameters()).dtype)
        self.parameters, self.d_parameters, self.exp_avg, self.exp_avg_sq = buffers  # (K, P) each; the last two are Adam's
        self.steps = torch.zeros(2)  # of Adam: the critic's runs ahead of the actor's after value-only steps
        self.both = Networks(self.parameters, self.d_parameters, sizes)
        self.critic = Networks(self.parameters[1:], self.d_parameters[1:], sizes)
        for (name, parameter), view in zip(policy.named_parameters(), self.views(self.parameters), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view

    def views(self, flat: Tensor) -> list[Tensor]:
        """(K, P) as tensors like the policy's parameters, in their order."""
        layers = layers_of(flat, [self.spaces.obs_size, *self.hidden, self.spaces.action_size])
        views = {"log_std": flat[0, self.log_std_at :]}
        for row, (network, outputs) in enumerate([("actor", self.spaces.action_size), ("critic", 1)]):
            for i, layer in enumerate(layers):
                n = outputs if i == len(layers) - 1 else layer.weight.shape[1]
                views[f"{network}.{2 * i}.weight"] = layer.weight[row, :n]
                views[f"{network}.{2 * i}.bias"] = layer.bias[row, 0, :n]
        return [views[name] for name in self.names]

    def gradient(self, batch: Batch, clip: float, kl_coef: float) -> dict[str, float]:
        """Computes the gradient of `ppo_loss`, for `apply`; returns the same metrics."""
        config, n = self.config, len(batch)
        out, d_out = self.both.forward(batch.features).numpy(), self.both.d_output(n).numpy()
        log_std, d_log_std = (x[0, self.log_std_at :].numpy() for x in (self.parameters, self.d_parameters))
        head_type = GaussianHead if self.spaces.action_kind == "box" else CategoricalHead
        new = head_type(out[0], log_std, batch.action.numpy())

        log_ratio = new.log_prob() - batch.old_log_prob.numpy()
        ratio = np.exp(log_ratio)
        advantage = batch.advantage.numpy()
        if config.normalize_advantage:
            advantage = normalized(advantage)
        if config.step_control == "clip":
            objective, d_objective = clipped_surrogate(ratio, advantage, clip)
        else:
            objective = d_objective = ratio * advantage  # d ratio / d log_ratio = ratio
        policy_loss = -float(objective.sum()) / n
        new.through_log_prob(d_objective / -n, d_out[0], d_log_std)
        if config.step_control == "kl-penalty":
            policy_loss += kl_coef * new.through_kl(batch.old, kl_coef, d_out[0], d_log_std)
        if config.entropy_coef:
            new.through_entropy(-config.entropy_coef, d_out[0], d_log_std)
        value_loss = self._through_value(out[1], batch.returns, d_out[1])
        self.both.backward(n)
        return {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": new.entropy(),
            "approx_kl": float((ratio - 1 - log_ratio).sum()) / n,  # k3, as in ppo_loss
            "clip_fraction": np.count_nonzero(np.abs(ratio - 1) > clip) / n,
        }

    def apply(self, lr: float) -> None:
        """Clips the gradient to max_grad_norm and takes Adam's step."""
        self._adam(0, lr)

    def step(self, batch: Batch, lr: float, clip: float, kl_coef: float) -> dict[str, float]:
        metrics = self.gradient(batch, clip, kl_coef)
        self.apply(lr)
        return metrics

    def value_step(self, batch: Batch, lr: float) -> None:
        """A step of the critic alone, on its part of the loss; the actor and its moments stay as they are."""
        out, d_out = self.critic.forward(batch.features).numpy(), self.critic.d_output(len(batch)).numpy()
        self._through_value(out[0], batch.returns, d_out[0])
        self.critic.backward(len(batch))
        self._adam(1, lr)

    def _through_value(self, out: Array, returns: Tensor, d_out: Array) -> float:
        """Mean of (V - R)^2; its weight is value_coef, so d_V = 2 value_coef (V - R) / B. V is the first output."""
        error = out[:, 0] - returns.numpy()
        np.multiply(error, 2 * self.config.value_coef / len(error), out=d_out[:, 0])
        return float(np.square(error).sum()) / len(error)

    def _adam(self, first: int, lr: float) -> None:
        """`clip_grad_norm_`, then Adam's step, over the networks from `first` on."""
        d_parameters = self.d_parameters[first:]
        scale = self.config.max_grad_norm / (torch.linalg.vector_norm(d_parameters).item() + 1e-6)
        if scale < 1:
            d_parameters.mul_(scale)
        self.steps[first:] += 1
        buffers = (self.parameters, self.d_parameters, self.exp_avg, self.exp_avg_sq)
        p, d_p, m, v = (list(x[first:].unbind()) for x in buffers)
        torch._fused_adam_(p, d_p, m, v, [], list(self.steps[first:].unbind()), lr=lr, **ADAM)  # the kernel of optim.Adam

    # -- checkpoints: the same entries as torch.optim.Adam's, so that either can continue from the other

    def state(self) -> dict[str, dict[str, Array]]:
        steps = [self.steps[int(name.startswith("critic"))] for name in self.names]
        whole = zip(steps, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        return {
            str(i): {"step": step.numpy().copy(), "exp_avg": m.numpy().copy(), "exp_avg_sq": v.numpy().copy()}
            for i, (step, m, v) in enumerate(whole)
        }

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Of `state` or of torch's Adam; a parameter without an entry has not taken a step."""
        for buffer in (self.exp_avg, self.exp_avg_sq, self.steps):
            buffer.zero_()
        moments = zip(self.names, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        for i, (name, m, v) in enumerate(moments):
            if str(i) in state:
                entry = state[str(i)]
                self.steps[int(name.startswith("critic"))] = float(entry["step"])
                m.copy_(torch.as_tensor(entry["exp_avg"]))
                v.copy_(torch.as_tensor(entry["exp_avg_sq"]))
