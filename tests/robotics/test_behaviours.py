"""Scores compute from states what rewards read in observations."""

from contextlib import closing
from typing import Any

import numpy as np

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.robots import FETCH_ID, METAWORLD_ID
from rlhf_control.data import Segments, widened
from rlhf_control.simulation.vector import start_envs

SEED = 3  # of an episode in which Fetch's goal lies above its gripper


def episode(env_id: str, env: dict[str, Any], actions: np.ndarray) -> Segments:
    with closing(start_envs(env_id, 1, seed=SEED, env=env)) as envs:
        obs, following, states = [], [], []
        for action in actions:
            obs.append(envs.obs[0])
            found = envs.states()
            assert found is not None
            states.append(found[0])
            following.append(envs.step(action[None], action[None])[0][0])
    rewards = np.full(len(obs), np.nan, np.float32)
    return Segments(np.stack(obs), actions, np.stack(following), rewards, np.stack(widened(states)))


def test_from_above() -> None:
    """A gripper that rises first and then goes to 8 cm above the goal, and one that goes straight there."""
    scores = []
    for above in (0.08, 0.0):
        with closing(start_envs(FETCH_ID, 1, seed=SEED)) as envs:
            actions = []
            for _ in range(30):
                there = envs.obs[0, 3:6] + [0, 0, above] - envs.obs[0, :3]
                there[:2] *= above == 0 or there[2] < 0.02
                action = np.append(np.clip(10 * there, -1, 1), 0).astype(np.float32)
                actions.append(action)
                envs.step(action[None], action[None])
        s = episode(FETCH_ID, {}, np.stack(actions))
        there = s.obs[:, :3] - s.obs[:, 3:6]
        first = np.argmax(np.hypot(there[:, 0], there[:, 1]) < 0.05)
        scores.append(float(BEHAVIOURS["reach-from-above"].score(s)))
        assert abs(scores[-1] - 100 * max(there[first, 2], 0)) < 1, "as observed, up to the substep that Fetch lags"
    assert scores[0] > scores[1] + 2


def test_the_hand_is_as_high_in_all_tasks() -> None:
    up = np.tile(np.array([0, 0, 1, 0], np.float32), (60, 1))
    for name in ("door-open-v3", "hammer-v3"):
        s = episode(METAWORLD_ID, {"env_name": name}, up)
        score = float(BEHAVIOURS["hand-high"].score(s))
        assert score > 0.3 and abs(score - (s.obs[:, 2] > 0.25).mean()) < 0.2, name
        assert float(BEHAVIOURS["hand-high"].score(episode(METAWORLD_ID, {"env_name": name}, -up))) < 0.2
