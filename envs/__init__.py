"""This project's Gymnasium environments.

`MujocoVectorEnv` steps Gymnasium's own MuJoCo tasks many at a time; `has_batched` says which. Environments of our own
get a file here and one `gymnasium.register` line below.
"""

from envs.mujoco_batch import MujocoVectorEnv, has_batched
from envs.mujoco_simulation import SimulationError

__all__ = ["MujocoVectorEnv", "SimulationError", "has_batched"]
