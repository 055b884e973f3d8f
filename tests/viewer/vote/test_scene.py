from pathlib import Path

import numpy as np
import pytest

from rlhf_control.data import Query, Segments
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.status import write_status
from rlhf_control.viewer.vote import controller as controller_module
from rlhf_control.viewer.vote.scene import bar_of, page_of, pictures_of, scene_of
from tests.conftest import random_segments
from tests.fake_clips import FakeClips, painted
from tests.voting import a_status, at_the_window, make_run


def test_the_bar_tells_what_is_always_visible(tmp_path: Path) -> None:
    run = make_run(tmp_path, 5, status=a_status("waiting"))
    with at_the_window(run) as person:
        assert bar_of(person.state).goal == 0  # nothing is known yet
        person.ready()
        assert bar_of(person.state).pace == ""
        person.vote("left")
        person.ready()
        person.until(lambda: bar_of(person.state).done == 1)
        bar = bar_of(person.state)
        assert (bar.goal, bar.line, bar.mood) == (20, "the run waits for 4 more answers", "good")
        assert "votes a minute, about" in bar.pace and bar.pace.endswith("left")
        write_status(run, a_status("failed", message="NaN"))
        person.until(lambda: bar_of(person.state).mood == "bad")
        assert bar_of(person.state).pace.endswith("a minute")  # nobody knows how much is left


@pytest.mark.parametrize("size", ["1280x720", "2560x1440"])
def test_every_state_has_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """Also the pictures to look at: they are kept where RLHF_CONTROL_SHOTS says."""
    run = make_run(tmp_path, 2)
    clips = FakeClips(lazy=True)
    with at_the_window(run, size, clips) as person:
        assert page_of(person.state).name == "opening"
        person.controller.step()
        person.shot(f"opening-{size}")
        person.until(lambda: person.state.ballot is not None)
        person.rest(0.1)
        person.shot(f"drawing-{size}")
        clips.draw()
        person.ready()
        person.shot(f"comparison-{size}")
        person.state.touched -= controller_module.AWAY_SECONDS + 1
        person.controller.step()
        assert page_of(person.state).name == "away"
        person.shot(f"away-{size}")
        person.press("space")
        for _ in range(2):
            person.until(lambda: (clips.draw(), person.state.answerable())[1])
            person.vote("right")
            person.shot(f"flash-{size}")
        for state, name in {
            "training": "waiting", "starting": "starting", "stopped": "stopped", "failed": "failed",
            "finished": "finished",
        }.items():  # fmt: skip
            write_status(run, a_status(state, message="obs is not finite in environment 3"))
            person.until(lambda name=name: page_of(person.state).name == name)  # type: ignore[misc]
            person.rest(0.1)
            person.shot(f"{name}-{size}")
        write_status(run, a_status("training", pid=2**22 + 1))
        person.until(lambda: page_of(person.state).name == "lost")
        person.press("escape")
        person.until(lambda: page_of(person.state).name == "summary")
        person.rest(0.1)
        person.shot(f"summary-{size}")


def test_a_clip_that_an_end_cuts_short_stands_dark_once_it_is_over(tmp_path: Path) -> None:
    """Both run at the same speed; in other questions a shorter clip fills the time, and never is."""
    whole = random_segments(np.random.default_rng(1), 2, 20)
    for name, strategy in (("end", EARLY_END), ("gold", "gold")):
        (tmp_path / name).mkdir()
        run = make_run(tmp_path / name, 0)
        short = Query(0, 0, strategy, Segments.stack([whole[0][-8:], whole[1]]))
        FeedbackStore(run / "labels.sqlite").ask([short])
        digest, clips = whole[0][-8:].digest(), FakeClips()
        clips.drawn[digest] = painted(digest)[:8]
        with at_the_window(run, clips=clips) as person:
            person.ready()
            ballot = person.state.ballot
            assert ballot is not None and ballot.playback.length == pytest.approx(20 * a_status().step_seconds)
            ballot.playback.paused = True
            place = ballot.question.clips.index(digest)
            for frame, over in ((0, False), (7, False), (8, True), (19, True)):
                ballot.playback.at = (frame + 0.5) * ballot.playback.length / 20
                frames = pictures_of(person.state, ballot)[1]
                short = min(frame, 7) if strategy == EARLY_END else int((frame + 0.5) / 20 * 8)
                assert (frames[place], frames[1 - place]) == (short, frame)
                scene = scene_of(person.state, ballot, frames, "")
                assert scene.over[place] == (over and strategy == EARLY_END) and not scene.over[1 - place]
            person.controller.step()
            person.shot(f"cut-short-{name}")
