"""The games against ALE's own vector environment, and against what facts about ale-py 0.12.1 a guess would get
wrong."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlhf_control.data import Array
from rlhf_control.simulation.atari.preprocessing import DQN
from rlhf_control.simulation.atari.vector import AtariVectorEnv

LIVES, SCORE = 256, 258
PLAIN = {"repeat_action_probability": 0.0}
FAST_DEATH = {**DQN, "noop_max": 3}  # Breakout under random actions loses a life within some 30 steps


def actions(envs: AtariVectorEnv, steps: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, int(envs.single_action_space.n), (steps, envs.num_envs))


def play(envs: AtariVectorEnv, plan: Array) -> list[bytes]:
    return [b"".join(np.asarray(x).tobytes() for x in (*envs.step(a)[:4], envs.facts)) for a in plan]


@pytest.mark.parametrize(
    ("game", "rom", "steps"), [("Breakout", "breakout", 200), ("SpaceInvaders", "space_invaders", 60)]
)
def test_the_same_bits_as_ales_own(game: str, rom: str, steps: int) -> None:
    """Observations, rewards and ends, over several games of Breakout; where both are made alike, which by default they
    are not: facts A1, A4."""
    from ale_py.vector_env import AtariVectorEnv as Native

    made_alike: dict[str, Any] = {"noop_max": 0, "use_fire_reset": False, "reward_clipping": False}
    native = Native(rom, 2, num_threads=1, autoreset_mode="SameStep", repeat_action_probability=0.0, **made_alike)
    ours = AtariVectorEnv(f"ALE/{game}-v5", 2, num_processes=0, **PLAIN)
    np.testing.assert_array_equal(np.moveaxis(native.reset(seed=3)[0], 1, -1), ours.reset(seed=4)[0])
    over = 0
    for action in actions(ours, steps):
        theirs, obs = native.step(action), ours.step(action)
        np.testing.assert_array_equal(np.moveaxis(theirs[0], 1, -1), obs[0])
        for a, b in zip(theirs[1:4], obs[1:4], strict=True):
            np.testing.assert_array_equal(a, b)
        over += obs[4]["game_over"].sum()
    assert over or game != "Breakout"
    native.close()


def test_each_game_is_what_it_is_alone_in_any_number_of_processes() -> None:
    """With sticky actions, autoresets and seeds beyond int32: facts A3."""
    seed = 2**40
    options: dict[str, Any] = {"noop_max": 5, "use_fire_reset": True, "max_num_frames_per_episode": 80}
    some = AtariVectorEnv("ALE/Breakout-v5", 3, num_processes=2, **options)
    alone = AtariVectorEnv("ALE/Breakout-v5", 1, num_processes=0, **options)
    plan = actions(some, 60)
    first = some.reset(seed=seed)[0]
    np.testing.assert_array_equal(first[2:], alone.reset(seed=seed + 2)[0])
    over = 0
    for action in plan:
        together, single = some.step(action), alone.step(action[2:])
        for a, b in zip(together[:4], single[:4], strict=True):
            np.testing.assert_array_equal(a[2:], b)
        np.testing.assert_array_equal(some.facts[2:], alone.facts)
        over += int(single[4]["game_over"][0])
    assert over == 3  # its later games too
    some.close()


def test_a_game_goes_on_from_its_state_in_another_instance() -> None:
    """Sticky actions, the stack, lives and noops of later games included, which ALE's clone_state alone lacks: facts
    A5. The first picture that is drawn after a step is the right one."""
    one = AtariVectorEnv("ALE/Breakout-v5", 2, num_processes=1, repeat_action_probability=0.25, **{
        name: value for name, value in FAST_DEATH.items() if name != "repeat_action_probability"
    })  # fmt: skip
    options = {**FAST_DEATH, "repeat_action_probability": 0.25}
    one.reset(seed=1)
    plan = actions(one, 170)
    play(one, plan[:30])
    state = one.clone_states()
    expected = play(one, plan[30:])
    two = AtariVectorEnv("ALE/Breakout-v5", 2, num_processes=0, **options)
    two.reset(seed=9)
    seen = two.restore_states(state)
    np.testing.assert_array_equal(seen, state["stacks"])
    assert play(two, plan[30:]) == expected
    assert one.pngs() == two.pngs()
    with pytest.raises(ValueError, match="a state of breakout is none of pong"):
        AtariVectorEnv("ALE/Pong-v5", 2, num_processes=0).restore_states(state)
    with pytest.raises(ValueError, match="do not fit 1"):
        AtariVectorEnv("ALE/Breakout-v5", 1, num_processes=0).restore_states(state)
    one.close()


def test_a_lost_life_ends_an_episode_and_no_game() -> None:
    """ALE's own begins a new game, or reports junk as `final_obs`: facts A2, A7."""
    envs = AtariVectorEnv("ALE/Breakout-v5", 2, num_processes=0, **FAST_DEATH)
    envs.reset(seed=0)
    lives, returns, lost, over = envs.facts[:, LIVES].copy(), np.zeros(2), 0, 0
    assert (lives == 5).all()
    for action in actions(envs, 400):
        obs, reward, terminated, truncated, info = envs.step(action)
        returns += info["score"]
        assert (reward == np.sign(info["score"])).all() and not truncated.any()
        assert terminated.any() == ("final_obs" in info)
        for i in np.flatnonzero(terminated):
            lost += 1
            last = info["final_obs"][i]
            assert info["_final_obs"][i] and last.shape == (84, 84, 4)
            if info["game_over"][i]:
                over += 1
                assert lives[i] == 1 and envs.facts[i, LIVES] == 5 and not obs[i, ..., :3].any()
                returns[i] = 0
            else:  # FIRE was pressed, and the stack goes on
                assert envs.facts[i, LIVES] == lives[i] - 1
                np.testing.assert_array_equal(obs[i, ..., :3], last[..., 1:])
                assert envs.facts[i, SCORE] == returns[i]
        assert all(last is None for i, last in enumerate(info.get("final_obs", ())) if not terminated[i])
        lives = envs.facts[:, LIVES].copy()
    assert lost > over >= 1


def test_freeways_clock_is_a_time_limit() -> None:
    """ALE says `terminated`: facts A7. Near its end by a long frame skip."""
    envs = AtariVectorEnv("ALE/Freeway-v5", 1, num_processes=0, frameskip=60)
    envs.reset(seed=0)
    steps = 0
    truncated, info = np.zeros(1, bool), {}
    while not truncated[0] and steps < 200:
        _, _, terminated, truncated, info = envs.step(np.array([0]))
        assert not terminated[0]
        steps += 1
    assert steps * 60 >= 8192 > (steps - 1) * 60 and info["game_over"][0] and "final_obs" in info


def test_endless_games_say_nothing_of_their_ends() -> None:
    envs = AtariVectorEnv("ALE/Breakout-v5", 1, num_processes=0, endless=True, use_fire_reset=True)
    envs.reset(seed=0)
    over = 0
    for _ in range(200):
        _, _, terminated, truncated, info = envs.step(np.array([1]))  # the paddle stays where it is
        assert not terminated[0] and not truncated[0] and "final_obs" not in info
        over += int(info["game_over"][0])
    assert over


def test_the_limit_of_frames_truncates() -> None:
    envs = AtariVectorEnv("ALE/Pong-v5", 1, num_processes=0, max_num_frames_per_episode=40)
    envs.reset(seed=0)
    ends = [bool(envs.step(np.array([0]))[3][0]) for _ in range(20)]
    assert np.flatnonzero(ends).tolist() == [9, 19]


def test_some_can_be_reset_and_seeds_belong_to_places() -> None:
    """Facts A3: ALE's own gives the k-th that is reset seed + k, and refuses lists and NumPy's integers."""
    one, two = (AtariVectorEnv("ALE/Breakout-v5", 3, num_processes=0, noop_max=30) for _ in range(2))
    one.reset(seed=[5, 6, 7])
    two.reset(seed=np.int64(5))  # type: ignore[arg-type]
    plan = actions(one, 6)
    assert play(one, plan) == play(two, plan)
    before = one.clone_states()
    obs, _ = one.reset(seed=5, options={"reset_mask": np.array([False, False, True])})
    np.testing.assert_array_equal(obs[:2], before["stacks"][:2])
    alone = AtariVectorEnv("ALE/Breakout-v5", 1, num_processes=0, noop_max=30).reset(seed=7)[0]
    np.testing.assert_array_equal(obs[2], alone[0])
    with pytest.raises(ValueError, match="seeds are 3 whole numbers"):
        one.reset(seed=-1)
    with pytest.raises(ValueError, match="reset_mask"):
        one.reset(options={"reset_mask": np.array([0, 1, 1])})


def test_the_score_can_be_hidden() -> None:
    envs = AtariVectorEnv("ALE/Pong-v5", 1, num_processes=0, hide_score="auto", render_mode="rgb_array")
    shown = AtariVectorEnv("ALE/Pong-v5", 1, num_processes=0, render_mode="rgb_array")
    for some in (envs, shown):
        some.reset(seed=0)
        some.step(np.array([0]))
    screens = envs.render(), shown.render()
    assert screens[0] is not None and screens[1] is not None
    assert not screens[0][0][:24].any() and screens[1][0][:24].any()
    np.testing.assert_array_equal(screens[0][0][24:], screens[1][0][24:])
    seen, others = envs.step(np.array([0]))[0], shown.step(np.array([0]))[0]
    assert not seen[0, :9, :, -1].any() and others[0, :9, :, -1].any()
    np.testing.assert_array_equal(seen[0, 10:, :, -1], others[0, 10:, :, -1])


def test_wrong_calls_are_refused() -> None:
    envs = AtariVectorEnv("ALE/Pong-v5", 2, num_processes=0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros(2, np.int64))
    envs.reset(seed=0)
    for wrong in (np.zeros(3, np.int64), np.zeros(2), np.array([0, 6]), np.array([-1, 0])):
        with pytest.raises(ValueError, match="actions of ALE/Pong-v5 are"):
            envs.step(wrong)
    with pytest.raises(ValueError, match="drawn with 'rgb_array' alone"):
        AtariVectorEnv("ALE/Pong-v5", 1, render_mode="human")
