"""`rlhf/ArmReach-v0`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.arm.arm import ROBOT, Arm, between, model_file, near
from envs.arm.env import ArmEnv
from envs.mujoco.simulation import Simulation
from envs.mujoco.task import Terms


@dataclass(frozen=True, kw_only=True)
class Reach(Arm):
    """`rlhf/ArmReach-v0`: bring the gripper to a point.

    Actions, Box(-1, 1, (5,), float32); beyond that they are clipped. One lasts 0.05 s, four steps of the simulator.
        0 to 2   how fast the gripper moves along x (away from the base), y (to its left) and z (up): at 1, 0.5 m/s or
                 2.5 cm an action. It keeps pointing down, the fingers to the left and right.
        3        the swivel: where the elbow is, which the gripper leaves free: 0 above, -1 and 1 down at either side.
        4        the fingers: -1 closed, 1 open (10 cm). How far they are told to close beyond what they hold is how
                 hard they press: 10 N a centimetre each.
    With control="joint", Box(-1, 1, (8,), float32): how fast each joint turns, at 1 1.5 rad/s, and the fingers.

    Observations, Box(-inf, inf, (24,), float64), in m, rad, m/s and rad/s:
        0 to 8    7 joints from the base to the hand, left and right finger
        9 to 17   their velocities
        18 to 20  where the gripper is: the point between the fingertips
        21 to 23  from the gripper to the goal

    Reward, a step: reach_reward (1) x 0.1 / (0.1 + distance), + success_reward (1) while there is success, -
    action_cost (0.02) x mean square of the actions.

    Success: the gripper is less than 2 cm from the goal.

    Start: the joints about those of a gripper over the middle of the table, each within 0.1 rad, fingers open; the goal
    anywhere in a box of 28 x 50 x 37 cm before the arm.

    End: after 50 actions, by `truncated` alone, so that an episode's length tells nothing.

    info: success; distance (m); the terms of the reward as reward_NAME.

    Options: control ("cartesian", "joint"); reward ("dense", "sparse": 1 while there is success, else 0);
    reach_reward, success_reward,
    action_cost (weights of the terms above); terminate_on_success (default False); start_noise (rad, of each
    joint); frame_skip (4); max_episode_steps, as everywhere; of the single environment also render_mode, width, height,
    camera_id, camera_name (default "track").
    """

    xml_file: str = model_file("reach.xml")
    reach_reward: float = 1.0
    home = (0.0, 0.422, 0.0, 1.808, 0.0, 0.912, 0.0)

    def place(self, qpos: np.ndarray, rng: np.random.Generator) -> None:
        qpos[:3] = rng.uniform((0.3, -0.25, 0.03), (0.58, 0.25, 0.4))

    def goal(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, ROBOT : ROBOT + 3]

    def seen(self, sim: Simulation) -> tuple[np.ndarray, ...]:
        return (self.goal(sim) - self.grip(sim),)

    def judged(self, sim: Simulation) -> tuple[np.ndarray, Terms, Terms]:
        away = between(self.grip(sim), self.goal(sim))
        return away < 0.02, {"reach": self.reach_reward * near(away, 0.1)}, {"distance": away}


class ArmReach(ArmEnv):
    __doc__ = Reach.__doc__
    task_class = Reach
