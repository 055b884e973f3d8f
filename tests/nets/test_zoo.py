from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from envs.games.bricks import BRICKS
from envs.games.env import spaces_of
from rlhf_control.config import NetConfig, PretrainConfig
from rlhf_control.config.presets import FAST, TUNED
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import adopt, known, own_policy, shipped, table
from rlhf_control.runs.files import save_state, sha256
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces, numbers_of
from tests.mixed_env import Mixed


def test_by_file_by_folder_and_by_checkpoint(
    tmp_path: Path, cheetah_policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.create(tmp_path / "run", "pretrain", PretrainConfig("HalfCheetah-v5"))
    run.save_checkpoint(3, {"learner": {"policy": cheetah_policy.state()}})
    assert (own_policy(run.path).log_std == cheetah_policy.log_std).all()
    assert "is not finished; this is what it would hand back after iteration 3" in capsys.readouterr().err
    cheetah_policy.save(run.path / "policy.npz")
    assert own_policy(run.path).spaces == own_policy(run.path / "policy.npz").spaces
    with pytest.raises(UserError, match="halfcheetah"):
        own_policy("halfchetah")
    state = {**cheetah_policy.state(), "env_id": "evil:Thing-v0"}
    (run.path / "policy.npz").unlink()
    run.save_checkpoint(4, {"learner": {"policy": state}})
    with pytest.raises(UserError, match="would import evil"):
        own_policy(run.path)


def test_shipped_policies_are_what_the_zoo_says() -> None:
    facts = known()["shipped"]
    assert set(shipped()) == set(facts)
    for name, path in shipped().items():
        assert sha256(path) == facts[name]["sha256"] and path.stat().st_size < 2_500_000
        policy = own_policy(name)
        assert policy.env_id == facts[name]["env_id"] and policy.env_id in facts[name]["command"]
        if "return" in facts[name]:
            returns, _ = evaluate(policy, 2, seed=0)
            assert 0.8 * facts[name]["return"] < np.mean(returns) < 1.15 * facts[name]["return"]


def test_the_zoo_lists_what_ships_and_every_preset() -> None:
    listed = table()
    assert all(name in listed for name in (*shipped(), *TUNED, *FAST))
    facts = known()
    assert facts["tuned"].keys() <= TUNED.keys() and facts["fast"].keys() <= FAST.keys()


def test_equal_spaces_of_another_id_are_taken_with_a_word(
    cheetah_policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(cheetah_policy, cheetah_policy.spaces, "Walker2d-v5", {}).env_id == "Walker2d-v5"
    assert "HalfCheetah-v5 is taken for Walker2d-v5" in capsys.readouterr().err


def test_a_policy_for_another_environment_shows_both_spaces(cheetah_policy: Policy) -> None:
    hopper = start_envs("Hopper-v5", 1, seed=0).spaces
    with pytest.raises(UserError, match=r"HalfCheetah-v5 .*Box\(17,\).*Hopper-v5 .*Box\(11,\)"):
        adopt(cheetah_policy, hopper, "Hopper-v5", {})


def test_a_policy_of_before_acts_on_parts_of_several_dtypes(tmp_path: Path) -> None:
    """It was saved when a Dict was float32 numbers side by side, whatever its dtypes."""
    envs = start_envs("Mixed-v0", 2, seed=0)
    before = Policy(envs.spaces.before, NetConfig((8,), encoder="flat"), 0, "Mixed-v0", {})
    before.observe(numbers_of(envs.spaces.parts, envs.obs))
    state = before.state()
    for name in ("obs_dtype", "obs_parts"):
        del state["spaces"][name]
    del state["net"]["encoder"]
    save_state(tmp_path / "policy.npz", {**state, "facts": {}})
    policy = own_policy(tmp_path / "policy.npz")
    returns, (episode, _) = evaluate(policy, 2, seed=0)
    assert len(episode) == 7 and episode.obs.dtype == np.uint8
    now = adopt(policy, envs.spaces, "Mixed-v0", {})
    expected = before.act(numbers_of(envs.spaces.parts, episode.obs), None)
    np.testing.assert_array_equal(now.act(episode.obs, None), expected)
    np.testing.assert_allclose(envs.spaces.execute(expected), episode.action, atol=1e-6)
    assert evaluate(now, 2, seed=0)[0] == returns
    made = Mixed()
    made.reset()
    obs = gymnasium.spaces.flatten(made.observation_space, made.observe())
    np.testing.assert_array_equal(now.predict(obs)[0], policy.predict(obs)[0])


def test_a_run_of_before_whose_observations_had_another_form_is_refused() -> None:
    envs = start_envs("Mixed-v0", 2, seed=0)
    snapshot = {**envs.state(), "obs": numbers_of(envs.spaces.parts, envs.obs)}
    with pytest.raises(UserError, match=r"older version, which kept observations of Mixed-v0 as 8 numbers .*as POLICY"):
        envs.load_state(snapshot)


@pytest.mark.parametrize("own", ["state", "planes"])
def test_a_policy_of_another_view_says_both_views(own: str) -> None:
    """Vectors for a network that sees, and the reverse."""
    views = {view: spaces_of(BRICKS, view)[0] for view in ("state", "planes")}
    spaces = {view: Spaces.of(box, Discrete(3)) for view, box in views.items()}
    other = {"state": "planes", "planes": "state"}[own]
    policy = Policy(spaces[own], NetConfig((8,), picture_features=8), 0, "rlhf/Bricks-v0", {"obs": own})
    with pytest.raises(UserError, match=f"with --env obs {own} .* but rlhf/Bricks-v0 with --env obs {other} has"):
        adopt(policy, spaces[other], "rlhf/Bricks-v0", {"obs": other})
