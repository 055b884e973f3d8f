"""Our own games, as training steps them."""

from pathlib import Path

import numpy as np
import pytest

from envs import GAMES
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, PretrainConfig, RewardConfig
from rlhf_control.errors import UserError
from rlhf_control.simulation.backends.games import GamesBackend
from rlhf_control.simulation.make import make_backend
from rlhf_control.simulation.vector import Envs, start_envs
from rlhf_control.train import finetune, pretrain


def played(envs: Envs, steps: int, seed: int) -> np.ndarray:
    """Observations (steps, N, O) under random actions."""
    (choices,), rng = envs.spaces.choices, np.random.default_rng(seed)
    steps_taken = []
    for _ in range(steps):
        action = rng.integers(choices, size=(envs.num_envs, 1))
        steps_taken.append(envs.step(action, envs.spaces.execute(action)))
    return np.stack([np.concatenate([a.reshape(len(a), -1) for a in step], 1) for step in steps_taken])


@pytest.mark.parametrize("env_id", list(GAMES))
@pytest.mark.parametrize("obs", ["state", "pixels", "planes"])
def test_they_go_on_exactly_where_they_were(env_id: str, obs: str) -> None:
    env = {"obs": obs, "max_episode_steps": 60}
    envs = start_envs(env_id, 3, seed=1, env=env)
    assert isinstance(envs.backend, GamesBackend) and envs.probe() == ""
    assert envs.spaces.parts[0].picture == (obs != "state") and envs.step_seconds == pytest.approx(1 / 15)
    played(envs, 40, 0)
    there, states = envs.state(), envs.states()
    onward = played(envs, 40, 1)  # over an end
    other = start_envs(env_id, 3, seed=9, env=env)
    other.load_state(there)
    assert other.differs == ""
    np.testing.assert_array_equal(other.states(), states)
    np.testing.assert_array_equal(played(other, 40, 1), onward)


def test_both_backends_step_the_same_game() -> None:
    one = start_envs("rlhf/Bricks-v0", 2, seed=3, env={"obs": "planes"})
    two = start_envs("rlhf/Bricks-v0", 2, seed=3, env={"obs": "planes"}, backend="gymnasium")
    np.testing.assert_array_equal(played(one, 60, 0), played(two, 60, 0))
    np.testing.assert_array_equal(one.states(), two.states())


def test_a_render_mode_takes_gymnasiums_own() -> None:
    backend = make_backend("rlhf/Orchard-v0", 1, 0, "auto", {"render_mode": "rgb_array"})
    assert not isinstance(backend, GamesBackend) and backend.picture(0).shape == (504, 504, 3)


@pytest.mark.parametrize(
    ("env_id", "backend", "env", "words"),
    [
        ("CartPole-v1", "games", {}, "CartPole-v1 is none of our own games; use --backend auto"),
        ("rlhf/Bricks-v0", "games", {"render_mode": "rgb_array"}, "do not draw"),
        ("rlhf/Bricks-v0", "auto", {"obs": "pixel"}, "did you mean pixels"),
        ("rlhf/Orchard-v0", "auto", {"terminate_when_unhealthy": False}, "terminate_when_unhealthy"),
        ("rlhf/Orchard-v0", "auto", {"max_episode_steps": 0}, "max_episode_steps"),
        ("rlhf/Brick-v0", "auto", {}, "did you mean rlhf/Bricks-v0"),
    ],
)
def test_what_is_refused_is_refused_in_a_line(env_id: str, backend: str, env: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make_backend(env_id, 1, 0, backend, env)
    assert "\n" not in str(caught.value)


def test_a_seed_that_is_none_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="a seed is a whole number from 0"):
        make_backend("rlhf/Bricks-v0", 1, -1, "auto", {})


def test_a_state_of_another_game_is_refused() -> None:
    one, two = (make_backend(env_id, 1, 0, "games", {}) for env_id in GAMES)
    with pytest.raises(UserError, match=r"a state of rlhf/Bricks-v0 cannot be restored into rlhf/Orchard-v0"):
        two.load_state(one.state())
    with pytest.raises(UserError, match="do not draw themselves"):
        one.picture(0)


@pytest.mark.slow
def test_ppo_learns_to_break_bricks(tmp_path: Path) -> None:
    """Random actions break 1.1 of 18 bricks; after some seconds it is more than twice that, after 100,000 steps 14."""
    ppo = PPOConfig(num_envs=16, num_steps=128, minibatch_size=128, entropy_coef=0.01, lr=1e-3)
    run = pretrain(PretrainConfig("rlhf/Bricks-v0", total_steps=14 * 2048, ppo=ppo, out=str(tmp_path / "run")))
    returns = [row["env_return"] for row in run.metrics() if row.get("env_return") is not None]
    assert np.mean(returns[-3:]) > 2.5 > 2 * np.mean(returns[:1])


def test_a_style_is_learned_from_planes_from_end_to_end(tmp_path: Path) -> None:
    """Planes are a picture to policy and reward; clips keep the states that behaviours read."""
    ppo = PPOConfig(num_envs=4, num_steps=32, minibatch_size=64, epochs=1)
    start = pretrain(
        PretrainConfig("rlhf/Orchard-v0", total_steps=128, ppo=ppo, env={"obs": "planes"}, out=str(tmp_path / "start"))
    )
    run = finetune(
        FinetuneConfig(
            str(start.path), oracle="tidy", labels=6, first_labels=3, rounds=2, total_steps=5 * 128, clip_seconds=0.6,
            out=str(tmp_path / "run"), video=False, ppo=ppo, reward=RewardConfig(steps=5, members=2, bootstrap=0.5),
            guard=GuardConfig(chance="off"),
        )
    )  # fmt: skip
    assert run.finished()
