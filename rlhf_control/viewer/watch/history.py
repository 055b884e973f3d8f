"""What a run's store holds, as one looks through it: every question with its clips' names and its votes in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_control.data import RANKED
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import Asked, Vote
from rlhf_control.feedback.store import FeedbackStore

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Told:
    """Holds one vote in words."""

    annotator: str
    answer: str
    best: tuple[int, ...]  # places in the query of the clips that it prefers
    seconds: float | None
    shown: str  # how the clips stood before the annotator
    time: float  # Unix
    fate: str  # "" if it counts, else "taken back" or "replaced"


@dataclass(frozen=True)
class History:
    """Holds all questions in the order of asking, and the history of each."""

    asked: tuple[Asked, ...]
    votes: dict[str, list[Vote]]  # by key

    def find(self, wanted: str) -> int:
        """Returns the place of a question, given its number (from 1) or the beginning of its key; the last one for "".
        Raises UserError."""
        if not wanted:
            return max(0, len(self.asked) - 1)
        if wanted.isdecimal() and 1 <= int(wanted) <= len(self.asked):
            return int(wanted) - 1
        found = [i for i, asked in enumerate(self.asked) if asked.key.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        many = "several questions" if found else "no question"
        raise UserError(
            f"{many} with the number or key '{wanted}'; give a number from 1 to {len(self.asked)}, or more of the key"
        )


def read_history(store: FeedbackStore) -> History:
    votes: dict[str, list[Vote]] = {}
    for vote in store.votes():
        votes.setdefault(vote.query, []).append(vote)
    return History(tuple(store.asked()), votes)


def stamp(store: FeedbackStore) -> tuple[int, int]:
    """Returns what differs when the store's file was written to."""
    try:
        facts = Path(store.path).stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size


def told(asked: Asked, history: Sequence[Vote]) -> list[Told]:
    """Tells the votes on a question in their order; an undo is no line of its own but the fate of the one it took
    back."""
    lines: list[Told] = []
    standing: dict[str, int] = {}  # annotator -> line
    for vote in history:
        before = standing.pop(vote.annotator, None)
        if before is not None:
            old = lines[before]
            fate = "taken back" if vote.feedback is None else "replaced"
            lines[before] = Told(old.annotator, old.answer, old.best, old.seconds, old.shown, old.time, fate)
        if vote.feedback is not None:
            standing[vote.annotator] = len(lines)
            words, best = answer(asked, vote)
            lines.append(Told(vote.annotator, words, best, vote.feedback.seconds, order(vote), vote.time, ""))
    return lines


def answer(asked: Asked, vote: Vote) -> tuple[str, tuple[int, ...]]:
    """Returns a vote in words, and which clips it prefers."""
    feedback = vote.feedback
    if feedback is None or (feedback.ranks is None and feedback.value is None):
        return "cannot tell", ()
    if asked.kind not in RANKED:
        return f"{feedback.value:g}", ()
    ranks = feedback.ranks or ()
    best = tuple(i for i, rank in enumerate(ranks) if rank == 0)
    if len(best) == len(ranks):
        return "equally good", ()
    if len(ranks) == 2:
        return f"{LETTERS[best[0]]} is better", best
    groups = [[LETTERS[i] for i, rank in enumerate(ranks) if rank == place] for place in sorted(set(ranks))]
    return " > ".join(" = ".join(group) for group in groups), best


def order(vote: Vote) -> str:
    """Tells how the clips stood before the annotator, from the left."""
    places = vote.shown or ()
    return " ".join(LETTERS[place] for place in places) if len(places) > 1 else ""
