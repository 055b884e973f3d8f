"""Which of other people's robots and games train, show clips rightly, resume and are fine-tuned beside our MuJoCo.

    make test-robotics                                 # sets up .venv-robotics and tries the robots
    .venv-robotics/bin/python experiments/robotics.py  # the whole table: experiments/results/robotics.json, .md

Two at a time, each in its own process; what was tried is kept, so the same command goes on (`--only PART_OF_ID`:
some once more). Half an hour on two cores.

trains: PPO for six short iterations, then an evaluation, with the share of successes where the environment tells of it.
clips: the same actions in another instance, brought to where a clip began: all observations and pictures to the bit.
corrections: another instance, begun elsewhere, put into the state stored of the clip's beginning: observations to 1e-2.
resumes: killed with -9 in its fourth iteration and gone on with, a run ends bit-equal to the uninterrupted one.
fine-tunes: rounds of comparisons answered by an oracle, on the trained policy. records: a video of it.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlhf_control import train
from rlhf_control.analysis.evaluate import measure
from rlhf_control.analysis.videos import policy_frames
from rlhf_control.config import FinetuneConfig, GuardConfig, NetConfig, PPOConfig, PretrainConfig, RewardConfig
from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.runs.run import Run
from rlhf_control.simulation.double_buffer import DoubleBufferedEnvs
from rlhf_control.simulation.simulator import bare_simulator, check_simulator
from rlhf_control.simulation.vector import Envs, start_envs

RESULTS = Path(__file__).parent / "results" / "robotics"
PPO = PPOConfig(num_envs=2, num_steps=32, minibatch_size=32, epochs=2)
STEPS = PPO.num_envs * PPO.num_steps
KILLED_IN = 4  # of six iterations
LENGTH, BEFORE = 12, 55  # steps of a clip, and before it: past the end of Fetch's episodes
SIDE = 64  # pixels
SUCCESSES = 4  # episodes


@dataclass(frozen=True)
class Tried:
    """Names an environment, the package that brings it, and its arguments."""

    package: str
    env_id: str
    env: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.env_id.rpartition(":")[2], *map(str, self.env.values())])


def robots(*env_ids: str) -> list[Tried]:
    return [Tried("gymnasium-robotics", f"gymnasium_robotics:{env_id}") for env_id in env_ids]


def metaworld(*names: str) -> list[Tried]:
    return [Tried("metaworld", "metaworld:Meta-World/MT1", {"env_name": f"{name}-v3"}) for name in names]


ROBOTS = [
    *robots("FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4", "FetchSlide-v4"),
    *robots("AdroitHandDoor-v1", "AdroitHandHammer-v1", "AdroitHandPen-v1", "AdroitHandRelocate-v1"),
    *robots("HandReach-v3", "HandManipulateBlock-v1", "FrankaKitchen-v1", "PointMaze_UMaze-v3", "AntMaze_UMaze-v5"),
    *metaworld("button-press", "door-open", "drawer-open", "window-open", "sweep-into", "hammer"),
]
OTHERS = [
    Tried("dm_control", "shimmy:dm_control/walker-walk-v0"),
    Tried("panda-gym", "panda_gym:PandaReach-v3"),
    Tried("Box2D", "LunarLander-v3"),
    Tried("Box2D", "CarRacing-v3"),
    Tried("minigrid", "minigrid:MiniGrid-Empty-5x5-v0"),
    Tried("minatar", "minatar:MinAtar/Breakout-v1"),
    Tried("minatar", "minatar:MinAtar/Freeway-v1"),
    Tried("highway-env", "highway_env:highway-fast-v0"),
    Tried("gym-pusht", "gym_pusht:gym_pusht/PushT-v0"),
    Tried("gym-aloha", "gym_aloha:gym_aloha/AlohaInsertion-v0"),
]


# -- what is tried


def trained(tried: Tried, out: Path) -> Run:
    """Trains for six iterations."""
    return train.pretrain(PretrainConfig(
        tried.env_id, total_steps=6 * STEPS, env=dict(tried.env), out=str(out), checkpoint_seconds=0, ppo=PPO,
        net=NetConfig(hidden=(16,), picture_features=16),  # few, for pictures of 480 x 640
    ))  # fmt: skip


def policy_of(run: Run, tried: Tried) -> Policy:
    return find_policy(run.path, tried.env_id)


def resumed(tried: Tried, out: Path) -> Run:
    """Trains as `trained` does, killed with -9 in its fourth iteration and then gone on with."""
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tried, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"the run was to be killed, but ended with {process.exitcode}"
    return train.resume(out, env_id=tried.env_id)


def killed(tried: Tried, out: Path) -> None:
    collect, iterations = DoubleBufferedEnvs.collect, iter(range(1, KILLED_IN + 1))

    def dying(*arguments: Any) -> Any:
        if next(iterations) == KILLED_IN:
            os.kill(os.getpid(), signal.SIGKILL)
        return collect(*arguments)

    DoubleBufferedEnvs.collect = dying  # type: ignore[method-assign, assignment]
    trained(tried, out)


def difference(one: Run, two: Run, tried: Tried) -> str:
    """Says in what two runs differ; "" if in nothing but times."""
    first, second = (dict(policy_of(run, tried).state_dict()) for run in (one, two))
    parameters = [name for name, value in first.items() if not np.array_equal(value, second[name])]
    if parameters:
        return f"the policies' {parameters[0]} differ"
    rows, again = (
        [{k: v for k, v in row.items() if "second" not in k} for row in run.metrics()] for run in (one, two)
    )  # fmt: skip
    return "" if rows == again else "the metrics differ"


def fine_tuned(tried: Tried, start: Run, out: Path) -> Run:
    """Fine-tunes on comparisons that the environment's own reward answers."""
    return train.finetune(FinetuneConfig(
        str(start.path / "policy.npz"), oracle="env", labels=12, first_labels=6, rounds=2, total_steps=8 * STEPS,
        clip_seconds=4 * step_seconds(tried), out=str(out), video=False, ppo=PPO, termination="allow",
        env_id=tried.env_id, reward=RewardConfig(steps=50, hidden=(16,), members=2),
        guard=GuardConfig(chance="off", alarm="off"),
    ))  # fmt: skip


def step_seconds(tried: Tried) -> float:
    with closing(start_envs(tried.env_id, 1, seed=0, env=tried.env)) as envs:
        return envs.step_seconds


@dataclass(frozen=True)
class Clip:
    """Holds a clip of an environment, and what its pictures are drawn from."""

    segments: Segments
    frames: Array  # (T, H, W, 3)


def clip_of(envs: Envs, tried: Tried, actions: Array) -> Clip:
    """Steps two environments by actions (L, 2, A), and returns the second one's clip as a person sees it."""
    steps: list[dict[str, Array]] = []
    for t, action in enumerate(actions):
        obs, state, pictures = envs.obs, envs.states(), envs.pictures(t) if envs.frames else None
        executed = envs.spaces.execute(action)
        next_obs, reward, *_ = envs.step(action, executed)
        found = {"obs": obs, "action": executed, "next_obs": next_obs, "env_reward": reward.astype(np.float32)}
        found |= {} if state is None else {"state": state}
        found |= {} if pictures is None else {"frames": np.array(pictures, "S")}
        steps.append({name: value[1] for name, value in found.items()})
    columns = {name: [step[name] for step in steps] for name in steps[0]}
    columns = {name: widened(column) if name == "state" else column for name, column in columns.items()}
    segments = Segments(**{name: np.stack(column) for name, column in columns.items()})
    renderer = ClipRenderer(tried.env_id, tried.env)
    with closing(renderer):
        return Clip(segments, renderer.draw(segments, SIDE, SIDE))


def actions_of(envs: Envs, steps: int, rng: np.random.Generator) -> Array:
    """Draws actions (steps, 2, A) or choices."""
    spaces = envs.spaces
    if spaces.choices:
        return np.stack([rng.integers(n, size=(steps, 2)) for n in spaces.action_shape], -1)
    return rng.uniform(spaces.low, spaces.high, (steps, 2, spaces.action_size)).astype(np.float32)


def clips(tried: Tried) -> tuple[str, Clip, Clip]:
    """Says in what a clip differs from the same one in another instance that was begun elsewhere; "" if in nothing."""
    one, two = (start_envs(tried.env_id, 2, seed=seed, env=tried.env, frames=True) for seed in (1, 7))
    with closing(one), closing(two):
        rng = np.random.default_rng(0)
        for action in actions_of(one, BEFORE, rng):
            one.states()
            one.step(action, one.spaces.execute(action))
        two.load_state(one.state())
        if two.differs:
            clip = clip_of(one, tried, actions_of(one, LENGTH, rng))
            return two.differs, clip, clip
        actions = actions_of(one, LENGTH, rng)
        first, again = clip_of(one, tried, actions), clip_of(two, tried, actions)
    blank = first.frames.std() == 0 or not np.any(first.frames[0] != first.frames[-1])
    differing = [
        name for name, array in first.segments.arrays().items()
        if not np.array_equal(array, again.segments.arrays()[name], equal_nan=array.dtype.kind == "f")
    ]  # fmt: skip
    if not np.array_equal(first.frames, again.frames):
        differing.append("pictures")
    return f"{', '.join(differing)} differ" if differing else "nothing moves" * bool(blank), first, again


def correction(tried: Tried, clip: Clip) -> str:
    """Says why the clip cannot be begun anew from its stored state; "" if its actions lead where they led."""
    try:
        check_simulator(tried.env_id, tried.env)
    except UserError as error:
        return str(error)
    found = clip.segments
    assert found.state is not None
    simulator = bare_simulator(tried.env_id, tried.env, seed=99)
    with closing(simulator):
        simulator.put(found.state[0])
        for t in range(5):  # contacts tell small differences apart later
            seen = simulator.step(found.action[t].reshape(simulator.env.action_space.shape))[0]
            if not np.allclose(seen, found.next_obs[t], 1e-2, 1e-2):
                return f"after {t + 1} steps an observation is off by {np.abs(seen - found.next_obs[t]).max():.2g}"
    return ""


# -- the table


def row_of(tried: Tried) -> dict[str, Any]:
    """Tries all of it; what fails is told in a line and tried no further."""
    row: dict[str, Any] = {"package": tried.package, "id": str(tried), "version": version(tried.package)}
    with TemporaryDirectory() as name:
        folder = Path(name)

        def attempt(key: str, what: Callable[[], Any]) -> Any:
            try:
                result = what()
            except Exception as error:
                traceback.print_exc()
                row[key] = f"{error}"
                return None
            row[key] = result if isinstance(result, str) else ""
            return result

        run = attempt("trains", lambda: trained(tried, folder / "run"))
        if run is None:
            return row
        found = measure(policy_of(run, tried), "", SUCCESSES, 0)
        row["success_rate"] = found.get("success_rate")
        attempt("resumes", lambda: difference(run, resumed(tried, folder / "again"), tried))
        attempt("fine-tunes", lambda: fine_tuned(tried, run, folder / "tuned"))
        attempt("records", lambda: policy_frames(policy_of(run, tried), seconds=0.5, width=SIDE, height=SIDE))
        shown: list[Clip] = []

        def alike() -> str:
            differs, first, _ = clips(tried)
            shown.append(first)
            return differs

        attempt("clips", alike)
        if shown and shown[0].segments.state is None:
            row["corrections"] = f"{tried.package} has no simulator state that can be put back; clips are its pictures"
        elif shown:
            attempt("corrections", lambda: correction(tried, shown[0]))
    return row


def row_in_a_process(tried: Tried) -> dict[str, Any]:
    """Does what `row_of` does, and says so where the environment brings Python down."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        try:
            return alone.submit(row_of, tried).result()
        except BrokenProcessPool:
            died = "its process died on the way, without an error"
            return {"package": tried.package, "id": str(tried), "version": version(tried.package), "trains": died}


COLUMNS = ("trains", "clips", "corrections", "resumes", "fine-tunes", "records")


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows in Markdown, with notes on what does not hold."""
    lines = [f"| package | environment | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 2)]
    notes: list[str] = []
    for row in rows:
        marks = []
        for column in COLUMNS:
            said = row.get(column)
            if said:
                notes.append(f"{row['id']}, {column}: {said}")
            marks.append("yes" if said == "" else "-" if said is None else f"no ({len(notes)})")
        lines.append(f"| {row['package']} {row['version']} | {row['id']} | {' | '.join(marks)} |")
    return "\n".join([*lines, "", *(f"{i}. {note}" for i, note in enumerate(notes, 1))]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only environments with this in their id, once more")
    only = parser.parse_args().only
    file = RESULTS.with_suffix(".json")
    rows = {row["id"]: row for row in json.loads(file.read_text())} if file.is_file() else {}
    everything = [*ROBOTS, *OTHERS]
    wanted = [tried for tried in everything if (only in str(tried) if only else str(tried) not in rows)]
    with ThreadPoolExecutor(2) as pool:
        for row in pool.map(row_in_a_process, wanted):
            print(row, flush=True)
            rows[row["id"]] = row
            done = [rows[str(tried)] for tried in everything if str(tried) in rows]
            file.write_text(json.dumps(done, indent=1) + "\n")
            RESULTS.with_suffix(".md").write_text(table(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
