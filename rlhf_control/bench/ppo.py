"""How fast, beside the peers that are installed: the learners run by turns on an otherwise idle machine, and what is
reported is the ratio of each turn. Absolute speeds of one machine say little about another."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlhf_control.bench.peers import ATARI_STEPS, NUM_ENVS, STEPS, Peer, command, failure, speeds
from rlhf_control.bench.ppo_peer import HALF
from rlhf_control.compute.processes import SAFE_PATH
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.config.presets import is_ale
from rlhf_control.errors import UserError
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.progress import say


def bench_ppo(config: BenchConfig) -> str:
    """Times every task and learner; returns the table, and writes the raw figures to `config.path()`."""
    interpreters = installed(config)
    result: dict[str, Any] = {"command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts(), "tasks": {}}
    for env_id in config.tasks:
        result["tasks"][env_id] = time_task(env_id, interpreters, config)
        say(task_lines(env_id, result["tasks"][env_id]))
    if config.million:
        result["million"] = time_million(interpreters, config.million)
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return table(result)


def installed(config: BenchConfig) -> dict[str, str]:
    """Returns each learner's interpreter, the one that has it."""
    interpreters = {"ours": sys.executable, "sb3": config.sb3_python or sys.executable}
    if find_spec("sbx"):
        interpreters["sbx"] = sys.executable
    if config.rllib_python:
        interpreters["rllib"] = config.rllib_python
    return interpreters


def time_task(env_id: str, interpreters: dict[str, str], config: BenchConfig) -> dict[str, Any]:
    """Returns each learner's version, warm-up and runs, taken by turns."""
    steps = ATARI_STEPS if is_ale(env_id) else STEPS.get(env_id, 256)
    if is_ale(env_id):
        interpreters = {"ours": sys.executable, HALF: sys.executable, "sb3": interpreters["sb3"]}
        if not config.sb3_python and not find_spec("cv2"):
            raise UserError(
                f"Stable-Baselines3 prepares {env_id} by OpenCV, which is not installed: pip install "
                "'rlhf_control[bench]', or name the --sb3-python of an environment with both"
            )
    with ExitStack() as stack:
        peers = {name: stack.enter_context(Peer(name, python, env_id, steps)) for name, python in interpreters.items()}
        learners: dict[str, Any] = {name: {**peer.facts, "runs": []} for name, peer in peers.items()}
        for _ in range(config.runs):
            for name, peer in peers.items():
                learners[name]["runs"].append(peer.run(config.seconds))
    return {"num_envs": NUM_ENVS, "num_steps": steps, "learners": learners}


def time_million(interpreters: dict[str, str], runs: int) -> dict[str, list[float]]:
    """Returns the seconds from the start of the process to the saved policy after a million steps of HalfCheetah-v5, by
    turns. Whatever is compiled is compiled anew in each."""
    seconds: dict[str, list[float]] = {"ours": [], "sb3": []}
    for _ in range(runs):
        for name, times in seconds.items():
            with TemporaryDirectory() as folder:
                env = {**os.environ, **SAFE_PATH, "XDG_CACHE_HOME": f"{folder}/cache"}
                whole = command(name, interpreters[name], "HalfCheetah-v5", 256, "1000000", f"{folder}/{name}")
                started = time.perf_counter()
                done = subprocess.run(whole, capture_output=True, text=True, env=env)
                if done.returncode:
                    raise failure(name, done.stderr)
                times.append(time.perf_counter() - started)
    return seconds


def task_lines(env_id: str, task: dict[str, Any]) -> str:
    """Returns rows of the table: ours, where it has a CNN in bfloat16 as well, then each peer with how many times as
    fast each of ours is, run by run."""
    learners = task["learners"]
    mine = {name: learner for name, learner in learners.items() if name in ("ours", HALF)}
    rows = []
    for name, learner in mine.items():
        best = learner["runs"][int(np.argsort(speeds(learner))[len(learner["runs"]) // 2])]  # the median run
        micro = {part: 1e6 * seconds / best["steps"] for part, seconds in best["parts"].items()}
        micro["rest"] = 1e6 * best["seconds"] / best["steps"] - sum(micro.values())
        parts = " | ".join(f"{micro[part]:.1f}" for part in ("environment", "inference", "update", "rest"))
        rows.append(f"| {env_id} | {name} | {np.median(speeds(learner)):,.0f} | | {parts} |")
    for name in (name for name in learners if name not in mine):
        cells = []
        for own, learner in mine.items():
            ratio = speeds(learner) / speeds(learners[name])
            said = f"**{np.median(ratio):.1f}** ({ratio.min():.1f} to {ratio.max():.1f})"
            cells.append(said if own == "ours" else f"{own.removeprefix('ours-')} {said}")
        label = f"{name} {learners[name]['version']}"
        rows.append(f"| {env_id} | {label} | {np.median(speeds(learners[name])):,.0f} | {', '.join(cells)} | | | | |")
    return "\n".join(rows)


def table(result: dict[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    head = (
        "| task | learner | steps/s | ours is so many times as fast: median (range) "
        "| environment, us a step | inference | update | rest |\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    rows = [task_lines(env_id, task) for env_id, task in result["tasks"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    facts = f"\n{result['cores']} cores, one torch thread, {result['processor']}, Python {result['python']}; {versions}"
    million = []
    if "million" in result:
        ours, sb3 = (np.array(result["million"][name]) for name in ("ours", "sb3"))
        ratio = sb3 / ours
        million = [
            f"\n1M steps of HalfCheetah-v5 from process start to saved policy, compilation included: ours "
            f"{np.median(ours):.0f} s, sb3 {np.median(sb3):.0f} s: **{np.median(ratio):.1f}** times "
            f"({ratio.min():.1f} to {ratio.max():.1f})"
        ]
    return "\n".join([head, *rows, *million, facts])
