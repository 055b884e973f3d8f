"""The Agents of CleanRL's PPO scripts (fe8d8a03)."""

import torch
from torch import nn


def tower(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


class Agent(nn.Module):
    """Of ppo_continuous_action.py, or of ppo.py."""

    def __init__(self, inputs: int, actions: int, continuous: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.critic = tower(inputs, 1)
        if continuous:
            self.actor_mean = tower(inputs, actions)
            self.actor_logstd = nn.Parameter(torch.linspace(-1, 1, actions)[None])
        else:
            self.actor = tower(inputs, actions)
