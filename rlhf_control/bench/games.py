"""How fast our own games are, beside other fast ones: steps a second of one core's time, by turns, each in a process of
its own. What counts is processor time, so that a machine that is shared slows none of them much. Ratios are of each
turn.

The peers are installed in an environment of their own:

    python3.11 -m venv peers
    peers/bin/pip install env-breakoutatari2600-turbo-native ale-py opencv-python-headless
    rlhf-control bench games --games-python peers/bin/python
"""

import json
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np

from rlhf_control.bench import games_peer
from rlhf_control.bench.peers import Peer, speeds
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts

# Name -> games side by side: as many as keep Python's share of a step small; more gain nothing
OURS = {f"{game}-{view}": n for game in ("bricks", "orchard") for view, n in
        (("state", 1024), ("planes", 256), ("pixels", 64))}  # fmt: skip
PEERS = {"turbo": 64, "ale": 16}
MINE = "bricks-pixels"  # what peers are compared with: a paddle game, (84, 84, 4) uint8


class Stepper(Peer):
    """Runs one vector environment, in a process of its own."""

    def __init__(self, name: str, python: str, num_envs: int) -> None:
        self.start(name, [python, games_peer.__file__, name, str(num_envs)], {"OMP_NUM_THREADS": "1"})


def bench_games(config: BenchConfig) -> str:
    """Times every game and view; returns the table, and writes the raw figures to `config.path()`."""
    wanted = [(name, sys.executable, n) for name, n in OURS.items()]
    if config.games_python:
        wanted += [(name, config.games_python, n) for name, n in PEERS.items()]
    with ExitStack() as stack:
        steppers = {args[0]: stack.enter_context(Stepper(*args)) for args in wanted}
        results: dict[str, Any] = {
            args[0]: {**steppers[args[0]].facts, "num_envs": args[2], "runs": []} for args in wanted
        }
        for _ in range(config.runs):
            for name, stepper in steppers.items():
                results[name]["runs"].append(stepper.run(config.seconds))
    result = {"command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts(), "games": results}
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return table(result)


def table(result: dict[str, Any]) -> str:
    """Returns it as Markdown: ours, then each peer with how many times as fast our pixels are, run by run."""
    games = result["games"]
    head = "| game | side by side | steps a core-second: median (range) | ours is so many times as fast |"
    rows = [f"{head}\n|---|---:|---:|---:|"]
    for name, game in games.items():
        mine, ratio = speeds(game), ""
        if name in PEERS:
            times = speeds(games[MINE]) / mine
            ratio = f"**{np.median(times):.1f}** ({times.min():.1f} to {times.max():.1f})"
        label = f"{name} {game['version']}" if name in PEERS else name
        spread = f"{np.median(mine):,.0f} ({mine.min():,.0f} to {mine.max():,.0f})"
        rows.append(f"| {label} | {game['num_envs']} | {spread} | {ratio} |")
    facts = f"\none thread each; {result['processor']}, Python {result['python']}"
    alone = [] if set(PEERS) & set(games) else ["\nno peers were timed: name their interpreter, --games-python"]
    return "\n".join([*rows, facts, *alone])
