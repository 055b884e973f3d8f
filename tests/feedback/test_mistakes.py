import numpy as np
import pytest

from rlhf_control.behaviours.catalogue import env_reward
from rlhf_control.config import AnnotatorConfig
from rlhf_control.data import Array, Query, Segments
from rlhf_control.feedback.mistakes import COLUMNS, Looks, mistake_rate, seen
from rlhf_control.feedback.oracles import RewardOracle


def clips(obs: list[list[float]]) -> Segments:
    """One column of observations; a clip's return is its first."""
    seen = np.array(obs, np.float32)[..., None]
    return Segments(seen, seen * 0, seen, np.where(np.arange(seen.shape[1]) == 0, seen[..., 0], 0).astype(np.float32))


POOL = clips([[0, 0], [1, 3], [4, 4], [2, 8]])  # on the mean at 0, 2, 4, 5; moving by 0, 2, 0, 6
LOOKS = Looks.of(POOL)  # two apart in the roll: 4, 3, 4, 3


def test_fatigue_adds_up_to_coin_flips() -> None:
    config = AnnotatorConfig(mistake=0.1, fatigue=0.02)
    assert [mistake_rate(config, i) for i in (0, 5, 20, 100)] == pytest.approx([0.1, 0.2, 0.5, 0.5])
    assert mistake_rate(AnnotatorConfig(mistake=0.9, fatigue=0.1), 3) == 0.9


def test_what_is_usual_is_measured_in_standard_deviations() -> None:
    sd = np.std([0, 0, 1, 3, 4, 4, 2, 8])
    assert LOOKS.apart * sd == pytest.approx([3, 3, 4, 4])
    assert LOOKS.moving * sd == pytest.approx([0, 0, 2, 6])


@pytest.mark.parametrize(
    ("obs", "rate"),
    [([[1, 1], [1, 1]], 0.4), ([[0, 0], [3.5, 3.5]], 0.2), ([[0, 0], [9, 9]], 0.0), ([[0, 0], [9, 9], [9, 9]], 0.4)],
)
def test_mistakes_are_likelier_the_more_the_nearest_clips_look_alike(obs: list[list[float]], rate: float) -> None:
    assert LOOKS.mistake_rate(AnnotatorConfig(mistake_alike=0.4), clips(obs)) == pytest.approx(rate)


@pytest.mark.parametrize(("obs", "rate"), [([[5, 5], [0, 0]], 0.0), ([[0, 1], [5, 5]], 0.2), ([[0, 9], [0, 0]], 0.4)])
def test_mistakes_are_likelier_the_faster_a_clip_moves(obs: list[list[float]], rate: float) -> None:
    assert LOOKS.mistake_rate(AnnotatorConfig(mistake_fast=0.4), clips(obs)) == pytest.approx(rate)


def test_both_add_up_to_certainty() -> None:
    assert LOOKS.mistake_rate(AnnotatorConfig(mistake_alike=0.8, mistake_fast=0.8), clips([[0, 9], [0, 9]])) == 1.0


@pytest.mark.parametrize(("config", "expected"), [({"mistake_alike": 1.0}, 1.0), ({"mistake_fast": 1.0}, 0.0)])
def test_an_oracle_is_wrong_about_still_clips_that_look_alike(config: dict[str, float], expected: float) -> None:
    oracle = RewardOracle(env_reward, "env", 0.0, AnnotatorConfig(**config))
    rng, query = np.random.default_rng(0), Query(0, 0, "uniform", clips([[1, 1], [1.1, 1.1]]))
    given: list[tuple[int, ...] | None] = [oracle(query, POOL, rng).ranks for _ in range(20)]
    assert np.mean([ranks == (0, 1) for ranks in given]) == expected  # the second is better


def test_what_does_not_vary_counts_for_nothing() -> None:
    still: Array = np.zeros((4, 3, 2), np.float32)
    looks = Looks.of(Segments(still, still, still, still[..., 0]))
    assert looks.mistake_rate(AnnotatorConfig(mistake_fast=0.5), Segments(still, still, still, still[..., 0])) == 0


def test_of_a_picture_so_many_columns_are_looked_at() -> None:
    for size, columns in ((COLUMNS, COLUMNS), (COLUMNS + 1, COLUMNS // 2 + 1), (3 * COLUMNS, COLUMNS)):
        obs: Array = np.zeros((4, 3, size), np.uint8)
        assert seen(Segments(obs, obs, obs, obs[..., 0])).shape == (4, 3, columns)
