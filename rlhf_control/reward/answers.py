"""Answers as the likelihoods read them, which of them each member sees, and minibatches of them.

E ensemble, Q answers, B batch, K items of an answer, S clips, C clips of a minibatch, L steps of a clip, I inputs,
P stated preferences.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlhf_control.config import RewardConfig
from rlhf_control.data import (
    CORRECTION,
    DEMONSTRATION,
    GROUPS,
    KINDS,
    RATING,
    REWARD,
    SUCCESS,
    Answers,
    Array,
    Segments,
)
from rlhf_control.reward.likelihoods import (
    groups_log_prob,
    ordered_cuts,
    ranking_log_prob,
    rating_log_prob,
    raw_cuts,
    reward_log_prob,
    success_log_prob,
)
from rlhf_control.reward.trust import CANDIDATES, most_likely_trust

PARTNERS = 8  # with how many other ratings (or rewards) each is compared, to measure accuracy
ALIKE, BYTES = 0.1, 512  # correlation, and of how many bytes of a picture
LAPSES = (0.2, 0.4)
SETTLE_STEPS, SETTLE_LR = 100, 0.05  # and by how much of a logit such a step goes
MAX_TIE_SHARE, MIN_STD = 0.9, 0.1


def stride_of(length: int, max_frames: int) -> int:
    """Returns every how many steps of a clip a gradient step looks: the least for which there are at most
    `max_frames`."""
    return -(-length // max_frames)


def alike(x: Tensor) -> bool:
    """Tells whether neighbouring steps of the clips x (S, L, I) have something in common, so that some stand for all.
    Their correlation is about 0.25 in HalfCheetah-v5 and 0 in noise, from which less is learned if steps are left out
    (pairs like those learned from: 84 % right rather than 88 %)."""
    if x.dtype == torch.uint8:  # some of the pictures' bytes
        x = x[..., :: -(-x.shape[-1] // BYTES)].float()
    centred = x - x.mean((0, 1))
    return bool((centred[:, 1:] * centred[:, :-1]).mean() > ALIKE * centred.square().mean())


def held_out_mask(members: int, question: Array, bootstrap: float, rng: np.random.Generator) -> Array:
    """Returns which answers each member does not train on, (E, Q) bool, given the questions (Q,) they answer. These are
    all answers to a share 1 - bootstrap of the questions, rotated from member to member, so that with E (1 - bootstrap)
    >= 1 every one is held out by somebody. Whoever saw one answer to a question would know another one by heart."""
    number = len(np.unique(question))
    place = rng.permutation(number)[question] / number
    shift = np.arange(members) / members
    return (place + shift[:, None]) % 1 >= bootstrap - 1e-9


def questions_of(items: Array) -> Array:
    """Numbers the questions of answers, (Q,) from 0, in the order in which they first appear: the same number for
    answers about the same clips, in whatever order they stand in `items` (Q, K)."""
    numbers: dict[tuple[int, ...], int] = {}
    return np.array([numbers.setdefault(tuple(row), len(numbers)) for row in np.sort(items, 1).tolist()], np.int64)


def annotators_in(answers: Answers) -> tuple[list[str], Array]:
    """Returns the names of those whose trust is a question, and for every answer (Q,) the number of its annotator among
    them. It is -1 for a demonstration, whose place above the policy's clips nobody judged, and for all where there is
    but one annotator: with nobody to compare, trust is a matter of the reward's scale."""
    judged = answers.kind != KINDS.index(DEMONSTRATION)
    names = [] if answers.annotator is None else sorted(set(answers.annotator[judged].tolist()))
    if answers.annotator is None or len(names) < 2:
        return [], np.full(len(answers), -1)
    return names, np.where(judged, np.searchsorted(names, answers.annotator), -1)


@dataclass(frozen=True)
class ClipInputs:
    """Holds what is judged, as the networks read it."""

    x: Tensor  # (S, L, I) standardised inputs; if the networks that see are learned, what these read, as bytes
    mask: Tensor | None = None  # (S, L) bool: the steps there are, or float: what each counts for; None: all of them
    means: Tensor | None = None  # (S, F): of each, what a straight line is fitted to; None: there is to be none


@dataclass(frozen=True)
class Targets:
    """Answers as the likelihoods read them; each field has a row an answer."""

    items: Tensor  # (Q, K) clips; where there are fewer than K, the first once more
    ranks: Tensor  # (Q, K)
    forced: Tensor  # (Q,) bool: a demonstration, or a correction if no one ties, where nobody could say "equal"
    rating: Tensor  # (Q,) from 0; 0 for the other kinds
    reward: Tensor  # (Q,) standardised; 0 for the other kinds
    is_rating: Tensor  # (Q,) bool
    is_reward: Tensor  # (Q,) bool
    success: Tensor  # (Q,) 1 success, 0 failure; 0 for the other kinds
    is_success: Tensor  # (Q,) bool
    is_groups: Tensor  # (Q,) bool
    question: Tensor  # (Q,) number, the same for answers about the same clips
    fair: Tensor  # (Q,) bool: about clips that no model chose; all of them where that is not known, or none are
    annotator: Tensor  # (Q,) number, as in `annotators_in`

    @staticmethod
    def of(answers: Answers) -> "Targets":
        kind = np.array(KINDS)[answers.kind]
        is_rating, is_reward, is_success = (kind == one for one in (RATING, REWARD, SUCCESS))
        given = answers.value[is_reward]
        mean, std = (given.mean(), max(given.std(), 1e-6)) if len(given) else (0.0, 1.0)
        tied = (answers.ranks == 0).sum(1) > 1
        known = answers.at_random is not None and answers.at_random.any()
        columns = (
            np.where(answers.items < 0, answers.items[:, :1], answers.items),
            answers.ranks,
            np.isin(kind, (DEMONSTRATION,) if (tied & (kind == CORRECTION)).any() else (DEMONSTRATION, CORRECTION)),
            np.where(is_rating, answers.value, 1).astype(np.int64) - 1,
            np.where(is_reward, (answers.value - mean) / std, 0).astype(np.float32),
            is_rating,
            is_reward,
            np.where(is_success, answers.value, 0).astype(np.float32),
            is_success,
            kind == GROUPS,
            questions_of(answers.items),
            answers.at_random if known else np.ones(len(answers), bool),
            annotators_in(answers)[1],
        )
        return Targets(*map(torch.tensor, columns))

    def __getitem__(self, index: Tensor) -> "Targets":
        return Targets(*(column[index] for column in vars(self).values()))

    def is_ranked(self) -> Tensor:
        """Tells which answers (Q,) are ranks that somebody gave, who could have said "equal"."""
        return ~(self.forced | self.is_rating | self.is_reward | self.is_success)

    def tied_first(self) -> Tensor:
        """Tells in which answers (Q,) the first place is a tie, of clips or of both groups."""
        return torch.where(self.is_groups, (self.ranks <= 0).all(1), (self.ranks == 0).sum(1) > 1)

    def largest_tie(self) -> int:
        """Counts the clips that tie for a place that is not the last, at most; 1 without ties. A tie of groups is one
        of two."""
        largest = 1 + int((self.tied_first() & self.is_groups).any())
        for place in range(self.ranks.shape[1] - 1):
            tied, rest = (self.ranks == place).sum(1), (self.ranks > place).sum(1)
            said = self.is_ranked() & ~self.is_groups & ((rest > 0) | (place == 0))
            largest = max(largest, int((tied * said).max()))
        return largest


class Steps(NamedTuple):
    """Holds the logits of clips' steps, and which of these there are."""

    logits: Tensor  # (E, ..., L)
    mask: Tensor | None  # (E or 1, ..., L) bool; None: all

    def of_first(self, items: Tensor) -> "Steps":
        """Returns those of the first of each answer's items: (Q, K) among all clips, (E, B, K) among each member's."""
        if items.ndim == 2:
            return Steps(self.logits[:, items[:, 0]], None if self.mask is None else self.mask[:, items[:, 0]])
        index = items[..., 0, None].expand(*items.shape[:2], self.logits.shape[-1])
        return Steps(self.logits.gather(1, index), None if self.mask is None else self.mask.gather(1, index))


class Answering:
    """Models how the annotators turn logits into answers: what is learned beside the reward, by each member for itself.
    The parameters are kept in units of the networks' outputs, so that one learning rate suits all."""

    def __init__(self, targets: Targets, config: RewardConfig) -> None:
        self.config, self.order, self.lapse = config, targets.largest_tie(), config.lapse
        self.mixed, self.grouped = bool(targets.forced.any()) and self.order > 1, bool(targets.is_groups.any())
        start: dict[str, Tensor] = {}
        if self.order > 1:
            asked = targets.is_ranked()
            share = float(targets.tied_first()[asked].float().mean())
            share = min(max(share, 1 / (len(asked) + 1)), MAX_TIE_SHARE)
            start["tie"] = torch.tensor([math.log(2 * share / (1 - share))])  # P(tie) of equals, Davidson
        if targets.is_rating.any():
            counts = targets.rating[targets.is_rating].bincount().double()
            counts = torch.cat([counts, counts.new_zeros(max(0, 2 - len(counts)))]) + 0.5  # two levels at least
            start["cuts"] = raw_cuts(torch.logit(counts.cumsum(0)[:-1] / counts.sum())).float()
        if targets.is_reward.any():
            start |= {"slope": torch.tensor([-1.0]), "intercept": torch.zeros(1), "std": torch.zeros(1)}
        if targets.is_success.any():
            marks = targets.success[targets.is_success]
            start["threshold"] = -torch.logit((marks.sum(0, keepdim=True) + 0.5) / (len(marks) + 1))
        self.parameters = {
            name: (value / config.logit_scale).expand(config.members, -1).clone() for name, value in start.items()
        }
        number = int(targets.annotator.max()) + 1
        self.trust = torch.ones(number + 1) if config.trust and number else None  # the last: beyond doubt, number -1
        self.without: Array | None = None  # (Q,) trust in each answer's annotator, found without that question

    def reconsider(self, logits: Tensor, targets: Targets, held_out: Tensor, steps: "Steps | None" = None) -> None:
        """Finds anew how far each annotator is to be trusted, if there are several, from the answers (E, Q) held out,
        given the logits (E, S) of all clips and those of the `steps` of what was marked."""
        if self.trust is None:
            return
        with torch.no_grad():
            trusts = torch.tensor(CANDIDATES, dtype=torch.float32)
            each = [self.log_prob(logits[:, targets.items], targets, steps, trust) for trust in trusts]
        spoken = held_out if held_out.any(0).all() else torch.ones_like(held_out)  # too few members: all may speak
        log_prob = (torch.stack(each) * spoken).sum(1) / spoken.sum(0)
        trust, self.without = most_likely_trust(
            log_prob.double().numpy(), targets.annotator.numpy(), targets.question.numpy()
        )
        self.trust = torch.tensor([*trust, 1.0], dtype=torch.float32)

    @torch.no_grad()
    def reckon_with_lapses(self, logits: Tensor, targets: Targets, held_out: Tensor) -> bool:
        """Takes, of the lapse of the config and the larger LAPSES, the one under which the answers (E, Q) held out are
        likeliest, given the logits (E, S) of all clips; tells whether it is another. Who is wrong in a fifth of all
        cases is read as one who tosses a coin in two fifths, and not as one of strange wishes."""
        before, least, found = self.lapse, self.config.lapse, {}
        for lapse in (least, *(more for more in LAPSES if more > least)):
            self.lapse = lapse
            log_prob = self.log_prob(logits[:, targets.items], targets) * held_out
            found[lapse] = float((log_prob.sum(0) / held_out.sum(0).clamp(min=1)).sum())
        self.lapse = max(found, key=found.__getitem__)
        return self.lapse != before

    def settle(self, logits: Tensor, targets: Targets, seen: Tensor) -> None:
        """Finds what is learned beside the reward, by each member from the answers (E, Q) it sees, given the logits
        (E, S) of all clips."""
        if not self.parameters:
            return
        tensors = [value.requires_grad_(True) for value in self.parameters.values()]
        optimizer = torch.optim.Adam(tensors, lr=SETTLE_LR / self.config.logit_scale)
        for _ in range(SETTLE_STEPS):
            optimizer.zero_grad(set_to_none=True)
            (-self.log_prob(logits[:, targets.items], targets) * seen).sum().backward()
            optimizer.step()
        for value in tensors:
            value.requires_grad_(False).grad = None

    def log_prob(
        self, logits: Tensor, targets: Targets, steps: "Steps | None" = None, trust: Tensor | None = None
    ) -> Tensor:
        """Returns the log-likelihoods (E, B) of targets (E, B) or (B,), given the logits (E, B, K) of their items and
        those of the `steps` (E, B, L) of the first of them (which success is marked by; None: an episode's own), and
        how far their annotators are trusted (default: as found)."""
        lapse = self.lapse
        if trust is None:
            trust = torch.ones(()) if self.trust is None else self.trust[targets.annotator]
        marked = Steps(logits[..., :1], None) if steps is None else steps
        logits = logits * trust[..., None]
        p = {name: self.config.logit_scale * value for name, value in self.parameters.items()}
        result = ranking_log_prob(logits, targets.ranks, p.get("tie"), lapse, self.order)
        if self.mixed:
            result = torch.where(targets.forced, ranking_log_prob(logits, targets.ranks, None, lapse), result)
        if self.grouped:
            compared = groups_log_prob(logits, targets.ranks, p.get("tie"), lapse)
            result = torch.where(targets.is_groups, compared, result)
        if "cuts" in p:
            rated = rating_log_prob(logits[..., 0], targets.rating, ordered_cuts(p["cuts"])[:, None], lapse)
            result = torch.where(targets.is_rating, rated, result)
        if "slope" in p:
            std = torch.log(MIN_STD + torch.exp(p["std"]))
            own = torch.where(targets.is_reward, logits[..., 0], 0.0)  # others' second derivatives might not be finite
            rewarded = reward_log_prob(own, targets.reward, p["slope"], p["intercept"], std, lapse)
            result = torch.where(targets.is_reward, rewarded, result)
        if "threshold" in p:  # who always says the opposite calls what lies below it a success
            margin = trust[..., None] * (marked.logits - p["threshold"][..., None])
            of_marks = success_log_prob(margin, targets.success, marked.mask, lapse)
            result = torch.where(targets.is_success, of_marks, result)
        return result


def stated_preferences(targets: Targets) -> tuple[Array, Array]:
    """Returns (P, 2) clips, what was preferred and to what, and (P, 2) the answers that say so. From ranks, each strict
    pair of an answer counts; from ratings, rewards and success marks, unequal answers of the same kind, each with at
    most PARTNERS others."""
    clips, answers = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
    items, ranks = targets.items.numpy(), targets.ranks.numpy()
    for i in range(ranks.shape[1]):
        for j in range(ranks.shape[1]):
            q = np.flatnonzero((ranks[:, i] >= 0) & (ranks[:, i] < ranks[:, j]))
            clips.append(items[q][:, [i, j]])
            answers.append(np.stack([q, q], 1))
    for of_kind, value in (
        (targets.is_rating, targets.rating),
        (targets.is_reward, targets.reward),
        (targets.is_success, targets.success),
    ):
        rows = np.flatnonzero(of_kind.numpy())
        near = [np.stack([rows, np.roll(rows, n)], 1) for n in range(1, min(PARTNERS // 2 + 1, len(rows)))]
        pairs = np.unique(np.sort(np.concatenate([answers[0], *near]), 1), axis=0)
        first, second = value.numpy()[pairs].T
        pairs = np.where((first < second)[:, None], pairs[:, ::-1], pairs)[first != second]  # the better one first
        clips.append(items[pairs, 0])
        answers.append(pairs)
    return np.concatenate(clips), np.concatenate(answers)


class Minibatches:
    """Draws answers for each member from those it may see. Each clip of a minibatch is scored once, however many of the
    answers are about it."""

    def __init__(
        self, clips: ClipInputs, targets: Targets, held_out: Array, config: RewardConfig, rng: np.random.Generator
    ) -> None:
        self.clips, self.x, self.targets, self.config, self.rng = clips, clips.x, targets, config, rng
        self.below: Tensor | None = None  # (E, S) what the networks' mean outputs are added to; None: 0
        self.seen = [np.flatnonzero(~row) for row in held_out]
        self.items = targets.items.numpy()
        self.lengths: Array | None = None  # (S,) of clips that differ in length, if steps of them are left out
        weights = clips.mask is not None and clips.mask.is_floating_point()  # of steps that all count, so none left out
        if clips.mask is not None and not weights and targets.is_success.any():  # episodes can be long
            self.lengths = clips.mask.sum(1).numpy()
        thinned = (clips.mask is None or self.lengths is not None) and alike(self.x)
        self.stride = stride_of(self.x.shape[1], config.max_frames) if thinned else 1

    def indices(self, steps: int) -> tuple[Array, Array]:
        """Returns (steps, E, B) answers, and (steps,) the first step of a clip to look at, where every n-th is."""
        size = (steps, self.config.batch_size)
        answers = np.stack([rows[self.rng.integers(len(rows), size=size)] for rows in self.seen], 1)
        return answers, self.rng.integers(self.stride, size=steps)

    def draw(self, steps: int) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None, Tensor, Targets]]:
        """Draws minibatches: inputs (E, C, L', I) and their mask (E, C, L'), what their mean outputs are added to
        (E, C), the places (E, B, K) among C of the answers' items, the answers (E, B)."""
        for index, phase in zip(*self.indices(steps), strict=True):
            yield self._minibatch(index, int(phase))

    def _minibatch(
        self, index: Array, phase: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Targets]:  # fmt: skip
        found = [np.unique(items, return_inverse=True) for items in self.items[index]]
        clips = np.zeros((len(found), max(len(used) for used, _ in found)), np.int64)
        for row, (used, _) in zip(clips, found, strict=True):
            row[: len(used)] = used
        places = np.stack([inverse.reshape(index.shape[1], -1) for _, inverse in found])
        mask = self.clips.mask if self.stride == 1 else None
        return (
            self._frames(torch.from_numpy(clips), phase),
            None if mask is None else mask[torch.from_numpy(clips)],
            None if self.below is None else self.below.gather(1, torch.from_numpy(clips)),
            torch.from_numpy(places),
            self.targets[torch.from_numpy(index)],
        )

    def _frames(self, clips: Tensor, phase: int) -> Tensor:
        """(E, C, L', I): every n-th step from `phase` on, of all of the clip or of a random stretch of it."""
        length, config = self.x.shape[1], self.config
        if self.lengths is not None and self.stride > 1:  # as many of each, evenly spread over its own steps
            at = np.arange(phase, -(-length // self.stride) * self.stride, self.stride)
            steps = at * self.lengths[clips.numpy()][..., None] // (self.stride * len(at))
            return self.x[clips[..., None], torch.from_numpy(steps)]
        # Whole clips, if they differ in length, or marks speak of their ends
        if config.crop == 1 or self.clips.mask is not None or self.targets.is_success.any():
            return self.x[:, phase :: self.stride][clips]
        cropped = max(1, round(length * self.rng.uniform(config.crop, 1)))
        start = self.rng.integers(0, length - cropped + 1, size=(*clips.shape, 1))
        phase %= cropped
        return self.x[clips[..., None], torch.from_numpy(start + np.arange(phase, cropped, self.stride))]


def independent(answers: Array, targets: Targets) -> float:
    """Counts the independent answers behind stated preferences (P, 2), given by the answers that each follows from. A
    ranking states several, two ratings are needed for one, and a question asked again counts once."""
    return float(min(len(np.unique(targets.question.numpy()[answers])), len(answers)))


def present(rows: Tensor, steps: Segments) -> Tensor:
    """Returns those of the rows (..., I) whose steps there are, (B, I)."""
    return rows.flatten(0, -2) if steps.mask is None else rows[torch.from_numpy(steps.mask)]
