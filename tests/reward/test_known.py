import numpy as np
import pytest

from rlhf_control.reward.known import KnownReward
from rlhf_control.reward.model import comparisons
from tests.conftest import random_segments
from tests.reward.given_answers import answered, planted


def test_known_reward_stands_in() -> None:
    reward = KnownReward(planted, centered=True)
    reference = random_segments(np.random.default_rng(1), 10, 30)
    assert (reward.predict(reference) == 0).all()
    pairs, target = answered(30, 0)
    reward.fit(comparisons(pairs, target), reference, np.random.default_rng(0))
    assert reward.predict(reference).mean() == pytest.approx(0, abs=1e-5)
    assert reward.predict(reference).std() == pytest.approx(1, abs=1e-5)
    assert ((reward.probability(pairs)[0] > 0.5) == (target > 0.5)).all()
    again = KnownReward(planted, centered=True)
    again.load_state(reward.state())
    np.testing.assert_array_equal(again.predict(reference), reward.predict(reference))
    constant = KnownReward(lambda s: np.ones_like(s.env_reward), scaled=False)
    constant.fit(comparisons(pairs, target), reference, np.random.default_rng(0))
    assert (constant.predict(reference) == 1).all()


def test_the_zero_of_a_known_reward_stays_so_that_an_end_can_be_a_loss() -> None:
    reward = KnownReward(lambda s: 3 + planted(s))
    reference = random_segments(np.random.default_rng(1), 10, 30)
    pairs, target = answered(30, 0)
    reward.fit(comparisons(pairs, target), reference, np.random.default_rng(0))
    of_reference = 3 + planted(reference)
    np.testing.assert_allclose(reward.predict(reference), of_reference / of_reference.std(), rtol=1e-5)


def test_logits_of_clips_are_what_the_probabilities_come_from(fitted: tuple) -> None:
    model = fitted[0]
    pairs, _ = answered(20, 3)
    logits = model.clip_logits(pairs)  # (E, Q, 2)
    difference = logits[..., 0] - logits[..., 1]
    np.testing.assert_allclose(model.probability(pairs), 1 / (1 + np.exp(-difference)), rtol=1e-5)
    np.testing.assert_allclose(model.clip_logits(pairs[4]), logits[:, 4], rtol=1e-4, atol=1e-5)
    known = KnownReward(planted)
    assert known.clip_logits(pairs).shape == (1, 20, 2)
    assert (
        (known.clip_logits(pairs)[0, :, 0] > known.clip_logits(pairs)[0, :, 1]) == (known.probability(pairs)[0] > 0.5)
    ).all()
