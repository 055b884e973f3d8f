"""What robots of other people need to run beside our MuJoCo: small repairs, put in when their package is imported.

Each tries the library first and leaves it alone where it works. Seen with Gymnasium-Robotics 1.4.2, MetaWorld 3.0.0
and 3.1.1, panda-gym 3.0.7, gym-aloha 0.1.5, gym-pusht 0.1.8 and highway-env 1.12.1 on MuJoCo 3.17.0.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np

from rlhf_control.compute.gl import choose_gl
from rlhf_control.errors import UserError
from rlhf_control.simulation.env_ids import found, to_install

HINGE = """<mujoco><worldbody><body><joint name="hinge"/><geom size=".1"/></body></worldbody></mujoco>"""
WELD = """<mujoco><worldbody>
  <body name="hand" mocap="true"/><body name="held"><freejoint/><geom size=".1"/></body>
</worldbody><equality><weld body1="hand" body2="held"/></equality></mujoco>"""
# Environments whose every `terminated` is a time limit: Freeway's clock (2048 steps of ALE's, 2501 of MinAtar's), and
# the horizon of robosuite's wrapper for Gymnasium.
CLOCKS = ("ALE/Freeway-", "Freeway", "MinAtar/Freeway-")
CLOCK_MODULES = ("robosuite.wrappers.gym_wrapper",)
WELD_NUMBERS = 11  # of a weld's row in `eq_data`: anchor, relative position and quaternion, torque scale
BY_DM_CONTROL = ("dm_control", "gym_aloha", "shimmy")  # whose way to OpenGL is settled when it is imported
UNSEEDED = {"panda_gym": ("panda_gym.envs.core", "RobotTaskEnv"), "gym_aloha": ("gym_aloha.env", "AlohaEnv")}
BEST_CAMERAS = ("corner", "vil_camera")  # MetaWorld's, Adroit's
META_WORLD = "Meta-World/"
META_WORLD_STEPS = 500  # of an episode, of which its registration says nothing


def import_module_of(env_id: str) -> None:
    """Imports MODULE of MODULE:ID, which registers it, and repairs it. Raises UserError where it is one of the known
    packages and not installed."""
    module = env_id.rpartition(":")[0]
    if module:
        if not found(module) and (how := to_install(module)):
            raise UserError(f"{module} is not installed: {how}")
        if module.partition(".")[0] in BY_DM_CONTROL and module not in sys.modules:
            choose_gl()
        importlib.import_module(module)
    if "minatar" in sys.modules and not any(name.startswith("MinAtar/") for name in gymnasium.registry):
        importlib.import_module("minatar.gym").register_envs()
    repair()


def repair() -> None:
    """Repairs the packages that were imported."""
    if "gymnasium_robotics" in sys.modules:
        compare_joint_types_as_numbers()
    if "metaworld" in sys.modules:
        fill_welds_as_far_as_they_go()
        draw_tasks_from_the_seed()
        draw_goals_once()
    if "highway_env" in sys.modules:
        draw_without_a_window()
    if "gym_pusht" in sys.modules:
        take_shapes_in_one_order()
    for package, (module, name) in UNSEEDED.items():
        if package in sys.modules:
            seed_every_episode(module, name)


def complete(env_id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments to make an environment with. MetaWorld draws the 50 goals of a task when it is made; which
    ones is said by its argument `seed`, without which no two copies have the same, and which is 0 here. Gymnasium's
    checker is left out, which would say every time that the goals lie outside MetaWorld's observation space."""
    if env_id.rpartition(":")[2].startswith(META_WORLD):
        return {"seed": 0, "disable_env_checker": True, **arguments}
    return dict(arguments)


def own_limit(name: str) -> int | None:
    """Returns after how many steps a known environment cuts its episodes off by itself, where its registration does not
    say."""
    return META_WORLD_STEPS if name.startswith(META_WORLD) else None


def turn_cameras(env: gymnasium.Env) -> None:
    """Turns the cameras of MetaWorld that see the table upside down (corner, corner2, corner3, corner4)."""
    if not type(env.unwrapped).__module__.startswith("metaworld."):
        return
    bare: Any = env.unwrapped
    mujoco.mj_kinematics(bare.model, bare.data)
    mujoco.mj_camlight(bare.model, bare.data)
    for camera in np.flatnonzero(bare.data.cam_xmat[:, 7] < -0.1):  # its up points down
        turned = np.empty(4)
        mujoco.mju_mulQuat(turned, bare.model.cam_quat[camera], np.array([0.0, 0, 0, 1]))  # half a turn as it looks
        bare.model.cam_quat[camera] = turned
    mujoco.mj_camlight(bare.model, bare.data)


def place_camera(env: gymnasium.Env) -> None:
    """Tells the model of a known robot from where it is seen best: where its library looks from, or one of its cameras.
    Else it would be seen as all models are, from one side and whole, and a table is small then."""
    bare: Any = env.unwrapped
    package = type(bare).__module__.partition(".")[0]
    if package not in ("gymnasium_robotics", "metaworld") or not isinstance(
        getattr(bare, "model", None), mujoco.MjModel
    ):
        return
    model, look = bare.model, bare.model.vis.global_
    for name in BEST_CAMERAS:
        if look.cameraid < 0:
            look.cameraid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    renderer = getattr(getattr(bare, "robot_env", bare), "mujoco_renderer", None)
    theirs = getattr(renderer, "default_cam_config", None) or {}
    if look.cameraid < 0 and {"distance", "azimuth", "elevation", "lookat"} <= theirs.keys():
        look.azimuth, look.elevation = theirs["azimuth"], theirs["elevation"]
        model.stat.center[:], model.stat.extent = theirs["lookat"], theirs["distance"] / 1.5  # as MuJoCo reads them


def ends_by_its_clock(env: gymnasium.Env) -> bool:
    """Tells whether an environment's `terminated` says that time is up, so that the value of what would come next
    counts."""
    if env.spec is not None and env.spec.id.startswith(CLOCKS):
        return True
    while isinstance(env, gymnasium.Wrapper) and type(env).__module__ not in CLOCK_MODULES:
        env = env.env
    return type(env).__module__ in CLOCK_MODULES


@functools.cache
def compare_joint_types_as_numbers() -> None:
    """From MuJoCo 3.12 on, a number of NumPy's is not among members of MuJoCo's enumerations, so that an assertion of
    Gymnasium-Robotics fails for every hinge: Fetch, hands and kitchen cannot be made."""
    utils: Any = importlib.import_module("gymnasium_robotics.utils.mujoco_utils")
    model = mujoco.MjModel.from_xml_string(HINGE)
    try:
        utils.get_joint_qpos(model, mujoco.MjData(model), "hinge")
    except AssertionError:
        numbers = {name: int(member) for name, member in mujoco.mjtJoint.__members__.items()}
        utils.mujoco = SimpleNamespace(**{**vars(mujoco), "mjtJoint": SimpleNamespace(**numbers)})


@functools.cache
def fill_welds_as_far_as_they_go() -> None:
    """From MuJoCo 3.17 on, a row of `eq_data` has 12 numbers, and MetaWorld, which writes 11, cannot be made. The last
    stays as the model was compiled."""
    base = importlib.import_module("metaworld.sawyer_xyz_env").SawyerMocapBase
    model = mujoco.MjModel.from_xml_string(WELD)
    theirs: Callable[[Any], None] = base.reset_mocap_welds
    try:
        theirs(SimpleNamespace(model=model, data=mujoco.MjData(model)))
    except ValueError:

        def reset_mocap_welds(env: Any) -> None:
            welds = env.model.eq_type == int(mujoco.mjtEq.mjEQ_WELD)
            env.model.eq_data[welds, :WELD_NUMBERS] = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]

        base.reset_mocap_welds = reset_mocap_welds


@functools.cache
def draw_tasks_from_the_seed() -> None:
    """MetaWorld draws an episode's task before it hears of the seed, and its environments ignore it."""
    wrapper = importlib.import_module("metaworld.wrappers").RandomTaskSelectWrapper
    theirs = wrapper.reset

    def reset(env: Any, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            env.unwrapped.np_random = gymnasium.utils.seeding.np_random(seed)[0]
        return theirs(env, seed=seed, options=options)

    wrapper.reset = reset


@functools.cache
def draw_goals_once() -> None:
    """MetaWorld draws the goals of a task by 50 resets for every copy that is made, which takes seconds; those of one
    seed are the same."""
    metaworld: Any = importlib.import_module("metaworld")
    theirs, drawn = metaworld._make_tasks, dict[Any, list[Any]]()

    def make_tasks(classes: Any, args_kwargs: Any, kwargs_override: Any, seed: int | None = None) -> Any:
        if seed is None:
            return theirs(classes, args_kwargs, kwargs_override)
        key = (*args_kwargs, *map(str, kwargs_override.items()), seed, metaworld._N_GOALS)
        if key not in drawn:
            drawn[key] = theirs(classes, args_kwargs, kwargs_override, seed=seed)
        return list(drawn[key])

    metaworld._make_tasks = make_tasks


@functools.cache
def seed_every_episode(module: str, name: str) -> None:
    """Panda-gym and gym-aloha draw the goals of every episode that is not given a seed from the system's entropy, so
    that no seed fixes a run. Such a reset is given one that the environment's generator draws."""
    kind = getattr(importlib.import_module(module), name)
    theirs = kind.reset

    def reset(env: Any, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seed = int(env.np_random.integers(2**31)) if seed is None else seed
        return theirs(env, seed=seed, options=options)

    kind.reset = reset


@functools.cache
def take_shapes_in_one_order() -> None:
    """Gym-pusht's reward adds up the two bars of its T as Pymunk hands them out, which up to its version 6 is in the
    order of their addresses in memory, so that the last bits of a reward differ from one copy to the next."""
    module: Any = importlib.import_module("gym_pusht.envs.pusht")
    theirs = module.pymunk_to_shapely
    if isinstance(module.pymunk.Body(1, 1).shapes, set):
        module.pymunk_to_shapely = lambda body, shapes: theirs(body, sorted(shapes, key=lambda bar: bar.get_vertices()))


@functools.cache
def draw_without_a_window() -> None:
    """Highway-env opens a window to draw the pictures that it returns, takes keys from it, and leaves the pictures
    black where SDL has no display (its driver "dummy")."""
    viewer = importlib.import_module("highway_env.envs.common.graphics").EnvViewer
    theirs = viewer.__init__

    def begin(self: Any, env: Any, config: dict[str, Any] | None = None) -> None:
        theirs(self, env, {**(config or env.config), "offscreen_rendering": env.render_mode != "human"})
        self.enabled = True

    viewer.__init__ = begin
