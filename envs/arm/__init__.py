"""A 7-joint arm with a two-finger gripper on a table, and what it can be asked to do."""

from envs.arm.arm import Arm
from envs.arm.door import Door
from envs.arm.grasp import Grasp
from envs.arm.reach import Reach

ARMS: dict[str, type[Arm]] = {"rlhf/ArmDoor-v0": Door, "rlhf/ArmGrasp-v0": Grasp, "rlhf/ArmReach-v0": Reach}
