from dataclasses import replace

import numpy as np
import pytest
import torch

from rlhf_control.config import RewardConfig
from rlhf_control.data import Answers
from rlhf_control.reward import compiled as reward_fast
from rlhf_control.reward.answers import Answering, ClipInputs, Minibatches, Targets
from rlhf_control.reward.compiled import CompiledSteps, Layers, library, step_outputs, supports
from rlhf_control.reward.ensemble import initial_layers, outputs
from rlhf_control.reward.fit import AutogradSteps
from rlhf_control.reward.model import RewardModel
from tests.conftest import random_segments
from tests.reward.given_answers import answers_of

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")

RANKED = {"comparison": 6, "ranking": 4, "demonstration": 3, "correction": 3}
GRID = [
    RewardConfig(members=3, batch_size=10),
    RewardConfig(members=2, batch_size=10, linear="on"),
    RewardConfig(members=1, batch_size=40, hidden=(16, 70, 8), lapse=0.0),
    RewardConfig(members=2, batch_size=7, hidden=(9,), max_frames=12, lapse=0.5),
    RewardConfig(members=2, batch_size=1, hidden=(), lapse=0.9, logit_scale=3.0),
]


def inputs_of(answers: Answers) -> torch.Tensor:
    """(S, L, I) float64"""
    return torch.from_numpy(np.concatenate([answers.clips.obs, answers.clips.action], -1)).double()


def parts(answers: Answers, config: RewardConfig, dtype: torch.dtype) -> tuple[Layers, Answering, Minibatches]:
    """Equal ones whenever asked for."""
    x, targets = inputs_of(answers).to(dtype), Targets.of(answers)
    layers = initial_layers((x.shape[-1], *config.hidden, 1), config.members, torch.Generator().manual_seed(0))
    layers = [(weight.to(dtype), bias.to(dtype)) for weight, bias in layers]
    seen = np.random.default_rng(0).random((config.members, len(answers))) < 0.5
    batches = Minibatches(ClipInputs(x), targets, ~seen, config, np.random.default_rng(1))
    if config.linear == "on":
        line = torch.randn(config.members, x.shape[-1], generator=torch.Generator().manual_seed(2)).to(dtype)
        batches.below = line @ x.mean(1).T
    return layers, Answering(targets, config), batches


@pytest.mark.parametrize("config", GRID)
@pytest.mark.parametrize("kinds", [RANKED, {"comparison": 12}, {"ranking": 1, "demonstration": 5}])
def test_gradients_and_steps_are_autograds(kinds: dict[str, int], config: RewardConfig) -> None:
    """In double precision, where only the order of sums differs."""
    answers = answers_of(kinds)
    fast = CompiledSteps(*parts(answers, config, torch.float64), config)
    slow = AutogradSteps(*parts(answers, config, torch.float64), config)
    for steps, weight_decay in ((1, 0.01), (1, 0.0), (40, 0.3), (5, 0.01)):
        fast.train(steps, weight_decay)
        slow.train(steps, weight_decay)
        gradients = [torch.from_numpy(view) for view in fast.layout.views(fast.buffers[1])]
        for mine, tensor in zip(gradients, slow.tensors, strict=True):
            torch.testing.assert_close(mine, tensor.grad, rtol=1e-6, atol=1e-10)
        for mine, tensor in zip(fast.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(mine, tensor, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(fast.clip_logits(), slow.clip_logits(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("trust", [(1.0, 1.0, 1.0), (0.5, -1.0, 1.0), (0.0, 0.25, 1.0)])
def test_answers_of_annotators_who_are_trusted_differently(trust: tuple[float, ...]) -> None:
    answers = answers_of({"comparison": 6, "ranking": 4, "demonstration": 3})
    answers = replace(answers, annotator=np.array(["ann", "bob"] * 5 + ["demonstration"] * 3))
    ours = [parts(answers, GRID[0], torch.float64) for _ in range(2)]
    for _, answering, _ in ours:
        answering.trust = torch.tensor(trust)
    fast, slow = CompiledSteps(*ours[0], GRID[0]), AutogradSteps(*ours[1], GRID[0])
    for learner in (fast, slow):
        learner.train(20, 0.01)
    for mine, tensor in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(mine, tensor, rtol=1e-7, atol=1e-9)
    plain = CompiledSteps(*parts(answers, GRID[0], torch.float64), GRID[0])
    plain.answering.trust = None  # as with one annotator
    plain.train(20, 0.01)
    same = all(torch.equal(a, b) for a, b in zip(fast.parameters(), plain.parameters(), strict=True))
    assert same == (set(trust) == {1.0})


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 300])
@pytest.mark.parametrize("hidden", [(), (9,), (64, 64), (16, 70, 8)])
def test_outputs_of_steps_are_torchs(hidden: tuple[int, ...], rows: int) -> None:
    layers = initial_layers((5, *hidden, 1), 3, torch.Generator().manual_seed(0))
    x = torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        typed = [(weight.to(dtype), bias.to(dtype)) for weight, bias in layers]
        found = step_outputs(typed, x.to(dtype))
        assert found is not None
        torch.testing.assert_close(found, outputs(typed, x.to(dtype)), rtol=tolerance, atol=tolerance)


def test_an_output_does_not_depend_on_the_steps_beside_it() -> None:
    layers = initial_layers((5, 64, 1), 3, torch.Generator().manual_seed(0))
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(1))
    whole, part = step_outputs(layers, x), step_outputs(layers, x[37:38])
    assert whole is not None and part is not None
    assert (whole[:, 37:38] == part).all()


def test_the_padding_stays_zero() -> None:
    config = RewardConfig(members=2, hidden=(9, 5))
    fast = CompiledSteps(*parts(answers_of(RANKED), config, torch.float32), config)
    fast.train(20, 0.01)
    for buffer in fast.buffers:
        for view in fast.layout.views(buffer):
            assert view.any()
            view[...] = 0
        assert not buffer.any()


def test_the_number_of_cores_does_not_change_a_bit() -> None:
    config = RewardConfig(members=3)
    found = []
    for cores in (1, 2, 5):
        fast = CompiledSteps(*parts(answers_of(RANKED), config, torch.float32), config)
        fast.job.cores = cores
        fast.train(30, 0.01)
        found.append((fast.buffers.copy(), fast.clip_logits().numpy()))
    for buffers, logits in found[1:]:
        np.testing.assert_array_equal(buffers, found[0][0])
        np.testing.assert_array_equal(logits, found[0][1])


def test_the_best_weights_come_back() -> None:
    config = RewardConfig(members=2)
    layers, answering, batches = parts(answers_of(RANKED), config, torch.float32)
    fast = CompiledSteps(layers, answering, batches, config)
    before, logits = fast.parameters(), fast.clip_logits()
    fast.train(3, 0.01)
    assert not torch.equal(fast.clip_logits(), logits)
    fast.load(before)
    torch.testing.assert_close(fast.clip_logits(), logits, rtol=0, atol=0)
    for mine, tensor in zip((t for layer in layers for t in layer), before, strict=True):
        assert torch.equal(mine, tensor) and not mine.requires_grad


def test_what_the_compiled_steps_leave_to_autograd() -> None:
    def supported(answers: Answers, **options: object) -> bool:
        config = RewardConfig(members=2, **options)  # type: ignore[arg-type]
        return supports(config, Answering(Targets.of(answers), config))

    assert supported(answers_of(RANKED))
    assert not supported(answers_of(RANKED), crop=0.5)
    assert not supported(answers_of({"comparison": 3, "rating": 5}))
    assert not supported(answers_of({"comparison": 3, "reward": 5}))
    ties = answers_of({"comparison": 3})
    ties.ranks[0, :2] = 0
    assert not supported(ties)


def test_without_memory() -> None:
    with pytest.raises(MemoryError):
        reward_fast._check(-1)


@pytest.mark.parametrize("options", [{}, {"adaptive_l2": True}, {"start": "warm", "bootstrap": 1.0}])
def test_a_fit_is_the_same_without_a_compiler(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what 120 steps in single precision make of rounding."""
    answers, config = answers_of({"comparison": 60}), RewardConfig(3, (32,), steps=120, **options)
    fresh = random_segments(np.random.default_rng(7), 200, 30)
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(reward_fast, "library", lambda *_: None)
        model, rng = RewardModel(17, 6, config), np.random.default_rng(0)
        metrics = [model.fit(answers, answers.clips, rng) for _ in range(2)][1]
        found.append((metrics, model.predict(fresh)))
    for name, value in found[0][0].items():
        assert value == pytest.approx(found[1][0][name], rel=0.02, abs=0.01, nan_ok=True), name
    assert np.corrcoef(found[0][1].ravel(), found[1][1].ravel())[0, 1] > 0.9999
