"""`rlhf/ArmGrasp-v0`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.arm.arm import FINGERS, ROBOT, Arm, between, model_file, near
from envs.arm.env import ArmEnv
from envs.mujoco.simulation import Simulation
from envs.mujoco.task import Terms, clip

BLOCK, TARGET = slice(ROBOT, ROBOT + 3), slice(ROBOT + 7, ROBOT + 10)  # in qpos
HALF = 0.02  # m, of the block's edge


@dataclass(frozen=True, kw_only=True)
class Grasp(Arm):
    """`rlhf/ArmGrasp-v0`: pick up a block and hold it at a point in the air.

    Actions, Box(-1, 1, (5,), float32); beyond that they are clipped. One lasts 0.05 s, four steps of the simulator.
        0 to 2   how fast the gripper moves along x (away from the base), y (to its left) and z (up): at 1, 0.5 m/s or
                 2.5 cm an action. It keeps pointing down, the fingers to the left and right.
        3        the swivel: where the elbow is, which the gripper leaves free: 0 above, -1 and 1 down at either side.
        4        the fingers: -1 closed, 1 open (10 cm). How far they are told to close beyond what they hold is how
                 hard they press: 10 N a centimetre each.
    With control="joint", Box(-1, 1, (8,), float32): how fast each joint turns, at 1 1.5 rad/s, and the fingers.

    Observations, Box(-inf, inf, (34,), float64), in m, rad, m/s and rad/s:
        0 to 8    7 joints from the base to the hand, left and right finger
        9 to 17   their velocities
        18 to 20  where the gripper is: the point between the fingertips
        21 to 23  from the gripper to the block's middle
        24 to 26  from there to the goal
        27 to 30  how the block is turned: quaternion (w, x, y, z)
        31 to 33  its velocity

    Reward, a step, the sum of
        reach_reward (0.2) x 0.1 / (0.1 + distance of gripper and block)
        hold_reward (0.2) while the fingers are closed on the block
        lift_reward (0.3) x its height over the table / 4 cm, 1 at most
        place_reward (1) x the same x 0.1 / (0.1 + distance of block and goal)
        success_reward (1) while there is success
        -action_cost (0.02) x mean square of the actions

    Success: the block's middle is less than 3 cm from the goal.

    Start: the joints about those of a gripper over the middle of the table, each within 0.1 rad, fingers open; the
    block (a cube of 4 cm, 100 g) anywhere on 20 x 36 cm of the table, turned by up to 0.4 rad; the goal anywhere 12 to
    30 cm above such a place.

    End: after 75 actions, by `truncated` alone, so that an episode's length tells nothing.

    info: success; distance (m, of block and goal), height (m, of the block over the table); the terms of the
    reward as reward_NAME.

    Options: control ("cartesian", "joint"); reward ("dense", "sparse": 1 while there is success, else 0);
    reach_reward, hold_reward, lift_reward, place_reward, success_reward,
    action_cost (weights of the terms above); terminate_on_success (default False); start_noise (rad, of each
    joint); frame_skip (4); max_episode_steps, as everywhere; of the single environment also render_mode, width, height,
    camera_id, camera_name (default "track").
    """

    xml_file: str = model_file("grasp.xml")
    reach_reward: float = 0.2
    hold_reward: float = 0.2
    lift_reward: float = 0.3
    place_reward: float = 1.0
    home = (0.0, 0.422, 0.0, 1.808, 0.0, 0.912, 0.0)

    def place(self, qpos: np.ndarray, rng: np.random.Generator) -> None:
        qpos[:2] = rng.uniform((0.34, -0.18), (0.54, 0.18))
        qpos[2] = HALF
        turned = rng.uniform(-0.4, 0.4)
        qpos[3:7] = np.cos(turned / 2), 0, 0, np.sin(turned / 2)
        qpos[7:] = rng.uniform((0.34, -0.18, 0.12), (0.54, 0.18, 0.3))

    def block(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, BLOCK]

    def goal(self, sim: Simulation) -> np.ndarray:
        return sim.qpos[:, TARGET]

    def seen(self, sim: Simulation) -> tuple[np.ndarray, ...]:
        block = self.block(sim)
        rotation, velocity = sim.qpos[:, ROBOT + 3 : ROBOT + 7], sim.qvel[:, ROBOT : ROBOT + 3]
        return block - self.grip(sim), self.goal(sim) - block, rotation, velocity

    def judged(self, sim: Simulation) -> tuple[np.ndarray, Terms, Terms]:
        block, opening = self.block(sim), sim.qpos[:, FINGERS].sum(axis=1) / 2
        away, to_go, height = between(self.grip(sim), block), between(block, self.goal(sim)), block[:, 2] - HALF
        around = (away < HALF) & (opening > 0.8 * HALF) & (opening < 1.15 * HALF)
        lifted = clip(height / (2 * HALF), 0, 1)
        shaping = {
            "reach": self.reach_reward * near(away, 0.1),
            "hold": self.hold_reward * around,
            "lift": self.lift_reward * lifted,
            "place": self.place_reward * lifted * near(to_go, 0.1),
        }
        return to_go < 0.03, shaping, {"distance": to_go, "height": height}


class ArmGrasp(ArmEnv):
    __doc__ = Grasp.__doc__
    task_class = Grasp
