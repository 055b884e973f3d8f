import numpy as np
import pytest

from rlhf_control.data import COMPARISON, KINDS, Answers, Array, Segments
from rlhf_control.reward.ends import CAUTION, SPREAD, EndCosts, Worth, preferences, worth
from tests.reward.given_answers import known

LENGTH = 8


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def clips_of(rewards: Array, steps: Array) -> Segments:
    """Clips (S, LENGTH) of which so many steps are there, with these rewards."""
    nothing = np.zeros((*rewards.shape, 1), np.float32)
    mask = np.arange(LENGTH) < steps[:, None]
    return Segments(nothing, nothing, nothing, rewards.astype(np.float32), mask=mask)


def answered(cost: float, number: int, seed: int, wrong: float = 0.0) -> Answers:
    """Answers by the sum of the rewards, where a step that is lacking is worth minus `cost`."""
    rng = np.random.default_rng(seed)
    rewards, steps = rng.normal(size=(2 * number, LENGTH)), np.full(2 * number, LENGTH)
    steps[::2] = rng.integers(2, LENGTH, size=number)
    clips = clips_of(rewards, steps)
    assert clips.mask is not None
    sums = np.where(clips.mask, rewards, -cost).sum(1).reshape(number, 2)
    better = (sums[:, 0] > sums[:, 1]) ^ (rng.random(number) < wrong)
    ranks = np.stack([~better, better], 1).astype(np.int64)
    items, kind = np.arange(2 * number).reshape(number, 2), np.full(number, KINDS.index(COMPARISON))
    return Answers(clips, items, ranks, kind, np.full(number, np.nan))


def test_what_there_is_of_a_clip_counts_and_what_it_lacks_is_a_share() -> None:
    rewards = np.array([[1.0] * LENGTH, [2.0] * LENGTH])
    found = worth(known(scale=3.0, unsure=0.5), clips_of(rewards, np.array([LENGTH, 2])), LENGTH)
    np.testing.assert_allclose(found.there, [[3.0, 3 * 2 * 2 / 8]])
    np.testing.assert_allclose(found.unsure, [[1.5, 3 * 0.5 * 2 / 8]])
    np.testing.assert_allclose(found.lacking, [[0.0, 3 * 6 / 8]])


def test_whole_clips_lack_nothing() -> None:
    clips = clips_of(np.ones((2, LENGTH)), np.full(2, LENGTH))
    whole = Segments(clips.obs, clips.action, clips.next_obs, clips.env_reward)
    for one, other in zip(worth(known(), clips, LENGTH), worth(known(), whole, LENGTH), strict=True):
        np.testing.assert_array_equal(one, other)


def test_preferences_by_hand() -> None:
    """The first clip lacks half: at a cost of 2 that is a logit of 1 less than the second."""
    nothing, items = np.zeros((1, 2)), np.array([[0, 1]])
    half = Worth(nothing, nothing, np.array([[0.5, 0.0]]))
    p = preferences(half, items, np.array([0.0, 2.0]), lapse=0.2)
    np.testing.assert_allclose(p[:, 0], [0.5, 0.8 * sigmoid(-1.0) + 0.1])
    opposite = preferences(half, items, np.array([2.0]), lapse=0.0, trust=np.array([-1.0]))
    np.testing.assert_allclose(opposite, [[sigmoid(1.0)]])
    unsure = half._replace(unsure=np.array([[3.0, 4.0]]))
    p = preferences(unsure, items, np.array([2.0]), lapse=0.0)
    np.testing.assert_allclose(p, [[sigmoid(-1 / np.sqrt(1 + np.pi * 25 / 8))]])


def test_members_are_asked_each_and_their_chances_averaged() -> None:
    nothing = np.zeros((2, 2))
    p = preferences(Worth(np.array([[0.0, 1.0], [0.0, -3.0]]), nothing, nothing), np.array([[0, 1]]), np.ones(1), 0.0)
    np.testing.assert_allclose(p, [[(sigmoid(-1.0) + sigmoid(3.0)) / 2]])


def test_before_anybody_is_asked_it_is_what_was_given() -> None:
    ends = EndCosts(6.0, LENGTH)
    assert CAUTION * ends.costs[0] == pytest.approx(6 / 2**2.5) and CAUTION * ends.costs[-1] == pytest.approx(
        6 * 2**2.5
    )
    assert ends.cost == pytest.approx(6.0)
    assert SPREAD / 1.5 < ends.spread < SPREAD
    metrics = ends.learn(known(), None, lapse=0.0)
    assert metrics == {"end_costs": ends.cost, "end_costs_spread": ends.spread}


@pytest.mark.parametrize("cost", [2.0, 4.0, 8.0])
def test_answers_tell_what_an_end_costs(cost: float) -> None:
    ends = EndCosts(6.0, LENGTH)
    ends.learn(known(scale=20.0), answered(cost, 60, seed=1), lapse=0.1)
    assert ends.cost == pytest.approx(CAUTION * cost, rel=0.3)
    assert ends.spread < 0.7 * SPREAD


def test_wrong_answers_are_outvoted() -> None:
    ends = EndCosts(6.0, LENGTH)
    ends.learn(known(scale=20.0), answered(2.0, 150, seed=2, wrong=0.2), lapse=0.4)
    assert ends.cost == pytest.approx(CAUTION * 2.0, rel=0.4)


def test_who_says_the_opposite_says_as_much() -> None:
    answers, ends, other = answered(2.0, 40, seed=3), EndCosts(6.0, LENGTH), EndCosts(6.0, LENGTH)
    ends.learn(known(), answers, lapse=0.1)
    liars = Answers(answers.clips, answers.items, answers.ranks[:, ::-1], answers.kind, answers.value)
    other.learn(known(trust=-1.0), liars, lapse=0.1)
    np.testing.assert_allclose(ends.belief, other.belief)


def test_equal_clips_mean_that_what_is_lacking_makes_up_for_the_rest() -> None:
    """A clip of half the steps, 4 better at each, is worth a whole one: a step of nothing costs 4."""
    rewards = np.stack([np.full(LENGTH, 4.0), np.zeros(LENGTH)])
    clips, n = clips_of(rewards, np.array([LENGTH // 2, LENGTH])), 30
    items, ranks = np.tile([0, 1], (n, 1)), np.zeros((n, 2), np.int64)
    ties = Answers(clips, items, ranks, np.full(n, KINDS.index(COMPARISON)), np.full(n, np.nan))
    ends = EndCosts(6.0, LENGTH)
    ends.learn(known(scale=5.0), ties, lapse=0.0)
    assert ends.costs[ends.belief.argmax()] == ends.costs[np.abs(ends.costs - 4).argmin()]


def test_learning_anew_forgets_what_an_earlier_reward_made_of_the_answers() -> None:
    answers, ends = answered(2.0, 40, seed=4), EndCosts(6.0, LENGTH)
    ends.learn(known(), answers, lapse=0.1)
    once = ends.belief
    ends.learn(known(), answers, lapse=0.1)
    np.testing.assert_array_equal(ends.belief, once)


def test_state_is_taken_up_again() -> None:
    ends, other = EndCosts(6.0, LENGTH), EndCosts(6.0, LENGTH)
    ends.learn(known(), answered(2.0, 10, seed=5), lapse=0.3)
    other.load_state(ends.state())
    assert (other.cost, other.spread, other.lapse) == (ends.cost, ends.spread, 0.3)
    with pytest.raises(ValueError, match="belief has shape"):
        other.load_state({"log_belief": np.zeros(3), "lapse": 0.1})
