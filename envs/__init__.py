"""This project's Gymnasium environments.

`MujocoVectorEnv` steps Gymnasium's own MuJoCo tasks many at a time; `has_batched` says which. Environments of our own
get a file here and one `gymnasium.register` line below.
"""

import sys

from mujoco import get_mju_user_warning, set_mju_user_warning  # the name is our subpackage's here

from envs.mujoco.simulation import SimulationError
from envs.mujoco.vector import MujocoVectorEnv, has_batched

__all__ = ["MujocoVectorEnv", "SimulationError", "has_batched"]


def _warn(message: str) -> None:
    if "'settotalmass' is deprecated" not in message:  # said of Gymnasium's own HalfCheetah, at every load
        print(f"mujoco: {message}", file=sys.stderr)


if get_mju_user_warning() is None:  # MuJoCo's own handler writes MUJOCO_LOG.TXT into the working directory
    set_mju_user_warning(_warn)
