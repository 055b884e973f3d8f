"""How fast reward models are fitted, beside imitation's preference trainer: the same comparisons, sizes and number of
gradient steps, by turns on an otherwise idle machine; what is reported is the ratio of each turn.

imitation 1.0.1 pins a Gymnasium of its own, so it is installed beside this project:

    python3.11 -m venv imitation
    imitation/bin/pip install imitation==1.0.1 'numpy<2' torch==2.13.0
    rlhf-control bench reward --imitation-python imitation/bin/python
"""

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlhf_control.bench import reward_peer as bench_reward_peer
from rlhf_control.bench.peers import Peer
from rlhf_control.bench.reward_peer import BATCH, HIDDEN, STEPS
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import QueryConfig, RewardConfig
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.data import Array, Segments
from rlhf_control.nets.zoo import own_policy
from rlhf_control.queries.choose import Pool, choose
from rlhf_control.queries.segments import cut
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.model import comparisons as comparisons_of
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.progress import say
from rlhf_control.simulation.rollouts import evaluate

PAIRS, LENGTH = 100, 50  # comparisons to learn from; steps of a clip
CHOSEN, CANDIDATES, TURNS = 10, 2000, 21  # queries, pairs, how often it is timed
POLICY, EPISODES = "halfcheetah", 20  # that the clips are cut from
OURS = {1: "ours, one network", 5: "ours, ensemble of 5"}
PEERS = {1: "imitation, one network", 3: "imitation, ensemble of 3", 5: "imitation, ensemble of 5"}
RIVAL = {PEERS[1]: OURS[1], PEERS[3]: OURS[5], PEERS[5]: OURS[5]}  # of ours


def bench_reward(config: BenchConfig) -> str:
    """Times every trainer; returns the table, and writes the raw figures to `config.path()`."""
    say(f"{PAIRS} comparisons of {LENGTH} steps of HalfCheetah-v5, then {config.runs} turns of each trainer")
    with TemporaryDirectory() as folder:
        data = Path(folder) / "comparisons.npz"
        np.savez(data, **comparisons())
        trainers = time_trainers(data, config)
        choosing = time_choosing(dict(np.load(data)))
    result = {
        "command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts(), "pairs": PAIRS, "length": LENGTH,
        "batch": BATCH, "steps": STEPS, "hidden": HIDDEN, "trainers": trainers, "choosing": choosing,
    }  # fmt: skip
    write_atomic(config.path(), (json.dumps(result, indent=1) + "\n").encode())
    return table(result)


def comparisons() -> dict[str, Any]:
    """Makes twice PAIRS comparisons of clips of a shipped policy, each clip in one of them, by the environment's
    reward. The latter half is to measure accuracy on. They are as reward_peer.py reads them."""
    clips = cut(evaluate(own_policy(POLICY), EPISODES, seed=0, deterministic=False)[1], LENGTH)
    order = np.random.default_rng(0).permutation(len(clips))[: 4 * PAIRS].reshape(-1, 2)
    pairs: Segments = clips[order]
    returns = pairs.env_reward.sum(-1)
    arrays = {name: array for name, array in pairs.arrays().items() if name in ("obs", "action", "next_obs")}
    return {**arrays, "first": (returns[:, 0] > returns[:, 1]).astype(np.float64)}


@one_thread()
def time_choosing(data: dict[str, Any]) -> list[float]:
    """Returns the seconds, again and again, of choosing CHOSEN queries among CANDIDATES random pairs of all these clips
    by the disagreement of a fitted ensemble, the clips' scores included."""
    pairs = Segments(data["obs"], data["action"], data["next_obs"], np.zeros(data["obs"].shape[:3], np.float32))
    answers = comparisons_of(pairs, data["first"])
    model = RewardModel(pairs.obs.shape[-1], pairs.action.shape[-1], RewardConfig())
    model.fit(answers, answers.clips, np.random.default_rng(0))
    config = QueryConfig(random_share=0.0, candidates=CANDIDATES // CHOSEN)
    seconds = []
    for turn in range(TURNS):
        started = time.perf_counter()
        choose("disagreement", Pool.of(answers.clips), CHOSEN, 0, model, np.random.default_rng(turn), config=config)
        seconds.append(time.perf_counter() - started)
    return seconds


class Trainer(Peer):
    """Runs one of the trainers, in a process of its own."""

    def __init__(self, name: str, python: str, learner: str, members: int, data: Path) -> None:
        script = [python, bench_reward_peer.__file__, learner, str(members), str(data)]
        self.start(name, script, {"OMP_NUM_THREADS": "1"})


def time_trainers(data: Path, config: BenchConfig) -> dict[str, Any]:
    """Returns each trainer's versions, warm-up and runs, taken by turns; ours alone where imitation is not named."""
    wanted = [(name, sys.executable, "ours", members) for members, name in OURS.items()]
    python = config.imitation_python
    if python:
        wanted += [(name, python, "imitation", members) for members, name in PEERS.items()]
    with ExitStack() as stack:
        trainers = {w[0]: stack.enter_context(Trainer(*w, data)) for w in wanted}
        results: dict[str, Any] = {name: {**trainer.facts, "runs": []} for name, trainer in trainers.items()}
        for _ in range(config.runs):
            for name, trainer in trainers.items():
                results[name]["runs"].append(trainer.run(config.seconds))
    return results


def speeds(trainer: dict[str, Any]) -> Array:
    """Returns the speed of the gradient steps of each run, (runs,) pairs/s."""
    return np.array([run["pairs"] / run["train_seconds"] for run in trainer["runs"]])


def refit_seconds(trainer: dict[str, Any]) -> Array:
    """Returns the seconds (runs,) from labelled clips to a model."""
    return np.array([run["seconds"] / run["refits"] for run in trainer["runs"]])


def table(result: dict[str, Any]) -> str:
    """Returns a Markdown table: ours, then each peer with how many times as fast ours is, run by run."""
    trainers = result["trainers"]
    rows = [
        "| trainer | pairs/s | ours is so many times as fast: median (range) | a refit, s | so many times as fast "
        "| accuracy on fresh pairs |\n|---|---:|---:|---:|---:|---:|"
    ]
    for name, trainer in trainers.items():
        ratios = ["", ""]
        if name in RIVAL:
            rival = trainers[RIVAL[name]]
            ratios = [spread(speeds(rival) / speeds(trainer)), spread(refit_seconds(trainer) / refit_seconds(rival))]
        accuracy = np.mean([run["accuracy"] for run in trainer["runs"]])
        rows.append(
            f"| {name} | {np.median(speeds(trainer)):,.0f} | {ratios[0]} | {np.median(refit_seconds(trainer)):.2f} "
            f"| {ratios[1]} | {accuracy:.2f} |"
        )
    versions = {", ".join(f"{k} {v}" for k, v in t["versions"].items()): None for t in trainers.values()}
    hidden = "x".join(map(str, result["hidden"]))
    facts = (
        f"\na refit: {result['steps']} gradient steps of {result['batch']} pairs, {result['pairs']} comparisons of "
        f"{result['length']} steps, hidden layers {hidden}; ours on {result['cores']} cores, imitation on one torch "
        f"thread, which is its fastest; {result['processor']}, Python {result['python']}; {'; '.join(versions)}"
    )
    clips = 4 * result["pairs"]
    choosing = (
        f"\nchoosing {CHOSEN} queries of {CANDIDATES:,} candidate pairs of {clips} clips by disagreement: "
        f"{1e3 * np.median(result['choosing']):.0f} ms (median of {len(result['choosing'])})"
    )
    alone = [] if len(trainers) > len(OURS) else ["\nimitation was not timed: name its interpreter, --imitation-python"]
    return "\n".join([*rows, facts, choosing, *alone])


def spread(ratio: Array) -> str:
    return f"**{np.median(ratio):.1f}** ({ratio.min():.1f} to {ratio.max():.1f})"
