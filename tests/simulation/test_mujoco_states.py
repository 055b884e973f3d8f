"""All of a simulator that is to be seen comes back: mocap bodies, places and colours included."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from rlhf_control.analysis.videos import policy_frames
from rlhf_control.config.policy import NetConfig
from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.corrections import attempt_again
from rlhf_control.rendering import clips, mujoco_renderer
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.simulation.mujoco_states import (
    DATA,
    MODEL,
    MujocoReader,
    defaults,
    field,
    origin,
    parts,
    put,
    put_back,
)
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.simulator import bare_simulator, check_simulator, seen_whole
from rlhf_control.simulation.vector import start_envs
from rlhf_control.viewer.play.driver import Driver
from tests import goal_env  # registers Goal-v0


def make(**env: Any) -> Any:
    made: Any = gymnasium.make("Goal-v0", **env)
    made.reset(seed=1)
    made.action_space.seed(0)
    return made


def rollout_of(env_id: str, steps: int, **env: Any) -> tuple[Policy, Any]:
    envs = start_envs(env_id, 2, seed=0, env=env)
    policy = Policy(envs.spaces, NetConfig(hidden=(8,)), 0, env_id, dict(env))
    return policy, collect(envs, policy, steps, np.random.default_rng(0))


def test_gymnasiums_own_tasks_keep_positions_and_velocities() -> None:
    env: Any = gymnasium.make("Hopper-v5")
    env.reset(seed=0)
    state = MujocoReader([env])()[0]
    np.testing.assert_array_equal(state, env.unwrapped.state_vector())
    assert origin(env) == {}


def test_what_resets_and_steps_change_is_in_the_state_and_behind_the_velocities() -> None:
    envs = [make(), make()]
    envs[1].reset(seed=2)
    read = MujocoReader(envs)
    states = read()
    assert read.fields == ["time", "mocap_pos", "geom_rgba", "site_pos"]
    for env, state in zip(envs, states, strict=True):
        bare = env.unwrapped
        np.testing.assert_array_equal(state[:4], np.concatenate([bare.data.qpos, bare.data.qvel]))
        found = parts(bare.model, bare.data, state)
        np.testing.assert_array_equal(found["mocap_pos"], bare.data.mocap_pos)
        np.testing.assert_array_equal(found["geom_rgba"], bare.model.geom_rgba)
        np.testing.assert_array_equal(found["site_pos"], bare.model.site_pos)
    for _ in range(15):
        for env in envs:
            env.step(env.action_space.sample())
        states = read()
    assert "site_rgba" in read.fields, "changed by a step"
    np.testing.assert_array_equal(
        parts(envs[0].unwrapped.model, envs[0].unwrapped.data, states[0])["site_rgba"][0], [1, 1, 0, 1]
    )


def test_put_back_and_everything_is_as_it_was() -> None:
    one, two = make(), make()
    two.reset(seed=7)
    for _ in range(14):
        one.step(one.action_space.sample())
        two.step(two.action_space.sample())
    (state,) = MujocoReader([one])()
    put_back(two, state, origin(two))
    for name in (*DATA, *MODEL):
        pair = [field(env.unwrapped.model, env.unwrapped.data, name) for env in (one, two)]
        np.testing.assert_array_equal(*pair, err_msg=name)
    action = one.action_space.sample()
    for first, second in zip(one.step(action), two.step(action), strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_a_state_lacks_is_as_in_the_beginning() -> None:
    env = make()
    model, data = env.unwrapped.model, env.unwrapped.data
    begun = origin(env)
    put(model, data, np.zeros(4), begun)  # of an old clip: positions and velocities only
    for name, value in defaults(mujoco.MjModel.from_xml_string(goal_env.XML)).items():
        np.testing.assert_array_equal(field(model, data, name), value, err_msg=name)
    long, short = widened([MujocoReader([make()])()[0], np.zeros(4)])
    assert short.shape == long.shape and parts(model, data, short) == {}


@pytest.mark.parametrize("bad", [np.ones(3), np.ones(5), np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 0, 0, -1.0])])
def test_states_of_other_models_are_refused(bad: Array) -> None:
    model = mujoco.MjModel.from_xml_string(goal_env.XML)
    with pytest.raises(UserError, match="recorded in another environment"):
        parts(model, mujoco.MjData(model), bad)


def red_middle(picture: Array) -> Array:
    """(2,) of what is red: to the right and up, in pixels."""
    red, *others = np.moveaxis(picture.astype(int), 2, 0)
    return np.argwhere(red - np.maximum(*others) > 60).mean(0)[::-1] * (1, -1)


@pytest.mark.parametrize("draw", ["gl", "flat"])
def test_every_clip_shows_its_own_goal(draw: str) -> None:
    if draw == "gl" and clips.choose_gl() == "none":
        pytest.skip("no OpenGL here")
    env = make()
    states, goals = [], []
    for seed in (1, 2):
        env.reset(seed=seed)
        env.unwrapped.model.geom_rgba[1, :3] = 1, 0, 0
        states.append(MujocoReader([env])()[0])
        goals.append(env.unwrapped.data.mocap_pos[0, :2].copy())
    clip = np.stack(states)
    model: mujoco.MjModel = gymnasium.make("Goal-v0").unwrapped.model  # type: ignore[attr-defined]
    before = defaults(model)
    if draw == "flat":
        shown = draw_flat(model, clip, camera="top")
    else:
        with mujoco_renderer.Studio(model, 320, 320) as studio:
            shown = studio.draw(clip, "top")
            np.testing.assert_array_equal(studio.draw(clip, "top"), shown)
            plain = studio.draw(np.zeros((1, 4)), "top")
        with mujoco_renderer.Studio(model, 320, 320) as studio:
            np.testing.assert_array_equal(studio.draw(np.zeros((1, 4)), "top"), plain)
    (right, up), expected = red_middle(shown[0]) - red_middle(shown[1]), goals[0] - goals[1]
    assert right > 10 and right / up == pytest.approx(expected[0] / expected[1], rel=0.2)
    for name, value in defaults(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=f"the caller's model: {name}")


def test_rollouts_hold_it_and_resume_with_it() -> None:
    policy, rollout = rollout_of("Goal-v0", 30)
    assert rollout.state is not None and rollout.frames is None
    model, data = make().unwrapped.model, make().unwrapped.data
    for t, n in np.ndindex(30, 2):
        goal = parts(model, data, rollout.state[t, n])["mocap_pos"][0, :2]
        np.testing.assert_allclose(rollout.obs[t, n, 4:], goal, atol=1e-6)

    whole, cut = (start_envs("Goal-v0", 2, seed=0) for _ in range(2))
    collect(whole, policy, 17, np.random.default_rng(0))
    collect(cut, policy, 17, np.random.default_rng(0))
    again = start_envs("Goal-v0", 2, seed=0)
    again.load_state(cut.state())
    rollouts = [collect(envs, policy, 20, np.random.default_rng(1)) for envs in (whole, again)]
    np.testing.assert_array_equal(*(r.state for r in rollouts))


def test_the_copy_that_shows_the_beginning_is_at_arms_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed; what it raises is one line."""
    env, closed = make(), []
    monkeypatch.setattr(goal_env.Goal, "close", lambda self: closed.append(self))
    assert origin(env).keys() == defaults(env.unwrapped.model).keys() and len(closed) == 1

    def raising(self: object, **_: object) -> None:
        raise RuntimeError("only one robot\nis connected")

    monkeypatch.setattr(goal_env.Goal, "__init__", raising)
    with pytest.raises(UserError, match=r"cannot make Goal-v0.*: RuntimeError: only one robot is connected"):
        origin(env)


def test_corrections_begin_with_the_clips_goal_and_keep_it() -> None:
    policy, rollout = rollout_of("Goal-v0", 10)
    found = Segments(**{k: v.swapaxes(0, 1) for k, v in rollout.as_segments().arrays().items()})
    check_simulator("Goal-v0", {})
    attempts = attempt_again(policy, found, 2, np.random.default_rng(0))
    for i in range(2):
        np.testing.assert_allclose(
            attempts.obs[i, :, :, 4:], np.broadcast_to(found.obs[i, 0, 4:], (2, 10, 2)), atol=1e-6
        )
    simulator = bare_simulator("Goal-v0", {})
    assert found.state is not None
    simulator.put(found.state[0, 0])
    for t in range(10):
        next_obs, reward, *_ = simulator.step(found.action[0, t])
        np.testing.assert_allclose(next_obs, found.next_obs[0, t], atol=1e-5)
        assert reward == pytest.approx(found.env_reward[0, t], abs=1e-4)


def test_a_person_drives_towards_the_clips_goal() -> None:
    _, rollout = rollout_of("Goal-v0", 5)
    driver = Driver("Goal-v0", {}, seed=9)
    driver.reset(rollout.state[2, 1])
    np.testing.assert_allclose(driver.obs, rollout.obs[2, 1], atol=1e-5)
    driver.step(set())
    np.testing.assert_allclose(driver.obs[4:], rollout.obs[2, 1, 4:], atol=1e-6)
    state = driver.segment().state
    assert state is not None and state.shape == (1, rollout.state.shape[-1])
    assert driver.rate == pytest.approx(50)


def test_what_python_alone_knows_is_no_ground_for_corrections() -> None:
    with pytest.raises(
        UserError, match=r"Goal-v0 cannot be put back .* observation 5 is .*leave them out of --feedback"
    ):
        check_simulator("Goal-v0", {"secret": True})
    check_simulator("Goal-v0", {"hide": True})


def test_goals_that_an_attribute_keeps_come_back_with_the_clip() -> None:
    one, two = (bare_simulator("Goal-v0", {"hide": True}, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one.env.unwrapped.hidden, two.env.unwrapped.hidden)  # type: ignore[attr-defined]
    state = one.state()
    two.put(state)
    action = np.array([1, -0.5], np.float32)
    for found, expected in zip(two.step(action), one.step(action), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(two.state(), one.state())


def test_what_draws_more_than_its_state_is_recorded() -> None:
    for env, whole in (({}, True), ({"hide": True}, True), ({"own_picture": True}, False)):
        made = make(**env)
        assert seen_whole(made, lambda env=env: gymnasium.make("Goal-v0", render_mode="rgb_array", **env)) == whole  # type: ignore[misc]
        envs = start_envs("Goal-v0", 1, seed=0, env=env, frames=True)
        assert envs.frames != whole
    policy = Policy(envs.spaces, NetConfig(hidden=(8,)), 0, "Goal-v0", {})
    clip = collect(envs, policy, 4, np.random.default_rng(0)).as_segments()[:, 0]
    assert clip.frames is not None and clip.state is not None
    frames = clips.ClipRenderer("Goal-v0", {"own_picture": True}).draw(clip, 64, 64)
    assert (frames[0] == 255).sum() == 36 * 3, "the environment's own picture"

    driver = Driver("Goal-v0", {"own_picture": True})
    driver.step(set())
    assert driver.segment().frames is not None and driver.segment().state is not None


def test_videos_show_it_too() -> None:
    policy, _ = rollout_of("Goal-v0", 1)
    frames, fps, _ = policy_frames(policy, width=64, height=64)
    assert frames.shape == (10, 64, 64, 3) and fps == pytest.approx(25)
    policy.env = {"own_picture": True}
    frames, _, _ = policy_frames(policy, width=64, height=64)
    assert (frames[0] == 255).sum() == 36 * 3, "the environment's own picture"
