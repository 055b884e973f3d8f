"""What is known about a run's labels: who gave how many of which kind, how fast, and how far they can be trusted."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config.commands import LabelsConfig
from rlhf_control.data import KINDS, SUCCESS, Feedback
from rlhf_control.errors import UserError
from rlhf_control.feedback.agreement import JUDGED, agreement, consistency, position, quartiles
from rlhf_control.feedback.export import export_labels, import_labels, import_pairs
from rlhf_control.feedback.schema import Asked, Vote
from rlhf_control.feedback.store import FeedbackStore, in_force, informative
from rlhf_control.interop.lerobot_datasets import PREFIX as LEROBOT
from rlhf_control.interop.lerobot_datasets import export_to_lerobot
from rlhf_control.interop.minari_datasets import PREFIX as MINARI
from rlhf_control.interop.minari_datasets import export_to_minari
from rlhf_control.interop.preference_pairs import load_pairs
from rlhf_control.runs.files import load_state
from rlhf_control.runs.run import Run
from rlhf_control.spaces import Spaces
from rlhf_control.wording import counted


def labels(config: LabelsConfig) -> str:
    """Returns the card of a run's store, as text or JSON, after importing and exporting what is asked for."""
    path = Path(config.run)
    if config.load and not Path(config.load).exists():
        raise UserError(f"nothing to load at {config.load}; give the folder of an export, or a file of pairs")
    path = path / "labels.sqlite" if path.is_dir() else path.resolve()
    new = not path.exists()
    if new and config.load and path.suffix != ".sqlite":
        raise UserError(f"no run at {config.run}; to load into a new store, name it labels.sqlite, say")
    if config.export and (Path(config.export) / "config.json").is_file():
        raise UserError(f"{config.export} is a run's folder; name another one for the export")
    try:
        store = FeedbackStore(path, create=bool(config.load))
        if config.load:
            before = len(store.asked()), len(store.votes())
            if Path(config.load).is_dir():
                import_labels(store, config.load)
            else:
                import_pairs(store, load_pairs(config.load, spaces_of(path.parent)))
            queries, votes = len(store.asked()) - before[0], len(store.votes()) - before[1]
            _tell(f"loaded {queries} new queries and {votes} new votes from {config.load} into {path}")
    except BaseException:
        if new:  # a store that nothing came into
            path.unlink(missing_ok=True)
        raise
    if config.export:
        kind, _, place = config.export.partition(":")
        if f"{kind}:" == MINARI:
            export_to_minari(store, place, spaces_of(path.parent))
        elif f"{kind}:" == LEROBOT:
            export_to_lerobot(store, place, spaces_of(path.parent), *asked_of(path.parent, store))
        else:
            export_labels(store, config.export)
        _tell(f"exported {len(store.asked())} queries and {len(store.votes())} votes to {config.export}")
    card = data_card(store)
    for name, trust in learned_trust(Path(config.run)).items():
        if name in card["annotators"]:
            card["annotators"][name]["trust"] = trust
    return json.dumps(card) if config.json else card_text(card)


def spaces_of(folder: Path) -> Spaces | None:
    """Returns the spaces of the run in this folder; None if there is no run."""
    from rlhf_control.nets.zoo import CAME_IN  # torch takes seconds

    came_in = folder / CAME_IN
    return Spaces.from_state(load_state(came_in)["spaces"]) if came_in.is_file() else None


def asked_of(folder: Path, store: FeedbackStore) -> tuple[str, int]:
    """Returns what the run in this folder asks, in words, and its steps a second; a plain question and 30 if there is
    no run."""
    question, fps, asked = "Which is better?", 30, store.asked()
    if (folder / "config.json").is_file() and asked:
        config = Run.open(folder).config()[1]
        behaviour = BEHAVIOURS.get(config.behaviour())
        question = config.question or (behaviour.question if behaviour else question)
        (clip,) = store.segments(asked[0].clips[:1]).values()
        fps = max(1, round(len(clip) / config.clip_seconds))
    return question, fps


def _tell(text: str) -> None:
    """What was done, beside what is printed for programs to read."""
    print(f"rlhf-control: {text}", file=sys.stderr)


def data_card(store: FeedbackStore) -> dict[str, Any]:
    """Returns all that the store says about its labels, as plain numbers; None where there is nothing to tell from."""
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


def card_text(card: dict[str, Any]) -> str:
    """Returns the data card as a table."""
    rows = [
        ("queries", f"{card['queries']}, of which {card['answered']} answered"),
        ("answers", f"{card['answers']}, of which {card['labels']} say something"),
        ("changed, undone", f"{card['changed']}, {card['undone']}"),
    ]
    for kind, n in card["kinds"].items():
        asked, given = counted(n["queries"], "query", "queries"), counted(n["answers"], "answer")
        said = counted(n["successes"], "success", "successes") if kind == SUCCESS else counted(n["ties"], "tie")
        rows.append((kind, f"{asked}, {given}, {said}, {n['cannot_tell']} cannot tell"))
    for name, n in card["annotators"].items():
        given = counted(n["answers"], "answer")
        trust = f", trust {n['trust']:.2f}" if "trust" in n else ""
        rows.append((f"by {name}", f"{given}, {n['cannot_tell']} cannot tell{_seconds(n['seconds'])}{trust}"))
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


def learned_trust(run: Path) -> dict[str, float]:
    """Returns how far the run's reward model trusts each annotator, by name, from -1 (says the opposite) to 1; empty
    where it had no cause to doubt: no run, no model yet, one annotator."""
    path = run / "reward.npz"
    return dict(load_state(path).get("trust", {})) if path.is_file() else {}


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
    } | ({"successes": sum(f.value == 1 for f in answers)} if kind == SUCCESS else {})


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
