"""What an annotator has done in a session: the facts of the last page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_control.data import RANKED, RATING, SUCCESS, Feedback
from rlhf_control.feedback.agreement import agreement, consistency, position, quartiles
from rlhf_control.feedback.schema import Asked
from rlhf_control.feedback.store import in_force
from rlhf_control.labelling.session import Session


@dataclass(frozen=True)
class Fact:
    """Holds one line of the summary."""

    name: str
    value: str
    note: str = ""  # what to make of it


def summary(session: Session) -> list[Fact]:
    """Tells how the session went, and how far this annotator's answers on the run can be trusted."""
    asked, votes = {query.key: query for query in session.store.asked()}, in_force(session.store.votes()).values()
    all_given = [(asked[vote.query], vote.feedback) for vote in votes if vote.feedback is not None]
    mine = [vote for vote in votes if vote.annotator == session.annotator]
    own = [(query, feedback) for query, feedback in all_given if feedback.annotator == session.annotator]
    shared = {vote.query for vote in mine}
    facts = [
        _count(session), _speed(session), _consistency(consistency(own)),
        _position(position([(asked[vote.query], vote) for vote in mine])),
        _agreement([(query, feedback) for query, feedback in all_given if query.key in shared]),
    ]  # fmt: skip
    return [fact for fact in facts if fact is not None]


def summary_text(facts: Sequence[Fact]) -> str:
    """Returns the summary as lines for a terminal."""
    width = max(len(fact.name) for fact in facts)
    return "\n".join(f"{f.name:<{width}}  {f.value}{f'  ({f.note})' if f.note else ''}" for f in facts)


def _count(session: Session) -> Fact:
    n = len(session.done)
    cannot = sum(a.seen is None and a.value is None for a in session.done)
    ties = sum(a.seen is not None and len(set(a.seen)) < len(a.seen) for a in session.done)
    parts = [f"{k} {word}" for k, word in ((ties, "tied"), (cannot, "cannot tell"), (session.undone, "undone")) if k]
    return Fact("votes", str(n), ", ".join(parts))


def _speed(session: Session) -> Fact | None:
    q = quartiles([answered.seconds for answered in session.done])
    if q is None:
        return None
    return Fact(
        "seconds a vote", f"{q['median']:.1f}", f"half between {q['lower_quartile']:.1f} and {q['upper_quartile']:.1f}"
    )


def _consistency(c: Mapping[str, Any]) -> Fact:
    if not c["repeats"]:
        return Fact("asked again", "none yet", "a few pairs come twice")
    same = round(c["same"]["share"] * c["repeats"])
    low, high = c["same"]["interval"]
    note = f"{c['same']['share']:.0%}; 95 % interval {low:.0%} to {high:.0%}"
    return Fact("same answer when asked again", f"{same} of {c['repeats']}", note)


def _position(p: Mapping[str, Any]) -> Fact:
    first = p["first_preferred"]
    if first is None:
        return Fact("left clip preferred", "no clear answers yet")
    low, high = first["interval"]
    lean = "no sign of a habit" if low <= 0.5 <= high else f"leans {'left' if low > 0.5 else 'right'}: sides are random"
    return Fact("left clip preferred", f"{first['share']:.0%} of {p['clear']}", lean)


def _agreement(given: Sequence[tuple[Asked, Feedback]]) -> Fact | None:
    """With the other annotators, about what this one judged too. The kind with the most to tell."""
    found = [a for kind in (*RANKED, RATING, SUCCESS) if (a := agreement([(q, f) for q, f in given if q.kind == kind]))]
    if not found:
        return None
    best = max(found, key=lambda a: a["items"])
    kappa = "undefined" if best["kappa"] is None else f"{best['kappa']:.2f}"
    return Fact("agreement with others", f"kappa {kappa}", f"{best['items']} judged by {best['annotators']} annotators")
