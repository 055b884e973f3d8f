"""What the voting window knows: the run, the question, the clips, what the person has chosen, what was said last. The
controller changes it; what the person does is understood, and what is on the screen is drawn, by what stands here."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_control.config.commands import LabelConfig
from rlhf_control.labelling.session import LEAST_SECONDS, Session
from rlhf_control.labelling.summary import Fact
from rlhf_control.runs.status import Status
from rlhf_control.viewer.kit.clip_buffer import ClipBuffer
from rlhf_control.viewer.vote.ballot import Ballot
from rlhf_control.viewer.vote.keys import GROUPS
from rlhf_control.viewer.vote.poll import Polled

NOTICE_SECONDS = 4.0


@dataclass(eq=False)
class VotingState:
    """Times are `time.perf_counter`'s, in s."""

    config: LabelConfig
    run: Path
    opened: float = field(default_factory=time.perf_counter)
    now: float = field(default_factory=time.perf_counter)  # of this frame
    before: float = field(default_factory=time.perf_counter)  # of the frame before: what is handled came since then
    touched: float = field(default_factory=time.perf_counter)  # the last key or movement
    # The run
    session: Session | None = None
    environment: Status | None = None  # of the clips; checked once, and used ever after
    buffer: ClipBuffer | None = None
    polled: Polled | None = None
    trouble: str = ""  # why the store cannot be read
    # The question
    ballot: Ballot | None = None  # of the question before the annotator
    saving: bool = False  # an answer or an undo is on its way to the disk
    choosing: bool = False  # the next key says which clip the person will do better
    # What the person has chosen
    speed: float = 1.0
    camera: int = 0
    sound: bool = False
    help: bool = False
    away: bool = False
    going: bool = True
    # What was said last
    flash: tuple[str, float] = ("", 0.0)  # the last answer's action, and when
    last: str = ""  # the last answer in words
    expected: str = ""  # what the model expected there, in words
    notice: tuple[str, float] = ("", 0.0)  # and until when
    facts: tuple[Fact, ...] = ()  # of the summary
    summary_since: float | None = None  # the person wants to leave and reads it

    def say(self, notice: str, seconds: float = NOTICE_SECONDS) -> None:
        """Shows a word to the person for so long."""
        self.notice = (notice, self.now + seconds)

    def answerable(self) -> bool:
        """Tells whether the question was on the screen before what is handled now was pressed, and for long enough, and
        the last answer is on the disk."""
        return self.ballot is not None and self.ballot.seen(self.before) and not self.saving

    def problem_read(self) -> bool:
        """Tells whether the person has had the time to read why the clips are not there."""
        return self.ballot is not None and self.before - self.ballot.came >= LEAST_SECONDS and not self.saving

    def problem(self) -> str:
        """Says why this question's clips can never be shown, or ""."""
        if self.ballot is None or self.buffer is None:
            return ""
        return self.buffer.problem(self.ballot.question.clips)

    def frames(self) -> int:
        """Counts the frames of the question's longest clip; 1 while none is drawn."""
        if self.ballot is None or self.buffer is None:
            return 1
        clips = [self.buffer.frames(digest) for digest in self.ballot.question.clips]
        return max((len(frames) for frames in clips if frames is not None), default=1)

    def cameras(self) -> Sequence[str]:
        """Names the cameras; empty while they are not known."""
        return self.buffer.clips.cameras() if self.buffer is not None else []

    def correctable(self) -> bool:
        """Tells whether the clips can be gone on from: whether the environment has keys is seen when somebody tries."""
        grouped = self.ballot is not None and self.ballot.mode == GROUPS  # a key says which group there
        return self.polled is not None and self.polled.states and not grouped

    def undoable(self) -> bool:
        """Tells whether there is a vote to take back."""
        return bool(self.session and self.session.done)
