"""Answers about random clips, right about a planted reward, or made by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rlhf_control.data import KINDS, Answers, Segments
from tests.conftest import random_segments

NAN = float("nan")


def planted(s: Segments) -> np.ndarray:
    return s.obs[..., 8] - 0.5 * np.square(s.action).sum(-1)


def answers_of(kinds: dict[str, int], seed: int = 0, length: int = 30) -> Answers:
    """So many answers of each kind about clips of their own, right about the planted reward."""
    items, ranks, kind, value, used = [], [], [], [], 0
    sizes = {"comparison": 2, "ranking": 4, "rating": 1, "demonstration": 3, "correction": 2, "reward": 1, "success": 1}
    sizes["groups"] = 4
    clips = random_segments(np.random.default_rng(seed), sum(sizes[k] * n for k, n in kinds.items()), length)
    means = planted(clips).mean(-1)
    levels = np.quantile(means, [0.2, 0.4, 0.6, 0.8])
    for name, n in kinds.items():
        for _ in range(n):
            mine = np.arange(used, used + sizes[name])
            used += sizes[name]
            order = np.argsort(np.argsort(-means[mine]))
            order = np.minimum(order, 1) if name == "demonstration" else order  # one of them above the rest
            order = np.repeat(np.argsort(-means[mine].reshape(2, 2).mean(1)), 2) if name == "groups" else order
            padding = [-1] * (4 - len(mine))
            items.append([*mine, *padding])
            ranks.append([*(order if name not in ("rating", "reward", "success") else [0]), *padding])
            kind.append(KINDS.index(name))
            rating = 1 + np.searchsorted(levels, means[mine[0]])
            of_one = {"rating": rating, "reward": 100 * means[mine[0]] + 7, "success": means[mine[0]] > levels[2]}
            value.append(of_one.get(name, NAN))
    return Answers(clips, np.array(items), np.array(ranks), np.array(kind), np.array(value, float))


def small(**columns: list) -> Answers:
    """Answers by hand, about as many clips as they name."""
    items = np.array(columns["items"])
    clips = random_segments(np.random.default_rng(0), items.max() + 1, 8)
    value = np.array(columns.get("value", [NAN] * len(items)))
    kind = np.array([KINDS.index(k) for k in columns["kind"]])
    return Answers(clips, items, np.array(columns["ranks"]), kind, value)


def answered(n: int, seed: int, length: int = 30) -> tuple[Segments, np.ndarray]:
    pairs = random_segments(np.random.default_rng(seed), n, 2, length)
    means = planted(pairs).mean(-1)
    return pairs, (means[:, 0] > means[:, 1]).astype(np.float32)


def known(scale: float = 1.0, trust: float = 1.0, unsure: float = 0.0) -> Any:
    """A reward of one member that knows what clips are worth, in so many logits a standard deviation, or is unsure."""
    return SimpleNamespace(
        config=SimpleNamespace(logit_scale=scale), output_std=torch.ones(1, 1),
        temperature=1.0, members=lambda clips: clips.env_reward[None],
        trust_in=lambda answers: np.full(len(answers), trust),
        ends=None, novelty=lambda clips: np.full(clips.env_reward.shape, unsure),
    )  # fmt: skip
