import mujoco
import numpy as np
import pytest

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.behaviours.locomotion import (
    ANT,
    BODY_AND_FRONT_LEG,
    CHEETAH,
    DT,
    HOPPER,
    PACE,
    WALKER,
    _lasting,
    _touching,
    _turns,
)
from rlhf_control.data import Array, Segments
from rlhf_control.simulation.make import mujoco_model
from tests.behaviours.steps import steps_of

TWO_SECONDS = {env_id: round(2 / dt) + 1 for env_id, dt in DT.items()}


def clip(env_id: str, qpos: Array, action: float = 0.0) -> Segments:
    """A clip of these positions (L, nq): the observations and states that the environment would give, were it carried
    along them."""
    model = mujoco_model(env_id, {})
    qvel = np.zeros((len(qpos), model.nv))
    for t in range(len(qpos) - 1):
        mujoco.mj_differentiatePos(model, qvel[t + 1], DT[env_id], qpos[t], qpos[t + 1])
    qvel[0] = qvel[1]
    hidden = 2 if env_id == ANT else 1
    obs = np.concatenate([qpos[:, hidden:], qvel], 1).astype(np.float32)
    actions = np.full((len(qpos), model.nu), action, np.float32)
    next_obs = np.concatenate([obs[1:], obs[-1:]])
    return Segments(obs, actions, next_obs, np.zeros(len(qpos), np.float32), np.concatenate([qpos, qvel], 1))


def cheetah(vx: float = 0.0, z: float = 0.0, pitch: float = 0.0, pitch_rate: float = 0.0) -> Segments:
    """Two seconds of a cheetah that glides in a fixed pose, and turns."""
    qpos = np.zeros((TWO_SECONDS[CHEETAH], 9))
    t = DT[CHEETAH] * np.arange(len(qpos))
    qpos[:, 0], qpos[:, 1], qpos[:, 2] = vx * t, z, pitch + pitch_rate * t
    return clip(CHEETAH, qpos)


def hopper(turns_per_second: float, z: float = 1.25) -> Segments:
    qpos = np.zeros((TWO_SECONDS[HOPPER], 6))
    t = DT[HOPPER] * np.arange(len(qpos))
    qpos[:, 1], qpos[:, 2] = z, 2 * np.pi * turns_per_second * t
    return clip(HOPPER, qpos)


def walker(vx: float = 0.0, z: float = 1.2, pitch: float = 0.0, left_knee: float = 0.0) -> Segments:
    """At z = 1.2 both feet are on the floor; the left one is off it with its knee bent by -1."""
    qpos = np.zeros((TWO_SECONDS[WALKER], 9))
    qpos[:, 0] = vx * DT[WALKER] * np.arange(len(qpos))
    qpos[:, 1], qpos[:, 2], qpos[:, 7] = z, pitch, left_knee
    return clip(WALKER, qpos)


def ant(
    vx: float = 0.0, vy: float = 0.0, yaw_rate: float = 0.0, lifted: bool = False, upside_down: bool = False
) -> Segments:
    """At z = 0.5 with bent ankles all four legs are on the floor."""
    qpos = np.zeros((TWO_SECONDS[ANT], 15))
    t = DT[ANT] * np.arange(len(qpos))
    qpos[:, 0], qpos[:, 1], qpos[:, 2] = vx * t, vy * t, 0.5
    half = yaw_rate * t / 2
    qpos[:, 3], qpos[:, 6] = np.cos(half), np.sin(half)
    if upside_down:  # rolled by pi, then turned
        qpos[:, 3:7] = np.stack([0 * t, np.cos(half), np.sin(half), 0 * t], 1)
    qpos[:, [8, 10, 12, 14]] = [0.0 if lifted else 1.0, -1.0, -1.0, 1.0]
    return clip(ANT, qpos)


# -- HalfCheetah


def test_backward() -> None:
    b, s = BEHAVIOURS["backward"], cheetah(-3)
    np.testing.assert_allclose(b.reward(s), 3, rtol=1e-5)
    effort = Segments(s.obs, np.full_like(s.action, 0.5), s.next_obs, s.env_reward, s.state)
    np.testing.assert_allclose(b.reward(effort), 3 - 0.1 * 6 * 0.25, rtol=1e-5)
    assert b.score(s) == pytest.approx(3) and b.score(cheetah(2)) == pytest.approx(-2)


def test_keep_pace() -> None:
    b = BEHAVIOURS["keep-pace"]
    np.testing.assert_allclose(b.reward(cheetah(PACE + 1)), -1, rtol=1e-5)
    assert b.score(cheetah(PACE)) == 1 and b.score(cheetah(PACE + 0.5)) == 0


def test_hind_legs() -> None:
    """At z = -0.15 both feet are on the floor; pitched by -0.3 rad the hind foot alone, by 0.5 rad the front foot, and
    upside down the torso."""
    b = BEHAVIOURS["hind-legs"]
    np.testing.assert_allclose(b.reward(cheetah(2, pitch=-0.3)), 2 + 0.3, rtol=1e-5)
    np.testing.assert_allclose(b.reward(cheetah(2, z=-0.15)), 2 - 2, atol=1e-5)
    np.testing.assert_allclose(b.reward(cheetah(2, pitch=0.5)), 2 - 0.5 - 2, atol=1e-5)
    assert b.score(cheetah(2, pitch=-0.3)) == 1
    for bad in (cheetah(2, z=-0.15), cheetah(2, pitch=0.5), cheetah(0.5, pitch=-0.3), cheetah(2, -0.7, pitch=np.pi)):
        assert b.score(bad) == 0


def test_hind_legs_must_last() -> None:
    """Off the front foot for 0.6 s at a time, as every gallop is."""
    s = cheetah(2, pitch=-0.3)
    assert s.state is not None
    s.state[::12, 2] = 0.5
    assert BEHAVIOURS["hind-legs"].score(s) == 0


def test_prowl() -> None:
    b = BEHAVIOURS["prowl"]
    np.testing.assert_allclose(b.reward(cheetah(1, z=-0.15)), 0.5, atol=1e-5)
    np.testing.assert_allclose(b.reward(cheetah(1, z=0.05)), 0.5 - 1, atol=1e-5)
    assert b.score(cheetah(1.5, -0.15)) == 1 and b.score(cheetah(1.5, 0)) == 0 and b.score(cheetah(0.5, -0.15)) == 0


def test_jump() -> None:
    b, bounce = BEHAVIOURS["jump"], cheetah()
    t = np.arange(len(bounce.obs))
    qpos = np.zeros((len(t), 9))
    qpos[:, 1] = 0.6 * (t % 10 == 5)  # two jumps a second
    bounce = clip(CHEETAH, qpos)
    assert b.score(bounce) == 1 and b.score(cheetah(z=-0.1)) == 0 and b.score(cheetah(z=0.2)) == 0
    qpos[:, 1:6] = 0.51, -1.25, 1.04, -0.75, 0.77  # upright on the tip of the hind leg
    on_end = clip(CHEETAH, qpos)
    assert _touching(on_end, CHEETAH, ["bfoot"]).all() and b.score(on_end) == 0
    up = int(np.flatnonzero(t % 10 == 4)[0])  # the step into the air: 0.6 m in 0.05 s
    assert b.reward(bounce)[up] == pytest.approx(12 + 2 * 0.6, rel=1e-4)
    assert b.reward(bounce)[up + 1] == pytest.approx(0, abs=1e-5)  # falling costs nothing


def test_flip() -> None:
    b, rate = BEHAVIOURS["flip"], 2 * np.pi
    np.testing.assert_allclose(b.reward(cheetah(pitch_rate=rate))[:-1], rate, rtol=1e-4)
    assert b.score(cheetah(pitch_rate=rate)) == pytest.approx(10, rel=0.03)
    assert b.score(cheetah(pitch_rate=-rate)) < 0 and b.score(cheetah(5)) == 0
    assert b.score(cheetah(pitch_rate=0.9 * np.pi / 2)) == 0  # nearly upside down is no turn


def test_rocking_earns_nothing_and_is_no_flip() -> None:
    qpos = np.zeros((81, 9))
    qpos[:, 2] = np.sin(np.arange(81) / 2)
    s = clip(CHEETAH, qpos)
    assert abs(BEHAVIOURS["flip"].reward(s).mean()) < 0.3 and BEHAVIOURS["flip"].score(s) == 0


# -- Hopper


def test_backflip() -> None:
    """Positive pitch rates turn forward. A turn a second, and no torque: 2 pi (1 + 0.3 z)."""
    b = BEHAVIOURS["backflip"]
    np.testing.assert_allclose(b.reward(hopper(-1)), 2 * np.pi * (1 + 0.3 * 1.25), rtol=1e-3)
    assert b.score(hopper(-1)) == pytest.approx(10, rel=0.03) and b.score(hopper(1)) == pytest.approx(-10, rel=0.03)
    assert b.score(hopper(-1, z=0.3)) == 0  # on the floor nothing is landed
    s = hopper(-1)
    pushing = Segments(s.obs, np.ones_like(s.action), s.next_obs.copy(), s.env_reward, s.state)
    pushing.next_obs[:, 8:11], pushing.next_obs[:, 5] = [1, 2, 3], 2.0
    np.testing.assert_allclose(b.reward(pushing), 2 * np.pi * (1 + 0.3 * 1.25 + 0.1 * 6 - 0.05 * 2), rtol=1e-3)


# -- Walker2d


def test_one_leg() -> None:
    b = BEHAVIOURS["one-leg"]
    np.testing.assert_allclose(b.reward(walker(1, left_knee=-1)), 1 + 1, rtol=1e-4)
    np.testing.assert_allclose(b.reward(walker(1)), 1 + 1 - 2, atol=1e-4)
    np.testing.assert_allclose(b.reward(walker(1, z=0.4)), 1 - 2, atol=1e-4)
    assert b.score(walker(1, left_knee=-1)) == pytest.approx(1)
    hopping = walker(1, left_knee=-1)
    assert hopping.state is not None
    hopping.state[::75, 7] = 0  # the left foot is put down every 0.6 s
    for bad in (
        hopping,
        walker(1),
        walker(left_knee=-1),
        walker(1, z=0.7, left_knee=-2),
        walker(1, pitch=0.9, left_knee=-1),
    ):
        assert b.score(bad) == 0


def test_crouch() -> None:
    b = BEHAVIOURS["crouch"]
    np.testing.assert_allclose(b.reward(walker(1, z=0.95)), 1, rtol=1e-4)
    np.testing.assert_allclose(b.reward(walker(5, z=1.2)), 2 - 1, atol=1e-4)
    assert b.score(walker(1, z=0.95)) == 1
    assert b.score(walker(1)) == 0 and b.score(walker(0.3, z=0.95)) == 0 and b.score(walker(1, z=0.3)) == 0


def test_stand() -> None:
    b = BEHAVIOURS["stand"]
    np.testing.assert_allclose(b.reward(walker()), 1)
    np.testing.assert_allclose(b.reward(walker(-1, z=0.4)), -1, rtol=1e-4)
    assert b.score(walker()) == 1
    assert b.score(walker(0.2)) == 0 and b.score(walker(z=0.3)) == 0 and b.score(walker(pitch=0.9)) == 0


def test_moonwalk() -> None:
    b = BEHAVIOURS["moonwalk"]
    np.testing.assert_allclose(b.reward(walker(-1, pitch=0.2)), 1 + 1 - 0.2, rtol=1e-4)
    assert b.score(walker(-1)) == pytest.approx(1) and b.score(walker(1)) == pytest.approx(-1)
    assert b.score(walker(-1, z=0.3)) == 0


# -- Ant


def test_spin() -> None:
    b = BEHAVIOURS["spin"]
    np.testing.assert_allclose(b.reward(ant(vx=3, vy=4, yaw_rate=2)), 2 - 0.2 * 5, rtol=1e-3)
    assert b.score(ant(yaw_rate=np.pi)) == pytest.approx(5, rel=0.03)
    assert b.score(ant(yaw_rate=-np.pi)) == pytest.approx(-5, rel=0.03)
    upside_down = ant(yaw_rate=np.pi, upside_down=True)
    assert b.score(upside_down) == 0 and np.abs(b.reward(upside_down)).max() < 1e-6 and b.score(ant(3)) == 0


def test_sidestep() -> None:
    b = BEHAVIOURS["sidestep"]
    np.testing.assert_allclose(b.reward(ant(vx=-1, vy=2)), 2 - 0.3, rtol=1e-4)
    assert b.score(ant(vy=2)) == pytest.approx(2) and b.score(ant(vx=0.5, vy=2)) == pytest.approx(2)
    assert b.score(ant(vx=2, vy=2)) == 0 and b.score(ant(vy=-2)) == 0


def test_three_legs() -> None:
    b = BEHAVIOURS["three-legs"]
    np.testing.assert_allclose(b.reward(ant(1, lifted=True)), 1 + 1, rtol=1e-4)
    np.testing.assert_allclose(b.reward(ant(1)), 1 + 1 - 2, atol=1e-4)
    assert b.score(ant(1, lifted=True)) == pytest.approx(1) and b.score(ant(1)) == 0
    assert b.score(ant(1, lifted=True, upside_down=True)) == 0
    walking = ant(1, lifted=True)
    assert walking.state is not None
    walking.state[::12, 8] = 1.0  # the leg is put down every 0.6 s
    assert b.score(walking) == 0


# -- helpers


def test_lasting() -> None:
    ok = np.array([[1, 1, 0, 1, 1, 1, 0, 1], [1] * 8, [0] * 8], bool)
    expected = [[0, 0, 0, 1, 1, 1, 0, 0], [1] * 8, [0] * 8]
    np.testing.assert_array_equal(_lasting(ok, 3), np.array(expected, bool))
    assert not _lasting(ok, 9).any() and (_lasting(ok, 1) == ok).all()


def test_turns() -> None:
    pitch = 2 * np.pi * np.array([[0.1, 0.6, 1.0, 1.9, 2.4], [0.5, 0.5, 1.0, 1.1, 0.0]])
    upright = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    assert _turns(pitch, upright).tolist() == [2, 0]


@pytest.mark.parametrize("env_id", [CHEETAH, WALKER, ANT])
def test_contacts_are_those_the_simulator_finds(env_id: str) -> None:
    s = steps_of(env_id, 200)
    assert s.state is not None
    model = mujoco_model(env_id, {})
    data, names = mujoco.MjData(model), [model.geom(i).name for i in range(model.ngeom)]
    down = {name: np.zeros(len(s), bool) for name in names}
    for t, state in enumerate(s.state):
        data.qpos[:], data.qvel[:] = state[: model.nq], state[model.nq :]
        mujoco.mj_forward(model, data)
        for contact in data.contact:
            for one, other in (contact.geom, contact.geom[::-1]):
                down[names[one]][t] |= names[other] == "floor"
    for name in names[1:]:
        np.testing.assert_array_equal(_touching(s, env_id, [name]), down[name])
    assert sum(d.any() for d in down.values()) >= 2


# -- all of them


def test_the_front_leg_is_the_front_leg() -> None:
    assert _touching(cheetah(pitch=0.5), CHEETAH, BODY_AND_FRONT_LEG).all()
    assert not _touching(cheetah(pitch=-0.3), CHEETAH, BODY_AND_FRONT_LEG).any()
