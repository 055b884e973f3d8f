"""CleanRL's models: what `torch.save(agent.state_dict(), path)` writes for the Agents of its PPO scripts (fe8d8a03)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy
from tests.interop.cleanrl_agent import Agent
from tests.interop.shown_env import samples


def read(path: Path, kind: str, **options: Any) -> Any:
    return find_policy(path, "Shown-v0", env={"kind": kind}, **options)


def test_box_actions_with_and_without_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent, path = Agent(3, 2, continuous=True), tmp_path / "ppo_continuous_action.cleanrl_model"
    torch.save(agent.state_dict(), path)
    np.savez(tmp_path / "stats.npz", mean=np.array([1.0, 2, 3]), var=np.array([4.0, 0.25, 9]), count=100)
    _, obs = samples("box")
    for options in ({}, {"obs_stats": tmp_path / "stats.npz"}):
        policy = read(path, "box", **options)
        seen = np.clip((obs - [1, 2, 3]) / np.sqrt(np.array([4, 0.25, 9]) + 1e-8), -10, 10) if options else obs
        with torch.no_grad():
            ours = policy.distribution(policy.features(obs))
            mean = agent.actor_mean(torch.from_numpy(seen.astype(np.float32)))
            values = agent.critic(torch.from_numpy(seen.astype(np.float32)))[:, 0]
            normal = torch.distributions.Normal(mean, agent.actor_logstd.exp().expand_as(mean))
            action = normal.sample()
            torch.testing.assert_close(ours.log_prob(action), normal.log_prob(action).sum(-1), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(policy.value(policy.features(obs)), values, rtol=1e-4, atol=1e-4)
        assert ("its skill is lost" in capsys.readouterr().err) == (not options)


def test_choices_and_pictures(tmp_path: Path) -> None:
    agent = Agent(3, 3, continuous=False)
    torch.save(agent.state_dict(), tmp_path / "ppo.cleanrl_model")
    _, obs = samples("discrete")
    policy = read(tmp_path / "ppo.cleanrl_model", "discrete")
    with torch.no_grad():
        logits = policy.distribution(policy.features(obs)).logits
        torch.testing.assert_close(logits, agent.actor(torch.from_numpy(obs)), rtol=1e-4, atol=1e-4)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 2, 512), nn.ReLU(),
    )  # fmt: skip
    seeing = nn.ModuleDict({"network": network, "actor": nn.Linear(512, 3), "critic": nn.Linear(512, 1)})
    torch.save(seeing.state_dict(), tmp_path / "ppo_atari.cleanrl_model")
    raw, packed = samples("picture", 8)
    policy = read(tmp_path / "ppo_atari.cleanrl_model", "picture")
    with torch.no_grad():
        hidden = network(torch.from_numpy(raw).permute(0, 3, 1, 2) / 255.0)
        logits = policy.distribution(policy.features(packed)).logits
        torch.testing.assert_close(logits, seeing["actor"](hidden), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "weights, words",
    [
        ({"q_network.0.weight": torch.ones(2, 2)}, "is DQN of CleanRL"),
        ({"fc1.weight": torch.ones(2, 2), "fc_logstd.weight": torch.ones(2, 2)}, "is SAC of CleanRL"),
        ({"x": torch.ones(2)}, "is no PPO of CleanRL"),
        ({"x": "text"}, "cannot read"),
        (Agent(4, 2, continuous=True).state_dict(), r"4 inputs and 2 outputs, but Shown-v0 has .*Box\(3,\)"),
    ],
)
def test_others_are_refused_by_name(tmp_path: Path, weights: Any, words: str) -> None:
    torch.save(weights, tmp_path / "x.cleanrl_model")
    with pytest.raises(UserError, match=words):
        read(tmp_path / "x.cleanrl_model", "box")
