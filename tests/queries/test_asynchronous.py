"""The schedule by itself, on made-up rollouts; whole runs are in test_human."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlhf_control.config import FinetuneConfig, HumanConfig, PPOConfig, QueryConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.queries.asynchronous import Asynchronous, votes_read
from rlhf_control.queries.rounds import LabelRound
from rlhf_control.queries.segments import SegmentBank
from rlhf_control.reward.ends import EndCosts
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.runs.resuming import record
from rlhf_control.runs.run import Run
from tests.conftest import random_rollout, random_segments

CONFIG = FinetuneConfig(
    "p", oracle="human", labelling="async", labels=30, first_labels=6, total_steps=100 * 60,
    ppo=PPOConfig(num_envs=3, num_steps=20, minibatch_size=10), human=HumanConfig(lead=1.0),
    query=QueryConfig(repeat_share=0.0),
)  # fmt: skip


FIRST = {0: LabelRound(0, 6)}
NOBODY: Any = SimpleNamespace(env_id="")  # a policy: only corrections by an oracle need more of it


def make(path: Path, config: FinetuneConfig = CONFIG) -> Asynchronous:
    """After the first round, of six questions, which are all answered."""
    labels = Labels(FeedbackStore(path / "l.sqlite"), None, 0)
    first = random_segments(np.random.default_rng(9), 6, 2, 5)
    labels.issue([Query(0, i, "uniform", first[i]) for i in range(6)])
    for key in labels.pending():
        labels.store.vote(key, Feedback((0, 1), "ann"))
    labels.collect()
    bank = SegmentBank(5, 3, 20, clips=12)
    for k in range(4):
        bank.add(random_rollout(np.random.default_rng(k), T=20, ends=0.0))
    return Asynchronous(config, FIRST, labels, bank, RewardModel(17, 6, config.reward), NOBODY)


def parts_of(votes: Asynchronous) -> tuple[Labels, SegmentBank, RewardModel, Any]:
    return votes.labels, votes.bank, votes.reward, NOBODY  # type: ignore[return-value]


def replaced(votes: Asynchronous, **human: float) -> Asynchronous:
    config = replace(votes.config, human=HumanConfig(**human))  # type: ignore[arg-type]
    return Asynchronous(config, FIRST, votes.labels, votes.bank, votes.reward, NOBODY)


def vote(votes: Asynchronous, n: int, name: str = "ann") -> None:
    store = votes.labels.store
    for _ in range(n):
        served = store.claim(name, 60)
        assert served is not None
        store.vote(served[0], Feedback((0, 1), name))


def test_questions_are_topped_up_and_the_reward_refitted(tmp_path: Path) -> None:
    votes = make(tmp_path)
    assert votes.due(0) == FIRST[0] and len(votes.labels.asked) == 6  # the first round is asked by others
    assert votes.due(1) is None
    assert len(votes.labels.pending()) == 6
    vote(votes, 2)
    assert votes.due(2) is None and len(votes.labels.pending()) == 4  # not too small a batch
    vote(votes, 1)
    assert votes.due(3) is None and len(votes.labels.pending()) == 6
    vote(votes, 2)
    fit = votes.due(4)
    assert fit is not None and fit.labels == 0 and len(fit.answered) == 5
    assert votes.due(5) is None
    while len(votes.labels.questions()) < 30 or votes.labels.pending():
        vote(votes, 1)
        votes.due(6)
    assert len(votes.labels.questions()) == 30
    assert votes.learned.keys() == set(votes.labels.asked)  # the last few, too, though they are fewer than it takes
    rewards = [query.reward for query in votes.labels.questions()[6:]]  # versions
    assert rewards == sorted(rewards) and rewards[0] == 1 and rewards[-1] > 2  # type: ignore[type-var, operator]


def test_the_random_share_holds_however_small_the_batches(tmp_path: Path) -> None:
    votes = make(tmp_path)
    votes.reward.fitted = True
    for i in range(1, 40):
        votes.due(i)
        vote(votes, min(3, len(votes.labels.pending())))
    strategies = [query.strategy for query in votes.labels.questions()[6:]]
    assert len(strategies) == 24 and strategies.count("uniform") == 10 and strategies.count("disagreement") == 14


def test_three_in_ten_are_about_ends_however_small_the_batches(tmp_path: Path) -> None:
    votes, clips = make(tmp_path), random_segments(np.random.default_rng(1), 6, 5)
    assert isinstance(votes.reward, RewardModel)
    votes.reward.fit(
        comparisons(Segments.stack([clips[:2], clips[2:4]]), np.array([1.0, 0.0])), clips, np.random.default_rng(0)
    )
    votes.reward.ends = EndCosts(6.0, 5)
    for k in range(4):
        votes.bank.add(random_rollout(np.random.default_rng(k), T=20, ends=0.05))
    for i in range(1, 40):
        votes.due(i)
        vote(votes, min(3, len(votes.labels.pending())))
    asked = [query.strategy == EARLY_END for query in votes.labels.questions()[6:]]
    assert len(asked) == 24 and sum(asked) == int(0.3 * 30) - int(0.3 * 6) == 8
    assert all(any(asked[i : i + 8]) for i in range(16))


def test_kinds_take_turns(tmp_path: Path) -> None:
    votes = make(tmp_path, replace(CONFIG, feedback=("comparison", "rating")))
    for i in range(1, 40):
        votes.due(i)
        for key in votes.labels.pending():
            answer = Feedback(None, "ann", value=2.0) if "/rating/" in key else Feedback((0, 1), "ann")
            votes.labels.store.vote(key, answer)
    kinds = [query.kind for query in votes.labels.questions()]
    assert len(kinds) == 30 and abs(kinds.count("comparison") - kinds.count("rating")) <= 6


def test_training_waits_for_people_when_it_is_too_far_ahead(tmp_path: Path) -> None:
    """Asked for in 70 iterations; with a lead of a half, the first of the 24 is needed 35 + 3 iterations on."""
    votes = make(tmp_path, replace(CONFIG, human=HumanConfig(lead=0.5)))
    assert [votes.needed(i) for i in (0, 35, 38, 70, 105, 200)] == [6, 6, 7, 18, 30, 30]
    assert replaced(votes, lead=1.0).needed(100) == 0  # it never waits
    waited = []

    def wait(pending: int) -> None:
        waited.append(pending)
        vote(votes, 1)

    votes.labels.wait = wait
    for i in range(1, 38):
        votes.due(i)
    assert not waited
    for i in range(38, 120):
        votes.due(i)
        asked, pending = len(votes.labels.questions()), len(votes.labels.pending())
        assert asked - pending >= min(asked, votes.needed(i))
    assert len(votes.answers()) == 30 and len(waited) == 24


def test_it_goes_on_from_its_state(tmp_path: Path) -> None:
    votes = make(tmp_path)
    votes.due(1)
    vote(votes, 6)
    votes.due(2)
    again = replaced(votes, lead=1.0)
    again.load_state(json.loads(json.dumps(votes.state())))
    assert again.state() == votes.state() and again.due(3) is None


def test_a_plan_that_changed_is_gone_on_with(tmp_path: Path) -> None:
    """Of 70 iterations to ask in, after the first two rounds of four: the third after the next, in which a clip of 5
    steps is new; the fourth in the middle of what is left."""
    planned = {0: LabelRound(0, 6), 17: LabelRound(1, 8), 35: LabelRound(2, 8), 52: LabelRound(3, 8)}
    votes = Asynchronous(replace(CONFIG, labelling="blocking"), planned, *parts_of(make(tmp_path)))
    again = Asynchronous(replace(CONFIG, labelling="blocking"), planned, *parts_of(votes))
    assert votes.bank.of_a_clip == 1 and votes.due(17) == planned[17]
    votes.ask_sooner(17)
    assert list(votes.rounds) == [0, 17, 18, 44] and votes.due(18) == planned[35] and votes.due(35) is None
    assert list(planned) == [0, 17, 35, 52] and votes.more_to_come(43) and not votes.more_to_come(44)
    state = json.loads(json.dumps(votes.state()))
    again.load_state(state)
    assert again.rounds == votes.rounds
    del state["rounds"]  # as older checkpoints are
    again = Asynchronous(replace(CONFIG, labelling="blocking"), planned, *parts_of(votes))
    again.load_state(state)
    assert again.rounds == planned
    again.config = replace(again.config, feedback=("success",))
    again.ask_sooner(17)
    assert again.rounds == planned
    again.config = replace(again.config, feedback=("comparison",))
    again.bank.whole = True  # the episodes of one iteration later would be nearly all the same
    again.ask_sooner(17)
    assert list(again.rounds) == [0, 17, 21, 45]


def test_blocking_runs_have_none_of_it(tmp_path: Path) -> None:
    votes = make(tmp_path, replace(CONFIG, labelling="blocking"))
    assert votes.due(5) is None and len(votes.labels.asked) == 6 and votes.metrics() == {}


def test_a_replay_reads_as_far_as_the_run_had_read(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "finetune", CONFIG)
    for i, read in enumerate((0, 2, 5)):
        run.log({"iteration": i, "votes_read": read})
    assert votes_read(run.path) == {0: 0, 1: 2, 2: 5}
    votes = make(tmp_path, replace(CONFIG, replay=str(run.path)))
    votes.labels.asked, votes.labels.read = {}, 0  # as at its beginning
    for i, read in enumerate((0, 2, 5, 5)):
        votes.due(i)
        assert votes.labels.read == read and votes.metrics() == {"votes_read": read}


def test_a_replay_takes_its_readings_along(tmp_path: Path) -> None:
    """They are under its own seal from its first checkpoint on."""
    run = Run.create(tmp_path / "run", "finetune", CONFIG)
    for i, read in enumerate((0, 2, 5)):
        run.log({"iteration": i, "votes_read": read})
    votes = make(tmp_path, replace(CONFIG, replay=str(run.path)))
    state = json.loads(json.dumps(votes.state()))
    run.metrics_path.unlink()
    again = replaced(votes, lead=1.0)
    again.load_state(state)
    assert again._readings() == {0: 0, 1: 2, 2: 5}


@pytest.mark.parametrize("reads", [(0, 5, 2), (0, "2", 5), (0, True, 5), (0, 2.0, 5), (-1, 2, 5)])
def test_readings_that_cannot_be_right_are_refused(tmp_path: Path, reads: tuple[Any, ...]) -> None:
    run = Run.create(tmp_path / "run", "finetune", CONFIG)
    for i, read in enumerate(reads):
        run.log({"iteration": i, "votes_read": read})
    with pytest.raises(CorruptFileError, match="had read"):
        votes_read(run.path)


def test_a_reading_that_was_altered_after_its_checkpoint_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "finetune", CONFIG)
    for i, read in enumerate((0, 2, 5)):
        run.log({"iteration": i, "votes_read": read})
    run.save_checkpoint(3, {"left": record(run, 3, CONFIG)})
    assert votes_read(run.path)[1] == 2
    rows = run.metrics_path.read_text()
    for altered in (rows.replace(": 2}", ": 3}"), rows[rows.index("\n") + 1 :]):
        run.metrics_path.write_text(altered)
        with pytest.raises(CorruptFileError, match=r"altered|lacks"):
            votes_read(run.path)
    run.metrics_path.unlink()
    with pytest.raises(CorruptFileError, match="is gone"):
        votes_read(run.path)


@pytest.mark.parametrize("change", [{"open_queries": 0}, {"lead": -0.1}, {"refit_share": 2.0}])
def test_refused(change: dict) -> None:
    with pytest.raises(UserError, match=r"human\."):
        HumanConfig(**change)
