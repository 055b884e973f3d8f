"""Runs that people answer: here, scripts that claim and vote through the store as the window does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlhf_control import train
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, PretrainConfig, QueryConfig
from rlhf_control.data import CORRECTION, Feedback, Query, Rollout, Segments
from rlhf_control.errors import Stopped, UserError
from rlhf_control.feedback.export import export_labels
from rlhf_control.feedback.schema import EARLY_END, query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.labelling.window_process import WindowProcess
from rlhf_control.runs.checkpoints import checkpoint_path
from rlhf_control.runs.files import load_state
from rlhf_control.runs.run import Run
from rlhf_control.runs.status import Status, alive, read_status
from rlhf_control.simulation.double_buffer import DoubleBufferedEnvs
from rlhf_control.training.people import PREDICTIONS, Host
from tests.annotators import annotate, annotators, ranks_of, vote
from tests.conftest import TINY_REWARD, random_segments

TIMES = {"wall_seconds", "steps_per_second", "reward/fit_seconds"}


@pytest.fixture
def human_config(tiny_config: FinetuneConfig) -> FinetuneConfig:
    """Eight iterations; rounds of 6, 3 and 3 questions in the iterations 0, 1 and 3."""
    return replace(tiny_config, oracle="human", window=False, checkpoint_seconds=1000)


def rows_without_times(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in run.metrics()]


def assert_same_run(a: Run, b: Run) -> None:
    states = [find_policy(run.path).state_dict() for run in (a, b)]
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name].numpy(), states[1][name].numpy())
    assert rows_without_times(a) == rows_without_times(b)


def wait_for(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(config: FinetuneConfig) -> subprocess.Popen:
    code = (
        "import json, sys; from rlhf_control.cli import guarded; from rlhf_control import *;"
        "from rlhf_control.config.checks import from_dict; from pathlib import Path;"
        "config = from_dict(FinetuneConfig, json.loads(sys.argv[1]));"
        "go = lambda: resume(config.out) if Path(config.out, 'config.json').exists() else finetune(config);"
        "sys.exit(guarded(lambda: go() and None))"
    )
    values = json.dumps(asdict(config))
    return subprocess.Popen([sys.executable, "-c", code, values], stderr=subprocess.PIPE, text=True)


def state_of(run: Path) -> str:
    status = read_status(run)
    return status.state if status else ""


def votes_in(run: Path) -> int:
    return len(FeedbackStore(run / "labels.sqlite").votes())


# -- blocking


def test_a_blocking_run_waits_and_learns(human_config: FinetuneConfig, capsys: pytest.CaptureFixture[str]) -> None:
    path, seen = Path(human_config.out), list[Status]()

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        wait_for(lambda: state_of(path) == "waiting")
        status = read_status(path)
        assert status is not None and alive(status)
        seen.append(status)
        vote(store, key, query, "ann")

    with annotators(path, "ann", act=act):
        run = train.finetune(replace(human_config, score="backward"))
    assert [row["labels"] for row in run.metrics()] == [6, 9, 9, 12, 12, 12, 12, 12]
    assert {"score", "true_reward"} <= run.metrics()[0].keys()
    assert seen[0].question == "Which cheetah runs backward better?" and seen[0].wanted == 12
    assert seen[0].env_id == "HalfCheetah-v5" and seen[0].step_seconds == 0.05 and seen[0].labelling == "blocking"
    assert [status.answers for status in seen] == sorted(status.answers for status in seen)
    assert state_of(path) == "finished"
    said = capsys.readouterr().err.splitlines()[1:]  # the first says the hyperparameters
    assert said == [
        f"rlhf-control: no window was opened; the run waits for {n} answers: rlhf-control label {path}"
        for n in (6, 3, 3)
    ]
    expected = [json.loads(line) for line in (path / "predictions.jsonl").read_text().splitlines()]
    asked = FeedbackStore(path / "labels.sqlite").asked()
    assert [line["key"] for line in expected] == [query.key for query in asked[6:]]  # the first without a model
    assert all(0 <= line["probability_first"] <= 1 for line in expected)


def test_a_hold_is_told_to_the_windows(human_config: FinetuneConfig) -> None:
    """All along, and at the end that nothing was learned."""
    path, seen = Path(human_config.out), list[bool]()

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        status = read_status(path)
        seen.append(status is not None and status.holding)
        store.vote(key, Feedback(None, "ann"))

    with annotators(path, "ann", act=act):
        train.finetune(replace(human_config, guard=GuardConfig()))
    status = read_status(path)
    assert not seen[0] and seen[-1] and status is not None and status.holding
    assert status.state == "finished" and status.message.startswith("nothing was learned")


def test_without_a_behaviour_nothing_of_the_truth_is_reported(human_config: FinetuneConfig) -> None:
    with annotators(Path(human_config.out), "ann"):
        run = train.finetune(human_config)
    assert not {"score", "true_reward"} & run.metrics()[-1].keys()
    status = read_status(run.path)
    assert status is not None and status.question == "Which one does it better?" and status.answers == 12


def fickle(name: str) -> object:
    """Undoes and answers the other way round, now and then, also what was asked in earlier rounds."""
    done: list[tuple[str, Query]] = []

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        vote(store, key, query, name)
        done.append((key, query))
        if len(done) == 3:
            store.undo(done[0][0], name)
            vote(store, *done[0], name)
        if len(done) == 8:
            old, of_before = done[1]
            store.vote(old, Feedback(tuple(1 - r for r in ranks_of(of_before)), name))

    return act


def test_replay_is_bit_equal(human_config: FinetuneConfig, tmp_path: Path) -> None:
    config = replace(human_config, query=QueryConfig(repeat_share=0.2))
    with annotators(Path(config.out), "ann", act=fickle("ann")):  # type: ignore[arg-type]
        run = train.finetune(config)
    assert votes_in(run.path) == 12 + 2 + 1
    again = train.finetune(replace(config, out=str(tmp_path / "again"), replay=config.out))
    assert_same_run(again, run)
    assert not (again.path / "status.json").exists()
    (again.path / "policy.npz").unlink()
    checkpoint_path(again.path, 8).unlink()
    assert_same_run(train.resume(again.path), run)
    changed = replace(config, out=str(tmp_path / "changed"), replay=config.out, seed=1)
    with pytest.raises(UserError, match=r"seed 0 \(here 1\)"):
        train.finetune(changed)
    with pytest.raises(UserError, match="not a run's folder"):
        train.finetune(replace(changed, replay=str(tmp_path)))
    assert not (tmp_path / "changed").exists()


def test_an_oracles_run_can_be_replayed_too(tiny_config: FinetuneConfig, tmp_path: Path) -> None:
    run = train.finetune(tiny_config)
    assert_same_run(train.finetune(replace(tiny_config, out=str(tmp_path / "again"), replay=str(run.path))), run)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_waiting_stops_at_once_and_resumes_bit_equal(
    human_config: FinetuneConfig, tmp_path: Path, signum: int
) -> None:
    with annotators(Path(human_config.out), "ann"):
        whole = train.finetune(human_config)
    cut = replace(human_config, out=str(tmp_path / "cut"))
    stopped_at = list[float]()

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        vote(store, key, query, "ann")
        if len(store.votes()) == 8:  # in the second round
            stopped_at.append(time.monotonic())
            os.kill(os.getpid(), signum)
            time.sleep(1)

    with annotators(Path(cut.out), "ann", act=act), pytest.raises(Stopped, match="resume") as stopped:
        train.finetune(cut)
    assert stopped.value.exit_code == 128 + signum
    assert state_of(tmp_path / "cut") == "stopped"
    assert Run.open(cut.out).load_checkpoint()[0] == 1  # the state before the round that it waited in
    asked = [query.key for query in FeedbackStore(tmp_path / "cut" / "labels.sqlite").asked()]
    given = votes_in(tmp_path / "cut")
    assert len(asked) == 9 and 8 <= given <= 9
    with annotators(Path(cut.out), "ann"):
        again = train.resume(cut.out)
    assert_same_run(again, whole)
    assert votes_in(again.path) == 12


def test_kill_9_while_waiting_loses_no_vote(human_config: FinetuneConfig, tmp_path: Path) -> None:
    with annotators(Path(human_config.out), "ann"):
        whole = train.finetune(human_config)
    config, path = replace(human_config, out=str(tmp_path / "killed")), tmp_path / "killed"
    for votes in (4, 7):
        process = start(config)
        wait_for(lambda: state_of(path) == "waiting" and alive(read_status(path)))  # type: ignore[arg-type]
        annotate(path, "ann", lambda enough=votes: votes_in(path) >= enough)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stderr and process.stderr.close()
        status = read_status(path)
        assert status is not None and status.state == "waiting" and not alive(status)
    assert votes_in(path) == 7
    with annotators(path, "ann"):
        run = train.resume(path)
    assert votes_in(path) == 12
    assert_same_run(run, whole)


def test_ctrl_c_on_the_command_line_while_it_waits(human_config: FinetuneConfig) -> None:
    process = start(human_config)
    wait_for(lambda: state_of(Path(human_config.out)) == "waiting")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and state_of(Path(human_config.out)) == "stopped"
    assert "rlhf-control resume" in err.splitlines()[-1]


def test_two_annotators_share_the_questions(human_config: FinetuneConfig) -> None:
    with annotators(Path(human_config.out), "ann", "bob", pause=0.02):
        run = train.finetune(human_config)
    votes = FeedbackStore(run.path / "labels.sqlite").votes()
    assert len(votes) == len({v.query for v in votes}) == 12 and {v.annotator for v in votes} == {"ann", "bob"}


def test_two_annotators_for_each_question(human_config: FinetuneConfig, tmp_path: Path) -> None:
    config = replace(human_config, annotators=2)
    with annotators(Path(config.out), "ann", "bob"):
        run = train.finetune(config)
    assert run.metrics()[-1]["answers"] == 24 and run.metrics()[-1]["queries"] == 12
    status = read_status(run.path)
    assert status is not None and status.answers == status.wanted == 24
    assert_same_run(train.finetune(replace(config, out=str(tmp_path / "again"), replay=config.out)), run)


def test_a_failing_run_tells_its_windows(human_config: FinetuneConfig) -> None:
    def act(store: FeedbackStore, key: str, query: Query) -> None:
        store.path.rename(store.path.with_name("gone"))
        store.path.write_bytes(b"this is no database" * 100)
        time.sleep(1)

    with annotators(Path(human_config.out), "ann", act=act), pytest.raises(UserError):
        train.finetune(human_config)
    status = read_status(Path(human_config.out))
    assert status is not None and status.state == "failed" and "labels.sqlite" in status.message


def test_a_closed_window_is_said_once_and_the_run_goes_on_waiting(
    human_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the other way round: see test_window_process, where the run is killed and the window stays."""
    path, closings = Path(human_config.out), ["", "the window was closed"]
    monkeypatch.setattr(WindowProcess, "open", lambda self: "")
    monkeypatch.setattr(WindowProcess, "closed", lambda self: closings.pop(0) if closings else "")

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        if len(store.votes()) == 2:
            wait_for(lambda: not closings)
        vote(store, key, query, "ann")

    with annotators(path, "ann", act=act):
        train.finetune(replace(human_config, window=True))
    assert capsys.readouterr().err.splitlines()[1:] == [
        "rlhf-control: the window was closed; the run waits for 4 answers. To vote, open it again: "
        f"rlhf-control label {path}"
    ]
    assert state_of(path) == "finished"


# -- what people do besides


def correction(store: FeedbackStore, query: Query, name: str, length: int | None = None) -> None:
    """A better clip than the second of this query, put beside it."""
    original = query.segments[1]
    better = replace(original[:length], action=original.action[:length] * 0.5)  # type: ignore[index]
    pair = Segments.stack([better, original[:length]])  # type: ignore[index]
    (asked,) = store.ask([Query(query.round, 0, CORRECTION, pair, CORRECTION)])
    store.vote(asked.key, Feedback((0, 1), name))


def test_corrections_are_learned_from_and_replayed(
    human_config: FinetuneConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(store: FeedbackStore, key: str, query: Query) -> None:
        if len(store.votes()) in (2, 8):
            correction(store, query, "ann")
        elif len(store.votes()) == 4:
            correction(store, query, "ann", length=5)  # a shorter one is learned from as well
        vote(store, key, query, "ann")

    path = Path(human_config.out)
    with annotators(path, "ann", act=act):
        run = train.finetune(human_config)
    assert "is left out" not in capsys.readouterr().err
    last = run.metrics()[-1]
    assert last["queries"] == last["answers"] == last["labels"] == 12 + 3
    assert [row["labels"] for row in run.metrics()][:2] == [8, 12]
    assert_same_run(train.finetune(replace(human_config, out=str(tmp_path / "again"), replay=str(path))), run)


def test_repeats_come_later_and_turned_round(human_config: FinetuneConfig) -> None:
    config = replace(human_config, labels=30, first_labels=10, rounds=3, query=QueryConfig(repeat_share=0.2))
    with annotators(Path(config.out), "ann"):
        run = train.finetune(config)
    asked = FeedbackStore(run.path / "labels.sqlite").asked()
    assert len(asked) == 30
    place = {query.clips: i for i, query in enumerate(asked)}
    repeats = [query for query in asked if query.repeat]
    assert len(repeats) == 6
    for query in repeats:
        assert place[query.clips] - place[query.clips[::-1]] > 1
    assert [query.round for query in repeats].count(0) == 2
    assert [(query.round, query.index) for query in asked] == [(k, i) for k in range(3) for i in range(10)]


def test_gold_checks_people_and_teaches_nothing(human_config: FinetuneConfig, tmp_path: Path) -> None:
    with annotators(Path(human_config.out), "ann"):
        before = train.finetune(human_config)
    export_labels(FeedbackStore(before.path / "labels.sqlite"), tmp_path / "gold")
    config = replace(  # whose clips are shorter than the gold's
        human_config, labels=40, first_labels=20, rounds=2, out=str(tmp_path / "checked"), seed=1, clip_seconds=0.3,
        query=QueryConfig(gold=str(tmp_path / "gold")),
    )  # fmt: skip

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        if query.strategy == "gold":
            ranks = ranks_of(query)
            wrong = len(store.votes()) > 25
            store.vote(key, Feedback(tuple(1 - r for r in ranks) if wrong else ranks, "ann"))
        else:
            vote(store, key, query, "ann")

    with annotators(tmp_path / "checked", "ann", act=act):
        run = train.finetune(config)
    last = run.metrics()[-1]
    assert last["queries"] == last["answers"] == 40 and (last["gold"], last["gold_right"]) == (2, 1)
    gold = [query for query in FeedbackStore(run.path / "labels.sqlite").asked() if query.strategy == "gold"]
    assert [query.round for query in gold] == [0, 1]
    assert_same_run(train.finetune(replace(config, out=str(tmp_path / "again"), replay=config.out)), run)
    for bad in (str(tmp_path / "nothing"), str(tmp_path)):
        with pytest.raises(UserError):
            train.finetune(replace(config, out=str(tmp_path / "no"), query=QueryConfig(gold=bad)))
    assert not (tmp_path / "no").exists()


def test_demonstrations_are_no_question_to_people(human_config: FinetuneConfig) -> None:
    config = replace(human_config, demonstrations=human_config.policy, demonstration_clips=4)
    kinds = list[str]()

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        kinds.append(query.kind)
        vote(store, key, query, "ann")

    with annotators(Path(config.out), "ann", act=act):
        run = train.finetune(config)
    assert kinds == ["comparison"] * 12
    assert run.metrics()[0]["labels"] == 6 + 4
    status = read_status(run.path)
    assert status is not None and status.answers == status.wanted == 12


def test_environments_without_states_are_filmed_for_their_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures cost time: they are taken in the four iterations up to a round alone."""
    ppo = PPOConfig(num_envs=2, num_steps=16, minibatch_size=8, epochs=1)
    start = train.pretrain(PretrainConfig("Taxi-v4", total_steps=32, out=str(tmp_path / "start"), ppo=ppo))
    config = FinetuneConfig(
        str(start.path), oracle="human", labels=4, first_labels=2, rounds=2, total_steps=32 * 14, clip_seconds=1.0,
        termination="truncate", ppo=ppo, window=False, video=False, out=str(tmp_path / "run"), checkpoint_seconds=1000,
        reward=TINY_REWARD,
    )  # fmt: skip
    filmed = list[bool]()
    collect = DoubleBufferedEnvs.collect

    def spy(self: DoubleBufferedEnvs, *args: object) -> Rollout:
        rollout = collect(self, *args)  # type: ignore[arg-type]
        filmed.append(rollout.frames is not None)
        return rollout

    monkeypatch.setattr(DoubleBufferedEnvs, "collect", spy)
    with annotators(tmp_path / "run", "ann"):
        run = train.finetune(config)
    waits = [i for i, row in enumerate(run.metrics()) if "reward/fit_seconds" in row]
    assert [i for i, yes in enumerate(filmed) if yes] == sorted({i for w in waits for i in range(max(0, w - 3), w + 1)})
    store = FeedbackStore(tmp_path / "run" / "labels.sqlite")
    for asked in store.asked():
        frames = store.query(asked.key).segments.frames
        assert frames is not None and all(frame.startswith(b"\x89PNG") for frame in frames.flat if frame)


# -- asynchronous


def test_training_goes_on_while_votes_come_slowly(human_config: FinetuneConfig, tmp_path: Path) -> None:
    config = replace(
        human_config, labelling="async", labels=16, total_steps=40 * 160, checkpoint_seconds=0.2,
        human=replace(human_config.human, lead=1.0, refit_answers=3, open_queries=4),
    )  # fmt: skip
    path = Path(config.out)
    with annotators(path, "ann", pause=0.1):
        run = train.finetune(config)
    rows = run.metrics()
    assert len(rows) == 40 and rows[0]["labels"] == 6
    fitted = [row for row in rows if "reward/fit_seconds" in row]
    assert len(fitted) >= 2 and all(row["queries"] - row["answers"] <= 4 for row in rows)
    asked = FeedbackStore(path / "labels.sqlite").asked()
    assert [query.round for query in asked] == sorted(query.round for query in asked)
    assert {query.reward for query in asked} >= {0, 1}
    again = train.finetune(replace(config, out=str(tmp_path / "again"), replay=config.out))
    assert_same_run(again, run)


def test_an_asynchronous_run_waits_when_it_is_too_far_ahead(human_config: FinetuneConfig) -> None:
    config = replace(human_config, labelling="async", labels=20, total_steps=40 * 160)
    with annotators(Path(config.out), "ann", pause=0.05):
        run = train.finetune(config)
    rows = run.metrics()
    assert rows[-1]["labels"] == 20 and "reward/fit_seconds" in rows[[r["labels"] for r in rows].index(20)]
    for row in rows:  # 28 iterations to ask in, of which training may be a quarter ahead
        assert row["labels"] >= 6 + int(14 * min(1, max(0, row["iteration"] / 28 - 0.25)))


def test_an_asynchronous_run_is_killed_and_goes_on(human_config: FinetuneConfig) -> None:
    config = replace(human_config, labelling="async", labels=20, total_steps=40 * 160, checkpoint_seconds=0.3)
    path = Path(config.out)
    with annotators(path, "ann", pause=0.05):
        process = start(config)
        wait_for(lambda: len(Run(path).metrics()) > 12)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr and process.stderr.close()
        run = train.resume(path)
    rows = run.metrics()
    assert [row["iteration"] for row in rows] == list(range(40))
    votes = FeedbackStore(path / "labels.sqlite").votes()
    assert rows[-1]["answers"] == len(votes) >= 20  # every vote counts, also those on questions after the checkpoint


def test_what_is_left_unanswered_is_said(human_config: FinetuneConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(human_config, labelling="async", human=replace(human_config.human, lead=1.0))
    path, first = Path(config.out), threading.Event()

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        if query.round == 0:
            vote(store, key, query, "ann")
        first.set()

    with annotators(path, "ann", act=act):
        run = train.finetune(config)
    assert len(run.metrics()) == 8 and run.metrics()[-1]["labels"] == 6
    assert "6 of 12 questions unanswered" in capsys.readouterr().err.splitlines()[-1]


# -- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": "0-2"}, "one after the other"),
        ({"learn_from": "oracle"}, "no reward"),
        ({"oracle": "backward", "labelling": "async"}, "for people"),
        ({"oracle": "backward", "annotators": 2}, "for people: --annotators;.*--annotator.crowd 1 1 -1"),
        ({"annotators": 0}, "positive"),
        ({"feedback": ("comparison", "reward")}, "not asked for a reward"),
        ({"feedback": ("correction",)}, "not asked for a correction"),
        ({"labelling": "sometimes"}, "labelling"),
    ],
)
def test_refused(human_config: FinetuneConfig, change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        replace(human_config, **change)


def test_the_state_before_a_round_is_on_the_disk_before_the_run_waits(human_config: FinetuneConfig) -> None:
    saved = list[int]()

    def act(store: FeedbackStore, key: str, query: Query) -> None:
        newest = max((store.path.parent / "checkpoints").glob("*.npz"))
        saved.append(int(newest.stem))
        assert load_state(newest)
        vote(store, key, query, "ann")

    with annotators(Path(human_config.out), "ann", act=act):
        train.finetune(human_config)
    assert saved == [0] * 6 + [1] * 3 + [3] * 3


def test_of_ends_the_reward_predicts_nothing(tmp_path: Path) -> None:
    """Whose clips it sees as equally long; what an end costs is another's to say."""
    clips = random_segments(np.random.default_rng(0), 4, 5)
    reward = SimpleNamespace(fitted=True, probability=lambda pairs: np.full((1, len(pairs)), 0.25))
    host: Any = SimpleNamespace(reward=reward, path=tmp_path)
    Host.predict(host, [Query(0, 0, EARLY_END, clips[:2])])
    assert not (tmp_path / PREDICTIONS).exists()
    Host.predict(host, [Query(0, 0, EARLY_END, clips[:2]), Query(0, 1, "uniform", clips[2:])])
    (line,) = (tmp_path / PREDICTIONS).read_text().splitlines()
    assert json.loads(line) == {"key": query_key(Query(0, 1, "uniform", clips[2:])), "probability_first": 0.25}
