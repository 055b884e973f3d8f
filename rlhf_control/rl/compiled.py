"""PPO's update as one call of compiled code: `compiled.c` has the mathematics, this file the memory it works on.

K networks side by side (0 the actor, 1 the critic), B rows of the batch, A actions or logits, P parameters of each.
"""

import ctypes
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.compute import compiler
from rlhf_control.compute.compiler import ALIGNMENT, DOUBLE, INT, POINTER, aligned_zeros
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import PPOConfig
from rlhf_control.data import Array
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.batch import Batch
from rlhf_control.spaces import Act

SOURCE = Path(__file__).with_name("compiled.c")
MAX_LAYERS = 8  # as in compiled.c
METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")


class UpdateJob(ctypes.Structure):
    """Holds what `compiled.c` reads: the same fields in the same order."""

    _fields_ = [
        ("layers", INT), ("widths", INT * (MAX_LAYERS + 1)), ("parameters", INT),
        ("kind", INT), ("outputs", INT), ("groups", INT), ("group_sizes", POINTER),
        ("buffers", POINTER), ("adam_steps", INT * 2),
        ("control", INT), ("normalize_advantage", INT), ("cores", INT), ("first", INT),
        ("lr", DOUBLE), ("clip", DOUBLE), ("kl_coef", DOUBLE), ("value_coef", DOUBLE), ("entropy_coef", DOUBLE),
        ("max_grad_norm", DOUBLE), ("max_kl", DOUBLE),
        ("minibatches", INT), ("starts", POINTER), ("rows", POINTER),
        ("features", POINTER), ("action", POINTER), ("advantage", POINTER), ("returns", POINTER),
        ("old_log_prob", POINTER), ("choice", POINTER), ("old_out", POINTER), ("old_log_std", POINTER),
        ("metrics", POINTER),
    ]  # fmt: skip


def library(dtype: Any = np.float32) -> ctypes.CDLL | None:
    """Compiles and loads `compiled.c`; None where there is no compiler. float64 is for the tests."""
    code = compiler.load(SOURCE, *(["DOUBLE"] if dtype == np.float64 else []))
    if code is not None:
        code.train.restype = code.gradients.restype = code.outputs.restype = code.outputs_for.restype = INT
    return code


def supports(policy: Policy) -> bool:
    """Tells whether the compiled code is there and has room for this policy's layers, and these are as it knows them:
    of two tanh networks of one shape, with one noise for all states, that see no pictures."""
    net = policy.config
    alike = net.critic_hidden in (None, net.hidden) and not net.shared and not net.state_dependent_std
    plain = alike and net.activation == "tanh" and not policy.encoder.seen
    return plain and len(net.hidden) < MAX_LAYERS and library() is not None


class CompiledUpdate:
    """Takes PPO's minibatch steps, as `ppo.AutogradUpdate` does, in compiled code. The policy's parameters become views
    of one buffer here, so the policy itself takes every step. A copy of the policy has parameters of its own."""

    def __init__(self, policy: Policy, config: PPOConfig) -> None:
        self.config, self.policy, spaces = config, policy, policy.spaces
        self.dtype = next(policy.parameters()).detach().numpy().dtype
        code = library(self.dtype)
        assert code is not None, "ask `supports` first"
        self.code, lanes = code, ALIGNMENT // self.dtype.itemsize
        self.action_size = spaces.action_size
        self.sizes = [policy.encoder.size, *policy.config.hidden, self.action_size]
        self.widths = [self.sizes[0], *(-(-size // lanes) * lanes for size in self.sizes[1:])]
        layers_end = sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.widths))
        # (K, P) each; a row is a network's layers, then log_std, for which only a Gaussian actor has a use
        self.buffers = aligned_zeros((4, 2, layers_end + self.widths[-1]), self.dtype)
        self.parameters, self.d_parameters, self.exp_avg, self.exp_avg_sq = self.buffers  # the last two are Adam's
        self.groups = np.array(spaces.choices or (self.action_size,), np.int64)
        self.job = UpdateJob(
            layers=len(self.widths) - 1, widths=(INT * (MAX_LAYERS + 1))(*self.widths),
            parameters=self.buffers.shape[-1], kind=int(bool(spaces.choices)), outputs=self.action_size,
            groups=len(self.groups), group_sizes=self.groups.ctypes.data, buffers=self.buffers.ctypes.data,
            control=int(config.step_control == "kl-penalty"), normalize_advantage=config.normalize_advantage,
            cores=len(available_cores()), value_coef=config.value_coef, entropy_coef=config.entropy_coef,
            max_grad_norm=config.max_grad_norm,
        )  # fmt: skip
        self.names = [name for name, _ in policy.named_parameters()]
        for parameter, view in zip(policy.parameters(), self.views(self.parameters), strict=True):
            view[...] = parameter.detach().numpy()
            parameter.data = torch.from_numpy(view)

    def views(self, flat: Array) -> list[Array]:
        """Returns a buffer (K, P) as arrays like the policy's parameters, in their order."""
        views, start = {"log_std": flat[0, -self.widths[-1] :][: self.action_size]}, 0
        for i, (n_in, n_out) in enumerate(pairwise(self.widths)):
            end = start + n_in * n_out
            for row, network in enumerate(("actor", "critic")):
                last = i == len(self.widths) - 2
                used = 1 if last and network == "critic" else self.sizes[i + 1]
                weight = flat[row, start:end].reshape(n_in, n_out)[: self.sizes[i], :used].T
                views[f"{network}.{2 * i}.weight"] = weight  # the tanhs stand at the odd places
                views[f"{network}.{2 * i}.bias"] = flat[row, end : end + used]
            start = end + n_out
        return [views[name] for name in self.names]

    # -- reading the networks

    def outputs(self, features: Tensor) -> Tensor:
        """Returns what the actor puts out, (B, A)."""
        return self._outputs(0, features)

    def values(self, features: Tensor) -> Tensor:
        """Returns the critic's values, (...,)."""
        return self._outputs(1, features)[..., 0]

    def outputs_and_values(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both."""
        return self.outputs(features), self.values(features)

    def _outputs(self, network: int, features: Tensor) -> Tensor:
        """Returns (..., A) of the actor or (..., 1) of the critic. A row's bits do not depend on the rows beside it."""
        x = np.ascontiguousarray(features.detach().numpy().reshape(-1, self.sizes[0]))
        out = np.empty((len(x), self.widths[-1]), self.dtype)
        job, rows = ctypes.byref(self.job), INT(len(x))
        self._check(self.code.outputs(job, INT(network), rows, POINTER(x.ctypes.data), POINTER(out.ctypes.data)))
        used = out[:, : 1 if network else self.action_size]
        return torch.from_numpy(np.ascontiguousarray(used)).reshape(*features.shape[:-1], -1)

    def acting(self) -> Act:
        """Acts as `Policy.acting` does, but faster for a few rows, where making tensors and pointers takes most of the
        time."""
        norm, sample, widths = self.policy.obs_norm, self.policy.sampling(), self.widths
        numbers = self.policy.encoder.numbers
        mean, scale = (x.numpy() for x in norm.mean_and_scale())
        memory: dict[int, tuple[Array, Array, list[Any]]] = {}  # by number of rows: pointers take long to make

        def act(obs: Array, rng: np.random.Generator | None) -> Array:
            if len(obs) not in memory:
                x, out = np.empty((len(obs), widths[0]), self.dtype), np.empty((len(obs), widths[-1]), self.dtype)
                pointers = [POINTER(array.ctypes.data) for array in (x, mean, scale)]
                arguments = [ctypes.byref(self.job), INT(0), INT(len(obs)), *pointers, DOUBLE(norm.limit)]
                memory[len(obs)] = x, out[:, : self.action_size], [*arguments, POINTER(out.ctypes.data)]
            x, out, arguments = memory[len(obs)]
            x[...] = numbers(obs)
            self._check(self.code.outputs_for(*arguments))
            return sample(out, rng) if rng is not None else sample(out, None).copy()

        return act

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """Returns (B,), bit for bit as the first minibatch will see it. So the ratio starts at exactly 1."""
        padded = np.zeros((len(out), self.widths[-1]), self.dtype)
        padded[:, : self.action_size] = out.numpy()
        log_prob, taken = np.empty(len(out), self.dtype), self._action(action)
        self.job.action = self.job.choice = taken.ctypes.data
        rows, result = INT(len(out)), POINTER(log_prob.ctypes.data)
        self.code.log_probs(ctypes.byref(self.job), rows, POINTER(padded.ctypes.data), result)
        return torch.from_numpy(log_prob)

    # -- steps

    def steps(
        self, batch: Batch, order: Sequence[Array], lr: float, clip: float, kl_coef: float, max_kl: float
    ) -> list[dict[str, float]]:
        """Takes a step for each minibatch, given as rows of the batch. It stops before one whose approximate KL exceeds
        `max_kl`. Returns the metrics of the steps taken."""
        job = self.job
        job.lr, job.clip, job.kl_coef, job.max_kl, job.first = lr, clip, kl_coef, max_kl, 0
        metrics, _alive = self._describe(batch, order)
        taken = self._check(self.code.train(ctypes.byref(job)))
        return [dict(zip(METRICS, row, strict=True)) for row in metrics[:taken].tolist()]

    def value_steps(self, batch: Batch, order: Sequence[Array], lr: float) -> None:
        """Steps the critic alone, down its part of the loss. The actor and its moments stay as they are."""
        self.job.lr, self.job.max_kl, self.job.first = lr, np.inf, 1
        _alive = self._describe(batch, order)
        self._check(self.code.train(ctypes.byref(self.job)))

    def gradient(self, batch: Batch, clip: float, kl_coef: float) -> dict[str, float]:
        """Writes the gradient of `ppo_loss` on the whole batch into `d_parameters` and returns its metrics, for the
        tests."""
        self.job.clip, self.job.kl_coef, self.job.first = clip, kl_coef, 0
        metrics, _alive = self._describe(batch, [np.arange(len(batch))])
        self._check(self.code.gradients(ctypes.byref(self.job)))
        return dict(zip(METRICS, metrics[0].tolist(), strict=True))

    def _describe(self, batch: Batch, order: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Points the job at a batch and its minibatches. Returns the place of the metrics, and what must stay alive."""
        job = self.job
        metrics = np.zeros((len(order), len(METRICS)))
        starts = np.cumsum([0, *map(len, order)])
        rows = np.concatenate(order).astype(np.int64)
        old_out = batch.old.mean if hasattr(batch.old, "mean") else batch.old.logits
        old_log_std = batch.old.log_std[0] if hasattr(batch.old, "log_std") else torch.zeros(0)
        tensors = (batch.features, batch.advantage, batch.returns, batch.old_log_prob, old_out, old_log_std)
        arrays = [np.ascontiguousarray(tensor.numpy(), self.dtype) for tensor in tensors]
        alive = [starts, rows, action := self._action(batch.action), *arrays]
        job.minibatches, job.starts, job.rows, job.metrics = (
            len(order), starts.ctypes.data, rows.ctypes.data, metrics.ctypes.data
        )  # fmt: skip
        job.action = job.choice = action.ctypes.data
        job.features, job.advantage, job.returns, job.old_log_prob, job.old_out, job.old_log_std = (
            array.ctypes.data for array in arrays
        )
        return metrics, alive

    def _action(self, action: Tensor) -> Array:
        return np.ascontiguousarray(action.numpy(), np.int64 if self.job.kind else self.dtype)

    def _check(self, result: int) -> int:
        if result < 0:
            raise MemoryError("no memory for the update")
        return result

    # -- checkpoints: the entries of torch.optim.Adam, so that either continues from the other; none is no step yet

    def state(self) -> dict[str, dict[str, Array]]:
        return {
            str(i): {"step": np.array(self.job.adam_steps[k], np.float32), "exp_avg": m.copy(), "exp_avg_sq": v.copy()}
            for i, (k, m, v) in enumerate(self._moments())
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for i, (k, m, v) in enumerate(self._moments()):
            entry = state.get(str(i), {"step": 0, "exp_avg": 0, "exp_avg_sq": 0})
            self.job.adam_steps[k] = int(entry["step"])
            m[...], v[...] = entry["exp_avg"], entry["exp_avg_sq"]

    def _moments(self) -> Iterator[tuple[int, Array, Array]]:
        """In the order of the policy's parameters: its network, and Adam's first and second moments."""
        moments = zip(self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        for name, (m, v) in zip(self.names, moments, strict=True):
            yield int(name.startswith("critic")), m, v
