"""Do success marks, alone, finish a half-learned task, and turn a cheetah round?

From an arm that comes within 2 cm of its goal in half of the episodes, with every option of `finetune` as it is by
default (how many are asked for at first was chosen on seeds 0 and 1): 300 episodes, as the command asks for, or 100
marked by the environment's word, beside as many comparisons of 1.5-second clips by the environment's reward, and coin
flips; and 100 marks without the guard against chance. Then 60 marks of HalfCheetah-v5 as feedback_kinds.py asks for
them: an episode is a success that runs backward better than half of the others.

Why marks taught the arm nothing at first (`before` in the results: 2 to 49 % after 100 or 300 of them): a mark says one
thing of 50 steps, and which episodes succeed depends above all on where the goal lies, which nobody can change. A
reward whose mean over the episode was fitted to 100 marks put the nearer of two steps of one episode above the other in
54 % of the pairs, and of those within 6 cm in 52 % (400 fresh episodes, three seeds). But what a success ended in and
what it began with have the same goal: fitted to that (`likelihoods.success_log_prob`) 71 and 60 %; with squares beside
the numbers (`reward.squares`) and without the view of a critic that has learned but half of the task 74 and 62 %, of
1,000 marks 80 and 68 %. Of 100 comparisons 68 and 57 %.

With 20 of them at first the guard against chance let the arm learn when 230 of 300 marks had been given (seed 0; 86 %
in the end), and of 100 not at all (seed 1): what 100 teach tells a success from a failure in 72 % of the pairs only.
With a third at first it is not what is missing: 100 marks do as well with it as without.

Command: python experiments/success_marks.py          (--seeds 2-6 --runs runs/success_marks --parts arm cheetah)
Cost:    some 50 s of one core a run of the arm's, 12 s of the cheetah's
Result:  results/success_marks.json and .md: from 49 % of successes 300 marks lead to 100 % (98 to 100), 100 to 87 (50
         to 99), without the guard to 87 (58 to 99), 300 comparisons to 65 (53 to 88), and 300 coin flips, which the
         guard holds, to 49; HalfCheetah-v5 to 3.9 m/s (3.5 to 4.1)
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import feedback
import feedback_kinds
from common import RESULTS, add_place, keep, keep_table, make_runs, told

from rlhf_control.analysis.evaluate import EPISODES, SEED, measure
from rlhf_control.config import FinetuneConfig, GuardConfig
from rlhf_control.config.presets import of_marks, preset
from rlhf_control.interop.policies import find_policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.sweeps.seeds import parse_seeds

ARM = "rlhf/ArmReach-v0"
HALF_LEARNED = 41_000  # steps, after which half of the episodes succeed
ARM_EPISODES = 200
CONDITIONS: dict[str, dict[str, Any]] = {
    "100 marks": {"feedback": ("success",)},
    "300 marks": {"feedback": ("success",), "labels": 300},
    "100 marks, no guard": {"feedback": ("success",), "guard": GuardConfig(chance="off")},
    "100 comparisons": {},
    "300 comparisons": {"labels": 300},
    "300 coin flips": {"feedback": ("success",), "labels": 300, "oracle": "coin-flip"},
}


def arm(condition: str, seed: int, start: Path, runs: Path) -> FinetuneConfig:
    """The arm's run under a condition."""
    place = runs / f"arm-{condition.replace(',', '').replace(' ', '-')}-{seed}"
    base = FinetuneConfig(str(start), oracle="env", video=False, seed=seed, out=str(place))
    asked = replace(base, **CONDITIONS[condition])
    return of_marks(asked, asked.labels) if "success" in asked.feedback else asked


def cheetah(seed: int, runs: Path) -> FinetuneConfig:
    """A run of feedback_kinds.py with marks."""
    asked = feedback_kinds.condition(feedback.BASE, "success", feedback_kinds.ANSWERS, "")
    return replace(asked, seed=seed, out=str(runs / f"cheetah-{seed}"))


def commit(run: FinetuneConfig) -> str:
    """The code that made a run."""
    return str(Run.open(run.out).read_json("manifest.json")["git_commit"])


def successes(policy: str) -> float:
    """The share of fresh episodes with a success at any step."""
    return float(measure(find_policy(policy), "", ARM_EPISODES, SEED)["success_rate"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("arm", "cheetah"), default=["arm", "cheetah"])
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--seeds", default="2-6", help="as 0-4 or 0,3,7")
    parser.add_argument("--runs", type=Path, default=Path("runs/success_marks"))
    add_place(parser)
    arguments = parser.parse_args()
    seeds, earlier = parse_seeds(arguments.seeds), json.loads((RESULTS / "success_marks.json").read_text())
    found: dict[str, Any] = earlier | {"command": "python experiments/success_marks.py", **environment_facts()}
    if "arm" in arguments.parts:
        start = replace(preset(ARM, "tuned"), total_steps=HALF_LEARNED, out=str(arguments.runs / "start"))
        make_runs([start], arguments.runs, arguments)
        begun = {c: [arm(c, seed, Path(start.out), arguments.runs) for seed in seeds] for c in arguments.conditions}
        make_runs([begun[c][i] for i in range(len(seeds)) for c in begun], arguments.runs, arguments)
        found["arm before"] = successes(start.out)
        found["arm"] = earlier.get("arm", {}) | {
            c: {"seeds": seeds, "commit": commit(of_one[0]), "success": [successes(run.out) for run in of_one]}
            for c, of_one in begun.items()
        }
    if "cheetah" in arguments.parts:
        turned = [cheetah(seed, arguments.runs) for seed in seeds]
        make_runs(turned, arguments.runs, arguments)
        scores = [float(measure(find_policy(run.out), "backward", EPISODES, SEED)["score_mean"]) for run in turned]
        found["cheetah"] = {"seeds": seeds, "commit": commit(turned[0]), "60 marks": scores}
    keep("success_marks", found)
    rows = [["nothing", f"{found['arm before']:.0%}", ""]] if "arm before" in found else []
    for name, one in found.get("arm", {}).items():
        rows.append([name, told(one["success"], ".0%"), ", ".join(f"{share:.0%}" for share in one["success"])])
    keep_table("success_marks", ["the arm learns from", "success at any step", "by seed"], rows)
    for row in rows:
        print(*row, sep=" | ", flush=True)
    if "cheetah" in found:
        print("HalfCheetah-v5, m/s backward:", told(found["cheetah"]["60 marks"]))


if __name__ == "__main__":
    main()
