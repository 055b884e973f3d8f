import numpy as np

from rlhf_control.data import Segments
from rlhf_control.queries.corrections import attempt_again
from rlhf_control.simulation.rollouts import evaluate
from tests.queries.clips import clips_of, policy_of


def test_attempts_differ_and_begin_where_the_clip_began() -> None:
    policy = policy_of("HalfCheetah-v5")
    clips = clips_of(policy, 3, 10)
    attempts = attempt_again(policy, clips, 4, np.random.default_rng(0))
    assert attempts.obs.shape == (3, 4, 10, 17) and attempts.env_reward.shape == (3, 4, 10)
    assert clips.state is not None and attempts.state is not None
    for i in range(3):
        assert (attempts.state[i, :, 0] == clips.state[i, 0]).all() and (attempts.obs[i, :, 0] == clips.obs[i, 0]).all()
        assert len({attempts[i][j].digest() for j in range(4)}) == 4
    np.testing.assert_array_equal(attempts.next_obs[..., :-1, :], attempts.obs[..., 1:, :])
    again = attempt_again(policy, clips, 4, np.random.default_rng(0))
    assert again.digest() == attempts.digest()


def test_a_try_that_ends_early_is_made_again() -> None:
    """Hopper falls sooner or later: none of these attempts has."""
    policy = policy_of("Hopper-v5")
    _, episodes = evaluate(policy, 4, seed=0, deterministic=False)
    clips = Segments.stack([e[len(e) - 12 :][:8] for e in episodes])  # four steps before the fall
    attempts = attempt_again(policy, clips, 3, np.random.default_rng(0))
    assert attempts.state is not None and (attempts.state[..., 1] > 0.7).all()  # it counts as healthy above
