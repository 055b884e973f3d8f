"""A whole fine-tuning, from its start to its saved policy, by this build, by that of a given commit and by imitation's
preference comparisons, by turns.

Each turn is a process of its own, and times itself once it has imported what it needs; the first turn of each build,
which compiles, does not count. What the policies' weights are shows whether a build is only faster. imitation is timed
over PEER_STEPS steps with as many comparisons, beside this build over as many: it takes minutes for them. It pins a
Gymnasium of its own, so it is installed beside this project:

    python3.11 -m venv imitation
    imitation/bin/pip install imitation==1.0.1 'numpy<2' torch==2.13.0 'gymnasium[mujoco]'
    rlhf-control bench loop --imitation-python imitation/bin/python
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
from rlhf_control.bench import loop_peer
from rlhf_control.bench.peers import failure
from rlhf_control.compute.processes import SAFE_PATH
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.progress import say

STEPS, PEER_STEPS, WARM_UP, LABELS = 250_000, 100_000, 32_768, 100
HERE = Path(rlhf_control.__file__).parent.parent
PROGRAM = """
import hashlib, json, sys, time
from rlhf_control import FinetuneConfig, GuardConfig, load_policy
from rlhf_control.train import finetune
config = FinetuneConfig("halfcheetah", oracle="backward", labels=100, total_steps=int(sys.argv[1]), out=sys.argv[2],
                        shrink=0.1, video=False, guard=GuardConfig(alarm="warn"))
started = time.perf_counter()
run = finetune(config)
seconds = time.perf_counter() - started
weights = dict(load_policy(run.path / "policy.npz").named_parameters())
digest = hashlib.sha256(b"".join(weights[name].detach().numpy().tobytes() for name in sorted(weights))).hexdigest()
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
    peers = beside_imitation(config) if config.imitation_python else {}
    result = {
        "command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts(),
        "steps": STEPS, "turns": turns, "peer_steps": PEER_STEPS, "peers": peers,
    }  # fmt: skip
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return "\n\n".join([table(turns), *([peer_table(peers)] if peers else [])])


def beside_imitation(config: BenchConfig) -> dict[str, list[dict[str, Any]]]:
    """Times this build and imitation's loop, by turns, over PEER_STEPS steps and LABELS comparisons."""
    command = [config.imitation_python, loop_peer.__file__, str(PEER_STEPS), str(LABELS)]
    peers: dict[str, list[dict[str, Any]]] = {"this build": [], "imitation 1.0.1": []}
    for _ in range(config.runs):
        peers["this build"].append(timed(HERE, PEER_STEPS))
        peers["imitation 1.0.1"].append(said("imitation", command, {**os.environ, **SAFE_PATH}))
        say(", ".join(f"{name}: {of_peer[-1]['seconds']:.1f} s" for name, of_peer in peers.items()))
    return peers


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
        environment = {**os.environ, "PYTHONPATH": str(tree), "RLHF_CONTROL_PROGRESS": "0"}
        command = [sys.executable, "-c", PROGRAM, str(steps), f"{folder}/run"]
        return said(f"the build in {tree}", command, environment, folder)


def said(name: str, command: list[str], environment: dict[str, str], folder: str | None = None) -> dict[str, Any]:
    """Returns what a process says in its last line, as JSON. Raises UserError with its last words if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    except OSError as error:
        raise UserError(f"{name} could not be timed: {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise failure(name, done.stderr)
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


def peer_table(peers: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: median seconds, steps a second, and so many times as long as this build each turn."""
    ours = np.array([turn["seconds"] for turn in peers["this build"]])
    lines = [f"| {PEER_STEPS:,} steps, {LABELS} answers | s | steps/s | x this build |", "|---|---:|---:|---:|"]
    for name, of_peer in peers.items():
        seconds = np.array([turn["seconds"] for turn in of_peer])
        ratio = seconds / ours
        text = f"{np.median(ratio):.1f} ({ratio.min():.1f} to {ratio.max():.1f})" if name != "this build" else ""
        lines.append(f"| {name} | {np.median(seconds):.1f} | {PEER_STEPS / np.median(seconds):,.0f} | {text} |")
    return "\n".join(lines)
