import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlhf_control.config import FinetuneConfig, NetConfig, QueryConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.export import export_labels
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.recordings import Recording, save_recording
from rlhf_control.feedback.schema import EARLY_END, query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.demonstrations import check_demonstrations, demonstrated, is_recording
from rlhf_control.queries.questions import (
    clips_wanted,
    demonstrations_of,
    gold_of,
    keep_inputs,
    load_gold,
    mixed,
    questions,
)
from rlhf_control.queries.rounds import LabelRound
from rlhf_control.reward.ends import EndCosts
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.runs.progress import say_once
from rlhf_control.runs.run import Run
from rlhf_control.training.guard import Guard
from tests.conftest import random_rollout, random_segments

PEOPLE = FinetuneConfig("p", oracle="human")


def make_labels(path: Path) -> Labels:
    return Labels(FeedbackStore(path / "l.sqlite"), None, 0)


def answer_all(labels: Labels) -> None:
    for key in labels.pending():
        value = "/reward/" in key or "/rating/" in key
        ranks = (0, 2, 1) if "/ranking/" in key else (0, 1)
        labels.store.vote(key, Feedback(None, "ann", value=1.0) if value else Feedback(ranks, "ann"))
    labels.collect()


NOBODY: Any = SimpleNamespace(env_id="")  # a policy: only corrections by an oracle need more of it


def ask_round(config: FinetuneConfig, k: int, n: int, labels: Labels) -> list[Query]:
    pool = random_segments(np.random.default_rng([7, k]), 3 * n + 10, 5)
    model = RewardModel(17, 6, config.reward)
    queries = questions(config, LabelRound(k, n), (pool, len(pool)), model, labels, NOBODY)
    labels.issue(queries)
    answer_all(labels)
    return queries


def test_no_clip_is_rated_twice(tmp_path: Path) -> None:
    """Neither older ones nor, where rounds follow each other closely, recent ones."""
    config = replace(PEOPLE, oracle="env", feedback=("rating",), query=QueryConfig(repeat_share=0.0))
    labels, older = make_labels(tmp_path), random_segments(np.random.default_rng(1), 6, 5)
    new = random_segments(np.random.default_rng(2), 14, 5)
    for k in range(3):
        pool = Segments.concatenate([new[k : k + 12], older])
        labels.issue(questions(config, LabelRound(k, 4), (pool, 12), RewardModel(17, 6, config.reward), labels, NOBODY))
        answer_all(labels)
    clips = [clip for asked in labels.questions() for clip in asked.clips]
    assert len(clips) == len(set(clips)) == 12


def test_one_in_twenty_is_asked_again(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    rounds = [ask_round(PEOPLE, k, n, labels) for k, n in enumerate([20, *[10] * 8])]
    asked = [query for queries in rounds for query in queries]
    assert [len(queries) for queries in rounds] == [20, *[10] * 8]
    place = {query.segments.digest(): i for i, query in enumerate(asked)}
    repeats = [query for query in asked if query.repeat]
    assert len(repeats) == 5 and {query.repeat for query in repeats} == {1}
    apart = [place[q.segments.digest()] - place[q.segments[::-1].digest()] for q in repeats]
    assert min(apart) > 1
    assert len({query.segments[::-1].digest() for query in repeats}) == 5  # none twice
    for k, queries in enumerate(rounds):
        assert [(q.round, q.index) for q in queries] == [(k, i) for i in range(len(queries))]


def test_nothing_is_repeated_or_renumbered_without_a_share(tmp_path: Path) -> None:
    config = replace(PEOPLE, query=QueryConfig(repeat_share=0.0))
    queries = ask_round(config, 0, 30, make_labels(tmp_path))
    assert not any(query.repeat for query in queries) and [q.index for q in queries] == list(range(30))
    oracle = replace(PEOPLE, oracle="backward")
    assert oracle.repeat_share() == 0 and PEOPLE.repeat_share() == 0.05


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_no_question_is_lost_where_the_same_few_clips_are_chosen_from(tmp_path: Path, share: float) -> None:
    config = replace(PEOPLE, query=QueryConfig(repeat_share=share, min_difference=0.0))
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 6, 5)
    model = RewardModel(17, 6, config.reward)
    for k in range(12):
        labels.issue(questions(config, LabelRound(k, 3), (pool, len(pool)), model, labels, NOBODY))
        answer_all(labels)
        assert len(labels.questions()) == 3 * (k + 1)
    assert sum(asked.repeat == 0 for asked in labels.questions()) <= 30  # pairs, either way round


def test_a_round_that_is_made_anew_asks_nothing_twice(tmp_path: Path) -> None:
    """As by a resumed run that knows the answers of after its checkpoint."""
    config, labels = replace(PEOPLE, query=QueryConfig(repeat_share=0.0)), make_labels(tmp_path)
    pool, model = random_segments(np.random.default_rng(1), 40, 5), RewardModel(17, 6, config.reward)
    for _ in range(2):
        labels.issue(questions(config, LabelRound(0, 10), (pool, len(pool)), model, labels, NOBODY))
        answer_all(labels)
    assert len(labels.questions()) == 10


def test_what_cannot_be_repeated_is_not(tmp_path: Path) -> None:
    """Rewards are numbers, which nobody gives twice; and of three questions of one round none is far enough apart."""
    config = replace(PEOPLE, oracle="backward", feedback=("reward",), query=QueryConfig(repeat_share=0.5))
    assert not any(query.repeat for query in ask_round(config, 0, 6, make_labels(tmp_path)))
    for n in range(1, 12):
        (tmp_path / str(n)).mkdir()
        config = replace(PEOPLE, query=QueryConfig(repeat_share=0.5))
        queries = ask_round(config, 0, n, make_labels(tmp_path / str(n)))
        assert len(queries) == n
        place = {query.segments.digest(): i for i, query in enumerate(queries)}
        for query in queries:
            assert not query.repeat or place[query.segments.digest()] - place[query.segments[::-1].digest()] > 1


@pytest.mark.parametrize("feedback", [("comparison",), ("rating", "ranking"), ("ranking", "comparison")])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_so_many_clips_are_wanted_as_a_round_needs(tmp_path: Path, feedback: tuple[str, ...], share: float) -> None:
    """With these the questions can be asked, without clips that are asked about twice; with one less they cannot."""
    config = replace(PEOPLE, feedback=feedback, clips_per_query=3, query=QueryConfig(repeat_share=share))
    labels, model = make_labels(tmp_path), RewardModel(17, 6, config.reward)
    for k in range(3):
        wanted = clips_wanted(config, LabelRound(k, 12), labels)
        pool = random_segments(np.random.default_rng([7, k]), wanted, 5)
        with pytest.raises(UserError, match=f"the pool has {wanted - 1}"):
            questions(config, LabelRound(k, 12), (pool[:-1], wanted - 1), model, labels, NOBODY)
        queries = questions(config, LabelRound(k, 12), (pool, 1), model, labels, NOBODY)  # one is recent
        assert len(queries) == 12
        labels.issue(queries)
        answer_all(labels)


def test_special_questions_lie_in_the_second_half() -> None:
    rng = np.random.default_rng(0)
    clips = random_segments(rng, 20, 2, 3)
    own = [Query(3, i, "uniform", clips[i]) for i in range(9)]
    special = [Query(0, 0, "gold", clips[10 + i]) for i in range(3)]
    seen = set()
    for _ in range(50):
        order = mixed(own, special, 3, rng)
        assert [query.index for query in order] == list(range(12)) and {query.round for query in order} == {3}
        assert [query.segments.digest() for query in order if query.strategy == "uniform"] == [
            query.segments.digest() for query in own
        ]
        places = [query.index for query in order if query.strategy == "gold"]
        assert min(places) >= 5
        seen |= set(places)
    assert seen == set(range(5, 12))
    assert mixed(own, [], 3, rng) is own and len(mixed([], special, 0, rng)) == 3


def test_gold_is_what_everybody_agrees_on(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "l.sqlite")
    rng = np.random.default_rng(0)
    queries = [Query(0, i, "uniform", random_segments(rng, 2, 5)) for i in range(5)]
    store.ask(queries, annotators=2)
    answers: list[list[tuple[int, ...] | None]] = [[(0, 1), (0, 1)], [(1, 0)], [(0, 1), (1, 0)], [(0, 0)], [None]]
    for query, given in zip(queries, answers, strict=True):
        for name, ranks in zip(("ann", "bob"), given, strict=False):
            store.vote(query_key(query), Feedback(ranks, name))
    export_labels(store, tmp_path / "export")
    gold = load_gold(str(tmp_path / "export"), 0)
    assert {key: ranks for key, (_, ranks) in gold.items()} == {
        query_key(queries[0]): (0, 1),
        query_key(queries[1]): (1, 0),
    }
    assert all(query.strategy == "gold" and query_key(query) == key for key, (query, _) in gold.items())
    empty = FeedbackStore(tmp_path / "e.sqlite")
    export_labels(empty, tmp_path / "empty")
    with pytest.raises(UserError, match="no pairs with one clear answer"):
        load_gold(str(tmp_path / "empty"), 0)
    arrays = {
        f"{name}_{side}": rng.normal(size=(2, 5, size)) for side in "12" for name, size in (("obs", 17), ("action", 6))
    }
    np.savez(tmp_path / "pairs.npz", label=np.array([0.0, 1.0]), **arrays)
    with pytest.raises(UserError, match="cannot be shown"):
        load_gold(str(tmp_path / "pairs.npz"), 0)


def make_recording() -> Recording:
    steps = random_rollout(np.random.default_rng(0), T=50, N=1, ends=0.0)
    arrays = {name: array[:, 0] for name, array in steps.as_segments().arrays().items()}
    ends = np.arange(50) == 49
    return Recording("HalfCheetah-v5", {}, **arrays, terminated=np.zeros(50, bool), truncated=ends)


def test_a_recording_is_a_demonstration_too(tmp_path: Path, cheetah_policy: Policy) -> None:
    recording = make_recording()
    save_recording(tmp_path / "mine.npz", recording)
    clips = demonstrated(str(tmp_path / "mine.npz"), cheetah_policy, 12, 0)
    assert clips.obs.shape == (4, 12, 17)
    np.testing.assert_array_equal(clips.obs[1], recording.obs[12:24])
    assert is_recording(str(tmp_path / "mine.npz")) and not is_recording("halfcheetah")
    with pytest.raises(UserError, match="clip of 60 steps"):
        check_demonstrations(str(tmp_path / "mine.npz"), cheetah_policy, 60)
    save_recording(tmp_path / "other.npz", replace(recording, env_id="Hopper-v5"))
    with pytest.raises(UserError, match="Hopper"):
        check_demonstrations(str(tmp_path / "other.npz"), cheetah_policy, 12)


def test_a_policy_demonstrates(tmp_path: Path, cheetah_policy: Policy) -> None:
    cheetah_policy.save(tmp_path / "p.npz")
    assert not is_recording(str(tmp_path / "p.npz"))
    check_demonstrations(str(tmp_path / "p.npz"), cheetah_policy, 500)
    clips = demonstrated(str(tmp_path / "p.npz"), cheetah_policy, 500, 0)
    assert isinstance(clips, Segments) and clips.obs.shape == (8, 500, 17)
    with pytest.raises(UserError, match="shorter than a clip"):
        demonstrated(str(tmp_path / "p.npz"), cheetah_policy, 2000, 0)
    with pytest.raises(UserError, match="no policy at"):
        check_demonstrations(str(tmp_path / "none.npz"), cheetah_policy, 12)


def test_a_run_keeps_what_it_is_started_from(tmp_path: Path, cheetah_policy: Policy) -> None:
    """A recording, another policy and gold, by value: what becomes of the user's files does not matter any more."""
    pair = random_segments(np.random.default_rng(0), 2, 2, 12)
    store = FeedbackStore(tmp_path / "answered.sqlite")
    for i, asked in enumerate(store.ask([Query(0, i, "uniform", pair[i]) for i in range(2)])):
        store.vote(asked.key, Feedback((i, 1 - i), "me"))
    export_labels(store, tmp_path / "gold")
    cheetah_policy.save(tmp_path / "p.npz")
    config = FinetuneConfig(
        "p", oracle="human", demonstrations=str(tmp_path / "p.npz"), query=QueryConfig(gold=str(tmp_path / "gold"))
    )
    run = Run.create(tmp_path / "run", "finetune", config)
    assert demonstrations_of(config, run.path) == config.demonstrations  # as in runs of before
    before = demonstrated(config.demonstrations, cheetah_policy, 500, 0)
    gold = gold_of(config, None)
    assert gold_of(config, run).keys() == gold.keys() == set(gold) and len(gold) == 2
    keep_inputs(config, run, cheetah_policy, gold)
    shutil.rmtree(tmp_path / "gold")
    Policy(cheetah_policy.spaces, NetConfig(hidden=(8,)), 1, "HalfCheetah-v5", {}).save(tmp_path / "p.npz")
    kept = demonstrations_of(config, run.path)
    assert demonstrated(kept, cheetah_policy, 500, 0).digest() == before.digest()
    again = gold_of(config, run)
    assert list(again) == list(gold) and [ranks for _, ranks in again.values()] == [r for _, r in gold.values()]
    keep_inputs(config, run, cheetah_policy, gold)  # left as they are
    assert demonstrated(kept, cheetah_policy, 500, 0).digest() == before.digest()


def test_a_recording_is_kept(tmp_path: Path, cheetah_policy: Policy) -> None:
    made = make_recording()
    save_recording(tmp_path / "mine.npz", made)
    config = FinetuneConfig("p", demonstrations=str(tmp_path / "mine.npz"))
    run = Run.create(tmp_path / "run", "finetune", config)
    keep_inputs(config, run, cheetah_policy, {})
    (tmp_path / "mine.npz").unlink()
    assert is_recording(demonstrations_of(config, run.path))


def test_marks_are_asked_about_episodes_that_were_not_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    config = replace(PEOPLE, feedback=("success",), query=QueryConfig(repeat_share=0.0))
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 4, 5)
    episodes = [random_segments(np.random.default_rng([3, i]), 4 + i) for i in range(7)]
    model = RewardModel(17, 6, config.reward)
    for k, n in enumerate((4, 2, 5, 3)):
        some = questions(config, LabelRound(k, n), (pool, 4), model, labels, NOBODY, episodes)
        assert [query.kind for query in some] == ["success"] * len(some)
        labels.issue(some)
        for key in labels.pending():
            labels.store.vote(key, Feedback(None, "me", value=float(k == 0)))
        labels.collect()
        assert len(some) == (4, 2, 1, 0)[k]
    assert "only 1 ended since" in capsys.readouterr().err
    assert {asked.clips[0] for asked in labels.questions()} == {episode.digest() for episode in episodes}
    answers = labels.answers()
    assert answers is not None and answers.clips.mask is not None and sorted(answers.value) == [0.0] * 3 + [1.0] * 4


# -- about early ends

UNREPEATED = replace(PEOPLE, query=QueryConfig(repeat_share=0.0))


def with_ends() -> tuple[RewardModel, list[Segments]]:
    """A fitted reward that does not know what ends cost, and six episodes that ended early."""
    reward, clips = RewardModel(17, 6, PEOPLE.reward), random_segments(np.random.default_rng(3), 12, 5)
    pairs = Segments.stack([clips[:2], clips[2:4]])
    reward.fit(comparisons(pairs, np.array([1.0, 0.0])), clips, np.random.default_rng(0))
    reward.ends = EndCosts(6.0, 5)
    return reward, [clips[i] for i in range(6)]


@pytest.mark.parametrize("clips", [20, 100])
def test_three_in_ten_are_asked_about_ends_in_every_round_and_no_clip_is_shown_twice(
    tmp_path: Path, clips: int
) -> None:
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), clips, 5)
    reward, tails = with_ends()
    found = []
    for k, n in enumerate((10, 1, 1, 1, 7)):
        queries = questions(UNREPEATED, LabelRound(k, n), (pool, clips), reward, labels, NOBODY, tails)
        assert [(q.round, q.index) for q in queries] == [(k, i) for i in range(n)]
        digests = [q.segments[side].digest() for q in queries for side in range(2)]
        assert len(set(digests)) == 2 * n
        labels.issue(queries)
        answer_all(labels)
        found.append([q.index for q in queries if q.strategy == EARLY_END])
    assert [len(at) for at in found] == [3, 0, 0, 0, 3]


@pytest.mark.parametrize("recent", [6, 14, 20])
def test_older_clips_stand_in_for_those_that_ends_take(tmp_path: Path, recent: int) -> None:
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 28, 5)
    reward, tails = with_ends()
    queries = questions(UNREPEATED, LabelRound(0, 10), (pool, recent), reward, labels, NOBODY, tails)
    assert len({q.segments[side].digest() for q in queries for side in range(2)}) == 20


def test_of_several_kinds_it_is_a_share_of_the_comparisons(tmp_path: Path) -> None:
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 100, 5)
    config = replace(UNREPEATED, feedback=("rating", "comparison"))
    reward, tails = with_ends()
    queries = questions(config, LabelRound(0, 20), (pool, 100), reward, labels, NOBODY, tails)
    assert [sum(q.kind == kind for q in queries) for kind in ("rating", "comparison")] == [10, 10]
    assert sum(q.strategy == EARLY_END for q in queries) == 3


def test_ends_are_neither_repeated_nor_gold(tmp_path: Path) -> None:
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 100, 5)
    reward, tails = with_ends()
    config = replace(PEOPLE, query=QueryConfig(repeat_share=0.5))
    for k in range(4):
        queries = questions(config, LabelRound(k, 10), (pool, 100), reward, labels, NOBODY, tails)
        labels.issue(queries)
        answer_all(labels)
        assert not any(q.repeat and q.strategy == EARLY_END for q in queries)
    ends = [a for a in labels.questions() if a.strategy == EARLY_END]
    assert len(ends) >= 4 and any(a.repeat for a in labels.questions())
    export_labels(labels.store, tmp_path / "gold")
    assert not {a.key for a in ends} & set(load_gold(str(tmp_path / "gold"), 0))


def test_nothing_is_learned_of_steps_from_answers_about_ends(tmp_path: Path) -> None:
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 100, 5)
    reward, tails = with_ends()
    labels.issue(questions(UNREPEATED, LabelRound(0, 20), (pool, 100), reward, labels, NOBODY, tails))
    answer_all(labels)
    of_steps, of_ends = labels.answers(), labels.answers(about_ends=True)
    assert of_steps is not None and of_steps.clips.mask is None and len(of_steps) == 14
    assert of_ends is not None and of_ends.clips.mask is not None and len(of_ends) == 6
    assert of_ends.clips.mask[of_ends.items].all(-1).sum(1).tolist() == [1] * 6
    assert labels.counts()["labels"] == 20


def test_what_is_known_or_not_asked_for_is_not_asked(tmp_path: Path) -> None:
    labels, pool = make_labels(tmp_path), random_segments(np.random.default_rng(1), 100, 5)
    asking = (UNREPEATED, LabelRound(0, 20), (pool, 100))

    def about_ends(reward: RewardModel, tails: list[Segments]) -> int:
        return sum(q.strategy == EARLY_END for q in questions(*asking, reward, labels, NOBODY, tails))

    reward, tails = with_ends()
    assert about_ends(reward, tails) == 6
    assert about_ends(reward, []) == 0
    assert about_ends(reward, tails[:3]) == 3
    assert about_ends(RewardModel(17, 6, PEOPLE.reward), tails) == 0  # it asks not, and is not fitted
    held = Guard(PEOPLE.guard)
    held.holding = True
    assert not held.asking(UNREPEATED).learn_end_costs
    asking = (held.asking(UNREPEATED), *asking[1:])
    assert about_ends(reward, tails) == 0
    asking = (UNREPEATED, *asking[1:])
    assert reward.ends is not None
    reward.ends.log_belief = np.where(np.arange(len(reward.ends.costs)) == 10, 0.0, -np.inf)
    assert about_ends(reward, tails) == 0
