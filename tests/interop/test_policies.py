"""Every command takes the files of other libraries where it takes a policy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlhf_control.cli import main
from rlhf_control.config import FinetuneConfig, PPOConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.interop.export import export
from rlhf_control.interop.policies import find_policy, foreign_kind
from rlhf_control.nets.policy import Policy
from rlhf_control.train import finetune, resume
from rlhf_control.training import trial
from tests.interop.cleanrl_agent import Agent
from tests.interop.shown_env import Shown, samples, saved


def tuned(config: FinetuneConfig, path: Path, **changes: object) -> FinetuneConfig:
    """A fine-tuning of this policy in Shown-v0."""
    return replace(
        config, policy=str(path), env_id="Shown-v0", oracle="env", env={"kind": "box"}, clip_seconds=0.2,
        termination="allow", **changes,
    )  # fmt: skip


def test_finetuning_goes_on_from_it_and_its_checkpoints(tmp_path: Path, tiny_config: FinetuneConfig) -> None:
    saved(tmp_path / "m.zip", "box", net_arch={"pi": [8], "vf": [6, 4]}, activation_fn=torch.nn.ReLU)
    run = finetune(tuned(tiny_config, tmp_path / "m.zip"))
    start, end = find_policy(run.path / "pretrained.npz"), find_policy(run.path)
    assert start.config.activation == end.config.activation == "relu" and end.config.critic_hidden == (6, 4)
    assert not end.acts_as(start)
    assert any(row["kl_start"] > 0 for row in run.metrics())
    (tmp_path / "m.zip").unlink()  # the run has its own copy
    (run.path / "policy.npz").unlink()
    assert find_policy(resume(run.path).path).acts_as(end)


def of_multi_input(path: Path) -> None:
    saved(path, "mixed", "MultiInputPolicy", net_arch=[8], features_extractor_kwargs={"cnn_output_dim": 16})


def of_cleanrl(path: Path) -> None:
    torch.save(Agent(3, 2, continuous=True).state_dict(), path)


@pytest.mark.parametrize("make, kind, to", [(of_multi_input, "mixed", "sb3"), (of_cleanrl, "box", "cleanrl")])
def test_in_fine_tuned_killed_resumed_and_out_again(
    tmp_path: Path, tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, make: Any, kind: str, to: str
) -> None:
    monkeypatch.setattr(trial, "STEPS", 40)
    make(tmp_path / "them.pt")
    ppo = PPOConfig(num_envs=2, num_steps=10, minibatch_size=20, epochs=1)
    config = tuned(tiny_config, tmp_path / "them.pt", labels=4, first_labels=2, rounds=2, total_steps=80, ppo=ppo)
    config = replace(config, env={"kind": kind}, reward=replace(config.reward, steps=5))
    asked: list[int] = []

    def better(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        asked.append(query.round)
        if asked == [0, 0, 1]:  # in the middle of the second round, once
            raise MemoryError("killed here")
        best = int(query.segments.env_reward.sum(-1).argmax())
        return Feedback((best, 1 - best), "mine")

    with pytest.raises(MemoryError):
        finetune(replace(config, out=str(tmp_path / "cut")), oracle=better)
    runs = [resume(tmp_path / "cut", oracle=better), finetune(config, oracle=better)]
    cut, whole = (find_policy(run.path) for run in runs)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(cut.parameters(), whole.parameters(), strict=True))
    assert not whole.acts_as(find_policy(runs[1].path / "pretrained.npz"))
    _, obs = samples(kind, 8)
    written = export(whole, to, tmp_path / "out.pt")
    again = find_policy(written[0], "Shown-v0", env={"kind": kind}, trust=True,
                        obs_stats=written[-1] if len(written) > 2 else "")  # fmt: skip
    np.testing.assert_allclose(again.act(obs, None), whole.act(obs, None), rtol=1e-4, atol=1e-4)
    if to == "sb3":
        acts_there(written, kind, whole)


def acts_there(written: list[Path], kind: str, policy: Policy) -> None:
    """Stable-Baselines3 itself does as the policy does."""
    raw, packed = samples(kind, 8)
    if len(written) == 3:
        raw = VecNormalize.load(str(written[-1]), DummyVecEnv([lambda: Shown(kind)])).normalize_obs(raw)
    theirs, _ = PPO.load(written[0], device="cpu").predict(raw, deterministic=True)
    ours = policy.act(packed, None)
    ours = policy.spaces.execute(ours) if not policy.spaces.choices else ours[:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "m.zip", "box", net_arch=[8])
    np.savez(tmp_path / "s.npz", mean=np.zeros(3), var=np.ones(3), count=5)
    path, here = str(tmp_path / "m.zip"), ["--env-id", "Shown-v0", "--env", "kind", "box"]
    assert main(["evaluate", path, *here, "--episodes", "1", "--obs-stats", str(tmp_path / "s.npz")]) == 0
    assert "return" in capsys.readouterr().out
    assert main(["evaluate", path]) == 2
    assert "give --env-id ID" in capsys.readouterr().err
    assert main(["evaluate", "halfcheetah", "--obs-stats", str(tmp_path / "s.npz")]) == 2
    assert "leave --obs-stats out" in capsys.readouterr().err


def test_whose_file_it_is(tmp_path: Path, cheetah_policy: Policy) -> None:
    cheetah_policy.save(tmp_path / "ours.npz")
    torch.save({"a": torch.ones(1)}, tmp_path / "weights")
    (tmp_path / "junk.zip").write_bytes(b"no zip")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rllib_checkpoint.json").write_text("{}")
    found = {
        name: foreign_kind(tmp_path / name) for name in ("ours.npz", "weights", "junk.zip", "folder", "absent.zip")
    }
    assert found == {
        "ours.npz": "",
        "weights": "torch",
        "junk.zip": "Stable-Baselines3",
        "folder": "RLlib",
        "absent.zip": "",
    }
    with pytest.raises(UserError, match=r"cannot read .*junk.zip as a Stable-Baselines3 model"):
        find_policy(tmp_path / "junk.zip", "Pendulum-v1")
    with pytest.raises(UserError, match="no policy at"):
        find_policy(tmp_path / "absent.zip", "Pendulum-v1")
