"""This project's Gymnasium environments.

`MujocoVectorEnv` steps Gymnasium's own MuJoCo tasks, and our arm's, many at a time; `has_batched` says which.
Environments of our own get a file here and one `gymnasium.register` line below: `import envs`, and `gymnasium.make`
knows them.
"""

import sys

import gymnasium
from mujoco import get_mju_user_warning, set_mju_user_warning  # the name is our subpackage's here

from envs.dialogue.env import REPLY, Dialogue
from envs.dialogue.vector import DialogueVectorEnv
from envs.games.env import GameEnv
from envs.games.vector import BricksVectorEnv, GameVectorEnv, OrchardVectorEnv
from envs.mujoco.simulation import SimulationError
from envs.mujoco.vector import MujocoVectorEnv, has_batched

__all__ = [
    "ARMS", "DIALOGUE", "GAMES", "Dialogue", "DialogueVectorEnv", "GameEnv", "GameVectorEnv", "MujocoVectorEnv",
    "SimulationError", "has_batched",
]  # fmt: skip

GAMES: dict[str, type[GameVectorEnv]] = {"rlhf/Bricks-v0": BricksVectorEnv, "rlhf/Orchard-v0": OrchardVectorEnv}
for _id, _envs in GAMES.items():
    gymnasium.register(
        _id, f"envs.games.env:{_envs.game.name}", max_episode_steps=_envs.game.limit,
        vector_entry_point=f"envs.games.vector:{_envs.__name__}",
    )  # fmt: skip
ARMS = {"rlhf/ArmReach-v0": 50, "rlhf/ArmGrasp-v0": 75, "rlhf/ArmDoor-v0": 75}  # steps of an episode
for _id, _steps in ARMS.items():
    _name = _id[len("rlhf/Arm") : -len("-v0")]
    gymnasium.register(_id, f"envs.arm.{_name.lower()}:Arm{_name}", max_episode_steps=_steps)
DIALOGUE = "rlhf/Dialogue-v0"
gymnasium.register(
    DIALOGUE, "envs.dialogue.env:Dialogue", max_episode_steps=REPLY,
    vector_entry_point="envs.dialogue.vector:DialogueVectorEnv",
)  # fmt: skip


def _warn(message: str) -> None:
    if "'settotalmass' is deprecated" not in message:  # said of Gymnasium's own HalfCheetah, at every load
        print(f"mujoco: {message}", file=sys.stderr)


if get_mju_user_warning() is None:  # MuJoCo's own handler writes MUJOCO_LOG.TXT into the working directory
    set_mju_user_warning(_warn)
