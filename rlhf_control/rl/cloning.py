"""Behaviour cloning: a policy made to do what was demonstrated, before preferences take over."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.compute.threads import side_by_side
from rlhf_control.data import Array, Segments
from rlhf_control.nets.policy import Policy, together
from rlhf_control.rl.batch import minibatches

LR, MINIBATCH = 1e-3, 64
PRETRAINING_LR, WARM_UP, WEIGHT_DECAY, MAX_NORM = 3e-3, 50, 0.1, 1.0  # of a pretraining by cloning alone


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


class Cloning:
    """Trains a policy from nothing on demonstrated steps (M, ...), by AdamW: the `learner` of a run that can be stopped
    and gone on with. Steps that are read together stay together."""

    def __init__(
        self, policy: Policy, shown: tuple[Array, Array], size: int, seed_of: Callable[[int], np.random.Generator]
    ) -> None:
        """`shown`: observations (M, O) and actions (M, G). `size`: steps a minibatch. `seed_of(epoch)`: the generator
        of an epoch's order."""
        self.policy, self.size, self.seed_of = policy, size, seed_of
        obs, action = shown
        self.features, self.action = policy.features(obs), torch.from_numpy(action)
        self.together = together(policy, self.features)
        parts = (policy.actor, policy.trunk, policy.encoder)
        self.parameters = [parameter for part in parts for parameter in part.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, PRETRAINING_LR, (0.9, 0.98), weight_decay=WEIGHT_DECAY)
        self.taken = 0  # gradient steps
        self.a_pass = len(minibatches(len(self.action), size, np.random.default_rng(0)))
        self.orders: dict[int, list[Array]] = {}  # of the present epoch

    def train(self, steps: int, total: int) -> float:
        """Takes so many of `total` gradient steps, over which the learning rate falls to zero; returns their mean loss,
        nats an action."""
        losses = []
        for _ in range(steps):
            epoch, place = divmod(self.taken, self.a_pass)
            losses.append(self._gradient(self._order(epoch)[place]))
            nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
            self.taken += 1
            share = min(1.0, self.taken / WARM_UP) * (1 - (self.taken - 1) / total)
            self.optimizer.param_groups[0]["lr"] = PRETRAINING_LR * share
            self.optimizer.step()
        return float(np.mean(losses))

    @torch.no_grad()
    def loss_on(self, obs: Array, action: Array) -> float:
        """Returns the mean loss on other steps, nats an action."""
        out = self.policy.outputs(self.policy.features(obs), gradients=False)
        return float(-self.policy.head(out).log_prob(torch.from_numpy(action)).mean())

    def _order(self, epoch: int) -> list[Array]:
        if self.orders.get(epoch) is None:
            self.orders = {epoch: minibatches(len(self.action), self.size, self.seed_of(epoch), self.together)}
        return self.orders[epoch]

    def _gradient(self, rows: Array) -> float:
        """Takes the gradient of the mean loss on these steps, each half of them in a thread of its own; returns it."""

        def of_half(half: Array) -> tuple[list[Tensor], Tensor]:
            own = torch.from_numpy(half)
            log_prob = self.policy.distribution(self.features[own]).log_prob(self.action[own])
            loss = -log_prob.sum() / len(rows)
            return list(torch.autograd.grad(loss, self.parameters)), loss.detach()

        (first, ours), (second, theirs) = side_by_side(of_half, np.array_split(rows, 2))
        for parameter, a, b in zip(self.parameters, first, second, strict=True):
            parameter.grad = a.add_(b)
        return float(ours + theirs)

    def state(self) -> dict[str, Any]:
        moments = self.optimizer.state_dict()["state"]
        adam = {str(i): {k: v.numpy().copy() for k, v in entry.items()} for i, entry in moments.items()}
        return {"policy": self.policy.state(), "adam": adam, "taken": self.taken}

    def load_state(self, state: dict[str, Any]) -> None:
        self.policy.load_parameters(state["policy"])
        whole = self.optimizer.state_dict()
        whole["state"] = {int(i): {k: torch.tensor(v) for k, v in e.items()} for i, e in state["adam"].items()}
        self.optimizer.load_state_dict(whole)
        self.taken = state["taken"]
