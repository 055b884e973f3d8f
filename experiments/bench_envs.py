"""How fast do the batched MuJoCo environments step, against Gymnasium's SyncVectorEnv?

The same actions into both, 8 environments, in alternating rounds within one process; the ratio is taken round by round.

Command: python experiments/bench_envs.py        (--tasks Ant-v5 --rounds 7 --steps 300 --out results/bench_envs.json)
Cost:    half a minute
Result:  results/bench_envs.json: HalfCheetah 2.2, Hopper 2.2, Walker2d 1.8, Ant 2.0 times as fast (medians)
         results/bench_envs_arm.json, on two idle cores: ArmGrasp 3.3 times (3.3 to 3.3), ArmReach 3.2 (3.1 to 3.3),
         ArmDoor 3.4 (3.3 to 3.4). Two cores take 368, 243 and 268 us for a step of eight, 194, 115 and 119 of them
         MuJoCo's part (368, 217 and 225 on one core); the rest, observations, rewards and resets, is NumPy on one core,
         and would have to be a third shorter for four times
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from mujoco.batch import Batch

from rlhf_control.compute.threads import available_cores
from rlhf_control.runs.machine import environment_facts
from rlhf_control.simulation.vector import Envs, start_envs

NUM_ENVS = 8
TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "rlhf/ArmGrasp-v0")


def steps_per_second(envs: Envs, actions: np.ndarray) -> float:
    """Of all environments together, for actions (T, N, A)."""
    started = time.perf_counter()
    for action in actions:
        envs.vector.step(action)
    return actions.shape[0] * actions.shape[1] / (time.perf_counter() - started)


def simulator_us(envs: Envs, threads: int, calls: int = 1000) -> float:
    """The median time of what of a step of all environments is MuJoCo's, on so many threads."""
    vector: Any = envs.vector
    sim = vector._sim
    batch = Batch(sim.model, NUM_ENVS, threads, persistent=True)
    batch.forward()
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        batch.step(nstep=sim.frame_skip, stage=sim._stage)
        times.append(time.perf_counter() - started)
    return 1e6 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bench_envs.json")
    arguments = parser.parse_args()
    tasks = {}
    for task in arguments.tasks:
        both = {name: start_envs(task, NUM_ENVS, seed=0, backend=name) for name in ("batched", "gymnasium")}
        shape = (arguments.steps, NUM_ENVS, both["batched"].spaces.action_size)
        actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        rounds = []
        for i in range(arguments.rounds + 1):
            speeds = {name: steps_per_second(envs, actions) for name, envs in both.items()}
            rounds += [speeds] if i else []  # the first round warms up
        ratios = np.array([r["batched"] / r["gymnasium"] for r in rounds])
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        of_mujoco = {threads: simulator_us(both["batched"], threads) for threads in (1, len(available_cores()))}
        tasks[task] = {
            "rounds": rounds, "ratio": median, "ratio_quartiles": [low, high], "mujoco_us_by_threads": of_mujoco,
        }  # fmt: skip
        fastest = max(r["batched"] for r in rounds)
        print(f"{task:<16} {median:.2f} times SyncVectorEnv ({low:.2f} to {high:.2f}), up to {fastest:,.0f} steps/s")
        told = ", ".join(f"{us:.0f} on {threads}" for threads, us in of_mujoco.items())
        print(f"{'':<16} of a step {NUM_ENVS * 1e6 / fastest:.0f} us at best; MuJoCo's part alone, by threads: {told}")
    result = {
        "command": " ".join(["python experiments/bench_envs.py", *sys.argv[1:]]),
        "num_envs": NUM_ENVS,
        **environment_facts(),
        "tasks": tasks,
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
