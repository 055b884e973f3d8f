"""A whole fine-tuning, from its start to its saved policy, by this build and by that of a given commit, by turns.

Each turn is a process of its own, of either build's files, and times itself once it has imported what it needs; the
first turn of each, which compiles, does not count. What the policies' weights are shows whether a build is only faster.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import rlhf_control
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.progress import say

STEPS, WARM_UP = 250_000, 20_480
HERE = Path(rlhf_control.__file__).parent.parent
PROGRAM = """
import hashlib, json, sys, time
from rlhf_control.config import FinetuneConfig, GuardConfig
from rlhf_control.nets.policy import load_policy
from rlhf_control.train import finetune
config = FinetuneConfig("halfcheetah", oracle="backward", labels=100, total_steps=int(sys.argv[1]), out=sys.argv[2],
                        video=False, guard=GuardConfig(alarm="warn"))
started = time.perf_counter()
run = finetune(config)
seconds = time.perf_counter() - started
weights = load_policy(run.path / "policy.npz").state()["parameters"]
digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
print(json.dumps({"seconds": seconds, "sha256": digest}))
"""


def bench_loop(config: BenchConfig) -> str:
    """Times this build, and that of `config.against`; returns the table, and writes the raw figures to
    `config.path()`."""
    with TemporaryDirectory() as folder:
        builds = {"this build": HERE}
        if config.against:
            builds[config.against] = checked_out(config.against, Path(folder) / "build")
        say(f"fine-tunings of {STEPS:,} HalfCheetah-v5 steps on 100 answers, {config.runs} turns of each build")
        for tree in builds.values():
            timed(tree, WARM_UP)
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
        for turn in range(config.runs):
            for name in list(builds)[:: 1 if turn % 2 == 0 else -1]:
                turns[name].append(timed(builds[name], STEPS))
                say(f"{name}: {turns[name][-1]['seconds']:.1f} s")
    result = {
        "command": " ".join(["rlhf-control", *sys.argv[1:]]),
        **environment_facts(),
        "steps": STEPS,
        "turns": turns,
    }
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return table(turns)


def checked_out(commit: str, folder: Path) -> Path:
    """Puts the files of a commit of this package's own repository into a folder. Raises UserError if there is none."""
    git = ["git", "-C", str(HERE), "archive", "--format=tar", commit, "rlhf_control", "envs"]
    try:
        archive = subprocess.run(git, capture_output=True, check=True, timeout=60).stdout
    except subprocess.CalledProcessError as error:
        raise UserError(f"no build of {commit}: {error.stderr.decode(errors='replace').strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"no build of {commit}: {error}") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def timed(tree: Path, steps: int) -> dict[str, Any]:
    """Does a fine-tuning by the build in a folder; returns its seconds and the SHA-256 of its policy's weights."""
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(steps), f"{folder}/run"], capture_output=True, text=True,
            cwd=folder, env={**os.environ, "PYTHONPATH": str(tree), "RLHF_CONTROL_PROGRESS": "0"},
        )  # fmt: skip
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UserError(f"the build in {tree} could not be timed: {words[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(turns: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: median seconds, the ratio of each turn to this build's, and whether the weights are equal."""
    ours = np.array([turn["seconds"] for turn in turns["this build"]])
    digests = {turn["sha256"] for turn in turns["this build"]}
    lines = [
        f"| a fine-tuning of {STEPS:,} steps, 100 answers | s | x this build | same policy |",
        "|---|---:|---:|---|",
    ]
    for name, of_build in turns.items():
        seconds = np.array([turn["seconds"] for turn in of_build])
        ratio, same = seconds / ours, {turn["sha256"] for turn in of_build} == digests
        text = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})" if name != "this build" else ""
        lines.append(f"| {name} | {np.median(seconds):.1f} | {text} | {'yes' if same else 'no'} |")
    return "\n".join(lines)
