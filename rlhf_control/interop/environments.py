"""What an environment shows and takes, for files that do not say what they are for."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium

from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces


@dataclass(frozen=True)
class Environment:
    """Names an environment, with its spaces as we have them and as Gymnasium does."""

    env_id: str
    env: Mapping[str, Any]
    spaces: Spaces
    observation: gymnasium.Space
    action: gymnasium.Space


def environment(env_id: str, env: Mapping[str, Any]) -> Environment:
    """Look at an environment. Raises UserError for one that cannot be made."""
    with closing(start_envs(env_id, 1, seed=0, backend="gymnasium", env=env)) as envs:
        spaces = envs.spaces
    with closing(make_env(env_id, env)) as made:
        return Environment(env_id, env, spaces, made.observation_space, made.action_space)
