"""How fast is the written-out minibatch step (rlhf_control/fast.py), against autograd and against torch.compile?

HalfCheetah's sizes: 17 observations, 6 actions, tanh 2x64 actor and critic. One step is gradient, clipping and Adam.
The ways alternate within one process, one thread each; the ratio is taken round by round.

Command: python experiments/bench_update.py        (--compile --rounds 40 --sizes 64 256 1024 --out FILE.json)
Cost:    half a minute; a minute more with --compile
Result:  results/bench_update.json: times as fast as autograd, median (and quartiles): 64 rows 6.4 (6.2 to 6.5; 182 us),
         256 rows 3.9 (396 us), 1024 rows 2.5 (1.3 ms); torch.compile, measured once on busier cores: 4.4, 3.0, 2.1,
         after 17 to 95 s of compiling for each size
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.config import NetConfig, PPOConfig
from rlhf_control.fast import FastUpdate
from rlhf_control.nets import Gaussian, Policy, Spaces, one_thread
from rlhf_control.ppo import AutogradUpdate, Batch, ppo_loss
from rlhf_control.runs import environment_facts

CONFIG, LR, CLIP = PPOConfig(), 3e-4, 0.2


def make_batch(policy: Policy, rows: int) -> Batch:
    """On-policy actions, with log-probabilities as if the policy had moved since."""
    rng = np.random.default_rng(rows)
    features, noise, advantage, returns = (
        torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in ((rows, 17), rows, rows, rows)
    )
    with torch.no_grad():
        old = policy.distribution(features).detached()
        action = old.sample(rng)
        return Batch(features, action, advantage, returns, old, old.log_prob(action) + 0.2 * noise)


class Loss(nn.Module):
    """ppo_loss of plain tensors, as torch.func wants it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *tensors: Tensor) -> Any:
        features, action, advantage, returns, mean, log_std, old_log_prob = tensors
        batch = Batch(features, action, advantage, returns, Gaussian(mean, log_std), old_log_prob)
        return ppo_loss(self.policy, batch, CONFIG, CLIP, 1.0)


def compiled_step(policy: Policy, batch: Batch) -> Callable[[], object]:
    """Loss, gradient, clipping and Adam as one graph over a dict of parameters."""
    module = Loss(copy.deepcopy(policy))
    p = {name: value.detach().clone() for name, value in module.named_parameters()}
    m, v = ({name: torch.zeros_like(value) for name, value in p.items()} for _ in range(2))

    def loss(p: dict[str, Tensor], *tensors: Tensor) -> Any:
        return torch.func.functional_call(module, p, tensors)

    @torch.compile(fullgraph=True, dynamic=False)
    def step(p: dict[str, Tensor], m: Any, v: Any, rate: Tensor, root: Tensor, *tensors: Tensor) -> Any:
        gradient, (_, metrics) = torch.func.grad_and_value(loss, has_aux=True)(p, *tensors)
        norm = torch.stack([g.square().sum() for g in gradient.values()]).sum().sqrt()
        scale = (CONFIG.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        for name, g in gradient.items():
            m[name].mul_(0.9).add_(scale * g, alpha=0.1)
            v[name].mul_(0.999).add_((scale * g).square(), alpha=0.001)
            p[name].sub_(rate * m[name] / (v[name].sqrt() / root + 1e-5))
        return metrics

    tensors = (batch.features, batch.action, batch.advantage, batch.returns)
    old = (batch.old.mean, batch.old.log_std, batch.old_log_prob)  # type: ignore[union-attr]
    rate, root = torch.tensor(LR), torch.tensor(1.0)
    return lambda: step(p, m, v, rate, root, *tensors, *old)


def autograd_step(update: AutogradUpdate, batch: Batch) -> None:
    update.gradient(batch, CLIP, 1.0)
    update.apply(LR)


def measure(ways: dict[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Microseconds of a call: for each way, one figure a round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    calls = {}
    for name, way in ways.items():
        way()
        start = time.perf_counter()
        for _ in range(5):
            way()
        calls[name] = max(3, int(seconds * 5 / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                way()
            times[name].append((time.perf_counter() - start) / calls[name] * 1e6)
    return times


@one_thread()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024], help="rows of a minibatch")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one way in one round")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well; needs a C++ compiler")
    parser.add_argument("--out", help="a file for all figures, as JSON")
    arguments = parser.parse_args()
    spaces = Spaces((17,), "box", (6,), (-1.0,) * 6, (1.0,) * 6)
    policy = Policy(spaces, NetConfig(), 0, "HalfCheetah-v5", {})
    result: dict[str, Any] = {"facts": environment_facts(), "microseconds": {}}
    print(f"{'rows':>5} {'way':<9}{'median us':>10}{'quartiles':>16}{'fastest':>9}{'x autograd (quartiles)':>26}")
    for rows in arguments.sizes:
        batch = make_batch(policy, rows)
        autograd, fast = AutogradUpdate(copy.deepcopy(policy), CONFIG), FastUpdate(copy.deepcopy(policy), CONFIG)
        ways: dict[str, Callable[[], object]] = {
            "autograd": partial(autograd_step, autograd, batch), "fast": partial(fast.step, batch, LR, CLIP, 1.0)
        }  # fmt: skip
        if arguments.compile:
            ways["compiled"] = compiled_step(policy, batch)
            start = time.perf_counter()
            ways["compiled"]()
            result.setdefault("compile_seconds", {})[rows] = time.perf_counter() - start
        times = measure(ways, arguments.rounds, arguments.seconds)
        result["microseconds"][rows] = times
        for name, values in times.items():
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            ratio = np.quantile(np.array(times["autograd"]) / values, [0.25, 0.5, 0.75])
            print(f"{rows:>5} {name:<9}{middle:>10.0f}{f'{low:.0f}-{high:.0f}':>16}{min(values):>9.0f}"
                  f"{f'{ratio[1]:.2f} ({ratio[0]:.2f}-{ratio[2]:.2f})':>26}", flush=True)  # fmt: skip
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
