"""The reward ensemble's gradient steps as one call of compiled code: `compiled.c` has the mathematics, this file the
memory it works on.

E ensemble, Q answers, B batch, K items of an answer, S clips, L steps of a clip, I inputs, P parameters of a member.
"""

import ctypes
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.compute import compiler
from rlhf_control.compute.compiler import ALIGNMENT, DOUBLE, INT, POINTER, aligned_zeros
from rlhf_control.compute.threads import available_cores
from rlhf_control.config import RewardConfig
from rlhf_control.data import Array

if TYPE_CHECKING:
    from rlhf_control.reward.answers import Answering, Minibatches, Targets

Layers = list[tuple[Tensor, Tensor]]  # weights (E, in, out) and biases (E, 1, out)


SOURCE = Path(__file__).with_name("compiled.c")
MAX_LAYERS = 8  # as in compiled.c
CHUNK = 64  # steps that a core takes at a time


class Job(ctypes.Structure):
    """Mirrors the struct that `compiled.c` reads: the same fields in the same order."""

    _fields_ = [
        ("members", INT), ("layers", INT), ("sizes", INT * (MAX_LAYERS + 1)), ("widths", INT * (MAX_LAYERS + 1)),
        ("parameters", INT), ("buffers", POINTER), ("adam_steps", INT), ("cores", INT),
        ("lr", DOUBLE), ("weight_decay", DOUBLE), ("logit_scale", DOUBLE), ("lapse", DOUBLE),
        ("clips", INT), ("length", INT), ("stride", INT), ("items_each", INT),
        ("x", POINTER), ("items", POINTER), ("ranks", POINTER), ("trust", POINTER), ("below", POINTER),
        ("steps", INT), ("batch", INT), ("answers", POINTER), ("phase", POINTER),
    ]  # fmt: skip


def library(dtype: Any = np.float32) -> ctypes.CDLL | None:
    """Compiles and loads `compiled.c`; None where there is no compiler. float64 is for the tests."""
    code = compiler.load(SOURCE, *(["DOUBLE"] if dtype == np.float64 else []))
    if code is not None:
        code.train.restype = code.clip_logits.restype = code.step_outputs.restype = INT
    return code


def supports(config: RewardConfig, answering: "Answering") -> bool:
    """Ranks without ties, about whole clips. Ties, ratings and rewards have parameters of their own."""
    ranked = not answering.parameters and not answering.grouped
    return ranked and config.crop == 1 and len(config.hidden) < MAX_LAYERS and library() is not None


class Layout:
    """Says where `compiled.c` has what in a member's P numbers: layer by layer the weight (in, out), then the bias,
    each row padded to whole vectors."""

    def __init__(self, layers: "Layers", dtype: Any) -> None:
        self.members, lanes = len(layers[0][0]), ALIGNMENT // dtype.itemsize
        self.sizes = [*(weight.shape[1] for weight, _ in layers), 1]
        self.widths = [-(-size // lanes) * lanes for size in self.sizes]
        hidden = sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.widths[:-1]))
        self.parameters = hidden + self.widths[-2] + lanes

    def job(self, **fields: Any) -> Job:
        return Job(
            members=self.members, layers=len(self.sizes) - 1, parameters=self.parameters,
            sizes=(INT * (MAX_LAYERS + 1))(*self.sizes), widths=(INT * (MAX_LAYERS + 1))(*self.widths),
            cores=len(available_cores()), **fields,
        )  # fmt: skip

    def views(self, flat: Array) -> list[Array]:
        """Returns the numbers (E, P) as arrays like the networks' layers."""
        views, start = [], 0
        last = [(self.widths[-2], 1)]
        for i, (n_in, n_out) in enumerate([*pairwise(self.widths[:-1]), *last]):
            end = start + n_in * n_out
            weight = flat[:, start:end].reshape(-1, n_in, n_out)
            views += [weight[:, : self.sizes[i], : self.sizes[i + 1]], flat[:, None, end : end + self.sizes[i + 1]]]
            start = end + n_out
        return views

    def write(self, flat: Array, tensors: Iterable[Tensor]) -> None:
        """Writes weight and bias by layer into (E, P)."""
        for view, tensor in zip(self.views(flat), tensors, strict=True):
            view[...] = tensor.detach().numpy()


def step_outputs(layers: "Layers", x: Tensor) -> Tensor | None:
    """Computes `ensemble.outputs` (E, B) for inputs (B, I), on all cores; None where there is no compiler."""
    dtype = x.numpy().dtype
    code = library(dtype) if len(layers) <= MAX_LAYERS else None
    if code is None:
        return None
    layout, (rows, inputs) = Layout(layers, dtype), x.shape
    chunks = -(-rows // CHUNK)
    padded = aligned_zeros((chunks * CHUNK, layout.widths[0]), dtype)
    padded[:rows, :inputs] = x.numpy()
    buffers = aligned_zeros((layout.members, layout.parameters), dtype)
    layout.write(buffers, (tensor for layer in layers for tensor in layer))
    out = np.empty((layout.members, chunks * CHUNK), dtype)
    job = layout.job(buffers=buffers.ctypes.data, x=padded.ctypes.data, clips=chunks, length=CHUNK, stride=1)
    _check(code.step_outputs(ctypes.byref(job), POINTER(out.ctypes.data)))
    return torch.from_numpy(out[:, :rows])


def _check(result: int) -> None:
    if result < 0:
        raise MemoryError("no memory for the reward model's steps")


class CompiledSteps:
    """Takes gradient steps as `fit.AutogradSteps` does, in C."""

    def __init__(self, layers: "Layers", answering: "Answering", batches: "Minibatches", config: RewardConfig) -> None:
        x, targets = batches.x, batches.targets
        self.layers, self.batches, self.dtype, self.answering = layers, batches, x.numpy().dtype, answering
        code = library(self.dtype)
        assert code is not None, "ask `supports` first"
        self.code, self.layout = code, Layout(layers, self.dtype)
        # (E, P) each: values, gradients, AdamW's moments
        self.buffers = aligned_zeros((4, config.members, self.layout.parameters), self.dtype)
        self.x = aligned_zeros((*x.shape[:2], self.layout.widths[0]), self.dtype)
        self.x[..., : x.shape[-1]] = x.numpy()
        self.items, self.ranks = (np.ascontiguousarray(t.numpy(), np.int64) for t in (targets.items, targets.ranks))
        self.below = None if batches.below is None else np.ascontiguousarray(batches.below.numpy(), self.dtype)
        self.job = self.layout.job(
            buffers=self.buffers.ctypes.data, lr=config.lr, logit_scale=config.logit_scale, lapse=answering.lapse,
            clips=len(x), length=x.shape[1], stride=batches.stride, items_each=self.items.shape[1],
            x=self.x.ctypes.data, items=self.items.ctypes.data, ranks=self.ranks.ctypes.data, batch=config.batch_size,
            below=None if self.below is None else self.below.ctypes.data,
        )  # fmt: skip
        self.load([tensor for layer in layers for tensor in layer])

    def train(self, steps: int, weight_decay: float) -> None:
        """Takes so many steps of all members, each on minibatches of its own."""
        answers, phase = (np.ascontiguousarray(column, np.int64) for column in self.batches.indices(steps))
        self.job.steps, self.job.answers, self.job.phase = steps, answers.ctypes.data, phase.ctypes.data
        self.job.weight_decay = weight_decay
        trust, who = self.answering.trust, self.batches.targets.annotator
        given = None if trust is None else np.ascontiguousarray(trust[who].numpy(), np.float64)
        self.job.trust = None if given is None else given.ctypes.data
        _check(self.code.train(ctypes.byref(self.job)))

    def clip_logits(self) -> Tensor:
        """Returns the logits (E, S) of all clips."""
        out = np.empty((self.job.members, self.job.clips), self.dtype)
        _check(self.code.clip_logits(ctypes.byref(self.job), out.ctypes.data_as(POINTER)))
        return torch.from_numpy(out)

    def marked(self, targets: "Targets") -> None:
        """Returns None: there are no marks among these answers."""

    def parameters(self) -> list[Tensor]:
        """Copies, weight and bias by layer."""
        return [torch.from_numpy(view.copy()) for view in self.layout.views(self.buffers[0])]

    def load(self, parameters: list[Tensor]) -> None:
        """Takes back what `parameters` gave; the networks themselves take it too."""
        self.layout.write(self.buffers[0], parameters)
        for mine, tensor in zip((t for layer in self.layers for t in layer), parameters, strict=True):
            mine.copy_(tensor)
