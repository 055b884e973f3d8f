"""Where environments are found that Gymnasium does not know by itself. Imports nothing heavy: Gymnasium's registry is
handed in."""

import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterable

from rlhf_control.errors import UserError, unknown_name
from rlhf_control.simulation.atari.ids import prepared

ROBOTICS = "rlhf_control[robotics]"
# Ids, the module whose import registers them, and the package that brings it. Gymnasium 1.x imports none by itself.
REGISTERED_BY = (
    (r"Fetch|Hand(Reach|Manipulate)|Adroit|FrankaKitchen|(Point|Ant)Maze_", "gymnasium_robotics", ROBOTICS),
    (r"Meta-World/", "metaworld", ROBOTICS),
    (r"MinAtar/", "minatar", "minatar"),
    (r"MiniGrid-|BabyAI-", "minigrid", "minigrid"),
    (r"MiniWorld-", "miniworld", "miniworld"),
    (r"dm_control/|bsuite/|GymV2[16]Environment-|DmControl", "shimmy", "shimmy"),
    (r"Panda(Reach|Push|Slide|PickAndPlace|Stack|Flip)", "panda_gym", "panda-gym"),
    (r"(highway|merge|roundabout|parking|intersection|racetrack|exit|u-turn|two-way|lane-keeping)\S*-v\d+$",
     "highway_env", "highway-env"),
    (r"gym_aloha/", "gym_aloha", "gym-aloha"),
    (r"gym_pusht/", "gym_pusht", "gym-pusht"),
    (r"gym_xarm/", "gym_xarm", "gym-xarm"),
    (r"myo\w+-v\d+$", "myosuite", "myosuite"),
    (r"mo-", "mo_gymnasium", "mo-gymnasium"),
    (r"PyFlyt/", "PyFlyt.gym_envs", "PyFlyt"),
    (r"FlappyBird", "flappy_bird_gymnasium", "flappy-bird-gymnasium"),
)  # fmt: skip


def unregistered(env_id: str, registry: Iterable[str]) -> UserError:
    """Makes the error for an id that is in nobody's registry: the module that would register it, or the nearest
    names."""
    near = prepared(env_id)
    if near:
        return UserError(f"unknown environment '{env_id}': write {near}, which is prepared as --env says")
    for ids, module, package in REGISTERED_BY:
        if re.match(ids, env_id):
            missing = "" if found(module) else f" after {_installing(package)}"
            return UserError(
                f"unknown environment '{env_id}': importing {module} registers it, so write {module}:{env_id}{missing}"
            )
    return unknown_name("environment", env_id, registry)


def to_install(module: str) -> str:
    """Returns how to install a module of the packages above; "" for others."""
    packages = [package for _, known, package in REGISTERED_BY if known.partition(".")[0] == module.partition(".")[0]]
    return _installing(packages[0]) if packages else ""


def _installing(package: str) -> str:
    if package == ROBOTICS:
        return f"`make robotics`, or `pip install '{ROBOTICS}'`"
    return f"`pip install {package}`"


def look_here(env_id: str) -> None:
    """Lets MODULE of a typed id MODULE:ID be found in the current folder, as `python -m` does, and says so. The folder
    comes after all that is installed, so that nothing in it takes a library's place."""
    module, here = env_id.rpartition(":")[0].partition(".")[0], os.getcwd()
    if not module.isidentifier() or found(module) or importlib.machinery.PathFinder.find_spec(module, [here]) is None:
        return
    sys.path.append(here)
    print(f"rlhf-control: {module} is not installed; it is imported from {here}", file=sys.stderr)


def found(module: str) -> bool:
    """Tells whether a module, or the package that it is in, can be imported."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # one without a specification, such as __main__
        return True
