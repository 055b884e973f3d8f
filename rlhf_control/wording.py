"""What the window, the terminal and the reports say alike: numbers of things, times, and the question."""

import math

QUESTION = "Which one does it better?"  # where the run has no better one
SUCCEEDED = "Success or failure?"
INSTRUCTIONS = {1: "How well is it done?", 2: QUESTION, 3: "Put them in order, the best first."}  # by number of clips
OF_GROUPS = "Which group does it better?"
ENDED = "ended early"  # over a clip that an end cuts short, once it is over


def counted(n: int, noun: str, plural: str = "") -> str:
    """Says how many of something there are: "1 answer", "2 answers", "1,000 steps". `plural`: where an s does not make
    it."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def question_of(clips: int, asked: str, kind: str = "") -> str:
    """Puts the question about so many clips: the run's (`asked`, may be empty), which is put for a comparison, with
    what is to be done. `kind`: of the query, where the clips do not tell it: "groups" or "success"."""
    instruction = {"groups": OF_GROUPS, "success": SUCCEEDED}.get(kind, INSTRUCTIONS[min(clips, 3)])
    if not asked or asked == QUESTION:
        return instruction
    if kind == "success":
        return f"{instruction} {asked}"
    return asked if clips == 2 else f"{instruction[:-1]}: {asked}"


def duration(seconds: float) -> str:
    """Says a time in words, as roughly as people do."""
    if seconds < 10:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds < 90:
        return f"{5 * math.ceil(seconds / 5)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
