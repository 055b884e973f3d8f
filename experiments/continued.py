"""Does fine-tuning with the true reward at every step get as far as going on with `pretrain`?

Three arms from one start, paired by seed: `before`, a policy that `pretrain --preset tuned` made in --steps steps;
`pretrain`, the same command with twice the steps; `finetune`, the policy of before fine-tuned for --steps steps on the
environment's own reward (`--oracle env --learn-from oracle`), episodes ending as they do in `pretrain` (`--termination
allow`). The last is, bit for bit, what pretrain's loop would go on with (tests/training/test_continuing.py), in new
episodes and with a learning rate that begins anew; so what is left between the two is the schedule, and chance.

Mean return of the final policy, without exploration noise, over 20 fresh episodes of the task as it is: interquartile
mean over seeds and its 95 % bootstrap interval. What a seed gained more than `pretrain` is beside them.

Command: python experiments/continued.py                  (--tasks Hopper-v5 --seeds 5-9 --steps 100000)
Cost:    some six core-hours; a stopped one goes on where it was
Result:  results/continued.json, so far of 100,000 steps and eight tasks, without Humanoid and HumanoidStandup: no more
         than chance sets the two apart, but on InvertedDoublePendulum, which is solved by then and loses
"""

import argparse
from dataclasses import replace
from pathlib import Path

from common import RESULTS, add_place, as_called, earlier, interval, keep, make_runs, mode_return

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.presets import TUNED, preset
from rlhf_control.runs.machine import environment_facts
from rlhf_control.sweeps.seeds import parse_seeds

TASKS = (  # InvertedPendulum is solved by then
    "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Swimmer-v5", "Ant-v5", "Reacher-v5", "Pusher-v5",
    "InvertedDoublePendulum-v5", "Humanoid-v5", "HumanoidStandup-v5",
)  # fmt: skip
CLIP_SECONDS = 0.2  # clips are not learned from here; longer ones than a beginner's episodes would be refused


def trained(env_id: str, arm: str, seed: int, arguments: argparse.Namespace) -> PretrainConfig:
    """The run of `before` or `pretrain`."""
    steps = arguments.steps * (2 if arm == "pretrain" else 1)
    out = arguments.runs / f"{env_id}-{arm}-{steps}-{seed}"
    return replace(preset(env_id, "tuned"), total_steps=steps, seed=seed, out=str(out))


def tuned_on(start: PretrainConfig, steps: int) -> FinetuneConfig:
    """The run that goes on from a start on its own reward."""
    return FinetuneConfig(
        start.out, oracle="env", learn_from="oracle", termination="allow", clip_seconds=CLIP_SECONDS, video=False,
        total_steps=steps, seed=start.seed, out=f"{start.out}-finetune",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TUNED), default=TASKS)
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/continued"))
    add_place(parser)
    arguments = parser.parse_args()
    seeds, tasks = parse_seeds(arguments.seeds), {}
    command = as_called()
    starts = {
        (env_id, arm): [trained(env_id, arm, seed, arguments) for seed in seeds]
        for env_id in arguments.tasks for arm in ("before", "pretrain")
    }  # fmt: skip
    make_runs([config for of_arm in starts.values() for config in of_arm], arguments.runs, arguments)
    tuned = {
        env_id: [tuned_on(start, arguments.steps) for start in starts[env_id, "before"]] for env_id in arguments.tasks
    }
    make_runs([config for of_task in tuned.values() for config in of_task], arguments.runs, arguments)
    facts = {name: environment_facts()[name] for name in ("git_commit", "processor")}
    for env_id in arguments.tasks:
        of_task = {arm: starts[env_id, arm] for arm in ("before", "pretrain")} | {"finetune": tuned[env_id]}
        arms = {arm: [mode_return(Path(config.out)) for config in configs] for arm, configs in of_task.items()}
        more = [a - b for a, b in zip(arms["finetune"], arms["pretrain"], strict=True)]
        summary = {name: interval(values) for name, values in {**arms, "more than pretrain": more}.items()}
        tasks[env_id] = {"command": command, **facts, "seeds": seeds, "returns": arms, "over seeds": summary}
        print(env_id, {name: {k: round(v, 1) for k, v in entry.items()} for name, entry in summary.items()}, flush=True)
    tasks = earlier(RESULTS / "continued.json", "tasks", {"steps": arguments.steps}) | tasks
    keep("continued", {"command": command, **environment_facts(), "steps": arguments.steps, "tasks": tasks})


if __name__ == "__main__":
    main()
