"""The batched MuJoCo environments against Gymnasium's, bit for bit."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import ARMS, MujocoVectorEnv, SimulationError, has_batched
from envs.mujoco.vector import TASKS
from tests.envs.same_bits import assert_same_bits, assert_same_steps, gymnasium_envs, random_actions

# For each task, options other than the defaults; a short time limit where nothing else ends an episode.
OPTIONS: dict[str, dict[str, Any]] = {
    "Ant-v5": {
        "main_body": "torso",
        "contact_cost_weight": 0.1,
        "contact_force_range": (-3.0, 2.0),
        "include_cfrc_ext_in_observation": False,
        "terminate_when_unhealthy": False,
        "frame_skip": 3,
        "max_episode_steps": 60,
    },
    "HalfCheetah-v5": {
        "forward_reward_weight": 2,
        "ctrl_cost_weight": 0.3,
        "exclude_current_positions_from_observation": False,
        "max_episode_steps": 37,
    },
    "Hopper-v5": {
        "healthy_reward": 2,
        "healthy_state_range": (-5.0, 5.0),
        "terminate_when_unhealthy": False,
        "max_episode_steps": 60,
    },
    "Humanoid-v5": {
        "contact_cost_weight": 1e-3,
        "contact_cost_range": (0.1, 5.0),
        "healthy_z_range": (0.9, 2.5),
        "exclude_current_positions_from_observation": False,
        "include_cinert_in_observation": False,
        "include_cvel_in_observation": False,
    },
    "HumanoidStandup-v5": {
        "impact_cost_weight": 1e-3,
        "uph_cost_weight": 3,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
        "max_episode_steps": 40,
    },
    "InvertedDoublePendulum-v5": {"healthy_reward": 3, "reset_noise_scale": 0.01, "max_episode_steps": 7},
    "InvertedPendulum-v5": {"reset_noise_scale": 0.15, "frame_skip": 1},
    "Pusher-v5": {"reward_near_weight": 2, "reward_dist_weight": 0.3, "reward_control_weight": 1},
    "Reacher-v5": {"reward_dist_weight": 2.5, "reward_control_weight": 0.3},
    "Swimmer-v5": {
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.3,
        "exclude_current_positions_from_observation": False,
        "max_episode_steps": 50,
    },
    "Walker2d-v5": {
        "healthy_z_range": (1.0, 1.5),
        "healthy_angle_range": (-0.3, 0.3),
        "reset_noise_scale": 0.1,
        "exclude_current_positions_from_observation": False,
    },
}
ALL_IDS = sorted(OPTIONS)
RENDERING_OPTIONS = {"default_camera_config", "kwargs", "self"}


# --- Gymnasium's tasks, bit for bit


def test_every_task_of_gymnasium_has_a_batched_version():
    ids = {i for i, s in gymnasium.registry.items() if "gymnasium.envs.mujoco" in str(s.entry_point) and "v5" in i}
    assert ids == set(ALL_IDS) == set(TASKS) - set(ARMS)
    assert all(map(has_batched, ids))
    assert not has_batched("CartPole-v1")


@pytest.mark.parametrize("env_id", ALL_IDS)
def test_options_and_defaults_are_gymnasium_s(env_id):
    theirs = inspect.signature(gymnasium.envs.registration.load_env_creator(gymnasium.spec(env_id).entry_point))
    expected = {name: p.default for name, p in theirs.parameters.items() if name not in RENDERING_OPTIONS}
    assert {field.name: field.default for field in fields(TASKS[env_id])} == expected


@pytest.mark.parametrize("changed", [False, True], ids=["defaults", "options"])
@pytest.mark.parametrize("env_id", ALL_IDS)
def test_equals_gymnasium(env_id, changed):
    options = OPTIONS[env_id] if changed else {}
    theirs, ours = gymnasium_envs(env_id, 3, **options), MujocoVectorEnv(env_id, 3, **options)
    for name in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.spec == theirs.spec and ours.metadata == theirs.metadata

    for name, our, their in zip(("obs", "info"), ours.reset(seed=5), theirs.reset(seed=5), strict=True):
        assert_same_bits(our, their, f"reset: {name}")
    dtype = np.float64 if changed else np.float32
    ended = assert_same_steps(ours, theirs, random_actions(ours, 1100, scale=2.0 if changed else 1.0, dtype=dtype))
    only_the_limit_ends = env_id in ("HalfCheetah-v5", "HumanoidStandup-v5", "Swimmer-v5")
    assert ended > 3 or (only_the_limit_ends and not changed)
    theirs.close()
    ours.close()


def test_equals_gymnasium_when_reset_again_with_seeds_none_or_a_mask():
    theirs, ours = gymnasium_envs("Hopper-v5", 3), MujocoVectorEnv("Hopper-v5", 3)
    actions = random_actions(ours, 20, scale=1.0)
    mask = np.array([True, False, True])
    calls: list[tuple[Any, Any]] = [(3, None), (None, None), ([9, 1, None], None), (4, mask), (None, mask)]
    for seed, reset_mask in calls:
        both = [
            envs.reset(seed=seed, options=None if reset_mask is None else {"reset_mask": reset_mask})
            for envs in (ours, theirs)
        ]
        assert_same_bits(both[0][0], both[1][0], f"reset(seed={seed}): obs")
        assert_same_bits(both[0][1], both[1][1], f"reset(seed={seed}): info")
        assert_same_steps(ours, theirs, actions)


def test_equals_gymnasium_for_one_environment_and_for_strided_actions():
    for num_envs in (1, 5):
        theirs, ours = gymnasium_envs("Ant-v5", num_envs), MujocoVectorEnv("Ant-v5", num_envs)
        ours.reset(seed=0)
        theirs.reset(seed=0)
        assert_same_steps(ours, theirs, np.asfortranarray(random_actions(ours, 100, scale=1.0)))


@pytest.mark.parametrize("env_id", ["Ant-v5", "Hopper-v5", "Humanoid-v5", "Walker2d-v5"])
@pytest.mark.parametrize("value", [0, 1])
def test_equals_gymnasium_when_a_bool_is_given_as_a_number(env_id, value):
    options = {"terminate_when_unhealthy": value, "max_episode_steps": 100}
    theirs, ours = gymnasium_envs(env_id, 3, **options), MujocoVectorEnv(env_id, 3, **options)
    ours.reset(seed=5)
    theirs.reset(seed=5)
    assert assert_same_steps(ours, theirs, random_actions(ours, 150, scale=1.0)) >= 3


def test_equals_gymnasium_for_a_body_given_by_any_integer_and_without_a_time_limit():
    options = {"main_body": np.int64(2), "max_episode_steps": -1, "terminate_when_unhealthy": False}
    theirs, ours = gymnasium_envs("Ant-v5", 2, **options), MujocoVectorEnv("Ant-v5", 2, **options)
    ours.reset(seed=5)
    theirs.reset(seed=5)
    assert assert_same_steps(ours, theirs, random_actions(ours, 1100, scale=0.1)) == 0
    assert ours.max_episode_steps is None


def test_the_spec_makes_equal_environments():
    ours = MujocoVectorEnv("Hopper-v5", 2, healthy_reward=2, max_episode_steps=9)
    theirs = gymnasium.make_vec(ours.spec)
    ours.reset(seed=5)
    theirs.reset(seed=5)
    assert assert_same_steps(ours, theirs, random_actions(ours, 40, scale=1.0)) >= 8
    assert gymnasium.spec("Hopper-v5").kwargs == {}  # the registered one stays as it is


def test_options_that_change_no_number_are_ignored():
    drawing = {"width": 64, "height": 64, "camera_name": "track", "camera_id": 0, "max_geom": 9, "visual_options": {}}
    others = {"default_camera_config": {"distance": 4.0}, "disable_env_checker": True, "render_mode": None}
    plain, ours = MujocoVectorEnv("Ant-v5", 2), MujocoVectorEnv("Ant-v5", 2, **drawing, **others)
    assert_same_bits(ours.reset(seed=5)[0], plain.reset(seed=5)[0], "obs")
    assert_same_steps(ours, plain, random_actions(ours, 20, scale=1.0))


def test_attributes_that_all_environments_share():
    theirs, ours = gymnasium_envs("Hopper-v5", 3, frame_skip=2), MujocoVectorEnv("Hopper-v5", 3, frame_skip=2)
    for name in ("dt", "frame_skip", "observation_space", "action_space", "render_mode"):
        assert ours.get_attr(name) == ours.call(name) == theirs.get_attr(name)
    assert ours.get_attr("model") == (ours.model,) * 3
    with pytest.raises(AttributeError, match="share no attribute 'frame_ski'; did you mean 'frame_skip'"):
        ours.get_attr("frame_ski")
    with pytest.raises(AttributeError, match=r"'frame_skip' .* cannot be set"):
        ours.set_attr("frame_skip", 3)


# --- Episodes, seeds, threads


@given(limit=st.integers(1, 12), seed=st.integers(0, 2**31), num_envs=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_autoreset_books_every_end(limit, seed, num_envs):
    """final_obs is the successor of the old episode, the returned observation the start of the new one."""
    options = {"terminate_when_unhealthy": False, "num_threads": 1}
    limited = MujocoVectorEnv("Hopper-v5", num_envs, max_episode_steps=limit, **options)
    unlimited = MujocoVectorEnv("Hopper-v5", num_envs, **options)
    assert_same_bits(limited.reset(seed=seed)[0], unlimited.reset(seed=seed)[0], "reset")
    for t, action in enumerate(random_actions(limited, limit, scale=1.0), start=1):
        obs, reward, terminated, truncated, info = limited.step(action)
        true_obs, true_reward, *_ = unlimited.step(action)
        assert_same_bits(reward, true_reward, f"reward {t}")
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (t == limit)
        if t < limit:
            assert_same_bits(obs, true_obs, f"obs {t}")
            assert "final_obs" not in info
    assert_same_bits(np.stack(info["final_obs"]), true_obs, "final_obs")
    assert info["_final_obs"].all()
    # Nothing was drawn but the two starts, so the new episode is the one that a second reset would have begun.
    unlimited.reset(seed=seed)
    assert_same_bits(obs, unlimited.reset()[0], "first observation of the second episode")


def test_returned_arrays_are_the_caller_s():
    envs, twin = MujocoVectorEnv("Ant-v5", 2), MujocoVectorEnv("Ant-v5", 2)
    obs, states = envs.reset(seed=0)[0], envs.states
    twin.reset(seed=0)
    obs[:] = states[:] = np.nan
    for action in random_actions(envs, 5, scale=1.0):
        ours, theirs = envs.step(action), twin.step(action)
        assert_same_bits(ours[0], theirs[0], "obs")
        ours[0][:] = np.nan
        assert_same_bits(envs.snapshot(), twin.snapshot(), "snapshot")


@pytest.mark.parametrize("env_id", ["Ant-v5", "HalfCheetah-v5", "Humanoid-v5"])
def test_same_seed_same_bits_for_any_number_of_threads(env_id):
    one = MujocoVectorEnv(env_id, 5, num_threads=1)
    one.reset(seed=11)
    others = [MujocoVectorEnv(env_id, 5, num_threads=threads) for threads in (1, 2, 4)]
    start = one.snapshot()
    for other in others:
        other.reset(seed=11)
        one.restore(start)
        assert_same_steps(other, one, random_actions(one, 60, scale=1.0))


def test_states_are_qpos_and_qvel():
    theirs, ours = gymnasium_envs("Ant-v5", 2), MujocoVectorEnv("Ant-v5", 2)
    theirs.reset(seed=1)
    ours.reset(seed=1)
    for action in random_actions(ours, 30, scale=1.0):
        ours.step(action)
        theirs.step(action)
        assert_same_bits(ours.states, np.stack([env.unwrapped.state_vector() for env in theirs.envs]), "states")
    assert ours.dt == theirs.envs[0].unwrapped.dt
    assert ours.states.shape == (2, ours.model.nq + ours.model.nv)


# --- Snapshots


@pytest.mark.parametrize("env_id", ALL_IDS)
def test_a_snapshot_continues_bit_for_bit(env_id, tmp_path):
    options = {"max_episode_steps": 40}  # so that the generators are used after the snapshot
    envs = MujocoVectorEnv(env_id, 3, **options)
    num_steps = int(np.random.default_rng(sum(env_id.encode())).integers(0, 60))
    actions = random_actions(envs, num_steps + 60, scale=1.0)
    obs, _ = envs.reset(seed=2)
    for action in actions[:num_steps]:
        obs, *_ = envs.step(action)

    np.savez(tmp_path / "snapshot.npz", allow_pickle=False, **envs.snapshot())
    with np.load(tmp_path / "snapshot.npz", allow_pickle=False) as file:
        snapshot = dict(file)
    resumed = MujocoVectorEnv(env_id, 3, num_threads=1, **options)
    assert_same_bits(resumed.restore(snapshot), obs, "restored observations")
    assert_same_bits(resumed.snapshot(), snapshot, "snapshot of the restored")
    assert_same_bits(resumed.states, envs.states, "states")
    assert assert_same_steps(resumed, envs, actions[num_steps:]) > 0


def test_a_masked_reset_after_restore_leaves_the_others_alone():
    envs, resumed = MujocoVectorEnv("Humanoid-v5", 2), MujocoVectorEnv("Humanoid-v5", 2)
    envs.reset(seed=2)
    actions = random_actions(envs, 10, scale=1.0)
    for action in actions:
        envs.step(action)
    resumed.restore(envs.snapshot())
    options = {"reset_mask": np.array([False, True])}
    assert_same_bits(resumed.reset(options=options)[0], envs.reset(options=options)[0], "obs")
    assert_same_steps(resumed, envs, actions)


def test_a_snapshot_of_another_environment_is_refused():
    cheetah = MujocoVectorEnv("HalfCheetah-v5", 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        cheetah.snapshot()
    cheetah.reset(seed=0)
    snapshot = cheetah.snapshot()
    with pytest.raises(ValueError, match=r"HalfCheetah-v5 .* Walker2d-v5"):
        MujocoVectorEnv("Walker2d-v5", 2).restore(snapshot)  # all its arrays have the same shapes
    with pytest.raises(ValueError, match=r"simulation .* shape \(2, 91\), expected \(3, 91\)"):
        MujocoVectorEnv("HalfCheetah-v5", 3).restore(snapshot)


# --- Errors


def test_options_that_do_not_exist_are_named():
    with pytest.raises(TypeError, match=r"'healthy_z_rang'; did you mean 'healthy_z_range'"):
        MujocoVectorEnv("Hopper-v5", 1, healthy_z_rang=(0, 1))
    with pytest.raises(TypeError, match="do not draw; leave out 'render_mode'"):
        MujocoVectorEnv("Hopper-v5", 1, render_mode="rgb_array")
    with pytest.raises(ValueError, match="did you mean 'Hopper-v5'"):
        MujocoVectorEnv("Hoper-v5", 1)
    with pytest.raises(ValueError, match="num_envs"):
        MujocoVectorEnv("Hopper-v5", 0)
    with pytest.raises(ValueError, match="max_episode_steps"):
        MujocoVectorEnv("Hopper-v5", 1, max_episode_steps=0)


@pytest.mark.parametrize("frame_skip", [1.0, 0, -1, "2", None])
def test_frame_skips_that_cannot_be_stepped_are_refused(frame_skip):
    with pytest.raises(ValueError, match=f"refuses to step with frame_skip={frame_skip!r}"):
        MujocoVectorEnv("Ant-v5", 1, frame_skip=frame_skip)


@pytest.mark.parametrize(
    ("env_id", "options", "words"),
    [
        ("Reacher-v5", {"xml_file": "hopper.xml"}, "hopper.xml has no body 'fingertip', which Reacher-v5 reads"),
        ("Ant-v5", {"main_body": "nobody"}, "ant.xml has no body 'nobody'"),
        ("Ant-v5", {"main_body": 14}, "ant.xml has no body 14"),
        ("Ant-v5", {"main_body": -1}, "ant.xml has no body -1"),
        ("InvertedDoublePendulum-v5", {"xml_file": "ant.xml"}, "does not fit the model ant.xml"),
    ],
)
def test_models_without_what_the_task_reads_are_refused(env_id, options, words):
    with pytest.raises(ValueError, match=words):
        MujocoVectorEnv(env_id, 1, **options)


def test_bad_actions_are_refused_before_the_step():
    envs = MujocoVectorEnv("HalfCheetah-v5", 3)
    actions = np.zeros((3, 6), np.float32)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(actions)
    envs.reset(seed=0)
    before = envs.snapshot()
    with pytest.raises(ValueError, match=r"\(3, 6\), not \(6,\)"):
        envs.step(actions[0])
    for bad in (np.nan, np.inf):
        actions[1, 4] = bad
        with pytest.raises(SimulationError, match="environment 1: action: not finite") as caught:
            envs.step(actions)
        assert (caught.value.env_index, caught.value.field) == (1, "action")
    assert_same_bits(envs.snapshot(), before, "snapshot")


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Ant-v5"])
def test_a_simulation_that_diverges_is_named_until_reset(env_id):
    envs = MujocoVectorEnv(env_id, 3)
    start, _ = envs.reset(seed=0)
    actions = np.zeros(envs.action_space.shape, np.float32)
    for value, field, column in ((np.nan, "qpos", 1), (1e12, "qvel", 1 + envs.model.nq)):
        snapshot = envs.snapshot()
        snapshot["simulation"][2, column] = value
        envs.restore(snapshot)
        for _ in range(2):
            with pytest.raises(SimulationError, match=f"environment 2: {field}"):
                envs.step(actions)
        assert_same_bits(envs.reset(seed=0)[0], start, "reset")
        envs.step(actions)


def test_an_error_inside_mujoco_names_the_environment(tmp_path):
    small = tmp_path / "small.xml"
    hopper = Path(expand_model_path("hopper.xml")).read_text()
    small.write_text(hopper.replace("<worldbody>", '<size memory="8K"/><worldbody>'))
    envs = MujocoVectorEnv("Hopper-v5", 2, xml_file=str(small))
    with pytest.raises(SimulationError, match=r"environment 0: mj_forward: .*out of memory"):
        envs.reset(seed=0)


def test_seeds_masks_and_closed_environments():
    envs = MujocoVectorEnv("Reacher-v5", 2)
    with pytest.raises(ValueError, match="3 seeds for 2 environments"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.array([1, 0])})
    envs.reset()  # unseeded: from the operating system's entropy
    dt = envs.dt
    envs.close()
    envs.close()
    assert envs.dt == dt and envs.get_attr("dt") == (dt, dt)
    for call in (envs.reset, lambda: envs.restore({}), lambda: envs.states):
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):
            call()
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros((2, 2)))
