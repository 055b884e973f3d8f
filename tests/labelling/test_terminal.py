import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rlhf_control.config.commands import LabelConfig
from rlhf_control.data import COMPARISON, GROUPS, RANKING, RATING, SUCCESS, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.labelling import terminal
from rlhf_control.labelling.session import LEAST_SECONDS, Answer
from rlhf_control.labelling.terminal import label_in_terminal, meaning, ranking
from tests.dialogues import dialogue
from tests.human_runs import make_run, say


def config(run: Path, **more: Any) -> LabelConfig:
    return LabelConfig(str(run), annotator="me", seed=0, terminal=True, **more)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the standard input a pipe with these lines."""
    with ExitStack() as stack:

        def make(*words: str) -> None:
            read, write = os.pipe()
            os.write(write, "".join(f"{word}\n" for word in words).encode())
            os.close(write)
            monkeypatch.setattr("sys.stdin", stack.enter_context(os.fdopen(read)))

        yield make


def ranks(store: FeedbackStore) -> list[Any]:
    """What was answered, as it stood on the screen; "undo" for what was taken back."""
    found: list[Any] = []
    for vote in store.votes():
        if vote.feedback is None:
            found.append("undo")
        elif vote.feedback.ranks is None:
            found.append(vote.feedback.value)
        else:
            assert vote.shown is not None
            found.append(tuple(vote.feedback.ranks[place] for place in vote.shown))
    return found


def test_lines_are_answers(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_run(tmp_path / "run")
    lines("a", "u", "d", "x", "w", "s")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(0, 1), "undo", (1, 0), (0, 0), None]
    said = capsys.readouterr().out
    assert said.count("Which one does it better?") == 5  # three questions, two of them twice
    assert f"{tmp_path}/run/clips/question-" in said and "a left   d right   w equal   s cannot tell" in said
    assert "'x' means nothing here" in said and "left is better" in said and "taken back" in said
    assert "the run has finished: no more questions" in said
    assert "votes" in said and "1 tied, 1 cannot tell, 1 undone" in said
    assert "\x1b" not in said
    seconds = [vote.feedback.seconds for vote in store.votes() if vote.feedback]
    assert all(s is not None and 0 <= s < 60 for s in seconds)


def test_rankings_and_ratings(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_run(tmp_path / "run", (RANKING, RATING, RANKING))
    lines("312", "6", "4", "3=12")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(1, 2, 0), 4.0, (0, 1, 0)]
    said = capsys.readouterr().out
    assert "Put them in order, the best first." in said and "How well is it done?" in said
    assert "1 worst ... 5 best" in said


def test_success_marks(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_run(tmp_path / "run", (SUCCESS,) * 4, question="Does it hold the block?")
    lines("y", "1", "n", "s", "u", "d")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert [mark for mark in ranks(store) if mark != "undo"] == [1.0, 0.0, None, 1.0]
    said = capsys.readouterr().out
    assert "Success or failure? Does it hold the block? (" in said and "y success   n failure   s cannot tell" in said
    assert "'1' means nothing here" in said


def test_groups_are_answered_as_two_clips_are(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_run(tmp_path / "run", (GROUPS, GROUPS, GROUPS))
    lines("12", "a", "w", "s")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    first, *others = store.votes()
    assert first.shown and first.feedback and first.feedback.ranks
    assert [first.feedback.ranks[place] for place in first.shown] == [0, 0, 1, 1]
    assert [vote.feedback and vote.feedback.ranks for vote in others] == [(0, 0, 0, 0), None]
    said = capsys.readouterr().out
    assert "Which group does it better?" in said and "'12' means nothing here: a left   d right" in said


def test_every_kind_shows_the_runs_question(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "run", (RANKING, RATING, COMPARISON), question="Which one jumps?")
    lines("312", "4", "a")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    said = capsys.readouterr().out
    assert "Put them in order, the best first: Which one jumps? (" in said
    assert "How well is it done: Which one jumps? (" in said and "\nWhich one jumps? (" in said


def test_leaving_gives_the_question_back(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_run(tmp_path / "run")
    for words in (("q",), ()):  # or the input ends
        lines(*words)
        assert label_in_terminal(config(tmp_path / "run")) == 0
        assert store.votes() == []
        assert store.tally("somebody else").elsewhere == 0


class Person(threading.Thread):
    """Types on a terminal, each key so many seconds after the question for it is there."""

    def __init__(self, terminal: int, keys: Sequence[str], output: Any, thinks: float) -> None:
        super().__init__(daemon=True)
        self.terminal, self.keys, self.output, self.thinks = terminal, keys, output, thinks
        self.seen = ""
        self.start()

    def run(self) -> None:
        for wanted, keys in self.keys:
            while wanted not in self.seen:
                time.sleep(0.02)
                self.seen += self.output()
            self.seen = ""
            time.sleep(self.thinks)
            os.write(self.terminal, keys.encode())


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    master, slave = os.openpty()
    everything: list[str] = []

    def output() -> str:
        everything.append(capsys.readouterr().out)
        return everything[-1]

    with os.fdopen(slave) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield lambda *keys, thinks=2 * LEAST_SECONDS: Person(master, keys, output, thinks)
    os.close(master)


def test_a_terminal_needs_single_keys_only(tmp_path: Path, person: Any) -> None:
    store = make_run(tmp_path / "run", (COMPARISON, COMPARISON, RANKING))
    person(
        ("u undo", "\x1b[C"), ("u undo", "\x7f"), ("u undo", "a"), ("u undo", "\x1b[A"),
        ("u undo", "13\x7f\x7f231"),
    )  # fmt: skip
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(1, 0), "undo", (0, 1), (0, 0), (2, 0, 1)]


@pytest.mark.parametrize("thinks", [0.4, 1.5, 2.5])
def test_a_ranking_is_read_from_its_first_digit_however_long_one_thinks(
    tmp_path: Path, person: Any, monkeypatch: pytest.MonkeyPatch, thinks: float
) -> None:
    monkeypatch.setattr(terminal, "RENEW_SECONDS", 1.0)
    store = make_run(tmp_path / "run", (RANKING,))
    person(("u undo", "213"), thinks=thinks)
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(1, 0, 2)]


def test_a_key_tapped_twice_answers_one_question(tmp_path: Path, person: Any) -> None:
    store = make_run(tmp_path / "run", (COMPARISON, COMPARISON))
    person(("u undo", "aa"), ("not counted", "q"))
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(0, 1)]


def test_one_may_leave_in_the_middle_of_a_ranking(tmp_path: Path, person: Any) -> None:
    store = make_run(tmp_path / "run", (RANKING,))
    person(("u undo", "21q"))
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == []


def test_waits_while_the_run_trains(tmp_path: Path, person: Any) -> None:
    store = make_run(tmp_path / "run", (), state="training", next_question=time.time() + 20)
    typist = person(("training, next question in about 20 s", "q"))
    assert label_in_terminal(config(tmp_path / "run")) == 0
    typist.join(1)
    assert not typist.is_alive()
    assert store.votes() == []


def test_a_run_that_starts_is_waited_for(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no input to read answers from"):
        label_in_terminal(config(tmp_path / "run"))
    lines("q")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"no labels.sqlite, and no run is at work there; start it"):
        label_in_terminal(config(tmp_path / "run"))
    with pytest.raises(UserError, match="does not exist; name a run's folder"):
        label_in_terminal(config(tmp_path / "nowhere"))
    say(tmp_path / "run", state="starting")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert "the run is starting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"state": "stopped"}, "go on with it by `rlhf-control resume"),
        ({"state": "failed", "message": "the disk is full"}, r"the run failed (the disk is full); your votes are kept"),
        ({"state": "finished", "message": "nothing was learned"}, "has finished (nothing was learned): no more"),
        ({"state": "training", "pid": 2**22 + 1}, "the run is gone without a word"),
    ],
)
def test_says_why_there_is_nothing_to_answer(
    tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str], status: dict[str, Any], words: str
) -> None:
    make_run(tmp_path / "run", (), **status)
    lines()
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert words in capsys.readouterr().out


def test_a_vote_that_cannot_be_written_is_asked_for_again(
    tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_run(tmp_path / "run", (COMPARISON,))
    original, failed = FeedbackStore.vote_and_claim, []

    def full(self: FeedbackStore, vote: Any, *rest: Any, **more: Any) -> Any:
        if vote is not None and not failed:
            failed.append(vote)
            raise UserError("the disk is full")
        return original(self, vote, *rest, **more)

    monkeypatch.setattr(FeedbackStore, "vote_and_claim", full)
    lines("a", "a")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(0, 1)]
    assert "this vote could not be written: the disk is full" in capsys.readouterr().out


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_gives_the_question_back(tmp_path: Path, signum: int, code: int) -> None:
    store = make_run(tmp_path / "run")
    program = (
        "import sys; from rlhf_control.errors import guarded; from rlhf_control.config.commands import LabelConfig; "
        "from rlhf_control.labelling.terminal import label_in_terminal; "
        f"sys.exit(guarded(lambda: label_in_terminal(LabelConfig({str(tmp_path / 'run')!r}, annotator='me'))))"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-u", "-c", program], text=True, **pipes) as child:
        assert child.stdout is not None and child.stdin is not None
        while "q leaves" not in child.stdout.readline():
            pass
        child.stdin.write("a\n")
        child.stdin.flush()
        while "q leaves" not in child.stdout.readline():
            pass
        assert store.tally("somebody else").elsewhere == 1
        child.send_signal(signum)
        out, error = child.communicate(timeout=60)
    assert child.returncode == code, error
    assert "Traceback" not in error and "votes" in out
    assert store.tally("somebody else").elsewhere == 0 and len(store.votes()) == 1


def test_what_keys_mean() -> None:
    assert meaning("q", 2, 5) == meaning("escape", 1, 5) == "leave"
    assert meaning("left", 2, 5) == Answer((0, 1), None, "left is better")
    assert meaning("a", 1, 5) is None and meaning("0", 1, 5) is None and meaning("²", 1, 5) is None
    assert meaning("5", 1, 5) == Answer(None, 5.0, "5 of 5")
    assert meaning("down", 4, 5) == Answer(None, None, "cannot tell")


def test_rankings() -> None:
    assert ranking("312", 3) == (1, 2, 0)
    assert ranking("3=12", 3) == (0, 1, 0)
    assert ranking("1=2=3", 3) == (0, 0, 0)
    for wrong in ("31", "3112", "314", "", "abc", "=="):
        assert ranking(wrong, 3) is None


def test_nothing_here_imports_torch_or_pygame() -> None:
    code = "import sys, rlhf_control.labelling.terminal; assert not {'torch', 'pygame'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_replies_are_read(tmp_path: Path, lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Two side by side, several and one, by the same keys."""
    store = make_run(tmp_path / "run", (), env_id="rlhf/Dialogue-v0")
    said = ["I am well.", "No.", ""]
    clips = [Segments.stack([dialogue("How are you?", reply) for reply in said[:n]]) for n in (2, 3, 1)]
    kinds = (COMPARISON, RANKING, RATING)
    store.ask([Query(0, i, "uniform", clip, kind) for i, (clip, kind) in enumerate(zip(clips, kinds, strict=True))])
    lines("a", "312", "4")
    assert label_in_terminal(config(tmp_path / "run")) == 0
    assert ranks(store) == [(0, 1), (1, 2, 0), 4.0]
    read = capsys.readouterr().out
    assert read.count("  How are you?\n") == 3 and "A (left): " in read and ": (says nothing)" in read
    assert "question-" not in read and read.count("I am well.") == 3
