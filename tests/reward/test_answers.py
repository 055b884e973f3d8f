import math

import numpy as np
import pytest
import torch

from rlhf_control.config import RewardConfig
from rlhf_control.reward.answers import (
    PARTNERS,
    Answering,
    ClipInputs,
    Minibatches,
    Steps,
    Targets,
    alike,
    held_out_mask,
    independent,
    questions_of,
    stated_preferences,
    stride_of,
)
from rlhf_control.reward.likelihoods import ordered_cuts, ranking_log_prob, rating_log_prob, reward_log_prob
from tests.reward.given_answers import NAN, small


@pytest.mark.parametrize(
    ("members", "bootstrap", "answers"), [(5, 0.8, 100), (5, 0.8, 7), (1, 0.8, 10), (3, 0.5, 12), (4, 1.0, 9)]
)
def test_held_out_answers(members: int, bootstrap: float, answers: int) -> None:
    mask = held_out_mask(members, np.arange(answers), bootstrap, np.random.default_rng(0))
    assert mask.shape == (members, answers)
    np.testing.assert_allclose(mask.mean(1), 1 - bootstrap, atol=1 / answers + 1e-9)
    if members * (1 - bootstrap) >= 1:
        assert mask.any(0).all()


def test_answers_to_one_question_are_held_out_together() -> None:
    """Whichever way round it stood."""
    question = questions_of(np.array([[4, 1, -1], [0, 2, -1], [1, 4, -1], [1, 4, 2], [0, 2, -1]]))
    np.testing.assert_array_equal(question, [0, 1, 0, 2, 1])
    mask = held_out_mask(5, question, 0.6, np.random.default_rng(0))
    assert mask.any() and (mask[:, 0] == mask[:, 2]).all() and (mask[:, 1] == mask[:, 4]).all()


def test_stride() -> None:
    assert [stride_of(n, 50) for n in (1, 50, 51, 100, 188, 201)] == [1, 1, 2, 2, 4, 5]


def test_the_largest_tie_is_of_those_that_say_equal() -> None:
    ties = {"ranking": [0, 1, 1, 1], "comparison": [0, 0, -1, -1], "demonstration": [0, 0, 0, 1]}
    sizes = [
        Targets.of(small(items=[[0, 1, 2, 3]], ranks=[ranks], kind=[kind])).largest_tie()
        for kind, ranks in ties.items()
    ]
    assert sizes == [1, 2, 1]
    middle = small(items=[[0, 1, 2, 3]], ranks=[[0, 1, 1, 2]], kind=["ranking"])
    assert Targets.of(middle).largest_tie() == 2


def test_stated_preferences_by_hand() -> None:
    answers = small(
        items=[[4, 2, -1], [0, 1, 2], [3, -1, -1], [5, -1, -1], [6, -1, -1]],
        ranks=[[1, 0, -1], [0, 1, 1], [0, -1, -1], [0, -1, -1], [0, -1, -1]],
        kind=["comparison", "ranking", "rating", "rating", "reward"],
        value=[NAN, NAN, 2, 5, 0.3],
    )
    clips, says = stated_preferences(Targets.of(answers))
    found = sorted((*map(int, c), *map(int, a)) for c, a in zip(clips, says, strict=True))
    assert found == [(0, 1, 1, 1), (0, 2, 1, 1), (2, 4, 0, 0), (5, 3, 3, 2)]


@pytest.mark.parametrize("kind", ["rating", "reward"])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_ratings_state_as_much_whether_they_rise_or_fall(kind: str, n: int) -> None:
    def stated(values: list[int]) -> set[tuple[int, int]]:
        answers = small(items=[[i] for i in range(n)], ranks=[[0]] * n, kind=[kind] * n, value=values)
        clips, says = stated_preferences(Targets.of(answers))
        np.testing.assert_array_equal(clips, says)  # answer i is about clip i
        assert all(values[better] > values[worse] for better, worse in clips)
        assert len({tuple(pair) for pair in clips.tolist()}) == len(clips)  # each once
        return {(int(a), int(b)) for a, b in clips}

    rising, falling = stated(list(range(1, n + 1))), stated(list(range(n, 0, -1)))
    assert rising == {(b, a) for a, b in falling} and len(rising) == min(n * (n - 1) // 2, n * PARTNERS // 2)


def test_every_success_stands_above_failures() -> None:
    marks = [1.0, 0.0, 1.0, 0.0]
    answers = small(items=[[0], [1], [2], [3]], ranks=[[0]] * 4, kind=["success"] * 4, value=marks)
    clips, says = stated_preferences(Targets.of(answers))
    np.testing.assert_array_equal(clips, says)
    assert {tuple(pair) for pair in clips.tolist()} == {(0, 1), (0, 3), (2, 1), (2, 3)}


def test_marks_by_hand_and_of_one_who_says_the_opposite() -> None:
    """A threshold learned at 3, a logit of 5: P(success) = sigmoid(2); of somebody not trusted sigmoid(-2)."""
    kinds = ["success", "success", "comparison"]
    answers = small(items=[[0, -1], [1, -1], [0, 1]], ranks=[[0, -1], [0, -1], [0, 1]], kind=kinds, value=[1, 0, NAN])
    targets, config = Targets.of(answers), RewardConfig(members=1, lapse=0.0)
    answering = Answering(targets, config)
    torch.testing.assert_close(answering.parameters["threshold"], torch.zeros(1, 1))  # as many of either
    answering.parameters["threshold"][:] = 3 / config.logit_scale
    logits = torch.tensor([[[5.0, 0.0], [5.0, 0.0], [5.0, 4.0]]])
    p = torch.sigmoid(torch.tensor([2.0, -2.0, 1.0]))
    torch.testing.assert_close(answering.log_prob(logits, targets).exp(), p[None])
    opposite = torch.sigmoid(torch.tensor([-2.0, 2.0, -1.0]))
    torch.testing.assert_close(answering.log_prob(logits, targets, trust=-torch.ones(())).exp(), opposite[None])
    # Of the steps that are shown the second half: one, a logit of 3 + log 3, and of a failure both, and 3 + log 1 too
    steps = Steps(3 + torch.tensor([[[1.0, 3.0], [1.0, 3.0], [0.0, 0.0]]]).log(), None)
    p[:2] = torch.tensor([3 / 4, math.sqrt(1 / 2 * 1 / 4)])
    torch.testing.assert_close(answering.log_prob(logits, targets, steps).exp(), p[None])


def test_whose_steps_a_mark_is_of() -> None:
    """Of each answer's first clip: among all clips, or among those that each member sees in a minibatch."""
    logits, mask = torch.arange(12.0).reshape(2, 3, 2), torch.tensor([[[True, True], [True, False], [True, True]]])
    of_all = Steps(logits, mask).of_first(torch.tensor([[2, 0], [1, 1]]))
    assert of_all.logits.tolist() == [[[4, 5], [2, 3]], [[10, 11], [8, 9]]]
    assert of_all.mask is not None and of_all.mask.tolist() == [[[True, True], [True, False]]]
    of_batch = Steps(logits, mask.expand(2, 3, 2)).of_first(torch.tensor([[[2, 0]], [[1, 0]]]))
    assert of_batch.logits.tolist() == [[[4, 5]], [[8, 9]]]
    assert of_batch.mask is not None and of_batch.mask.tolist() == [[[True, True]], [[True, False]]]


def test_of_long_episodes_each_minibatch_sees_some_steps_of_their_own() -> None:
    """Evenly spread over what there is of each, however much; all steps have their turn."""
    answers = small(items=[[0], [1]], ranks=[[0]] * 2, kind=["success"] * 2, value=[1.0, 0.0])
    lengths = torch.tensor([100, 37])
    x = torch.arange(100.0)[None, :, None].expand(2, 100, 1).contiguous()
    mask = torch.arange(100) < lengths[:, None]
    config = RewardConfig(members=2, batch_size=50)
    rng = np.random.default_rng(0)
    batches = Minibatches(ClipInputs(x, mask), Targets.of(answers), np.zeros((2, 2), bool), config, rng)
    seen: list[set[int]] = [set(), set()]
    for clips, present, _, places, _ in batches.draw(60):
        assert clips.shape[2] == 10 and present is None and places.max() == 1
        for i in (0, 1):
            seen[i] |= set(clips[:, i].flatten().int().tolist())
            assert clips[:, i, :, 0].diff(dim=1).min() >= (9 if i == 0 else 3)
    assert [len(steps) for steps in seen] == [100, 37]


def test_a_correction_that_can_tie_is_no_forced_choice() -> None:
    for ties in (False, True):
        answers = small(items=[[0, 1]] * 2, ranks=[[1, 0], [0, 0] if ties else [1, 0]], kind=["correction"] * 2)
        assert Targets.of(answers).forced.tolist() == [not ties] * 2


def test_how_many_answers_stand_behind_preferences() -> None:
    """A ranking of three states three preferences, and is one answer; three ratings state three, two answers each."""
    ranking = small(items=[[0, 1, 2]], ranks=[[0, 1, 2]], kind=["ranking"])
    ratings = small(items=[[0], [1], [2]], ranks=[[0]] * 3, kind=["rating"] * 3, value=[1.0, 2.0, 3.0])
    two = small(items=[[0], [1]], ranks=[[0]] * 2, kind=["rating"] * 2, value=[1.0, 2.0])
    twice = small(items=[[0, 1], [1, 0]], ranks=[[0, 1], [1, 0]], kind=["comparison"] * 2)
    given = [Targets.of(answers) for answers in (ranking, ratings, two, twice)]
    found = [stated_preferences(targets)[1] for targets in given]
    assert [len(answers) for answers in found] == [3, 3, 1, 2]
    assert [independent(answers, targets) for answers, targets in zip(found, given, strict=True)] == [1, 3, 1, 1]
    assert independent(np.zeros((0, 2), np.int64), given[0]) == 0


def test_a_clip_is_scored_once_in_a_minibatch() -> None:
    answers = small(items=[[0, 1], [0, 2], [0, 3]], ranks=[[0, 1]] * 3, kind=["comparison"] * 3)
    x = torch.arange(4.0)[:, None, None].expand(4, 8, 1)
    config = RewardConfig(members=2, batch_size=50)
    batches = Minibatches(ClipInputs(x), Targets.of(answers), np.zeros((2, 3), bool), config, np.random.default_rng(0))
    clips, _, _, places, targets = next(batches.draw(1))
    assert clips.shape == (2, 4, 8, 1) and places.shape == (2, 50, 2)
    named = clips[..., 0, 0].gather(1, places.flatten(1)).reshape(places.shape)
    torch.testing.assert_close(named, targets.items.float())


@pytest.mark.parametrize(
    ("length", "crop", "frames"), [(10, 1.0, (10, 10)), (30, 1.0, (10, 10)), (188, 1.0, (9, 10)), (188, 0.5, (4, 10))]
)
def test_frames_of_a_minibatch(length: int, crop: float, frames: tuple[int, int]) -> None:
    """Steps stay in order and equally far apart, whatever the clip's length; all of them have their turn."""
    answers = small(items=[[0, 1]], ranks=[[0, 1]], kind=["comparison"])
    x = torch.arange(float(length))[None, :, None].expand(2, length, 1)
    config = RewardConfig(members=2, crop=crop)
    batches = Minibatches(ClipInputs(x), Targets.of(answers), np.zeros((2, 1), bool), config, np.random.default_rng(0))
    seen = set()
    for clips, *_ in batches.draw(60):
        steps = clips[..., 0]
        assert frames[0] <= steps.shape[2] <= frames[1]
        assert (steps.diff(dim=2) == stride_of(length, 10)).all() and steps.min() >= 0 and steps.max() < length
        seen |= set(steps.flatten().int().tolist())
    assert len(seen) > 0.9 * length


def test_of_noise_no_step_is_left_out() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.standard_normal((20, 30, 5)))
    walk = noise.cumsum(1)
    assert [alike(x) for x in (noise, walk, walk[:, :1])] == [False, True, False]
    answers = small(items=[[0, 1]], ranks=[[0, 1]], kind=["comparison"])
    batches = Minibatches(ClipInputs(noise), Targets.of(answers), np.zeros((5, 1), bool), RewardConfig(), rng)
    assert batches.stride == 1


def test_nuisance_parameters_start_from_the_answers() -> None:
    ties = small(items=[[0, 1]] * 4, ranks=[[0, 0], [0, 1], [1, 0], [0, 1]], kind=["comparison"] * 4)
    config = RewardConfig(members=3)
    nu = (30 * Answering(Targets.of(ties), config).parameters["tie"]).exp()
    torch.testing.assert_close(nu / (2 + nu), torch.full((3, 1), 0.25))  # Davidson's P(tie) of equals
    rated = small(items=[[0], [1], [2], [3]], ranks=[[0]] * 4, kind=["rating"] * 4, value=[1, 1, 2, 4])
    assert Answering(Targets.of(rated), config).parameters["cuts"].shape == (3, 3)
    assert not Answering(Targets.of(small(items=[[0, 1]], ranks=[[0, 1]], kind=["comparison"])), config).parameters


def test_each_answer_is_read_by_the_likelihood_of_its_kind() -> None:
    """One of each kind in one batch, ties among them; clips of an answer that are not there do not count."""
    answers = small(
        items=[[0, 1, -1], [1, 2, 3], [4, 0, 2], [3, 2, -1], [0, -1, -1], [4, -1, -1], [1, -1, -1], [2, -1, -1]],
        ranks=[[0, 0, -1], [1, 0, 2], [0, 1, 1], [1, 0, -1], *[[0, -1, -1]] * 4],
        kind=["comparison", "ranking", "demonstration", "correction", "rating", "rating", "reward", "reward"],
        value=[NAN] * 4 + [3, 1, 5.0, 7.0],
    )
    targets, config = Targets.of(answers), RewardConfig(members=2, lapse=0.1)
    answering = Answering(targets, config)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32))
    found = answering.log_prob(logits, targets)
    p = {name: 30 * value for name, value in answering.parameters.items()}
    ranks = torch.tensor(answers.ranks)
    cuts, std = ordered_cuts(p["cuts"])[:, None], torch.log(0.1 + torch.exp(p["std"]))
    rewards = torch.tensor([-1.0, 1.0])  # 5 and 7, standardised
    expected = [
        ranking_log_prob(logits[:, :2], ranks[:2], p["tie"], 0.1, 2),
        ranking_log_prob(logits[:, 2:4], ranks[2:4], None, 0.1),
        rating_log_prob(logits[:, 4:6, 0], torch.tensor([2, 0]), cuts, 0.1),
        reward_log_prob(logits[:, 6:, 0], rewards, p["slope"], p["intercept"], std, 0.1),
    ]
    torch.testing.assert_close(found, torch.cat(expected, 1))
