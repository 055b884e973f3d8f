"""Dialogue by the same loop: pretrained by cloning, fine-tuned, asked about, resumed, guarded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlhf_control
from envs import DIALOGUE
from envs.dialogue.env import CONTEXT, texts
from envs.dialogue.vocabulary import vocabulary
from rlhf_control import train
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, ReferenceConfig, RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.nets.policy import load_policy
from rlhf_control.nets.zoo import own_policy
from rlhf_control.queries.segments import cut_episodes
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.rl.kl_anchor import Anchor
from rlhf_control.rl.ppo import PPO
from rlhf_control.runs.checkpoints import checkpoint_path
from rlhf_control.runs.run import Run
from rlhf_control.simulation.dialogues import converse, said
from rlhf_control.simulation.double_buffer import start_double_buffered
from rlhf_control.training.continuing import suited
from rlhf_control.training.guard import Guard
from tests.conftest import TINY_REWARD
from tests.dialogues import PROMPTS, talker

SMALL_PPO = PPOConfig(num_envs=8, num_steps=24, minibatch_size=64, epochs=1, gamma=1.0)
GOOD = vocabulary().encode("good")[0]


def parameters(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_policy(path / "policy.npz").state_dict().items()}


def rows(run: Run) -> list[dict[str, Any]]:
    """Without what a clock says."""
    clock = {"wall_seconds", "steps_per_second", "reward/fit_seconds"}
    return [{k: v for k, v in row.items() if k not in clock} for row in run.metrics()]


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    talker().save(tmp_path / "talker.npz")
    return FinetuneConfig(
        str(tmp_path / "talker.npz"), oracle="brief", labels=24, first_labels=12, rounds=2, total_steps=8 * 24 * 24,
        out=str(tmp_path / "run"), ppo=SMALL_PPO, reward=TINY_REWARD, video=False, checkpoint_seconds=0,
        guard=GuardConfig(chance="off", alarm="off"),
    )  # fmt: skip


def test_replies_to_one_prompt_are_compared_and_a_resumed_run_is_bit_equal(config: FinetuneConfig) -> None:
    whole = train.finetune(config)
    assert whole.metrics()[-1]["answers"] == 24
    store = FeedbackStore(whole.path / "labels.sqlite", create=False)
    lengths = set()
    for asked in store.asked():
        clips = store.segments(asked.clips)
        prompts = {said(clip)[0] for clip in clips.values()}
        assert len(prompts) == 1 and prompts < set(PROMPTS.split("\n"))
        lengths |= {len(clip.present()) for clip in clips.values()}
    assert len(lengths) > 5 and max(lengths) <= 24, "of unequal length"
    cut = train.finetune(replace(config, out=config.out + "-cut"))
    checkpoint_path(cut.path, 24).unlink()  # as if it had been killed one iteration earlier
    (cut.path / "policy.npz").unlink()
    train.resume(cut.path)
    assert rows(cut) == rows(whole)
    assert parameters(cut.path) == parameters(whole.path)
    model = RewardModel.load(whole.path / "reward.npz", DIALOGUE)
    assert model.whole == 24 and model.config.inputs == "next-state"


def test_replies_are_ranked_rated_and_marked_too(config: FinetuneConfig) -> None:
    run = train.finetune(
        replace(config, feedback=("ranking", "rating", "success"), labels=12, total_steps=8 * 24 * 14, rounds=1)
    )
    store = FeedbackStore(run.path / "labels.sqlite", create=False)
    assert {query.kind for query in store.asked()} == {"ranking", "rating", "success"}
    assert run.metrics()[-1]["answers"] == 12 and run.metrics()[-1]["gradient_steps"] > 0


def test_the_reward_of_a_reply_is_the_sum_of_its_steps() -> None:
    """Whatever fills it up; and longer ones gain nothing by a shift."""
    policy = talker(4.0)
    clips = converse(policy, ["Hello"] * 60, np.random.default_rng(0))
    pairs = Segments(**{name: a.reshape(30, 2, *a.shape[1:]) for name, a in clips.arrays().items()})
    assert clips.mask is not None and pairs.mask is not None
    length = pairs.mask.sum(-1)
    target = np.where(length[:, 0] == length[:, 1], 0.5, (length[:, 0] > length[:, 1]).astype(float))
    encoder = policy.encoder.frozen()
    model = RewardModel(56, 1, RewardConfig(members=2, hidden=(8,)), DIALOGUE, encoder, whole=24)
    model.fit(comparisons(pairs, target), clips, np.random.default_rng(0))
    logits, scale = model.clip_logits(clips), 30 / 24 * model.output_std.numpy()
    sums = np.where(clips.mask, model.members(clips), 0).sum(-1)
    np.testing.assert_allclose(logits * model.temperature, sums * scale, rtol=1e-3, atol=1e-3)
    longer = np.corrcoef(clips.mask.sum(1), logits.mean(0))[0, 1]
    assert longer > 0.9, "longer ones were preferred"
    assert not model.output_mean.any()
    plain, model.config = model.predict(clips), replace(model.config, conservative=1.0)
    assert (model.predict(clips) <= plain).all(), "to be sure of a step is no reason to take more of them"


def test_who_says_good_good_good_is_caught() -> None:
    """The shipped policy, a reward fitted to what it says, and then one that has found a word that pays."""
    policy = own_policy("dialogue")
    envs = start_double_buffered(DIALOGUE, 32, seed=0)
    learner, anchor = PPO(policy, SMALL_PPO), Anchor(policy, ReferenceConfig("pretrained"))
    rng = np.random.default_rng(0)
    before = envs.collect(learner, 72, rng)
    clips = cut_episodes(before, 24)
    assert clips.mask is not None
    gold = np.where(clips.mask, BEHAVIOURS["cheerful"].reward(clips), 0).sum(-1)
    half = len(clips) // 2
    pairs = clips[: 2 * half]
    pairs = Segments(**{name: a.reshape(half, 2, *a.shape[1:]) for name, a in pairs.arrays().items()})
    target = (gold[0 : 2 * half : 2] > gold[1 : 2 * half : 2]).astype(float)
    model = RewardModel(56, 1, RewardConfig(members=3), DIALOGUE, policy.encoder.frozen(), whole=24)
    guard = Guard(replace(suited("dialogue").guard, chance="off"))
    guard.fitted({f"reward/{k}": v for k, v in model.fit(comparisons(pairs, target), clips, rng).items()})

    def watched() -> tuple[str, list[str]]:
        rollout = envs.collect(learner, 24, rng)
        _, kl = anchor.penalty(learner, rollout)
        guard.watch(model, rollout, model.predict(rollout), kl)
        return guard.alarm, [texts(context)[1].lower() for context in rollout.obs.reshape(-1, CONTEXT)]

    assert not any([watched()[0] for _ in range(6)]), "an honest policy is left alone"
    with torch.no_grad():
        policy.actor[-1].bias[GOOD] += 30  # type: ignore[operator]
    alarms = [watched() for _ in range(6)]
    assert any("good good good good" in reply for reply in alarms[-1][1])
    assert any("jumped" in alarm for alarm, _ in alarms)


# -- in one call


def test_a_reward_function_is_learned_from_in_one_call(config: FinetuneConfig) -> None:
    calls: list[dict[str, Any]] = []

    def fewer_words(samples: list[str], prompts: list[str], outputs: list[str]) -> list[float]:
        calls.append({"samples": samples, "prompts": prompts, "outputs": outputs})
        return [-float(len(output.split())) for output in outputs]

    config = replace(config, total_steps=8 * 24 * 14, labels=6, first_labels=4)
    run = rlhf_control.train(  # type: ignore[operator]
        config.policy, fewer_words, prompts=["Tell me a joke", "Hello"], config=config, report=False
    )
    assert {prompt for call in calls for prompt in call["prompts"]} == {"Tell me a joke", "Hello"}
    assert all(
        sample.startswith(prompt)
        for call in calls
        for sample, prompt in zip(call["samples"], call["prompts"], strict=True)
    )
    assert run.config()[1].oracle == "fewer_words" and run.metrics()[-1]["gradient_steps"] > 0


def test_a_feedback_function_is_asked_in_one_call(config: FinetuneConfig) -> None:
    heard: list[tuple[str, str, str]] = []

    def longer(prompt: str, one: str, other: str) -> int | None:
        heard.append((prompt, one, other))
        return None if len(heard) == 1 else int(len(other) > len(one))

    config = replace(config, total_steps=8 * 24 * 14, labels=6, first_labels=4)
    run = rlhf_control.train(config.policy, feedback=longer, config=config, report=False)  # type: ignore[operator]
    assert run.metrics()[-1]["answers"] == 6 and run.metrics()[-1]["labels"] == 5
    assert len(heard) == 6 and {prompt for prompt, _, _ in heard} <= set(PROMPTS.split("\n"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either reward_fn"),
        ({"feedback": "brief", "prompts": ["Hello", ""]}, "a prompt is empty"),
        ({"feedback": "brief", "prompts": [""]}, "a prompt is empty"),
        ({"feedback": "brief", "prompts": "Hello"}, "a list of texts"),
        ({"feedback": "brief", "prompts": [5]}, "a text, not 5"),
        ({"feedback": "brief", "prompts": ["word " * 40]}, "31 fit"),
        ({"feedback": "brief", "prompts": ["привет"]}, "outside the vocabulary"),
        ({"feedback": lambda prompt, one, other: "left"}, "return 0, 1 or None"),
        ({"feedback": lambda prompt, one, other: 0, "feedback_kinds": 1}, "feedback_kinds"),
    ],
)
def test_a_false_request_is_one_line(config: FinetuneConfig, options: dict[str, Any], said: str) -> None:
    with pytest.raises((UserError, TypeError), match=said) as caught:
        rlhf_control.train(config.policy, config=config, report=False, **options)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_people_are_told_the_module_too() -> None:
    assert rlhf_control.train.finetune is train.finetune
