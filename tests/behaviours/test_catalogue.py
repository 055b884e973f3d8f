import time
from collections.abc import Callable

import numpy as np
import pytest

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.locomotion import (
    OBS_SIZES,
)
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError
from tests.behaviours.steps import steps_of

# Those of others' robots are in tests/robotics; replies, which are judged whole, in test_dialogue
NAMES = [name for name, b in BEHAVIOURS.items() if ":" not in b.env_id and b.env_id != "rlhf/Dialogue-v0"]


@pytest.mark.parametrize("name", NAMES)
def test_with_the_real_environment(name: str) -> None:
    """Rewards are a step's, scores a clip's; scores read nothing that learners or rewards read, neither reads the
    environment's reward; a random policy has no success, and has rewards that differ."""
    b = BEHAVIOURS[name]
    s = steps_of(b.env_id, 300)
    assert b.env_id not in OBS_SIZES or s.obs.shape[-1] in OBS_SIZES[b.env_id]
    blind = Segments(s.obs, s.action, s.next_obs, np.full_like(s.env_reward, np.nan), s.state)
    assert b.reward(blind).shape == (300,) and np.isfinite(b.reward(blind)).all() and b.reward(blind).std() > 0.001
    assert abs(b.score(blind)) < 0.35
    others = Segments(s.obs * 0, s.action * 0, s.next_obs * 0, s.env_reward, s.state)
    assert b.score(others) == b.score(s)
    clips = Segments.stack([s[:150], s[150:]])
    np.testing.assert_array_equal(b.reward(clips), b.reward(s).reshape(2, 150))
    np.testing.assert_array_equal(b.score(clips), [b.score(s[:150]), b.score(s[150:])])
    assert b.question.startswith("Which") and b.question.endswith("?")


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_judged_is_refused(name: str) -> None:
    b = BEHAVIOURS[name]
    s = steps_of(b.env_id, 5)
    with pytest.raises(UserError, match="simulator states"):
        b.score(Segments(s.obs, s.action, s.next_obs, s.env_reward))
    if b.env_id not in OBS_SIZES:  # it reads states alone
        return
    other = Segments(s.obs[:, 1:], s.action, s.next_obs[:, 1:], s.env_reward, s.state)
    with pytest.raises(UserError, match="arguments about observations"):
        b.reward(other)


@pytest.mark.parametrize("name", ["hind-legs", "one-leg", "three-legs"])
def test_contacts_of_a_pool_are_found_in_time(name: str) -> None:
    """200 clips of 30 steps in half a second."""
    s = steps_of(BEHAVIOURS[name].env_id, 30)
    pool = Segments.stack([s] * 200)

    def seconds(work: Callable[[Segments], Array]) -> float:
        started = time.perf_counter()
        work(pool)
        return time.perf_counter() - started

    assert min(seconds(BEHAVIOURS[name].reward) for _ in range(3)) < 0.5
