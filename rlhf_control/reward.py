"""The reward model: an ensemble that learns from preferences between clips.

E ensemble, Q queries, B batch, L segment length, I inputs.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rlhf_control.config import RewardConfig
from rlhf_control.data import Array, Rollout, Segments

CHECK_EVERY = 25  # gradient steps between two looks at the held-out answers
MIN_STEPS = 100  # too few steps hurt far more than too many (50 -> 300 steps: 0.33 -> 0.83 of the true reward's return)
INPUT_CLIP, OUTPUT_CLIP = 5.0, 10.0  # standard deviations
MIN_INPUT_STD, MIN_OUTPUT_STD = 1e-3, 1e-2  # what hardly varies in the reference must not be blown up off it
NORMALISERS = ("input_mean", "input_std", "output_mean", "output_std")
CHUNK = 256  # rows; larger stacked products are slower on a CPU


# -- mathematics


def preference_probability(difference: Tensor, logit_scale: float, lapse: float) -> Tensor:
    """P(first is preferred) from the difference of the clips' mean rewards: Bradley-Terry, with the chance `lapse`
    that the annotator flips a coin instead (Christiano et al., arXiv 1706.03741, section 2.2.3, with 10 %).

    The lapse bounds what one wrong answer can cost, log(2 / lapse), without capping the margin of the others.
    """
    return lapse / 2 + (1 - lapse) * torch.sigmoid(logit_scale * difference)


def preference_loss(difference: Tensor, target: Tensor, logit_scale: float, lapse: float) -> Tensor:
    """(...,) cross-entropy of the answers. target: 1 the first is preferred, 0 the second, 1/2 a tie."""
    p = preference_probability(difference, logit_scale, lapse).clamp(1e-7, 1 - 1e-7)
    return -(target * p.log() + (1 - target) * (1 - p).log())


def held_out_mask(members: int, answers: int, bootstrap: float, rng: np.random.Generator) -> Array:
    """(E, Q) bool: which answers each member does not train on: a share 1 - bootstrap, rotated from member to member,
    so that with E (1 - bootstrap) >= 1 every answer is held out by somebody."""
    place = rng.permutation(answers) / answers
    shift = np.arange(members) / members
    return (place + shift[:, None]) % 1 >= bootstrap - 1e-9


# -- the ensemble


class RewardModel:
    """Scores steps. `members` gives every member's opinion in standard deviations of the reference data; `score`
    their mean. The normalisers, of the inputs and of each member's output, are set by `fit` and frozen between fits.
    """

    def __init__(self, obs_size: int, action_size: int, config: RewardConfig) -> None:
        self.config = config
        self.inputs = obs_size if config.inputs == "state" else obs_size + action_size
        self.sizes = (self.inputs, *config.hidden, 1)
        shapes = pairwise(self.sizes)
        self.layers = [(torch.zeros(config.members, i, o), torch.zeros(config.members, 1, o)) for i, o in shapes]
        self.input_mean, self.input_std = torch.zeros(self.inputs), torch.ones(self.inputs)
        self.output_mean, self.output_std = torch.zeros(config.members, 1), torch.ones(config.members, 1)
        self.fitted = False

    def members(self, steps: Rollout | Segments) -> Array:
        """(E, ...) for steps with leading dimensions (...)."""
        rows = self.rows(steps)
        with torch.no_grad():
            chunks = [self._raw(self._standardise(chunk)) for chunk in rows.flatten(0, -2).split(CHUNK)]
            out = ((torch.cat(chunks, 1) - self.output_mean) / self.output_std).clamp(-OUTPUT_CLIP, OUTPUT_CLIP)
        return out.reshape(-1, *rows.shape[:-1]).numpy()

    def predict(self, steps: Rollout | Segments) -> Array:
        """(...,) float32: mean 0, standard deviation about 1 on the last fit's reference data; 0 before the first."""
        return self.members(steps).mean(0)

    def uncertainty(self, steps: Rollout | Segments) -> Array:
        """(...,) the members' standard deviation. It rises off the data, but not reliably (PPE 2025, figure 1b)."""
        return self.members(steps).std(0)

    def probability(self, pair: Segments) -> Array:
        """(E, Q): each member's probability that the first clip of each pair (Q, 2, L, ...) is preferred."""
        with torch.no_grad():
            difference = self._difference(
                self._standardise(self.rows(pair)).expand(self.config.members, -1, -1, -1, -1)
            )
            return preference_probability(difference, self.config.logit_scale, 0.0).numpy()

    def rows(self, steps: Rollout | Segments) -> Tensor:
        """(..., I) raw inputs."""
        if self.config.inputs == "state":
            return torch.from_numpy(steps.next_obs)
        action = steps.executed if isinstance(steps, Rollout) else steps.action
        return torch.from_numpy(np.concatenate([steps.obs, action], -1))

    def _standardise(self, rows: Tensor) -> Tensor:
        return ((rows - self.input_mean) / self.input_std).clamp(-INPUT_CLIP, INPUT_CLIP)

    def _raw(self, x: Tensor) -> Tensor:
        """(E, B) tanh outputs of standardised inputs (B, I), or (E, B, I) with a batch of each member's own."""
        x = x.expand(self.config.members, -1, -1) if x.ndim == 2 else x
        for weight, bias in self.layers[:-1]:
            x = functional.leaky_relu(torch.baddbmm(bias, x, weight), 0.01)
        weight, bias = self.layers[-1]
        return torch.tanh(torch.baddbmm(bias, x, weight))[..., 0]

    def _difference(self, x: Tensor) -> Tensor:
        """(E, Q): mean output of the first clip less that of the second, for inputs (E, Q, 2, L, I)."""
        means = self._raw(x.flatten(1, 3)).reshape(x.shape[:-1]).mean(-1)
        return means[..., 0] - means[..., 1]

    # -- learning

    def fit(self, pairs: Segments, target: Array, reference: Segments, rng: np.random.Generator) -> dict[str, float]:
        """Learns from scratch from answered pairs (Q, 2, L, ...) and targets (Q,), 1 where the first is preferred.

        `reference` (S, L, ...) is what the policy does and has done lately; inputs and outputs are standardised on it.
        Keeps the weights with the lowest held-out loss, over all members' held-out answers together.
        """
        reference_rows, pair_rows = self.rows(reference).flatten(0, -2), self.rows(pairs)
        everything = torch.cat([reference_rows, pair_rows.flatten(0, -2)])
        self.input_mean, self.input_std = everything.mean(0), everything.std(0).clamp(min=MIN_INPUT_STD)
        x, y = self._standardise(pair_rows), torch.from_numpy(target.astype(np.float32))
        held_out = held_out_mask(self.config.members, len(y), self.config.bootstrap, rng)
        held_out &= ~held_out.all(1, keepdims=True)  # with one answer, learn from it rather than hold it out
        steps = self._train(x, y, held_out, rng)
        with torch.no_grad():
            outputs = torch.cat([self._raw(c) for c in self._standardise(reference_rows).split(CHUNK)], 1)
        self.output_mean = outputs.mean(1, keepdim=True)
        self.output_std = outputs.std(1, keepdim=True).clamp(min=MIN_OUTPUT_STD)
        self.fitted = True
        return {**self._evaluate(x, y, torch.from_numpy(held_out)), "steps": steps}

    def _train(self, x: Tensor, y: Tensor, held_out: Array, rng: np.random.Generator) -> int:
        """Trains on inputs (Q, 2, L, I) and targets (Q,); returns the step whose weights were kept."""
        config, mask = self.config, torch.from_numpy(held_out)
        seen = [np.flatnonzero(~row) for row in held_out]
        self._initialise(torch.Generator().manual_seed(int(rng.integers(2**31))))
        parameters = [p.requires_grad_(True) for layer in self.layers for p in layer]
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        best_loss, best_step, best = math.inf, 0, [p.detach().clone() for p in parameters]
        for step in range(1, config.steps + 1):
            index = torch.from_numpy(np.stack([rng.choice(rows, config.batch_size) for rows in seen]))  # (E, B)
            loss = preference_loss(self._difference(x[index]), y[index], config.logit_scale, config.lapse)
            optimizer.zero_grad(set_to_none=True)
            loss.mean(1).sum().backward()  # members do not share parameters
            optimizer.step()
            if step == config.steps or (step >= MIN_STEPS and step % CHECK_EVERY == 0):
                held_out_loss = self._evaluate(x, y, mask)["heldout_loss"] if held_out.any() else -step
                if held_out_loss < best_loss:
                    best_loss, best_step, best = held_out_loss, step, [p.detach().clone() for p in parameters]
        for parameter, value in zip(parameters, best, strict=True):
            parameter.requires_grad_(False).copy_(value)
        return best_step

    def _initialise(self, generator: torch.Generator) -> None:
        """Uniform in +-1/sqrt(fan in), weights and biases."""
        for layer in self.layers:
            bound = layer[0].shape[1] ** -0.5
            for parameter in layer:
                parameter.uniform_(-bound, bound, generator=generator)

    @torch.no_grad()
    def _evaluate(self, x: Tensor, y: Tensor, held_out: Tensor) -> dict[str, float]:
        """Loss and accuracy on the answers seen and held out. An answer's held-out prediction is the mean of the
        members that did not see it; ties are left out of the accuracies."""
        config = self.config
        difference = self._difference(x.expand(config.members, -1, -1, -1, -1))
        loss = preference_loss(difference, y, config.logit_scale, config.lapse)
        p = preference_probability(difference, config.logit_scale, 0.0)
        counts = held_out.sum(0)
        clear = y != 0.5
        seen_p, fresh_p = ((p * m).sum(0) / m.sum(0).clamp(min=1) for m in (~held_out, held_out))
        fresh = clear & (counts > 0)
        return {
            "train_loss": loss[~held_out].mean().item(),
            "train_accuracy": ((seen_p > 0.5) == (y > 0.5))[clear].float().mean().item() if clear.any() else 0.5,
            "heldout_loss": loss[held_out].mean().item() if held_out.any() else float("nan"),
            "heldout_accuracy": ((fresh_p > 0.5) == (y > 0.5))[fresh].float().mean().item() if fresh.any() else 0.5,
        }

    # -- files

    def state(self) -> dict[str, Any]:
        tensors = {f"{i}.weight": w for i, (w, _) in enumerate(self.layers)}
        tensors |= {f"{i}.bias": b for i, (_, b) in enumerate(self.layers)}
        return {
            "layers": {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()},
            "normaliser": {name: getattr(self, name).numpy().copy() for name in NORMALISERS},
            "fitted": self.fitted,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for i, layer in enumerate(self.layers):
            for name, tensor in zip(("weight", "bias"), layer, strict=True):
                tensor.requires_grad_(False).copy_(torch.from_numpy(state["layers"][f"{i}.{name}"]))
        for name in NORMALISERS:
            setattr(self, name, torch.from_numpy(state["normaliser"][name].copy()))
        self.fitted = state["fitted"]


class KnownReward:
    """A reward that need not be learned, in the learned one's place: the oracle's own as an upper bound, a constant
    as a control. Normalised in the same way and at the same moments."""

    def __init__(self, reward: Callable[[Segments], Array], normalized: bool = True) -> None:
        self.reward, self.normalized = reward, normalized
        self.mean, self.std = 0.0, 1.0
        self.fitted = False

    def predict(self, steps: Rollout | Segments) -> Array:
        """(...,) float32; zero before the first fit."""
        steps = steps.as_segments() if isinstance(steps, Rollout) else steps
        reward = (self.reward(steps) - self.mean) / self.std if self.fitted else np.zeros_like(steps.env_reward)
        return reward.astype(np.float32)

    def probability(self, pair: Segments) -> Array:
        """(1, Q)"""
        means = self.reward(pair).mean(-1)
        return np.sign(means[..., 0] - means[..., 1])[None] / 2 + 0.5

    def fit(self, pairs: Segments, target: Array, reference: Segments, rng: np.random.Generator) -> dict[str, float]:
        rewards = self.reward(reference)
        if self.normalized:
            self.mean, self.std = float(rewards.mean()), max(float(rewards.std()), 1e-6)
        self.fitted = True
        return {}

    def uncertainty(self, steps: Rollout | Segments) -> Array:
        return np.zeros(steps.env_reward.shape, np.float32)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "fitted": self.fitted}

    def load_state(self, state: dict[str, Any]) -> None:
        self.mean, self.std, self.fitted = state["mean"], state["std"], state["fitted"]


Reward = RewardModel | KnownReward  # what the loop needs of a reward: predict, probability, uncertainty, fit, state
