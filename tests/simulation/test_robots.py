"""The repairs, on stand-ins that are wrong in the libraries' ways; `tests/robotics` has them on the libraries."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.spaces import Box

from rlhf_control.errors import UserError
from rlhf_control.simulation import env_ids, robots
from rlhf_control.simulation.early_ends import time_limit
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.make import make_backend


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> Any:
    forget()
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
    module: Any = sys.modules[name]
    vars(module).update(attributes)
    return module


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    forget()


def forget() -> None:
    for repair in (
        robots.compare_joint_types_as_numbers, robots.fill_welds_as_far_as_they_go, robots.seed_every_episode
    ):  # fmt: skip
        repair.cache_clear()


def hinge() -> tuple[mujoco.MjModel, mujoco.MjData, str]:
    model = mujoco.MjModel.from_xml_string(robots.HINGE)
    return model, mujoco.MjData(model), "hinge"


def test_joint_types_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    utils: Any = None

    def get_joint_qpos(model: Any, data: Any, name: str) -> Any:
        types = utils.mujoco.mjtJoint
        assert model.jnt_type[0] in (types.mjJNT_HINGE, types.mjJNT_SLIDE)
        return data.qpos[:1].copy()

    utils = stand_in(monkeypatch, "gymnasium_robotics.utils.mujoco_utils", mujoco=mujoco, get_joint_qpos=get_joint_qpos)
    robots.repair()
    assert get_joint_qpos(*hinge()) == 0
    works = mujoco.mjtJoint.mjJNT_HINGE == np.int32(3) and np.int32(3) in (mujoco.mjtJoint.mjJNT_HINGE,)
    assert (utils.mujoco is mujoco) == works, "left alone where MuJoCo compares them"


def test_a_library_that_compares_them_right_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = stand_in(
        monkeypatch, "gymnasium_robotics.utils.mujoco_utils", mujoco=mujoco, get_joint_qpos=lambda *_: 0
    )  # fmt: skip
    robots.repair()
    assert utils.mujoco is mujoco


def test_rows_of_welds_are_filled_as_far_as_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def reset_mocap_welds(self) -> None:
            self.model.eq_data[0] = np.arange(11.0)  # type: ignore[attr-defined]

    class Fixed:
        def reset_mocap_welds(self) -> None:
            self.model.eq_data[0, :11] = np.arange(11.0)  # type: ignore[attr-defined]

    for base in (Old, Fixed):
        module = stand_in(monkeypatch, "metaworld.sawyer_xyz_env", SawyerMocapBase=base)
        theirs = base.reset_mocap_welds
        robots.fill_welds_as_far_as_they_go()
        assert (module.SawyerMocapBase.reset_mocap_welds is theirs) == (base is Fixed)
        model = mujoco.MjModel.from_xml_string(robots.WELD)
        compiled = model.eq_data.copy()
        base.reset_mocap_welds(SimpleNamespace(model=model, data=None))  # type: ignore[arg-type]
        expected = np.arange(11.0) if base is Fixed else [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]
        np.testing.assert_array_equal(model.eq_data[0, :11], expected)
        np.testing.assert_array_equal(model.eq_data[0, 11:], compiled[0, 11:])


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("FetchReach-v4", "`make robotics`, or `pip install 'rlhf_control[robotics]'`"),
        ("Meta-World/MT1", "`make robotics`, or `pip install 'rlhf_control[robotics]'`"),
        ("gymnasium_robotics:FetchReach-v4", "gymnasium_robotics is not installed: `make robotics`, or `pip install"),
        ("metaworld:Meta-World/MT1", "metaworld is not installed: `make robotics`"),
        ("panda_gym:PandaReach-v3", "panda_gym is not installed: `pip install panda-gym`"),
        ("minatar:MinAtar/Breakout-v1", "minatar is not installed: `pip install minatar`"),
    ],
)
def test_a_missing_package_gives_its_install_line(
    env_id: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for module in (env_ids, robots):
        monkeypatch.setattr(module, "found", lambda name: False)
    for make in (lambda: make_env(env_id, {}), lambda: make_backend(env_id, 1, 0, "auto", {})):
        with pytest.raises(UserError) as raised:
            make()
        assert words in str(raised.value) and "\n" not in str(raised.value)


class Clocked(gymnasium.Env):
    """Ends by its own clock, after three steps."""

    observation_space = action_space = Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, self.steps == 3, False, {}


def test_time_limits_that_arrive_as_terminated_are_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for env_id, limit in (("MinAtar/Freeway-v0", True), ("MinAtar/Breakout-v0", False)):
        monkeypatch.setitem(gymnasium.registry, env_id, gymnasium.envs.registration.EnvSpec(env_id, Clocked))
        env = make_env(env_id, {})
        env.reset(seed=0)
        ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (not limit, limit)], env_id

    class GymWrapper(Clocked):
        pass

    GymWrapper.__module__ = "robosuite.wrappers.gym_wrapper"
    assert robots.ends_by_its_clock(gymnasium.wrappers.TimeLimit(GymWrapper(), 5))
    assert not robots.ends_by_its_clock(gymnasium.wrappers.TimeLimit(Clocked(), 5))


def test_metaworlds_goals_are_drawn_from_a_seed_of_their_own() -> None:
    quiet = {"disable_env_checker": True}
    made = robots.complete("metaworld:Meta-World/MT1", {"env_name": "push-v3"})
    assert made == {"seed": 0, "env_name": "push-v3", **quiet}
    assert robots.complete("Meta-World/MT1", {"seed": 3}) == {"seed": 3, **quiet}
    assert robots.complete("CartPole-v1", {}) == {}


def test_every_episode_has_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entropic(Clocked):
        """Draws its goal from the system's entropy where an episode is given no seed."""

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            obs, info = super().reset(seed=seed)
            self.goal = np.random.default_rng(seed).random()
            return obs, info

    stand_in(monkeypatch, "panda_gym.envs.core", RobotTaskEnv=Entropic)
    robots.repair()
    envs = [Entropic(), Entropic()]
    goals = np.empty((2, 3))
    for i, env in enumerate(envs):
        for episode in range(3):
            env.reset(seed=5 if episode == 0 else None)
            goals[i, episode] = env.goal
    assert len(set(goals[0])) == 3
    np.testing.assert_array_equal(*goals)


def test_opengl_is_settled_before_dm_control_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(robots, "found", lambda name: True)
    monkeypatch.setattr(robots, "choose_gl", lambda: asked.append("shimmy" in sys.modules))
    monkeypatch.delitem(sys.modules, "shimmy", raising=False)
    monkeypatch.setattr(robots.importlib, "import_module", lambda name: stand_in(monkeypatch, name))
    for _ in range(2):
        robots.import_module_of("shimmy:dm_control/walker-walk-v0")
    robots.import_module_of("metaworld_like:Some-v0")
    assert asked == [False], "once, and not for what does not come from dm_control"


def test_metaworlds_own_time_limit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    env_id = "metaworld:Meta-World/MT1"
    monkeypatch.setitem(gymnasium.registry, "Meta-World/MT1", gymnasium.envs.registration.EnvSpec("Meta-World/MT1"))
    assert time_limit(env_id, {}) == 500
    assert time_limit(env_id, {"max_episode_steps": 200}) == 200
