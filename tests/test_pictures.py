"""A policy that sees pictures, from its first step to votes on its clips and a resumed run."""

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control import train
from rlhf_control.cli import main
from rlhf_control.config import FinetuneConfig, GuardConfig, NetConfig, PPOConfig, PretrainConfig, RewardConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import cut_segments
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.runs.run import Run
from rlhf_control.simulation.pictures import decode
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from tests import picture_env  # noqa: F401  # registers Pictures-v0

PPO = PPOConfig(num_envs=2, num_steps=20, minibatch_size=20, epochs=1)


def digest(run: Run) -> str:
    weights = find_policy(run.path).state_dict()
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights.values())).hexdigest()


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    """A fine-tuning run of four iterations, from a policy of two."""
    net = NetConfig((8,), picture_features=16)
    start = train.pretrain(PretrainConfig("Pictures-v0", total_steps=80, net=net, ppo=PPO, out=str(tmp_path / "start")))
    policy = find_policy(start.path)
    assert policy.config.encoder == "cnn" and policy.spaces.obs_dtype == "uint8"  # by default
    return FinetuneConfig(
        str(start.path), oracle="env", labels=8, first_labels=4, rounds=2, total_steps=160, clip_seconds=0.5,
        out=str(tmp_path / "run"), checkpoint_seconds=0, video=False, ppo=PPO, guard=GuardConfig(chance="off"),
        reward=RewardConfig(steps=5, hidden=(8,), members=2),
    )  # fmt: skip


def test_it_is_fine_tuned_killed_and_resumed_bit_equal(config: FinetuneConfig, tmp_path: Path) -> None:
    asked: list[str] = []

    def further_right(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        if len(asked) == 6 and query.round == 1:  # in the middle of the second round, once
            asked.append("")
            raise MemoryError("killed here")
        asked.append(query.segments.digest())
        best = int(query.segments.env_reward.sum(-1).argmax())
        return Feedback((best, 1 - best), "mine")

    with pytest.raises(MemoryError):
        train.finetune(replace(config, out=str(tmp_path / "cut")), oracle=further_right)
    cut = train.resume(tmp_path / "cut", oracle=further_right)
    whole = train.finetune(config, oracle=further_right)
    for run in (whole, cut):
        assert len([row for row in run.metrics() if "reward/fit_seconds" in row]) == 2
        assert find_policy(run.path).config.encoder == "cnn" and run.metrics()[-1]["labels"] == 8
    assert digest(cut) == digest(whole)
    keys = [[a.key for a in FeedbackStore(run.path / "labels.sqlite").asked()] for run in (whole, cut)]
    assert keys[0] == keys[1] and len(keys[0]) == 8


def test_people_see_what_it_observes(tmp_path: Path) -> None:
    """The pictures that are recorded of a clip, and that a person is shown, are those that the policy saw."""
    envs = start_envs("Pictures-v0", 2, seed=0, frames=True)
    policy = Policy(envs.spaces, NetConfig((8,), picture_features=16), 0, "Pictures-v0", {})
    with closing(envs):
        clips = cut_segments(collect(envs, policy, 20, np.random.default_rng(0)), 5, np.random.default_rng(0))
    store = FeedbackStore(tmp_path / "labels.sqlite")
    store.ask([Query(0, 0, "uniform", clips[:2])])
    renderer = ClipRenderer("Pictures-v0", {})
    for clip in store.segments(store.asked()[0].clips).values():
        assert clip.frames is not None and clip.obs.dtype == np.uint8
        seen = clip.obs.reshape(5, 64, 64, 3)
        assert len({picture.tobytes() for picture in seen}) > 1
        np.testing.assert_array_equal(decode(clip.frames), seen)
        np.testing.assert_array_equal(renderer.draw(clip, 64, 64), seen)


def test_every_command_takes_pictures(config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an environment of somebody else, 64 x 64 x 3, which cannot be put into a stored state."""
    run = train.finetune(replace(config, labels=4, first_labels=4, rounds=1, total_steps=80)).path
    (tmp_path / "name").write_text("1\n" * 8)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    few = ["--episodes", "2"]
    for command, *arguments in (
        ["evaluate", *few],
        ["compare", "--against", config.policy, "--episodes", "8"],
        ["evaluate-reward", *few, "--pairs", "4"],
        ["labels", "--export", str(tmp_path / "labels")],
        ["record", "--out", str(tmp_path / "clip.gif"), "--seconds", "0.3"],
        ["export", "--to", "npz", "--out", str(tmp_path / "policy.npz")],
        ["export", "--to", "sb3", "--out", str(tmp_path / "policy.zip")],
        ["plot", "--out", str(tmp_path / "curves")],
        ["resume"],
    ):  # fmt: skip
        assert main([command, str(run), *arguments]) == 0, command
    assert {path.name for path in tmp_path.iterdir()} >= {
        "labels",
        "clip.gif",
        "policy.npz",
        "policy.zip",
        "curves.png",
    }
    again = find_policy(tmp_path / "policy.zip", "Pictures-v0")  # as Stable-Baselines3 wrote it
    obs = np.random.default_rng(0).integers(256, size=(4, 64 * 64 * 3)).astype(np.uint8)
    np.testing.assert_array_equal(again.act(obs, None), find_policy(run).act(obs, None))
