from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.data import CORRECTION, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.oracles import RewardOracle
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.queries.choose import Pool
from rlhf_control.queries.corrections import take_overs
from rlhf_control.queries.takeovers import cockpit, names_a_policy, pilot_of, take_over
from rlhf_control.simulation.simulator import attempt_from, bare_simulator
from tests.queries.clips import clips_of, policy_of

REACHER = "Reacher-v5"


def reward(s: Segments) -> np.ndarray:
    return s.action.sum(-1)


def test_what_a_controller_does_stands_above_what_the_policy_would_have_done(tmp_path: Path) -> None:
    """Ten steps and then twenty of an episode of 50, in clips of ten. From each one's first state the stored actions
    lead to the stored clip, and the policy's own to the other one; a run takes them in."""
    policy, store = policy_of(REACHER), FeedbackStore(tmp_path / "labels.sqlite")
    seen: list[np.ndarray] = []

    def controller(obs: np.ndarray, step: int) -> Any:
        seen.append(obs)
        return np.array([0.5, -1.0]) if 5 <= step < 15 or 25 <= step < 45 else None

    keys = take_over(pilot_of(policy, 0.2), controller, store, "me", seed=3)
    assert len(seen) == 50 and len(keys) == 3
    queries = [store.query(key) for key in keys]
    simulator = bare_simulator(REACHER, {})
    for query, start in zip(queries, (5, 25, 35), strict=True):
        original, improved = query.segments[0], query.segments[1]
        assert query.kind == CORRECTION and len(improved) == 10
        np.testing.assert_array_equal(improved.obs, np.stack(seen[start : start + 10]))
        assert (improved.action == np.float32([0.5, -1.0])).all()
        np.testing.assert_array_equal(original.state[0], improved.state[0])  # type: ignore[index]
        again, _ = attempt_from(simulator, policy.acting(), policy.spaces, improved, None)
        np.testing.assert_array_equal(again.obs, original.obs)
        actions = iter(improved.action)
        again, _ = attempt_from(simulator, lambda *_, a=actions: next(a)[None], policy.spaces, improved, None)
        np.testing.assert_allclose(again.next_obs, improved.next_obs, atol=1e-4)
    labels = Labels(store, None, 0)
    labels.collect()
    answers = labels.answers()
    assert answers is not None and answers.ranks.tolist() == [[1, 0]] * 3 and labels.pending() == []


def test_a_game_is_taken_over_by_its_choices(tmp_path: Path) -> None:
    policy = policy_of("rlhf/Bricks-v0")
    store = FeedbackStore(tmp_path / "labels.sqlite")
    (key,) = take_over(pilot_of(policy, 0.5), lambda _, step: 2 if 10 <= step < 14 else None, store, "me")
    query = store.query(key)
    assert query.segments[1].action[-4:, 2].all()
    assert len(query.segments[1]) == pilot_of(policy, 0.5).length  # the policy's own steps come first
    np.testing.assert_array_equal(query.segments[0].obs[:-4], query.segments[1].obs[:-4])


def test_an_expert_takes_over_where_the_policy_falls_behind(tmp_path: Path) -> None:
    policy, expert = policy_of(REACHER), policy_of(REACHER)
    clips = clips_of(policy, 8, 6)
    labels = Labels(FeedbackStore(tmp_path / "labels.sqlite"), RewardOracle(reward, "planted"), 0)
    pool = Pool.of(clips)
    queries = take_overs(policy, expert, labels, pool, 3, 0, np.random.default_rng(0))
    assert not pool.free.all() and pool.free.sum() == 2
    taken = {q.segments[0].digest() for q in queries}
    sums = {clips[i].digest(): reward(clips)[i].sum() for i in range(8) if not pool.free[i]}
    assert taken <= sums.keys() and sum(sums[d] for d in taken) < sum(sums[d] for d in sums.keys() - taken)
    shown, _ = attempt_from(bare_simulator(REACHER, {}), expert.acting(), policy.spaces, queries[0].segments[0], None)
    np.testing.assert_array_equal(shown.obs, queries[0].segments[1].obs)
    assert [q.kind for q in queries] == [CORRECTION] * 3 and {q.strategy for q in queries} == {"take-over"}
    with pytest.raises(UserError, match="twice as many clips"):
        take_overs(policy, expert, labels, pool, 3, 0, np.random.default_rng(0))


def test_who_cannot_be_taken_over_is_one_line(tmp_path: Path) -> None:
    assert names_a_policy("halfcheetah") and names_a_policy(str(tmp_path)) and not names_a_policy("Reacher-v5")
    policy_of(REACHER).save(tmp_path / "policy.npz")
    with pytest.raises(UserError, match=r"no labels\.sqlite to keep corrections in; name a fine-tuning run, or a file"):
        cockpit(str(tmp_path / "policy.npz"))
    pilot, store = cockpit(str(tmp_path / "policy.npz"), out=str(tmp_path / "new" / "mine.sqlite"))
    assert pilot.env_id == REACHER and pilot.length == 75 and store.path.is_file()
    with pytest.raises(UserError, match="cannot be put back"):
        take_over(policy_of("CartPole-v1"), lambda *_: None, store, "me")
