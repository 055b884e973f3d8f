"""How far annotators agree with each other and with themselves: pure functions over votes."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, GROUPS, RANKING, RATING, SUCCESS, Array, Feedback
from rlhf_control.feedback.schema import Asked, Vote

Judgement = int | float | str  # -1: the first clip; 0: a tie; 1: the second; a rating or a mark; CANNOT_TELL
CANNOT_TELL = "cannot tell"
# Kinds on which annotators can agree: the others assert or measure
JUDGED = (COMPARISON, RANKING, RATING, SUCCESS, GROUPS)


def agreement(given: Sequence[tuple[Asked, Feedback]]) -> dict[str, Any] | None:
    """Measures how far annotators agree on what several of them judged: kappa, Cohen's for two and Fleiss' for more,
    over pairs of clips (first, tie, second, cannot tell) or ratings (as names). Of repeats, an annotator's first
    judgement counts.
    """
    items: dict[tuple[str, ...], dict[str, Judgement]] = {}
    for query, feedback in given:
        for item, judgement in judgements(query, feedback).items():
            items.setdefault(item, {}).setdefault(feedback.annotator, judgement)
    shared = [by_name for by_name in items.values() if len(by_name) > 1]
    names = sorted({name for by_name in shared for name in by_name})
    if not shared:
        return None
    if len(names) == 2:
        kappa = cohen_kappa(*([by_name[name] for by_name in shared] for name in names))
    else:
        categories = sorted({j for by_name in shared for j in by_name.values()}, key=str)
        kappa = fleiss_kappa(np.array([[list(b.values()).count(c) for c in categories] for b in shared]))
    method = "Cohen" if len(names) == 2 else "Fleiss"
    return {"method": method, "annotators": len(names), "items": len(shared), "kappa": kappa}


def consistency(given: Sequence[tuple[Asked, Feedback]]) -> dict[str, Any]:
    """Measures how often annotators judge alike what they are asked about again, the clips in whatever order, and the
    share of wrong answers that this speaks for: see `error_rate`. Only clear answers bear on that."""
    items: dict[tuple[str, ...], list[Judgement]] = {}
    for query, feedback in given:
        for item, judgement in judgements(query, feedback).items():
            items.setdefault((feedback.annotator, *item), []).append(judgement)
    again = [pair for in_order in items.values() for pair in pairwise(in_order)]
    clear = [(a, b) for a, b in again if {a, b} <= {-1, 1}]
    same, flips = sum(a == b for a, b in again), sum(a != b for a, b in clear)
    return {
        "repeats": len(again),
        "same": share(same, len(again)),
        "clear_repeats": len(clear),
        "flips": flips,
        "error_rate": error_rate(flips / len(clear)) if clear else None,
        "error_rate_interval": [error_rate(p) for p in wilson_interval(flips, len(clear))] if clear else None,
    }


def position(votes: Sequence[tuple[Asked, Vote]]) -> dict[str, Any]:
    """Counts how many of the clear comparisons prefer the clip, or the group, that was shown first (on the left)."""
    given = [(v.feedback.ranks, v.shown) for q, v in votes if q.kind in (COMPARISON, GROUPS) and v.feedback]
    clear = [ranks[shown[0]] == 0 for ranks, shown in given if ranks and shown and {*ranks} == {0, 1}]
    return {"clear": len(clear), "first_preferred": share(sum(clear), len(clear))}


def judgements(query: Asked, feedback: Feedback) -> dict[tuple[str, ...], Judgement]:
    """Returns the judgement of each item: a clip and its rating or mark, or each two clips (or both groups), in the
    order of their digests whatever order they stood in, and which is better. Nothing for kinds on which there is
    nothing to agree."""
    if query.kind in (RATING, SUCCESS):
        return {query.clips: CANNOT_TELL if feedback.value is None else feedback.value}
    if query.kind not in JUDGED:
        return {}
    clips, given = query.clips, feedback.ranks
    if query.kind == GROUPS:
        half = len(clips) // 2
        clips = tuple(" ".join(sorted(group)) for group in (clips[:half], clips[half:]))
        given = None if given is None else (given[0], given[-1])
    ranks = dict(zip(clips, given, strict=True)) if given is not None else None
    return {
        (a, b): CANNOT_TELL if ranks is None else (ranks[a] > ranks[b]) - (ranks[a] < ranks[b])
        for a, b in combinations(sorted(clips), 2)
    }


def cohen_kappa(a: Sequence[Judgement], b: Sequence[Judgement]) -> float | None:
    """Measures the agreement of two annotators on the same items beyond chance (Cohen 1960): 1 perfect, 0 as by chance;
    None where both always said the same one thing, which chance explains as well."""
    first, second, n = Counter(a), Counter(b), len(a)
    expected = sum(first[c] * second[c] for c in first) / n**2
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    return (observed - expected) / (1 - expected) if expected < 1 else None


def fleiss_kappa(counts: Array) -> float | None:
    """Measures the agreement of any number of annotators beyond chance (Fleiss 1971). counts (items, categories): how
    many put the item there, at least two an item and not always the same number: an item's agreement is the share of
    its pairs of annotators that agree, and each item weighs the same."""
    raters = counts.sum(1)
    observed = float(((counts * (counts - 1)).sum(1) / (raters * (raters - 1))).mean())
    expected = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else None


def wilson_interval(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the 95 % score interval of a share k of n > 0 (Wilson 1927)."""
    center, half = k + z**2 / 2, z * math.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, (center - half) / (n + z**2)), min(1.0, (center + half) / (n + z**2))


def error_rate(inconsistent: float) -> float:
    """Returns the chance e of a wrong answer behind a share of inconsistent repeats: two answers that are wrong
    independently differ with probability 2 e (1 - e). At most 1/2, where they are coin flips. An annotator who is wrong
    in the same way each time goes unnoticed, so it is a lower bound."""
    return (1 - math.sqrt(max(0.0, 1 - 2 * inconsistent))) / 2


def share(k: int, n: int) -> dict[str, Any] | None:
    """Returns k of n with its 95 % Wilson interval; None for n = 0."""
    return {"share": k / n, "interval": list(wilson_interval(k, n))} if n else None


def quartiles(seconds: Sequence[float]) -> dict[str, Any] | None:
    """Returns how long answers took, in quartiles; None if nobody's time was taken."""
    if not seconds:
        return None
    lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return {"answers": len(seconds), "lower_quartile": lower, "median": median, "upper_quartile": upper}
