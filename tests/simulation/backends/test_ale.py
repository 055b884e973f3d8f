"""ALE's games, as training steps them, from the first step to votes on clips and a resumed run."""

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control import train
from rlhf_control.analysis.evaluate import measure
from rlhf_control.config import FinetuneConfig, GuardConfig, NetConfig, PPOConfig, PretrainConfig, RewardConfig
from rlhf_control.data import Feedback, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import cut_segments
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.runs.run import Run
from rlhf_control.simulation.atari.preprocessing import DQN
from rlhf_control.simulation.backends.ale import ALEBackend
from rlhf_control.simulation.double_buffer import start_double_buffered
from rlhf_control.simulation.early_ends import evaluation_steps, fixed_horizon, time_limit
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.make import make_backend
from rlhf_control.simulation.pictures import decode
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces

HERE = {"num_processes": 0}
NET = NetConfig((), picture_features=16)


def digest(run: Run) -> str:
    weights = find_policy(run.path).state_dict()
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights.values())).hexdigest()


class Presser:
    """Presses the same button again and again."""

    def __init__(self, action: int) -> None:
        self.action = action

    def acting(self):  # type: ignore[no-untyped-def]
        return lambda obs, rng: np.full((len(obs), 1), self.action)


def test_returns_are_the_games_and_what_is_learned_from_is_clipped() -> None:
    """Over lost lives, which end an episode but no return. Pressing FIRE in Space Invaders scores 5 to 30 a hit."""
    envs = start_envs("ALE/SpaceInvaders-v5", 1, seed=0, env={**DQN, **HERE, "max_num_frames_per_episode": 1200})
    rollout = collect(envs, Presser(1), 330, np.random.default_rng(0))
    points, paid = rollout.env_reward[:, 0], rollout.reward[:, 0]
    assert points.max() >= 5 and set(np.unique(paid)) == {0, 1}
    np.testing.assert_array_equal(paid, np.sign(points))
    assert rollout.terminated.any()  # lost lives
    end = int(np.flatnonzero(rollout.truncated[:, 0])[0])
    assert rollout.episode_lengths == (end + 1,) and rollout.episode_returns == (points[: end + 1].sum(),)
    successors = rollout.next_obs
    lost = int(np.flatnonzero(rollout.terminated[:, 0])[0])
    stacks = [obs.reshape(84, 84, 4) for obs in (successors[lost, 0], rollout.obs[lost + 1, 0])]
    np.testing.assert_array_equal(stacks[0][..., 1:], stacks[1][..., :3])  # FIRE between them, and no new game


def test_two_groups_in_processes_are_their_games_one_after_another() -> None:
    with closing(start_double_buffered("ALE/Pong-v5", 3, seed=5, env={"noop_max": 30})) as envs:
        assert [group.num_envs for group in envs.groups] == [2, 1]
        rollout = envs.collect(Presser(2), 10, np.random.default_rng(0))  # type: ignore[arg-type]
    alone = start_envs("ALE/Pong-v5", 3, seed=5, env={"noop_max": 30, **HERE})
    expected = collect(alone, Presser(2), 10, np.random.default_rng(0))
    for name in ("obs", "env_reward", "state"):
        np.testing.assert_array_equal(getattr(rollout, name), getattr(expected, name))


def test_people_see_the_screen_in_colour() -> None:
    envs = start_envs("ALE/Pong-v5", 1, seed=0, env=HERE, frames=True)
    policy = Policy(envs.spaces, NET, 0, "ALE/Pong-v5", {})
    clip = cut_segments(collect(envs, policy, 12, np.random.default_rng(0)), 6, np.random.default_rng(0))[0]
    assert clip.frames is not None and decode(clip.frames).shape == (6, 210, 160, 3) and clip.obs.dtype == np.uint8
    renderer = ClipRenderer("ALE/Pong-v5", {})
    frames = renderer.draw(clip, 480, 420)
    assert frames.shape == (6, 420, 320, 3) and len({frame.tobytes() for frame in frames}) > 1
    assert envs.step_seconds == pytest.approx(1 / 15)
    grey = renderer.draw(clip.without_frames(), 84, 84)  # what an oracle was asked about
    np.testing.assert_array_equal(grey[..., 0], clip.obs.reshape(6, 84, 84, 4)[..., -1])


def test_time_limits_and_fixed_horizons() -> None:
    assert time_limit("ALE/Pong-v5", {}) == evaluation_steps("ALE/Pong-v5", {}) == 27_000
    assert time_limit("ALE/Pong-v5", {"frameskip": 5, "max_num_frames_per_episode": 0}) is None
    assert fixed_horizon("ALE/Pong-v5", {"noop_max": 1}) == {"noop_max": 1, "endless": True}


def test_every_door_leads_to_the_same_environment() -> None:
    for backend in ("auto", "ale", "gymnasium"):
        assert isinstance(make_backend("ale_py:ALE/Pong-v5", 1, 0, backend, HERE), ALEBackend)
    made, many = make_env("ALE/Pong-v5", DQN), make_backend("ALE/Pong-v5", 1, 0, "auto", {**DQN, **HERE}).vector
    spaces = Spaces.of(made.observation_space, made.action_space)
    assert spaces == Spaces.of(many.single_observation_space, many.single_action_space)
    assert spaces.obs_shape == (84, 84, 4) and spaces.parts[0].picture


@pytest.mark.parametrize(
    ("env_id", "backend", "env", "words"),
    [
        ("CartPole-v1", "ale", {}, "CartPole-v1 is none of ALE's games; use --backend auto"),
        ("ALE/Pogn-v5", "auto", {}, "did you mean ALE/Pong-v5"),
        ("ALE/Pong-v5", "auto", {"frame_skip": 4}, "cannot make ALE/Pong-v5 with .*frame_skip is no option"),
        ("ALE/Pong-v5", "batched", {}, "ALE/Pong-v5 has no batched version"),
    ],
)
def test_what_cannot_be_made_is_said(env_id: str, backend: str, env: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_backend(env_id, 1, 0, backend, env)


def test_a_run_is_fine_tuned_killed_and_resumed_bit_equal(tmp_path: Path) -> None:
    """With sticky actions and lost lives; the clips that were asked about can be looked at."""
    ppo = PPOConfig(num_envs=2, num_steps=20, minibatch_size=20, epochs=1)
    env = {**DQN, "repeat_action_probability": 0.25}
    begun = train.pretrain(
        PretrainConfig("ALE/Breakout-v5", total_steps=80, net=NET, ppo=ppo, env=env, out=str(tmp_path / "start"))
    )
    config = FinetuneConfig(
        str(begun.path), oracle="env", labels=4, first_labels=2, rounds=2, total_steps=160, clip_seconds=0.14,
        out=str(tmp_path / "run"), checkpoint_seconds=0, video=False, ppo=ppo, guard=GuardConfig(chance="off"),
        reward=RewardConfig(steps=3, hidden=(8,), members=2), termination="allow",
    )  # fmt: skip
    asked: list[str] = []

    def brighter(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        if len(asked) == 3:  # in the second round, once
            asked.append("")
            raise MemoryError("killed here")
        asked.append(query.segments.digest())
        best = int(query.segments.obs.mean((1, 2)).argmax())
        return Feedback((best, 1 - best), "mine")

    with pytest.raises(MemoryError):
        train.finetune(replace(config, out=str(tmp_path / "cut")), oracle=brighter)
    cut = train.resume(tmp_path / "cut", oracle=brighter)
    whole = train.finetune(config, oracle=brighter)
    assert digest(cut) == digest(whole) != digest(begun)
    clip = next(iter(FeedbackStore(cut.path / "labels.sqlite").segments(
        FeedbackStore(cut.path / "labels.sqlite").asked()[0].clips
    ).values()))  # fmt: skip
    assert ClipRenderer("ALE/Breakout-v5", env).draw(clip, 200, 200).shape[1:] == (200, 200, 3)
    short = find_policy(cut.path)
    short.env = {**short.env, **HERE, "max_num_frames_per_episode": 100}
    assert len(measure(short, "", 1, 0)["returns"]) == 1
