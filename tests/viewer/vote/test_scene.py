from pathlib import Path

import pytest

from rlhf_control.runs.status import write_status
from rlhf_control.viewer.vote import controller as controller_module
from rlhf_control.viewer.vote.scene import bar_of, page_of
from tests.fake_clips import FakeClips
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
