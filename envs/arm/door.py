"""`rlhf/ArmDoor-v0`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.arm.arm import ROBOT, Arm, between, model_file, near
from envs.arm.env import ArmEnv
from envs.mujoco.simulation import Simulation
from envs.mujoco.task import Terms, clip

DOOR, HANDLE = ROBOT + 3, ROBOT + 4  # in qpos and qvel
TURNED = 0.6  # rad, at which the bolt is free for sure
AJAR, WIDE, WIDEST = 0.1, 0.8, 1.5  # rad


@dataclass(frozen=True, kw_only=True)
class Door(Arm):
    """`rlhf/ArmDoor-v0`: turn a handle and pull a door open.

    A bolt holds the door until its handle is turned by about 0.45 rad; a spring turns it back.

    Actions, Box(-1, 1, (5,), float32); beyond that they are clipped. One lasts 0.05 s, four steps of the simulator.
        0 to 2   how fast the gripper moves along x (away from the base), y (to its left) and z (up): at 1, 0.5 m/s or
                 2.5 cm an action. It keeps pointing ahead, one finger above the other.
        3        the swivel: where the elbow is, which the gripper leaves free: 0 above, -1 and 1 down at either side.
        4        the fingers: -1 closed, 1 open (10 cm). How far they are told to close beyond what they hold is how
                 hard they press: 10 N a centimetre each.
    With control="joint", Box(-1, 1, (8,), float32): how fast each joint turns, at 1 1.5 rad/s, and the fingers.

    Observations, Box(-inf, inf, (28,), float64), in m, rad, m/s and rad/s:
        0 to 8    7 joints from the base to the hand, left and right finger
        9 to 17   their velocities
        18 to 20  where the gripper is: the point between the fingertips
        21 to 23  from the gripper to the middle of the handle's lever
        24, 25    how far the door is open and the handle turned (down)
        26, 27    their velocities

    Reward, a step, the sum of
        reach_reward (0.2) x 0.1 / (0.1 + distance of gripper and lever)
        turn_reward (0.3) x how far the handle is turned / 0.6 rad or, if that is more, the door open / 0.1 rad; 1 at
            most
        open_reward (1) x how far the door is open / 1.5 rad, 1 at most
        success_reward (1) while there is success
        -action_cost (0.02) x mean square of the actions

    Success: the door is open by more than 0.8 rad (46 degrees).

    Start: the joints about those of a gripper before the door, each within 0.1 rad, fingers open; the door closed,
    anywhere within 6 x 13 x 10 cm.

    End: after 75 actions, by `truncated` alone, so that an episode's length tells nothing.

    info: success; door, handle (rad); the terms of the reward as reward_NAME.

    Options: control ("cartesian", "joint"); reward ("dense", "sparse": 1 while there is success, else 0);
    reach_reward, turn_reward, open_reward, success_reward,
    action_cost (weights of the terms above); terminate_on_success (default False); start_noise (rad, of each
    joint); frame_skip (4); max_episode_steps, as everywhere; of the single environment also render_mode, width, height,
    camera_id, camera_name (default "track").
    """

    xml_file: str = model_file("door.xml")
    reach_reward: float = 0.2
    turn_reward: float = 0.3
    open_reward: float = 1.0
    home = (0.0, 0.369, 0.0, 2.269, 0.0, -1.067, np.pi / 2)

    def place(self, qpos: np.ndarray, rng: np.random.Generator) -> None:
        qpos[:3] = rng.uniform((-0.03, -0.08, -0.05), (0.03, 0.05, 0.05))

    def lever(self, sim: Simulation) -> np.ndarray:
        return sim.site_xpos[:, sim.site_ids["lever"]]

    def seen(self, sim: Simulation) -> tuple[np.ndarray, ...]:
        hinges = slice(DOOR, HANDLE + 1)
        return self.lever(sim) - self.grip(sim), sim.qpos[:, hinges], sim.qvel[:, hinges]

    def judged(self, sim: Simulation) -> tuple[np.ndarray, Terms, Terms]:
        door, handle = sim.qpos[:, DOOR].copy(), sim.qpos[:, HANDLE].copy()
        turned = np.maximum(clip(handle / TURNED, 0, 1), clip(door / AJAR, 0, 1))
        shaping = {
            "reach": self.reach_reward * near(between(self.grip(sim), self.lever(sim)), 0.1),
            "turn": self.turn_reward * turned,
            "open": self.open_reward * clip(door / WIDEST, 0, 1),
        }
        return door > WIDE, shaping, {"door": door, "handle": handle}


class ArmDoor(ArmEnv):
    __doc__ = Door.__doc__
    task_class = Door
