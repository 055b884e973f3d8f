"""How many comparisons is it worth that the reward sees what the pretrained policy's critic does?

No policy learns here: rewards are fitted to so many comparisons of 1.5-second clips of a shipped policy with more
noise than it was left with (as in arm.py), with and without the critic's last hidden layer and value among their inputs
(`--reward.critics-view`). Measured is the correlation, over the steps of fresh episodes, of what they learned with the
behaviour's own reward: what the policy would go by.

Found: on steps of the shipped policy itself nothing is gained (four behaviours, five seeds). In runs it is, for there
the policy moves away: of eight pairs of fine-tunings (gentle and low-elbow as in arm.py, with the view and without,
seeds 200 to 203) six ended with more of the behaviour's own reward with it (gentle 0.39 and 0.37 a step, low-elbow 0.79
and 0.62), and seven with more of the old task's successes (0.76 and 0.60); of gentle's score, which asks for more than
that, less was left (0.06 and 0.17; results/critics_view_runs.json, means of four seeds).

Command: python experiments/critics_view.py         (--behaviours gentle jump --seeds 0-4;
         results are of --behaviours gentle low-elbow careful-door keep-pace)
Cost:    some 10 minutes of one core
Result:  results/critics_view.json and .md
"""

import argparse
from functools import lru_cache
from typing import Any

import numpy as np
from common import bolder, interval, keep, keep_table, told

from rlhf_control.behaviours.arm import DOOR_ID, GRASP_ID
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import PPOConfig, RewardConfig
from rlhf_control.data import Rollout, Segments
from rlhf_control.interop.policies import find_policy
from rlhf_control.queries.segments import cut_segments, join
from rlhf_control.reward.critics_view import CriticsView
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.rl.ppo import PPO
from rlhf_control.rng import stream
from rlhf_control.runs.machine import environment_facts
from rlhf_control.simulation.double_buffer import start_double_buffered
from rlhf_control.sweeps.seeds import parse_seeds

STARTS = {GRASP_ID: "armgrasp", DOOR_ID: "armdoor", "HalfCheetah-v5": "halfcheetah"}
NAMES = ("gentle", "from-above", "lift-high", "low-elbow", "careful-door", "keep-pace", "jump", "hind-legs")
LABELS = (50, 100, 200)
SECONDS = 1.5
ENVS, STEPS = 128, 300  # of what clips are cut from, and of what is fresh


@lru_cache(2)
def rollout_of(name: str, seed: int) -> tuple[Rollout, float]:
    """Returns steps of the shipped policy, loosened, and their length in seconds."""
    behaviour = BEHAVIOURS[name]
    policy = find_policy(STARTS[behaviour.env_id])
    policy.loosen(1.0, bolder(STARTS[behaviour.env_id]))
    envs = start_double_buffered(behaviour.env_id, ENVS, seed=1000 + seed)
    learner = PPO(policy, PPOConfig(num_envs=ENVS))
    steps = [envs.collect(learner, STEPS // 4, stream(seed, "act", i)) for i in range(4)]
    return join(steps), envs.step_seconds


def correlation(name: str, labels: int, seed: int, *, view: bool) -> float:
    """Returns how well a reward of so many comparisons correlates with the behaviour's on fresh steps."""
    behaviour, (seen, seconds), (fresh, _) = BEHAVIOURS[name], rollout_of(name, seed), rollout_of(name, 500 + seed)
    clips = Segments.concatenate([cut_segments(seen, round(SECONDS / seconds), stream(seed, "cut"))])
    order = stream(seed, "pairs").permutation(len(clips))[: 2 * labels]
    pairs = Segments(**{k: a.reshape(-1, 2, *a.shape[1:]) for k, a in clips[order].arrays().items()})
    worth = behaviour.reward(clips[order]).mean(-1).reshape(-1, 2)
    pretrained = find_policy(STARTS[behaviour.env_id])
    sizes = clips.obs.shape[-1], clips.action.shape[-1]
    model = RewardModel(*sizes, RewardConfig(), behaviour.env_id, CriticsView(pretrained) if view else None)
    model.fit(comparisons(pairs, (worth[:, 0] > worth[:, 1]).astype(np.float32)), clips, stream(seed, "fit"))
    of_fresh = fresh.as_segments()
    return float(np.corrcoef(model.predict(of_fresh).ravel(), behaviour.reward(of_fresh).ravel())[0, 1])


def row(name: str, of_one: dict[str, dict[str, list[float]]]) -> list[str]:
    """Of the table: without and with the view, by the number of comparisons."""
    off, on = of_one["off"], of_one["on"]
    return [name, *(f"{interval(off[labels])['iqm']:.2f} -> {told(on[labels])}" for labels in off)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behaviours", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", default="0-4", help="as 0-4 or 0,3,7")
    arguments = parser.parse_args()
    seeds = parse_seeds(arguments.seeds)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in arguments.behaviours:
        found[name] = {"off": {str(n): [] for n in LABELS}, "on": {str(n): [] for n in LABELS}}
        for seed in seeds:
            for labels in LABELS:
                for view, of_view in found[name].items():
                    of_view[str(labels)].append(correlation(name, labels, seed, view=view == "on"))
        print(*row(name, found[name]), sep=" | ", flush=True)
    facts: dict[str, Any] = {"command": "python experiments/critics_view.py", **environment_facts(), "seeds": seeds}
    keep("critics_view", {**facts, "behaviours": found})
    head = ["correlation, without -> with", *(f"{n} comparisons" for n in LABELS)]
    keep_table("critics_view", head, [row(name, one) for name, one in found.items()])


if __name__ == "__main__":
    main()
