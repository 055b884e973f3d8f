"""What is known about a run's labels: who gave how many of which kind, how fast, and how far they can be trusted."""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import COMPARISON, KINDS, RANKING, RATING, Array, Feedback
from rlhf_control.errors import UserError
from rlhf_control.exchange import export_labels, import_labels, import_pairs
from rlhf_control.store import Asked, FeedbackStore, Vote, in_force, informative
from rlhf_control.verbs import LabelsConfig
from rlhf_control.wording import counted

Judgement = int | float | str  # -1: the first clip; 0: a tie; 1: the second; a rating; CANNOT_TELL
CANNOT_TELL = "cannot tell"
JUDGED = (COMPARISON, RANKING, RATING)  # kinds on which annotators can agree: the others assert or measure


def labels(config: LabelsConfig) -> str:
    """The card of a run's store, as text or JSON, after importing and exporting what is asked for."""
    path = Path(config.run)
    if config.load and not Path(config.load).exists():
        raise UserError(f"nothing to load at {config.load}; give the folder of an export, or an .npz of pairs")
    path = path / "labels.sqlite" if path.is_dir() else path.resolve()
    new = not path.exists()
    try:
        store = FeedbackStore(path, create=bool(config.load))
        if config.load:
            before = len(store.asked()), len(store.votes())
            (import_labels if Path(config.load).is_dir() else import_pairs)(store, config.load)
            queries, votes = len(store.asked()) - before[0], len(store.votes()) - before[1]
            _tell(f"loaded {queries} new queries and {votes} new votes from {config.load} into {path}")
    except BaseException:
        if new:  # a store that nothing came into
            path.unlink(missing_ok=True)
        raise
    if config.export:
        export_labels(store, config.export)
        _tell(f"exported {len(store.asked())} queries and {len(store.votes())} votes to {config.export}")
    card = data_card(store)
    return json.dumps(card) if config.json else card_text(card)


def _tell(text: str) -> None:
    """What was done, beside what is printed for programs to read."""
    print(f"rlhf-control: {text}", file=sys.stderr)


def data_card(store: FeedbackStore) -> dict[str, Any]:
    """All that the store says about its labels, as plain numbers; None where there is nothing to tell from."""
    asked, history = {query.key: query for query in store.asked()}, store.votes()
    votes = list(in_force(history).values())
    given = [(asked[vote.query], vote.feedback) for vote in votes if vote.feedback is not None]
    names = sorted({feedback.annotator for _, feedback in given})
    return {
        "queries": len(asked),
        "answered": len({vote.query for vote in votes}),
        "answers": len(given),
        "labels": sum(informative(feedback) for _, feedback in given),
        "undone": sum(vote.feedback is None for vote in history),
        "changed": _changed(history),
        "kinds": {kind: n for kind in KINDS if (n := _of_kind(kind, asked.values(), given))["queries"]},
        "annotators": {name: _of_annotator([f for _, f in given if f.annotator == name]) for name in names},
        "seconds": quartiles([f.seconds for _, f in given if f.seconds is not None]),
        "agreement": {kind: a for kind in JUDGED if (a := agreement([(q, f) for q, f in given if q.kind == kind]))},
        "consistency": consistency(given),
        "position": position([(asked[vote.query], vote) for vote in votes]),
    }


def agreement(given: Sequence[tuple[Asked, Feedback]]) -> dict[str, Any] | None:
    """How far annotators agree on what several of them judged: kappa, Cohen's for two and Fleiss' for more, over pairs
    of clips (first, tie, second, cannot tell) or ratings (as names). Of repeats, an annotator's first judgement counts.
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
    """How often annotators judge alike what they are asked about again, the clips in whatever order, and the share of
    wrong answers that this speaks for: see `error_rate`. Only clear answers bear on that."""
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
    """Of the clear comparisons, how many prefer the clip that was shown first (on the left)."""
    clear = [
        vote.feedback.ranks[vote.shown[0]] == 0
        for query, vote in votes
        if query.kind == COMPARISON and vote.feedback and vote.shown and vote.feedback.ranks in ((0, 1), (1, 0))
    ]
    return {"clear": len(clear), "first_preferred": share(sum(clear), len(clear))}


def judgements(query: Asked, feedback: Feedback) -> dict[tuple[str, ...], Judgement]:
    """Item -> judgement: a clip and its rating, or each two clips, in the order of their digests whatever order they
    stood in, and which is better. Nothing for kinds on which there is nothing to agree."""
    if query.kind == RATING:
        return {query.clips: CANNOT_TELL if feedback.value is None else feedback.value}
    if query.kind not in JUDGED:
        return {}
    ranks = dict(zip(query.clips, feedback.ranks, strict=True)) if feedback.ranks is not None else None
    return {
        (a, b): CANNOT_TELL if ranks is None else (ranks[a] > ranks[b]) - (ranks[a] < ranks[b])
        for a, b in combinations(sorted(query.clips), 2)
    }


def cohen_kappa(a: Sequence[Judgement], b: Sequence[Judgement]) -> float | None:
    """Agreement of two annotators on the same items beyond chance (Cohen 1960): 1 perfect, 0 as by chance; None where
    both always said the same one thing, which chance explains as well."""
    first, second, n = Counter(a), Counter(b), len(a)
    expected = sum(first[c] * second[c] for c in first) / n**2
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    return (observed - expected) / (1 - expected) if expected < 1 else None


def fleiss_kappa(counts: Array) -> float | None:
    """Agreement of any number of annotators beyond chance (Fleiss 1971). counts (items, categories): how many put the
    item there, at least two an item and not always the same number: an item's agreement is the share of its pairs of
    annotators that agree, and each item weighs the same."""
    raters = counts.sum(1)
    observed = float(((counts * (counts - 1)).sum(1) / (raters * (raters - 1))).mean())
    expected = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else None


def wilson_interval(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % score interval of a share k of n > 0 (Wilson 1927)."""
    center, half = k + z**2 / 2, z * math.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, (center - half) / (n + z**2)), min(1.0, (center + half) / (n + z**2))


def error_rate(inconsistent: float) -> float:
    """The chance e of a wrong answer behind a share of inconsistent repeats: two answers that are wrong independently
    differ with probability 2 e (1 - e). At most 1/2, where they are coin flips. An annotator who is wrong in the same
    way each time goes unnoticed, so it is a lower bound."""
    return (1 - math.sqrt(max(0.0, 1 - 2 * inconsistent))) / 2


def share(k: int, n: int) -> dict[str, Any] | None:
    """k of n with its 95 % Wilson interval; None for n = 0."""
    return {"share": k / n, "interval": list(wilson_interval(k, n))} if n else None


def quartiles(seconds: Sequence[float]) -> dict[str, Any] | None:
    """How long answers took; None if nobody's time was taken."""
    if not seconds:
        return None
    lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return {"answers": len(seconds), "lower_quartile": lower, "median": median, "upper_quartile": upper}


def card_text(card: dict[str, Any]) -> str:
    """The data card as a table."""
    rows = [
        ("queries", f"{card['queries']}, of which {card['answered']} answered"),
        ("answers", f"{card['answers']}, of which {card['labels']} say something"),
        ("changed, undone", f"{card['changed']}, {card['undone']}"),
    ]
    for kind, n in card["kinds"].items():
        asked, given = counted(n["queries"], "query", "queries"), counted(n["answers"], "answer")
        rows.append((kind, f"{asked}, {given}, {counted(n['ties'], 'tie')}, {n['cannot_tell']} cannot tell"))
    for name, n in card["annotators"].items():
        given = counted(n["answers"], "answer")
        rows.append((f"by {name}", f"{given}, {n['cannot_tell']} cannot tell{_seconds(n['seconds'])}"))
    rows.append(("seconds a label", _seconds(card["seconds"]).removeprefix(", ") or "not taken"))
    for kind, a in card["agreement"].items():
        kappa = "undefined (always the same answer)" if a["kappa"] is None else f"{a['kappa']:.2f}"
        on = f"{counted(a['annotators'], 'annotator')}, {counted(a['items'], 'item')}"
        rows.append((f"agreement, {kind}", f"{a['method']}'s kappa {kappa}, {on}"))
    c, p = card["consistency"], card["position"]
    rows.append(("same when asked again", _share(c["same"], c["repeats"])))
    if c["error_rate"] is not None:
        low, high = c["error_rate_interval"]
        rows.append(
            (
                "error rate, at least",
                f"{c['error_rate']:.1%} ({low:.1%} to {high:.1%}), from {counted(c['clear_repeats'], 'clear repeat')}",
            )
        )
    rows.append(("first shown preferred", _share(p["first_preferred"], p["clear"])))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _share(value: dict[str, Any] | None, n: int) -> str:
    if value is None:
        return "nothing to tell from"
    low, high = value["interval"]
    return f"{value['share']:.1%} ({low:.1%} to {high:.1%}) of {n}"


def _seconds(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    return (
        f", median {value['median']:.1f} s (quartiles {value['lower_quartile']:.1f} to {value['upper_quartile']:.1f})"
    )


def _of_kind(kind: str, asked: Iterable[Asked], given: Iterable[tuple[Asked, Feedback]]) -> dict[str, int]:
    answers = [feedback for query, feedback in given if query.kind == kind]
    return {
        "queries": sum(query.kind == kind for query in asked),
        "answers": len(answers),
        "ties": sum(f.ranks is not None and len(set(f.ranks)) < len(f.ranks) for f in answers),
        "cannot_tell": sum(not informative(f) for f in answers),
    }


def _of_annotator(answers: Sequence[Feedback]) -> dict[str, Any]:
    seconds = quartiles([f.seconds for f in answers if f.seconds is not None])
    return {"answers": len(answers), "cannot_tell": sum(not informative(f) for f in answers), "seconds": seconds}


def _changed(history: Sequence[Vote]) -> int:
    """Answers that took the place of the same annotator's answer of before."""
    standing: set[tuple[str, str]] = set()
    changed = 0
    for vote in history:
        place = (vote.query, vote.annotator)
        changed += vote.feedback is not None and place in standing
        (standing.discard if vote.feedback is None else standing.add)(place)
    return changed
