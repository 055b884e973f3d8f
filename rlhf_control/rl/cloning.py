"""Behaviour cloning: a policy made to do what was demonstrated, before preferences take over."""

import numpy as np
import torch

from rlhf_control.data import Segments
from rlhf_control.nets.policy import Policy

LR, MINIBATCH = 1e-3, 64


def clone(policy: Policy, shown: Segments, epochs: int, rng: np.random.Generator) -> list[float]:
    """Raises the actor's log-likelihood of the demonstrated steps (..., L), by so many passes of Adam; critic,
    normaliser and a noise that is one for all states stay as they are. Returns the mean loss (nats a step) of each
    pass."""
    features = policy.features(shown.obs.reshape(-1, policy.spaces.obs_size))
    action = torch.from_numpy(policy.spaces.chosen(shown.action.reshape(len(features), -1)))
    parts = (policy.actor, policy.trunk, policy.encoder)
    optimizer = torch.optim.Adam([parameter for part in parts for parameter in part.parameters()], lr=LR)
    history = []
    for _ in range(epochs):
        losses = []
        for rows in torch.from_numpy(rng.permutation(len(features))).split(MINIBATCH):
            loss = -policy.distribution(features[rows]).log_prob(action[rows]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(rows))
        history.append(sum(losses) / len(features))
    policy.zero_grad(set_to_none=True)  # log_std had one too
    return history
