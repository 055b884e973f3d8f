from pathlib import Path

import pytest

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import adopt, own_policy, shipped
from rlhf_control.runs.files import sha256
from rlhf_control.runs.run import Run
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.simulation.vector import start_envs


def test_by_file_by_folder_and_by_checkpoint(tmp_path: Path, cheetah_policy: Policy) -> None:
    run = Run.create(tmp_path / "run", "pretrain", PretrainConfig("HalfCheetah-v5"))
    run.save_checkpoint(3, {"learner": {"policy": cheetah_policy.state()}})
    assert (own_policy(run.path).log_std == cheetah_policy.log_std).all()
    cheetah_policy.save(run.path / "policy.npz")
    assert own_policy(run.path).spaces == own_policy(run.path / "policy.npz").spaces
    with pytest.raises(UserError, match="halfcheetah"):
        own_policy("halfchetah")
    state = {**cheetah_policy.state(), "env_id": "evil:Thing-v0"}
    (run.path / "policy.npz").unlink()
    run.save_checkpoint(4, {"learner": {"policy": state}})
    with pytest.raises(UserError, match="would import evil"):
        own_policy(run.path)


def test_shipped_policies_are_what_their_readme_says() -> None:
    assert set(shipped()) == {"halfcheetah"}
    path = shipped()["halfcheetah"]
    readme = (path.parent / "README.md").read_text()
    assert sha256(path) in readme
    returns, _ = evaluate(own_policy("halfcheetah"), 2, seed=0)
    assert min(returns) > 2000 and max(returns) < 2800 and "2531.9" in readme


def test_equal_spaces_of_another_id_are_taken_with_a_word(
    cheetah_policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(cheetah_policy, cheetah_policy.spaces, "Walker2d-v5", {}).env_id == "Walker2d-v5"
    assert "HalfCheetah-v5 is taken for Walker2d-v5" in capsys.readouterr().err


def test_a_policy_for_another_environment_shows_both_spaces(cheetah_policy: Policy) -> None:
    hopper = start_envs("Hopper-v5", 1, seed=0).spaces
    with pytest.raises(UserError, match=r"HalfCheetah-v5 .*Box\(17,\).*Hopper-v5 .*Box\(11,\)"):
        adopt(cheetah_policy, hopper, "Hopper-v5", {})
