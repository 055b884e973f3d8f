"""One trainer of reward models, kept warm for `bench/reward.py` to time: ours, or imitation's.

A script of its own, because imitation needs an interpreter of its own: it imports nothing of this project but for
`ours`. Every line on stdin asks for refits for that many seconds (at least one refit: STEPS gradient steps on all
comparisons); the answer is a line of JSON.

python bench_reward_peer.py LEARNER MEMBERS COMPARISONS.npz

The file has obs and next_obs (2 Q, 2, L, O), action (2 Q, 2, L, A) and first (2 Q,), 1 where the first clip is
preferred and 0 where the second. The former half is learned from; the latter is to measure accuracy on.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

BATCH, STEPS, HIDDEN, LAPSE, LR = 25, 200, (64, 64), 0.1, 1e-3
Data = dict[str, np.ndarray]
Refit = Callable[[int], tuple[float, Callable[[], float]]]  # gradient steps -> their seconds, how to get the accuracy


def ours(members: int, data: Data) -> Refit:
    """Makes our trainer, with all steps of a clip in every gradient step, and without held-out answers that could end
    it early, as imitation has it: both are slower than our defaults."""
    from rlhf_control.config import RewardConfig
    from rlhf_control.data import Segments
    from rlhf_control.reward import model as reward

    unseen_reward = np.zeros(data["obs"].shape[:3], np.float32)
    pairs = Segments(data["obs"], data["action"], data["next_obs"], unseen_reward)
    half = len(pairs) // 2
    fresh, answers = pairs[half:], reward.comparisons(pairs[:half], data["first"][:half])
    seconds: list[float] = []
    reward.fit_ensemble = timed(reward.fit_ensemble, seconds)

    def refit(steps: int) -> tuple[float, Callable[[], float]]:
        every_step = data["obs"].shape[2]
        config = RewardConfig(
            members, HIDDEN, max_frames=every_step, bootstrap=1.0, batch_size=BATCH, steps=steps, lapse=LAPSE, lr=LR
        )
        model = reward.RewardModel(pairs.obs.shape[-1], pairs.action.shape[-1], config)
        model.fit(answers, answers.clips, np.random.default_rng(len(seconds)))
        return seconds[-1], lambda: accuracy(model.probability(fresh).mean(0), data["first"][half:])

    return refit


def imitation(members: int, data: Data) -> Refit:
    """Makes imitation's trainers as they are, but for sizes and the lapse (`noise_prob`), which are ours. Its fragments
    may have the environment's reward, for a second loss that is only logged; without, it is faster.

    It pins Gymnasium 0.29, so in an environment of its own: pip install imitation==1.0.1 'numpy<2' torch
    """
    from gymnasium.spaces import Box
    from imitation.algorithms import preference_comparisons as pc
    from imitation.data.types import Trajectory
    from imitation.rewards.reward_nets import BasicRewardNet, RewardEnsemble
    from imitation.util.logger import configure

    obs = np.concatenate([data["obs"], data["next_obs"][:, :, -1:]], 2)  # (2 Q, 2, L + 1, O)
    pairs = [
        tuple(Trajectory(o, a, None, terminal=False) for o, a in zip(*pair, strict=True))
        for pair in zip(obs, data["action"], strict=True)
    ]
    half = len(pairs) // 2
    spaces = [Box(-np.inf, np.inf, data[name].shape[-1:], np.float32) for name in ("obs", "action")]
    rng, logger = np.random.default_rng(0), configure(format_strs=[])
    kind = pc.BasicRewardTrainer if members == 1 else pc.EnsembleTrainer

    def refit(steps: int) -> tuple[float, Callable[[], float]]:
        nets = [BasicRewardNet(*spaces, hid_sizes=HIDDEN) for _ in range(members)]
        model = pc.PreferenceModel(nets[0] if members == 1 else RewardEnsemble(*spaces, nets), noise_prob=LAPSE)
        dataset = pc.PreferenceDataset()
        dataset.push(pairs[:half], data["first"][:half].astype(np.float32))
        trainer = kind(model, pc.CrossEntropyRewardLoss(), rng, BATCH, lr=LR, custom_logger=logger)
        seconds: list[float] = []
        timed(trainer.train, seconds)(dataset, epoch_multiplier=steps * BATCH // half)  # of one epoch
        return seconds[0], lambda: accuracy(probability(nets), data["first"][half:])

    @torch.no_grad()
    def probability(nets: list[Any]) -> np.ndarray:
        return torch.stack([pc.PreferenceModel(net)(pairs[half:])[0] for net in nets]).mean(0).numpy()

    return refit


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Returns the same function, which also notes how long it took."""

    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = function(*args, **kwargs)
        seconds.append(time.perf_counter() - started)
        return result

    return call


def accuracy(p: np.ndarray, first: np.ndarray) -> float:
    """Returns how often the probabilities (Q,) that the first is preferred are right."""
    return float(np.mean((p > 0.5) == (first > 0.5)))


LEARNERS = {"ours": ours, "imitation": imitation}
PACKAGES = {"ours": "rlhf_control", "imitation": "imitation"}


def run(refit: Refit, seconds: float) -> dict[str, float]:
    """Refits for that many seconds. A pair that all members see in one step counts once."""
    refits, train_seconds, started = 0, 0.0, time.perf_counter()
    while refits == 0 or time.perf_counter() - started < seconds:
        of_training, how_right = refit(STEPS)
        refits, train_seconds = refits + 1, train_seconds + of_training
    seconds = time.perf_counter() - started
    counts = {"refits": refits, "pairs": refits * STEPS * BATCH}
    return {"seconds": seconds, "train_seconds": train_seconds, **counts, "accuracy": how_right()}


def main() -> None:
    learner, members, path = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr  # what trainers print is not for us
    torch.set_num_threads(1)  # more are slower for networks of this size, imitation's too
    started = time.perf_counter()
    refit = LEARNERS[learner](int(members), dict(np.load(path)))
    refit(STEPS // 10)  # warms up and compiles
    facts = {
        "warm_up_seconds": time.perf_counter() - started,
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in (PACKAGES[learner], "torch", "numpy")},
    }
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(refit, float(line))), file=out, flush=True)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # since Python 3.11
        sys.path.pop(0)  # this file's folder, whose modules are no packages
    main()
