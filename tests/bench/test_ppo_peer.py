import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_control.bench import ppo_peer as bench_peer
from rlhf_control.interop.sb3_policies import import_sb3
from rlhf_control.nets.policy import load_policy


@pytest.mark.parametrize("learner", ["ours", "sb3"])
def test_a_whole_training_leaves_a_policy(learner: str, tmp_path: Path) -> None:
    out = tmp_path / "policy"
    script = [sys.executable, bench_peer.__file__, learner, "CartPole-v1", "8", "32", "512", str(out)]
    subprocess.run(script, check=True, capture_output=True, timeout=120)
    policy = load_policy(out) if learner == "ours" else import_sb3(f"{out}.zip", "CartPole-v1")
    assert policy.spaces.choices == (2,) and policy.config.hidden == (64, 64)


def test_both_learners_have_the_same_hyperparameters() -> None:
    """SB3's defaults but for what the bench names; ours from the preset, which test_parity holds to SB3's."""
    from rlhf_control.config.presets import preset

    ours = preset("HalfCheetah-v5", "sb3")
    assert (ours.ppo.minibatch_size, ours.ppo.epochs) == (bench_peer.MINIBATCH, bench_peer.EPOCHS)
    assert list(ours.net.hidden) == bench_peer.HIDDEN
