import numpy as np
import pytest

from rlhf_control.bench import reward_peer as bench_reward_peer
from rlhf_control.bench.reward import OURS, PEERS, RIVAL
from rlhf_control.bench.reward_peer import BATCH, STEPS, accuracy, ours, run
from rlhf_control.config import RewardConfig
from rlhf_control.reward import model as reward


def test_imitation_gets_our_defaults() -> None:
    config = RewardConfig()
    ours = (config.hidden, config.steps, config.lapse, config.lr)
    assert ours == (bench_reward_peer.HIDDEN, STEPS, bench_reward_peer.LAPSE, bench_reward_peer.LR)
    assert set(RIVAL) == set(PEERS.values()) and set(RIVAL.values()) <= set(OURS.values())


def test_a_turn_counts_pairs_once_and_training_apart() -> None:
    asked: list[int] = []

    def refit(steps: int) -> tuple[float, object]:
        asked.append(steps)
        return 0.25, lambda: len(asked) / 4

    one = run(refit, 0.0)  # type: ignore[arg-type]
    assert (one["refits"], one["pairs"], one["train_seconds"], one["accuracy"]) == (1, STEPS * BATCH, 0.25, 0.25)
    assert asked == [STEPS] and 0 < one["seconds"] < 0.25
    assert run(refit, 0.001)["refits"] > 1  # type: ignore[arg-type]


def test_ours_learns_from_the_former_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward, "fit_ensemble", reward.fit_ensemble)  # which `ours` replaces
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=(80, 2, 10, size)).astype(np.float32)
            for name, size in (("obs", 4), ("next_obs", 4), ("action", 2))}  # fmt: skip
    mean = data["obs"][..., 0].mean(-1)
    data["first"] = (mean[:, 0] > mean[:, 1]).astype(np.float64)
    data["first"][40:] = 1 - data["first"][40:]
    seconds, how_right = ours(2, data)(60)
    assert seconds > 0 and how_right() < 0.3
    assert accuracy(np.array([0.9, 0.2, 0.6]), np.array([1.0, 1.0, 0.0])) == pytest.approx(1 / 3)
