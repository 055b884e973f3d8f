"""A question's clips side by side as a video file, for those who vote without a window."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from rlhf_control.data import GROUPS, Array
from rlhf_control.errors import UserError
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.labelling.session import Question, Session
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.rendering.text import NOTHING, is_dialogue, said
from rlhf_control.rendering.video import caption, side_by_side, write_video
from rlhf_control.runs.status import Status, read_status, trusted_environment
from rlhf_control.wording import ENDED

SIDE = 320  # pixels of a clip
HOLD_SECONDS = 0.6  # on the last frame
TIMES = 3  # that a video plays the clips: most players stop at the end


class VideoStudio:
    """Writes the video of a question, and meanwhile that of the next one, in a thread of its own."""

    def __init__(self, run: Path, session: Session, speed: float, env_id: str = "") -> None:
        """Prepares the thread. `env_id`: see `files.refuse_module`."""
        self.run, self.session, self.speed, self.env_id = run, session, speed, env_id
        self.renderer: ClipRenderer | None = None
        self._thread = ThreadPoolExecutor(1)
        self._videos: dict[str, Future[Path]] = {}

    @property
    def notice(self) -> str:
        """Says why clips are plain drawings, where they are."""
        return self.renderer.notice if self.renderer is not None else ""

    def video(self, question: Question) -> Path:
        """Returns the file with the question's clips. Raises UserError if they cannot be drawn or written."""
        try:
            path = self._ordered(question).result()
        except Exception:
            self._videos.pop(question.key)  # what was in the way may be gone when it is asked for again
            raise
        for following in self.session.upcoming(2):
            self._ordered(following)
        return path

    def words(self, question: Question) -> str:
        """Returns what is to be read instead, where clips are text: what was said, and the replies; else ""."""
        if not is_dialogue(self._environment().env_id):
            return ""
        clips = self.session.store.segments(question.clips)
        both = [said(clips[digest]) for digest in question.clips]
        heads = [f"{name}: " * bool(name) for name in names(question.kind, len(both))]
        prompts = {prompt for prompt, _ in both}
        before = [f"  {prompt}" for prompt, _ in both[: len(prompts) == 1]]
        replies = [f"{head}{reply or NOTHING}" for head, (_, reply) in zip(heads, both, strict=True)]
        if not before:  # of gold and corrections, it may be others
            replies = [f"{head}{prompt} - {reply}" for head, (prompt, reply) in zip(heads, both, strict=True)]
        return "\n".join([*before, *(f"    {line}" for line in replies)])

    def forget(self, question: Question) -> None:
        """Removes the file of a question that is answered."""
        made = self._videos.pop(question.key, None)
        if made is not None:
            made.cancel()
            with suppress(Exception):
                made.result().unlink(missing_ok=True)

    def __enter__(self) -> "VideoStudio":
        return self

    def __exit__(self, *_: object) -> None:
        for made in self._videos.values():
            made.cancel()
        if self.renderer is not None:
            self._thread.submit(self.renderer.close)  # where it was made
        self._thread.shutdown()
        for made in self._videos.values():
            with suppress(BaseException):
                made.result().unlink(missing_ok=True)

    def _ordered(self, question: Question) -> Future[Path]:
        if question.key not in self._videos:
            self._videos[question.key] = self._thread.submit(self._make, question)
        return self._videos[question.key]

    def _make(self, question: Question) -> Path:
        status = self._environment()
        if self.renderer is None:
            self.renderer = ClipRenderer(status.env_id, status.env)
        clips = self.session.store.segments(question.clips)
        drawn = [self.renderer.draw(clips[digest], SIDE, SIDE) for digest in question.clips]
        steps, longest = max((len(clips[digest]), len(f)) for digest, f in zip(question.clips, drawn, strict=True))
        fps, shown = longest / (steps * status.step_seconds) * self.speed, []
        for frames, name in zip(drawn, names(question.kind, len(question.clips)), strict=True):
            if question.asked.strategy == EARLY_END and len(frames) < longest:
                dark = held(ended(frames, longest), fps)
                shown.append(caption(dark, name, [""] * len(frames) + [ENDED] * (len(dark) - len(frames))))
            else:
                shown.append(caption(held(frames, fps), name))
        path = self.run / "clips" / f"question-{os.getpid()}-{question.key[:12]}.mp4"
        write_video(path, np.concatenate([side_by_side(shown)] * TIMES), fps)
        return path.resolve()

    def _environment(self) -> Status:
        status = trusted_environment(self.run, read_status(self.run), self.env_id)
        if status is None:
            raise UserError(f"{self.run} does not say what environment its clips are of (no status.json)")
        return status


def ended(frames: Array, length: int) -> Array:
    """Returns the clip, of this length, (length, H, W, 3): once it is over, it is dark."""
    dark = (frames[-1:] * 0.35).astype(np.uint8)
    return np.concatenate([frames, np.repeat(dark, max(0, length - len(frames)), axis=0)])


def held(frames: Array, fps: float) -> Array:
    """Returns the clip, standing on its last frame for a moment."""
    return np.concatenate([frames, np.repeat(frames[-1:], max(1, round(HOLD_SECONDS * fps)), axis=0)])


def names(kind: str, clips: int) -> Sequence[str]:
    """Returns what is written over each clip: what is typed to choose it, where something is."""
    if kind == GROUPS:
        return ["A (left group)"] * (clips // 2) + ["D (right group)"] * (clips // 2)
    return {1: [""], 2: ["A (left)", "D (right)"]}.get(clips, [str(i + 1) for i in range(clips)])
