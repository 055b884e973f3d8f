"""How fast PPO is on tokens, beside the same in plain PyTorch around a GPT-2 of Hugging Face of equal size: tokens a
second, by turns on an otherwise idle machine, each in a process of its own. Ratios are of each turn.

The peer is installed in an environment of its own:

    python3.11 -m venv peers
    peers/bin/pip install torch transformers
    rlhf-control bench dialogue --dialogue-python peers/bin/python
"""

import json
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np

from rlhf_control.bench import dialogue_peer
from rlhf_control.bench.peers import Peer, speeds
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts

PARTS = ("rollout", "update")


class Speaker(Peer):
    """Runs PPO on tokens, in a process of its own."""

    def __init__(self, name: str, python: str) -> None:
        self.start(name, [python, dialogue_peer.__file__, name], {})


def bench_dialogue(config: BenchConfig) -> str:
    """Times both; returns the table, and writes the raw figures to `config.path()`."""
    wanted = {"ours": sys.executable}
    if config.dialogue_python:
        wanted["transformers"] = config.dialogue_python
    with ExitStack() as stack:
        speakers = {name: stack.enter_context(Speaker(name, python)) for name, python in wanted.items()}
        results: dict[str, Any] = {name: {**speaker.facts, "runs": []} for name, speaker in speakers.items()}
        for _ in range(config.runs):
            for name, speaker in speakers.items():
                results[name]["runs"].append(speaker.run(config.seconds))
    result = {"command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts(), "learners": results}
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return table(result)


def table(result: dict[str, Any]) -> str:
    """Returns it as Markdown: tokens a second of the parts and of the whole, and how many times as fast ours is,
    run by run."""
    learners = result["learners"]
    rows = [
        "| learner | rollout, tokens/s | update | both: median (range) | ours is so many times as fast |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, learner in learners.items():
        each = {part: [run["steps"] / run["parts"][part] for run in learner["runs"]] for part in PARTS}
        whole, ratio = speeds(learner), ""
        if name != "ours":
            times = speeds(learners["ours"]) / whole
            ratio = f"**{np.median(times):.1f}** ({times.min():.1f} to {times.max():.1f})"
        parts = " | ".join(f"{np.median(each[part]):,.0f}" for part in PARTS)
        spread = f"{np.median(whole):,.0f} ({whole.min():,.0f} to {whole.max():,.0f})"
        rows.append(f"| {name} {learner['version']} | {parts} | {spread} | {ratio} |")
    facts = f"\n{result['cores']} cores; {result['processor']}, Python {result['python']}"
    alone = [] if len(learners) > 1 else ["\nno peer was timed: name its interpreter, --dialogue-python"]
    return "\n".join([*rows, facts, *alone])
