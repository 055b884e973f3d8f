from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlhf_control.cli import main
from rlhf_control.config import NetConfig, PPOConfig, PretrainConfig
from rlhf_control.errors import Stopped, UserError
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.ppo import PPO
from rlhf_control.simulation.foreign import MisfitError, make_env, owned, success_in
from rlhf_control.simulation.make import make_envs
from rlhf_control.simulation.rollouts import collect, evaluate
from rlhf_control.simulation.vector import start_envs
from rlhf_control.train import pretrain
from tests import foreign_envs
from tests.foreign_envs import Rude

SMALL = ["--ppo.num-envs", "4", "--ppo.num-steps", "32", "--ppo.minibatch-size", "64"]


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    gymnasium.register("Rude-v0", Rude, disable_env_checker=True)
    yield
    gymnasium.registry.pop("Rude-v0")


def counted(made: list[Rude]) -> Any:
    """The constructor, which puts what it makes into the list."""
    init = Rude.__init__

    def init_and_count(self: Rude, **env: Any) -> None:
        made.append(self)
        init(self, **env)

    return init_and_count


def policy_for(env: dict[str, Any]) -> Policy:
    return Policy(start_envs("Rude-v0", 1, seed=0, env=env).spaces, NetConfig((8,), 1.0), 0, "Rude-v0", env)


@pytest.mark.parametrize("action", ["box", "bits", "choices"])
def test_what_an_environment_does_to_its_action_is_not_recorded(action: str) -> None:
    env = {"action": action}
    policy = policy_for(env)
    rollout = collect(start_envs("Rude-v0", 3, seed=0, env=env), policy, 12, np.random.default_rng(0))
    assert (rollout.action != 0).mean() > 0.3
    np.testing.assert_array_equal(
        policy.spaces.execute(rollout.action.reshape(36, -1)).reshape(12, 3, -1), rollout.executed
    )
    _, (episode,) = evaluate(policy, 1, seed=0, deterministic=False)
    assert (episode.action != 0).any(-1).all()


@pytest.mark.parametrize("kind", ["list", "tuple", "reused", "float64", "whole floats", "integers"])
def test_observations_of_every_make_are_those_of_their_step(kind: str) -> None:
    rollout = collect(
        start_envs("Rude-v0", 2, seed=0, env={"obs": kind}), policy_for({"obs": kind}), 12, np.random.default_rng(0)
    )
    step = np.arange(12) % 5
    np.testing.assert_array_equal(rollout.obs[:, 1, 1], step)
    np.testing.assert_array_equal(rollout.next_obs[:, 1, 1], step + 1)
    np.testing.assert_array_equal(rollout.next_obs[:, 1, 0], rollout.obs[:, 1, 0])  # the last one is no reset's


def test_a_dict_of_lists_becomes_one_vector() -> None:
    envs = start_envs("Rude-v0", 2, seed=0, env={"obs": "dict of lists"})
    np.testing.assert_array_equal(envs.obs[0], [1, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1])


def test_values_learned_from_a_reused_array_are_right() -> None:
    """Every other episode is worth 0 a step and the others 1, and all are cut off after five steps: the values are 0
    and 1 / (1 - gamma) = 5. Were the reset's observation taken for the last one, they would be 1.7 and 3.3."""
    config = PPOConfig(num_envs=8, num_steps=40, minibatch_size=40, gamma=0.8, lr=1e-2)
    envs = start_envs("Rude-v0", 8, seed=0, env={"obs": "reused", "alternating": True})
    learner = PPO(Policy(envs.spaces, NetConfig((16,)), 0, "Rude-v0", {}), config)
    rollout = collect(envs, learner, 40, np.random.default_rng(0))
    learner.fit_value(rollout, 200, np.random.default_rng(0))
    for alternate, value in ((0, 0.0), (1, 5.0)):
        found = learner.values(rollout.obs[rollout.obs[..., 0] == alternate])
        assert abs(found - value).max() < 1, found


def test_infos_of_every_kind_are_nobodys_business(tmp_path: Any) -> None:
    env = {"fault": "infos"}
    rollout = collect(start_envs("Rude-v0", 3, seed=0, env=env), policy_for(env), 60, np.random.default_rng(0))
    assert rollout.truncated.sum() == 3 * 12
    envs = make_envs("Rude-v0", 2, seed=0, fault="infos")
    for t in range(1, 11):
        _, _, _, truncated, info = envs.step(np.zeros((2, 2), np.float32))
        assert set(info) == ({"final_obs", "_final_obs"} if t % 5 == 0 else set())
        assert truncated.all() == (t % 5 == 0)


@pytest.mark.parametrize("generator", ["Generator", "RandomState"])
def test_an_old_random_state_is_resumed(generator: str) -> None:
    envs = start_envs("Rude-v0", 2, seed=3, env={"generator": generator})
    policy = policy_for({})
    collect(envs, policy, 12, np.random.default_rng(0))
    drawn = [env.unwrapped.np_random.uniform() for env in envs.vector.envs]  # type: ignore[attr-defined]
    envs.vector.envs[0].reset()  # type: ignore[attr-defined]
    snapshot = envs.vector.envs[0].snapshot()  # type: ignore[attr-defined]
    expected = envs.vector.envs[0].unwrapped.np_random.uniform()  # type: ignore[attr-defined]
    other = start_envs("Rude-v0", 1, seed=9, env={"generator": generator}).vector.envs[0]  # type: ignore[attr-defined]
    other.restore(snapshot)
    assert other.unwrapped.np_random.uniform() == expected != drawn[0]


def test_a_generator_that_is_not_of_numpy_is_resumed() -> None:
    envs = start_envs("Rude-v0", 1, seed=3, env={"generator": "random"})
    collect(envs, policy_for({}), 12, np.random.default_rng(0))
    other = start_envs("Rude-v0", 1, seed=9, env={"generator": "random"})
    other.load_state(envs.state())
    assert not other.differs
    drawn = [e.vector.envs[0].unwrapped.np_random.random() for e in (envs, other)]  # type: ignore[attr-defined]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"fault": "raise"}, r"step 2 of its episode 2: ZeroDivisionError: division by zero \(.*foreign_envs.py:\d+\)"),
        ({"fault": "raise", "at": 0}, "its reset of its episode 2: ZeroDivisionError"),
        ({"fault": "exit"}, r"step 2 of its episode 2: SystemExit: 0 \(.*foreign_envs.py:\d+\)"),
        ({"fault": "reward"}, r"step 2 of its episode 2: its reward is \[1.0, 2.0\], not a number"),
        ({"fault": "flag"}, "its truncated is None, not a number"),
        ({"fault": "shape"}, r"step 2 of its episode 2: its observation has shape \(3,\), not \(2,\)"),
        ({"fault": "shape", "at": 0}, r"its reset of its episode 2: its observation has shape \(3,\)"),
        ({"fault": "ragged"}, r"its observation is \[1, \[2, 3\]\], not numbers"),
        ({"fault": "None"}, "its observation is None, not numbers"),
        ({"fault": "text"}, r"its observation is \['a', 'b'\], not numbers"),
        ({"fault": "halves", "obs": "integers"}, "its observation of dtype float64 holds 0.5, and .* uint8"),
        ({"fault": "large", "obs": "integers"}, "its observation of dtype int64 holds 300, and .* uint8"),
        ({"fault": "None", "obs": "dict of lists"}, "its observation is None, not a dictionary of a, b"),
        ({"fault": "no key", "obs": "dict of lists"}, "not a dictionary of a, b"),
        ({"fault": "outside", "obs": "dict of lists"}, r"its observation 3 lies outside its space Discrete\(3\)"),
    ],
)
def test_what_goes_wrong_inside_names_environment_seed_episode_and_step(env: dict[str, Any], words: str) -> None:
    envs = start_envs("Rude-v0", 2, seed=40, env=env, first=3)
    with pytest.raises(UserError, match=words) as caught:
        collect(envs, policy_for(env), 12, np.random.default_rng(0))
    assert str(caught.value).startswith(f"environment 3 (seed 43) of Rude-v0 with {env} fails in ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "words"), [("make", "RuntimeError: no robot is connected"), ("exit at make", "SystemExit: 0")]
)
def test_what_it_raises_when_it_is_made(fault: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"^cannot make Rude-v0 with .*: {words} \(.*foreign_envs.py:\d+\)$"):
        make_env("Rude-v0", {"fault": fault})


def test_an_end_of_the_process_in_an_environment_is_no_success(tmp_path: Any, capsys: Any) -> None:
    for fault in ("exit", "exit at make", "raise"):
        arguments = ["pretrain", "Rude-v0", "--env", "fault", fault, "--total-steps", "64", "--ppo.num-envs", "2"]
        arguments += ["--ppo.num-steps", "32", "--ppo.minibatch-size", "64", "--out", str(tmp_path / fault)]
        assert main(arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("rlhf-control: ") and "foreign_envs.py:" in said


def test_an_environment_that_fails_to_close_costs_nothing(capsys: Any) -> None:
    envs = make_envs("Rude-v0", 2, seed=5, fault="close")
    before = Rude.closed
    envs.close()
    assert Rude.closed == before + 2
    _, second = capsys.readouterr().err.splitlines()
    assert "environment 1 (seed 6) of Rude-v0" in second and "fails in close: OSError: the door is stuck" in second


def test_those_made_before_one_that_cannot_be_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(range(3))

    def third_fails(**arguments: Any) -> Rude:
        return Rude(fault="make" if next(made) == 2 else "")

    gymnasium.register("ThirdFails-v0", third_fails)
    before = Rude.closed
    with pytest.raises(UserError, match="no robot"):
        make_envs("ThirdFails-v0", 3, seed=0)
    assert Rude.closed == before + 2
    gymnasium.registry.pop("ThirdFails-v0")


def test_a_picture_that_cannot_be_drawn_is_one_line() -> None:
    env = make_env("Rude-v0", {"fault": "render", "render_mode": "rgb_array"})
    env.reset(seed=1)
    with pytest.raises(UserError, match=r"environment 0 \(seed 1\) .* render after step 0 .*: OSError: no graphics"):
        env.render()


def test_an_observation_is_copied_and_cast_without_loss() -> None:
    space = foreign_envs.OBSERVATIONS["integers"]
    mine = np.array([1, 2], np.uint8)
    copied = owned(space, mine)
    mine[:] = 9
    assert copied.tolist() == [1, 2] and copied.dtype == np.uint8
    assert owned(space, [1.0, 2.0]).dtype == np.uint8
    with pytest.raises(MisfitError):
        owned(space, [np.nan, 1])


@pytest.mark.parametrize("fault", ["", "raise", "exit"])
def test_what_is_made_for_training_is_closed(fault: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Rude] = []
    monkeypatch.setattr(Rude, "__init__", counted(made))
    before = Rude.closed
    arguments = ["pretrain", "Rude-v0", "--env", "fault", fault or "none", "--total-steps", "128", *SMALL]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == (2 if fault else 0)
    assert len(made) >= 4 and Rude.closed - before == len(made)


def test_what_is_made_for_finetuning_is_closed_when_it_is_stopped(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Rude] = []
    monkeypatch.setattr(Rude, "__init__", counted(made))
    assert main(["pretrain", "Rude-v0", "--total-steps", "128", *SMALL, "--out", str(tmp_path / "start")]) == 0
    before, made[:] = Rude.closed, []
    arguments = ["finetune", str(tmp_path / "start"), "--oracle", "env", "--labels", "4", "--rounds", "1", *SMALL]
    arguments += ["--clip-seconds", "0.1", "--out", str(tmp_path / "run")]

    def stop(*_: Any, **__: Any) -> Any:
        raise Stopped(15, "enough")

    monkeypatch.setattr("rlhf_control.train.iteration_metrics", stop)
    assert main([*arguments, "--total-steps", "512"]) == 128 + 15
    assert len(made) >= 8 and Rude.closed - before == len(made)  # four to train in, four to look for early ends


def test_arguments_of_any_name_reach_the_environment(tmp_path: Any) -> None:
    env = {"seed": np.int64(7), "num_envs": np.float32(0.5), "backend": "mine", "env_id": np.bool_(True)}
    run = pretrain(PretrainConfig("Rude-v0", out=str(tmp_path / "run"), env=env, total_steps=128, ppo=PPOConfig(4, 32)))  # type: ignore[arg-type]
    policy = find_policy(run.path)
    assert policy.env == {"seed": 7, "num_envs": 0.5, "backend": "mine", "env_id": True}
    (made,) = start_envs("Rude-v0", 1, seed=0, env=policy.env).vector.envs  # type: ignore[attr-defined]
    assert made.unwrapped.arguments == (7, 0.5, "mine", True)
    words = ["--env", "seed", "3", "num_envs", "4", "backend", "auto", "env_id", "x", "--total-steps", "128", *SMALL]
    assert main(["pretrain", "Rude-v0", *words, "--out", str(tmp_path / "typed")]) == 0
    assert main(["evaluate", str(tmp_path / "typed"), "--episodes", "1"]) == 0
    assert main(["pretrain", "HalfCheetah-v5", "--env", "seed", "3", "--out", str(tmp_path / "no")]) == 2


def test_digits_that_are_lost_are_said(capsys: Any) -> None:
    env = {"obs": "float64", "large": 2.0**25}
    collect(start_envs("Rude-v0", 2, seed=0, env=env), policy_for(env), 3, np.random.default_rng(0))
    said = capsys.readouterr().err
    assert "float64 numbers beyond 16,777,216" in said and len(said.splitlines()) == 1
    env = {"obs": "list", "large": 2.0**25}  # float32: nothing is lost
    collect(start_envs("Rude-v0", 2, seed=0, env=env), policy_for(env), 3, np.random.default_rng(0))
    assert not capsys.readouterr().err


def test_closing_that_raises_is_one_line_once_the_work_is_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pretrain", "Rude-v0", "--env", "fault", "close", "--total-steps", "128", *SMALL]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err
    assert "Traceback" not in told and (tmp_path / "run" / "policy.npz").exists()
    (line, *_) = [line for line in told.splitlines() if "the door is stuck" in line]
    assert line.startswith("rlhf-control: environment 0 ") and "fails in close: OSError: the door is stuck (" in line


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"success": True}, 1.0), ({"is_success": np.float32(0.0)}, 0.0), ({"success": np.array([1.0])}, 1.0),
        ({"success": "no"}, np.nan), ({"success": [1, 0]}, np.nan), ({"success": None}, np.nan), ({5: 1}, np.nan),
        (None, np.nan),
    ],
)  # fmt: skip
def test_what_an_info_says_about_success(info: Any, told: float) -> None:
    np.testing.assert_equal(success_in(info), told)


class Reaches(gymnasium.Wrapper):
    """Says it in the last of five steps, and in the third."""

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {**info, "is_success": self.unwrapped.steps in (3, 5)}


def test_success_is_recorded_with_the_step_that_it_is_said_of(monkeypatch: pytest.MonkeyPatch) -> None:
    make = gymnasium.make
    monkeypatch.setattr(gymnasium, "make", lambda *args, **kwargs: Reaches(make(*args, **kwargs)))
    envs = start_envs("Rude-v0", 2, seed=0)
    policy = policy_for({})
    rollout = collect(envs, policy, 10, np.random.default_rng(0))
    assert rollout.success is not None and rollout.success.dtype == bool
    assert rollout.success[:, 0].tolist() == [False, False, True, False, True] * 2
    np.testing.assert_array_equal(rollout.as_segments().success, rollout.success)
    _, (episode,) = evaluate(policy, 1, seed=0)
    assert episode.success is not None and episode.success.tolist() == [False, False, True, False, True]
