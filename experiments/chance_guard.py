"""How often does the chance guard let coin flips pass, and how soon does it let real answers?

While it keeps the policy as it is, nothing moves: the clips are those of one policy and questions are random. So its
two errors can be measured without training: a pool of clips of a policy, 100 random pairs of them, answered by the
environment's reward with some mistakes or by coin flips, a fit after 20, 30, ..., 100 answers as in a run of nine
rounds, and after each the guard itself. Beside it, what held-out answers would have said (`reward/evidence`): had each
fit been judged by them, a run would have passed once that was at least log(odds). Another seed has other pairs,
answers, networks and held-out answers.

Command: python experiments/chance_guard.py             (--seeds 0-9 --kinds coin; what is there is not made again)
Cost:    some 4 core-seconds a seed and kind
Result:  results/chance_guard.json has, after every fit, whether the guard had let it pass, and the evidence
"""

import argparse
import functools
import json
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import numpy as np
from common import RESULTS, keep

from rlhf_control.compute.processes import safe_path
from rlhf_control.compute.threads import available_cores, one_thread
from rlhf_control.config import GuardConfig, RewardConfig
from rlhf_control.data import Segments
from rlhf_control.errors import guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import LOOSE
from rlhf_control.queries.segments import cut_segments, join
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs
from rlhf_control.sweeps.seeds import parse_seeds
from rlhf_control.training.guard import Guard

ANSWERS = range(20, 101, 10)  # after which there is a fit
KINDS = {"coin": 0.5, "10 %": 0.1, "20 %": 0.2, "30 %": 0.3, "perfect": 0.0}  # share of wrong answers
LENGTH, ENVIRONMENTS, ROLLOUTS = 30, 16, 10  # steps of a clip, and of what the pool is cut from
Key = tuple[str, int]  # kind, seed


@functools.cache
def pool(policy: str) -> Segments:
    """Clips of a policy with more noise than it was trained to have, as runs that forget a skill begin with."""
    actor = find_policy(policy)
    actor.loosen(1.0, LOOSE)
    envs = start_envs(actor.env_id, ENVIRONMENTS, seed=0, env=actor.env)
    rollouts = [collect(envs, actor, 128, stream(0, "pool", i)) for i in range(ROLLOUTS)]
    envs.close()
    return cut_segments(join(rollouts), LENGTH, stream(0, "cut"))


@one_thread()
def judged(policy: str, key: Key) -> dict[str, list[float]]:
    """What guard and held-out answers say after every fit."""
    clips, (kind, seed) = pool(policy), key
    rng = stream(seed, f"answers {kind}")
    pairs = np.stack([rng.choice(len(clips), 2, replace=False) for _ in range(ANSWERS[-1])])
    returns = clips.env_reward.sum(-1)
    better = (returns[pairs[:, 0]] > returns[pairs[:, 1]]) ^ (rng.random(len(pairs)) < KINDS[kind])
    shown = Segments(**{name: a[pairs] for name, a in clips.arrays().items() if name not in ("state", "frames")})
    found: dict[str, list[float]] = {"passed": [], "evidence": []}
    guard, model, before = Guard(GuardConfig()), None, 0
    for n in ANSWERS:
        if model is not None:
            guard.newest(model, comparisons(shown[before:n], better[before:n].astype(float)))
        model, before = RewardModel(clips.obs.shape[-1], clips.action.shape[-1], RewardConfig(linear="on")), n
        metrics = model.fit(comparisons(shown[:n], better[:n].astype(float)), clips, stream(seed, "fit", n))
        guard.fitted({f"reward/{name}": value for name, value in metrics.items()})
        found["passed"].append(float(guard.shown))
        found["evidence"].append(round(metrics["evidence"], 3))
    return found


def made(policy: str, keys: list[Key]) -> Iterator[tuple[Key, dict[str, list[float]]]]:
    """Results as they come, from a process a core."""
    with safe_path(), get_context("spawn").Pool(len(available_cores())) as processes:
        work = functools.partial(judged, policy)
        yield from zip(keys, processes.imap(work, keys), strict=True)


def summary(runs: dict[str, dict[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """Of each kind: the share of seeds that had passed by each fit."""
    table: dict[str, Any] = {}
    for kind, of_kind in runs.items():
        highest = np.maximum.accumulate(np.array([run["evidence"] for run in of_kind.values()]), 1)
        passed = {"the guard": np.array([run["passed"] for run in of_kind.values()])}
        passed["held-out answers"] = highest >= np.log(GuardConfig().odds)
        table[kind] = {"seeds": len(of_kind)} | {name: x.mean(0).round(3).tolist() for name, x in passed.items()}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="halfcheetah")
    parser.add_argument("--seeds", default="0-99")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    path = RESULTS / "chance_guard.json"
    runs: dict[str, dict[str, dict[str, list[float]]]] = json.loads(path.read_text())["runs"] if path.exists() else {}
    wanted = [(kind, seed) for seed in parse_seeds(arguments.seeds) for kind in arguments.kinds]
    for (kind, seed), found in made(arguments.policy, [k for k in wanted if str(k[1]) not in runs.get(k[0], {})]):
        runs.setdefault(kind, {})[str(seed)] = found
        print(kind, seed, found, flush=True)
        command = f"python experiments/chance_guard.py --policy {arguments.policy}"
        keep("chance_guard", {"command": command, **environment_facts(), "answers": [*ANSWERS], "runs": runs,
                              "passed": summary(runs)})  # fmt: skip
    for kind, row in summary(runs).items():
        shares = ", ".join(f"{name} {row[name][-1]:.0%}" for name in ("the guard", "held-out answers"))
        print(f"{kind}, {row['seeds']} seeds: passed by the last fit {shares}")


if __name__ == "__main__":
    sys.exit(guarded(main))
