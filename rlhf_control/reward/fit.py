"""Fitting the reward ensemble: minibatches of answers of any kinds, held-out answers, and what they say of the fit.

E ensemble, Q answers, B batch, K items of an answer, S clips, C clips of a minibatch, L steps of a clip, I inputs,
P stated preferences.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.config import RewardConfig
from rlhf_control.data import Array
from rlhf_control.reward.answers import (
    Answering,
    ClipInputs,
    Minibatches,
    Steps,
    Targets,
    held_out_mask,
    independent,
    stated_preferences,
)
from rlhf_control.reward.calibration import best_temperature, both_ways, evidence, expected_calibration_error
from rlhf_control.reward.compiled import CompiledSteps, Layers, supports
from rlhf_control.reward.ensemble import INPUT_CLIP, clip_logits, mean_over_steps, outputs, scores
from rlhf_control.reward.linear import fit_linear
from rlhf_control.reward.seeing import LearnedEncoders

CHECK_EVERY = 25  # gradient steps between two looks at the held-out answers
MIN_STEPS = 100  # too few steps hurt far more than too many (50 -> 300 steps: 0.33 -> 0.83 of the true reward's return)
ODDS = 20.0  # so many times likelier must the held-out answers be by networks on a line than by the line alone
LINE_ROUNDS = 3  # a liar's answers are first read as they stand
L2_STEP, L2_RATIO, L2_LIMITS = 3.0, (1.1, 1.5), (1e-4, 100.0)  # of the adaptive L2


# -- learning


@dataclass(frozen=True)
class Fit:
    """Holds what a fit leaves behind."""

    weight_decay: float  # where the adaptive L2 left it
    temperature: float
    metrics: dict[str, float]
    linear: Tensor | None = None  # (E, F) weights, where there is a straight line below the networks
    trust: tuple[float, ...] = ()  # in each of `annotators_in`


def fit_ensemble(
    layers: Layers,
    clips: ClipInputs,
    targets: Targets,
    weight_decay: float,
    config: RewardConfig,
    rng: np.random.Generator,
    sight: LearnedEncoders | None = None,
) -> Fit:
    """Fits the networks, in place, to answers about clips, until the held-out loss, over all members' held-out answers
    together, falls no more, and keeps the weights with the lowest. Where there are means of clips, a straight line is
    fitted to them first, and the networks to what is left; they stay silent unless the held-out answers are ODDS times
    likelier with them. `sight`: networks that see, which are fitted too."""
    held_out = held_out_mask(config.members, targets.question.numpy(), config.bootstrap, rng)
    if sight is not None and sight.shared == "heads":  # or what one member does not see, it would know from the others
        held_out[:] = held_out[0]
    held_out &= ~held_out.all(1, keepdims=True)  # with one question, learn from it rather than hold it out
    mask = torch.from_numpy(held_out)
    answering, batches = Answering(targets, config), Minibatches(clips, targets, held_out, config, rng)
    line = None
    if clips.means is not None:
        line = straight_line(clips.means, answering, targets, mask)
        batches.below = line @ clips.means.T / config.logit_scale
    patience, checks = min(MIN_STEPS, config.steps), [*range(0, config.steps, CHECK_EVERY), config.steps]
    earliest = patience if line is None else 0  # by which the line alone is what there is
    learner: CompiledSteps | AutogradSteps
    if sight is None and clips.mask is None and supports(config, answering):
        learner = CompiledSteps(layers, answering, batches, config)
    else:
        learner = AutogradSteps(layers, answering, batches, config, sight)
    best_loss, best_step, best = math.inf, 0, (learner.parameters(), answering.trust, answering.without)
    for before, step in pairwise(checks if line is None else [0, *checks] if held_out.any() else [0, 0]):
        learner.train(step - before, weight_decay)
        if answering.trust is not None:
            answering.reconsider(learner.clip_logits(), targets, mask, learner.marked(targets))
        if step < earliest and not config.adaptive_l2:
            continue
        train_loss, held_out_loss = losses(answering, learner.clip_logits(), targets, mask, learner.marked(targets))
        if config.adaptive_l2 and step:
            weight_decay = adapted_l2(weight_decay, train_loss, held_out_loss)
        loss_now = held_out_loss if held_out.any() else -step
        if not step:
            loss_now -= math.log(ODDS) / max(1, held_out.any(0).sum())
        if loss_now < best_loss and step >= earliest:
            best_loss, best_step = loss_now, step
            best = (learner.parameters(), answering.trust, answering.without)
        elif step > patience and best_loss < math.inf:
            break
    weights, answering.trust, answering.without = best
    learner.load(weights)
    logits = learner.clip_logits()
    train_loss, held_out_loss = losses(answering, logits, targets, mask, learner.marked(targets))
    temperature, metrics = assess(logits.numpy(), targets, held_out, config.calibrate, answering.without)
    metrics |= {"train_loss": train_loss, "heldout_loss": held_out_loss, "steps": best_step}
    trust = () if answering.trust is None else tuple(answering.trust[:-1].tolist())
    metrics |= {} if line is None else {"lapse": answering.lapse}
    return Fit(weight_decay, temperature, metrics | ({"lowest_trust": min(trust)} if trust else {}), line, trust)


def straight_line(means: Tensor, answering: Answering, targets: Targets, held_out: Tensor) -> Tensor:
    """Fits each member's line (E, F) to the means (S, F) of clips, by turns with how annotators turn logits into
    answers, how far to trust whom and how many answers are lapses."""
    open_questions = bool(answering.trust is not None or answering.parameters)
    for _ in range(LINE_ROUNDS):
        line = fit_linear(lambda logits: answering.log_prob(logits, targets), means, targets.items, ~held_out)
        answering.settle(line @ means.T, targets, ~held_out)
        answering.reconsider(line @ means.T, targets, held_out)
        if not answering.reckon_with_lapses(line @ means.T, targets, held_out) and not open_questions:
            break
    return line


class AutogradSteps:
    """Takes gradient steps for answers of any kinds, by autograd; the reference for `compiled.CompiledSteps`."""

    def __init__(
        self, layers: Layers, answering: Answering, batches: "Minibatches", config: RewardConfig,
        sight: LearnedEncoders | None = None,
    ) -> None:  # fmt: skip
        self.layers, self.answering, self.batches, self.config, self.sight = layers, answering, batches, config, sight
        weights = batches.clips.mask is not None and batches.clips.mask.is_floating_point()
        self.step_by_step = "threshold" in answering.parameters and not weights  # a reply is marked as a whole
        networks, others = [p for layer in layers for p in layer], [*answering.parameters.values()]
        networks += [] if sight is None else list(sight.parameters())
        self.tensors = [p.requires_grad_(True) for p in (*networks, *others)]
        groups: list[dict[str, Any]] = [{"params": networks}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, fused=True)

    def train(self, steps: int, weight_decay: float) -> None:
        """Takes so many steps of all members, each on minibatches of its own."""
        self.optimizer.param_groups[0]["weight_decay"] = weight_decay
        for clips, mask, below, items, batch in self.batches.draw(steps):
            of_steps = self.outputs(clips.flatten(1, 2)).reshape(clips.shape[:3])
            rewards = mean_over_steps(of_steps, mask)  # (E, C)
            rewards = rewards if below is None else rewards + below
            logits = (self.config.logit_scale * rewards).gather(1, items.flatten(1)).reshape(items.shape)  # (E, B, K)
            of_marked = Steps(self.config.logit_scale * of_steps, mask).of_first(items) if self.step_by_step else None
            loss = -self.answering.log_prob(logits, batch, of_marked)
            self.optimizer.zero_grad(set_to_none=True)
            loss.mean(1).sum().backward()  # members do not share parameters
            self.optimizer.step()

    def outputs(self, x: Tensor) -> Tensor:
        """Returns what the members put out, (E, B), for each one's inputs (E, B, I)."""
        if self.sight is None:
            return outputs(self.layers, x)
        pictures, others = apart(x)
        seen = torch.cat([self.sight.of_members(pictures), others], -1).clamp(-INPUT_CLIP, INPUT_CLIP)
        (weight, bias), *rest = self.layers
        return outputs([(weight * self.sight.mask(others.shape[-1]), bias), *rest], seen)

    def clip_logits(self) -> Tensor:
        """Returns the logits (E, S) of all clips."""
        logits, below = clip_logits(self.layers, self.seen(), self.config, self.batches.clips.mask), self.batches.below
        return logits if below is None else logits + self.config.logit_scale * below

    def marked(self, targets: Targets) -> Steps | None:
        """Returns the logits (E, Q, L) of the steps of each answer's first clip, where such are marked."""
        if not self.step_by_step:
            return None
        mask = self.batches.clips.mask
        of_steps = Steps(
            self.config.logit_scale * scores(self.layers, self.seen()), None if mask is None else mask[None]
        )
        return of_steps.of_first(targets.items)

    @torch.no_grad()
    def seen(self) -> Tensor:
        """Returns what the members read of all clips, (S, L, I)."""
        if self.sight is None:
            return self.batches.x
        pictures, others = apart(self.batches.x)
        return torch.cat([self.sight.without_gradients(pictures), others], -1).clamp(-INPUT_CLIP, INPUT_CLIP)

    def parameters(self) -> list[Tensor]:
        """Copies of all that is learned."""
        return [tensor.detach().clone() for tensor in self.tensors]

    def load(self, parameters: list[Tensor]) -> None:
        """Takes back what `parameters` gave; nothing is learned from then on."""
        for tensor, value in zip(self.tensors, parameters, strict=True):
            tensor.requires_grad_(False).copy_(value)


def together(pictures: Tensor, others: Tensor) -> Tensor:
    """Returns bytes (..., I) that hold those of pictures (..., P) and other inputs (..., A) float32."""
    tail = torch.tensor([others.shape[-1]], dtype=torch.int32).expand(*others.shape[:-1], 1).contiguous()
    return torch.cat([pictures, others.contiguous().view(torch.uint8), tail.view(torch.uint8)], -1)


def apart(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both of what `together` joined."""
    size = int(x[(0,) * (x.ndim - 1)][-4:].contiguous().view(torch.int32))
    end = x.shape[-1] - 4
    return x[..., : end - 4 * size], x[..., end - 4 * size : end].contiguous().view(torch.float32)


def adapted_l2(weight_decay: float, train_loss: float, held_out_loss: float) -> float:
    """Raises the weight where the held-out loss is more than 1.5 times the training loss, and lowers it where less than
    1.1 (Christiano et al., arXiv 1706.03741, section 2.2.3)."""
    low, high = (ratio * train_loss for ratio in L2_RATIO)
    factor = L2_STEP if held_out_loss > high else 1 / L2_STEP if held_out_loss < low else 1.0
    return float(np.clip(weight_decay * factor, *L2_LIMITS))


# -- judging


@torch.no_grad()
def losses(
    answering: Answering, logits: Tensor, targets: Targets, held_out: Tensor, steps: Steps | None = None
) -> tuple[float, float]:  # fmt: skip
    """Returns the mean loss on the answers seen and held out, given the logits (E, S) of all clips and those of the
    `steps` of what was marked; NaN where there are none."""
    loss = -answering.log_prob(logits[:, targets.items], targets, steps)
    return loss[~held_out].mean().item(), loss[held_out].mean().item() if held_out.any() else float("nan")


def assess(
    logits: Array, targets: Targets, held_out: Array, calibrate: bool, trust: Array | None = None
) -> tuple[float, dict[str, float]]:
    """Returns (temperature, metrics) from the logits (E, S) of all clips: accuracy on stated preferences and,
    for the held-out, their calibration. What is called fair, and the evidence (nats) against coin flips, are of those
    held-out ones whose clips no model chose; the chosen ones are the hardest by design. A preference is predicted by
    the mean probability of the members that may speak about it: for held-out ones those that did not see it. 0.5 where
    there is none. `trust` (Q,) is that in each answer's annotator (None: all are trusted): who says the opposite is
    predicted to."""
    clips, answers = stated_preferences(targets)
    margin = logits[:, clips[:, 0]] - logits[:, clips[:, 1]]  # (E, P)
    if trust is not None:
        margin = margin * trust[answers].mean(1)
    fresh, seen = (np.asarray(m[:, answers].all(-1)) for m in (held_out, ~held_out))
    temperature = best_temperature(margin, fresh) if calibrate else 1.0
    p = np.exp(-np.logaddexp(0, -margin / temperature))
    fresh_p, seen_p = ((p * m).sum(0)[m.any(0)] / m.sum(0)[m.any(0)] for m in (fresh, seen))
    metrics = {
        "train_accuracy": float((seen_p > 0.5).mean()) if len(seen_p) else 0.5,
        "heldout_accuracy": float((fresh_p > 0.5).mean()) if len(fresh_p) else 0.5,
        "heldout_ece": expected_calibration_error(*both_ways(fresh_p)),
    }
    held = fresh.any(0)
    fair = targets.fair.numpy()[answers[held]].all(-1)
    fair_p, number = fresh_p[fair], independent(answers[held][fair], targets)
    metrics |= {
        "fair_accuracy": float((fair_p > 0.5).mean()) if len(fair_p) else 0.5,
        "fair_answers": number,
        "evidence": evidence(fair_p, number),
    }
    return temperature, metrics | ({"temperature": temperature} if calibrate else {})
