"""`rlhf-control label RUN`: the window in which a person votes on a run's questions."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf_control.config.commands import LabelConfig
from rlhf_control.errors import Stopped, UserError
from rlhf_control.labelling.session import Session
from rlhf_control.labelling.summary import summary, summary_text
from rlhf_control.labelling.window_process import seat
from rlhf_control.runs.status import alive, read_status, trusted_environment
from rlhf_control.viewer.kit.clip_buffer import Clips
from rlhf_control.viewer.kit.window import NoDisplayError, Window, display_problem, when_display_vanishes
from rlhf_control.viewer.vote.controller import VotingController

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def label(config: LabelConfig) -> int:
    """Opens the window until the person leaves; without a display, asks on the terminal."""
    run = Path(config.run)
    check_run(run, config.env_id)
    with seat(run, config.annotator):
        if config.terminal or display_problem():
            return on_terminal(config, display_problem())
        try:
            window = Window(f"rlhf-control: vote on {run.name}", config.width_and_height())
        except NoDisplayError as error:
            return on_terminal(config, str(error))
        with window:
            return vote_in(window, config, run)


def check_run(run: Path, env_id: str) -> None:
    """Raises UserError for a folder in which there will never be a question, or whose environment is not to be
    trusted (`files.refuse_module`)."""
    if not run.is_dir():
        raise UserError(f"{run} is not a run's folder; name one, such as runs/NAME, as finetune prints it")
    status = read_status(run)
    if not (run / "labels.sqlite").is_file() and not (status is not None and alive(status)):
        raise UserError(f"{run} has no labels.sqlite and nothing runs there; start one with finetune --oracle human")
    trusted_environment(run, status, env_id)


def on_terminal(config: LabelConfig, why: str) -> int:
    from rlhf_control.labelling.terminal import label_in_terminal

    if why and not config.terminal:
        print(f"{why}: voting on the terminal")
    return label_in_terminal(config)


def vote_in(window: Window, config: LabelConfig, run: Path) -> int:
    """Runs the loop, and all that ends it."""
    controller = VotingController(window, config, run, open_clips)
    caught: list[int] = []

    def note(number: int) -> None:
        caught.append(number)
        window.interrupt()

    try:
        with signals(note), when_display_vanishes(controller.settle):
            while controller.step() and not caught:
                window.tick()
    finally:
        window.close()  # first: nobody should wait for the disk before a window that does not answer
        session = controller.close()
    if session is not None and (session.done or session.undone):
        say_summary(session)
    if caught:
        raise Stopped(caught[0], "every vote is saved")
    return 0


def open_clips(run: Path, env_id: str, env: Mapping[str, Any]) -> Clips:
    from rlhf_control.rendering.cache import ClipCache

    return ClipCache(run, env_id, env)


def say_summary(session: Session) -> None:
    """Prints the summary on the terminal from which the window was opened."""
    try:
        print(summary_text(summary(session)))
    except UserError as error:  # the votes are safe, only their figures are missing
        print(f"no summary: {error}")


@contextmanager
def signals(caught: Callable[[int], None]) -> Iterator[None]:
    """Sees to it that, within, a signal that would end the process is only noted."""
    before = {number: signal.signal(number, lambda which, _: caught(which)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
