import numpy as np
import pytest

from rlhf_control.behaviours import BEHAVIOURS, PACE
from rlhf_control.data import Segments
from rlhf_control.errors import UserError


def steady(speed: float, z: float = 0.0, pitch: float = 0.0, effort: float = 0.0, steps: int = 21) -> Segments:
    """A cheetah that glides at `speed` m/s in a fixed pose."""
    obs = np.zeros((steps, 17), np.float32)
    obs[:, 0], obs[:, 1], obs[:, 8] = z, pitch, speed
    state = np.zeros((steps, 18))
    state[:, 0] = speed * 0.05 * np.arange(steps)
    state[:, 1], state[:, 2], state[:, 9] = z, pitch, speed
    action = np.full((steps, 6), effort, np.float32)
    return Segments(obs, action, obs, np.zeros(steps, np.float32), state)


def test_backward() -> None:
    b = BEHAVIOURS["backward"]
    np.testing.assert_allclose(b.reward(steady(-3, effort=0.5)), 3 - 0.1 * 6 * 0.25, rtol=1e-6)
    assert b.score(steady(-3)) == pytest.approx(3)
    assert b.score(steady(2)) == pytest.approx(-2)


def test_keep_pace() -> None:
    b = BEHAVIOURS["keep-pace"]
    np.testing.assert_allclose(b.reward(steady(PACE + 1)), -1, rtol=1e-6)
    assert b.score(steady(PACE)) == 1 and b.score(steady(PACE + 0.5)) == 0


def test_hind_legs() -> None:
    """At z = -0.15 both feet are on the floor; pitched by -0.3 rad the hind foot alone, by 0.5 rad the front."""
    b = BEHAVIOURS["hind-legs"]
    low, up = steady(2, z=-0.15), steady(2, pitch=-0.3)
    assert (b.reward(steady(2, pitch=0.5)) == 0).all()
    np.testing.assert_allclose(b.reward(low), 2 - 2, atol=1e-6)
    np.testing.assert_allclose(b.reward(up), 2, rtol=1e-6)
    assert b.score(low) == 0 and b.score(up) == 1 and b.score(steady(0.5, pitch=-0.3)) == 0


def test_prowl() -> None:
    b = BEHAVIOURS["prowl"]
    np.testing.assert_allclose(b.reward(steady(1, z=-0.15)), 0.5, atol=1e-6)
    np.testing.assert_allclose(b.reward(steady(1, z=0.05)), 0.5 - 1, atol=1e-6)
    assert b.score(steady(1.5, z=-0.15)) == 1 and b.score(steady(1.5, z=0)) == 0 and b.score(steady(0.5, z=-0.15)) == 0


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_shapes_and_independence(name: str) -> None:
    """Rewards are a step's, scores a clip's; neither reads the environment's reward, scores not what rewards read."""
    b = BEHAVIOURS[name]
    clips = Segments.stack([steady(s, z=-0.1) for s in (-2.0, 1.0, 2.0)])
    blind = Segments(clips.obs, clips.action, clips.next_obs, np.full_like(clips.env_reward, np.nan), clips.state)
    assert b.reward(blind).shape == (3, 21) and b.score(blind).shape == (3,)
    assert np.isfinite(b.reward(blind)).all() and np.isfinite(b.score(blind)).all()
    others = Segments(clips.obs * 0, clips.action * 0, clips.next_obs * 0, clips.env_reward, clips.state)
    np.testing.assert_array_equal(b.score(others), b.score(clips))
    with pytest.raises(UserError, match="simulator states"):
        b.score(Segments(clips.obs, clips.action, clips.next_obs, clips.env_reward))
