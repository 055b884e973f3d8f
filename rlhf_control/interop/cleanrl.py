"""CleanRL's models (`*.cleanrl_model`): the state dict of an Agent, read by torch's weights-only reader.

The file says neither activation (tanh, as in all its PPO scripts) nor statistics: its scripts normalise by a wrapper.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rlhf_control.errors import UserError, tell
from rlhf_control.interop.environments import Environment
from rlhf_control.interop.networks import Networks, layers, nature, one_layer, policy_of
from rlhf_control.interop.statistics import Statistics
from rlhf_control.interop.torch_files import UNREADABLE, cannot_read, plain_weights, read_torch
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.files import read_own

WHAT = "a CleanRL model of PPO"
OTHERS = {  # a name among the weights, and the scripts that have it
    "actor_fc_mean.weight": "SAC", "fc_logstd.weight": "SAC", "q_network.0.weight": "DQN",
    "network.1.weight": "DQN or C51", "lstm.weight_ih_l0": "PPO with an LSTM",
}  # fmt: skip


def read_cleanrl(path: str | Path, made: Environment, statistics: Statistics | None = None) -> Policy:
    """Return our policy with the weights of CleanRL's ppo, ppo_continuous_action or ppo_atari, for an environment.
    Raises UserError for what is none of them."""
    try:
        weights = plain_weights(read_torch(read_own(path, follow=True)))
    except UserError:
        raise
    except UNREADABLE as error:
        raise cannot_read(path, WHAT, error) from None
    networks = networks_of(weights, path, statistics)
    policy = policy_of(networks, made.spaces, made.env_id, made.env, path)
    unknown = not (statistics or networks.pictures or made.spaces.choices)
    lost = (
        ". Its scripts for Box actions normalise observations, and the file has no statistics: without --obs-stats "
        "FILE the policy sees other numbers than it learned from, and its skill is lost"
    )
    seen = "normalised by the statistics given" if statistics else "raw"
    tell(f"{path} is read as PPO of CleanRL, tanh (as its scripts have it), observations {seen}{lost * unknown}")
    return policy


def networks_of(weights: Mapping[str, Tensor], where: str | Path, statistics: Statistics | None = None) -> Networks:
    """Return the networks of a state dict. Raises UserError for another algorithm's."""
    try:
        if "network.0.weight" in weights and weights["network.0.weight"].ndim == 4:
            return Networks(
                [one_layer(weights, "actor")], [one_layer(weights, "critic")], log_std=torch.empty(0),
                pictures=[nature(weights, "network", "network.7")], statistics=statistics,
            )  # fmt: skip
        continuous = "actor_logstd" in weights
        actor = layers(weights, "actor_mean" if continuous else "actor")
        if not actor or not (critic := layers(weights, "critic")):
            raise KeyError("actor.0.weight")
    except KeyError as error:
        other = next((name for key, name in OTHERS.items() if key in weights), "")
        raise UserError(
            f"{where} is {f'{other} of CleanRL' if other else 'no PPO of CleanRL'}: it has no {error}, but "
            f"{', '.join(weights)[:200]}"
        ) from None
    log_std = weights["actor_logstd"].flatten() if continuous else torch.empty(0)
    return Networks(actor, critic, log_std=log_std, statistics=statistics)
