"""How fast the voting window is: the real one without a screen (SDL's dummy driver), in processes of its own, on a real
store in a folder beside the output file (so on a real disk), by synthetic key events at random moments.

Times are seconds. Of each figure, the raw values go to the output file.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlhf_control.compute.processes import python
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.data import Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rendering.cache import ClipCache
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.progress import say
from rlhf_control.runs.status import Status, write_status

ENV_ID, POLICY = "HalfCheetah-v5", "halfcheetah"
QUERIES = 1400  # as many labels as Christiano et al. (2017) gave to HalfCheetah
LENGTHS = (30, 75)  # steps: 1.5 s, as clips are by default, and 3.75 s
VOTES = 200
PAIRS, PAIR_STEPS, SIZES = 10, 50, (320, 480)  # to draw; pixels
LOOKING_SECONDS = 0.3  # from the first frame to the key: shorter than any person's
PATIENCE_SECONDS = 300.0
GOALS = {  # figure -> (how it is to be read, goal, factor to the unit)
    "vote": ("key to vote on the disk, ms", "p99 <= 50", 1e3),
    "next_frame": ("key to the next pair's first frame, ms", "<= 50", 1e3),
    "frame": ("work of a frame while a pair plays, ms", "p99 <= 16.7", 1e3),
    "open": ("window open, from the start of the process, s", "<= 1", 1.0),
    "first_pair": ("first pair on the screen, from the same start, s", "", 1.0),
    "pair_320": ("a pair of 50-step clips drawn, 320 x 320, s", "<= 0.5", 1.0),
    "pair_480": ("the same, 480 x 480, s", "", 1.0),
}


def bench_window(config: BenchConfig) -> str:
    """Measures everything; returns the table, and writes the raw figures to the config's path."""
    from rlhf_control.runs.machine import environment_facts

    out = Path(config.path())
    result: dict[str, Any] = {"command": " ".join(["rlhf-control", *sys.argv[1:]]), **environment_facts()}
    try:
        with TemporaryDirectory(dir=out.parent, prefix="bench_window.") as name:
            folder = Path(name)
            clips = own_clips(2 * QUERIES, max(*LENGTHS, PAIR_STEPS))
            result["megabytes"] = {str(length): make_run(folder / str(length), clips, length) for length in LENGTHS}
            say(f"{QUERIES} queries: {result['megabytes']} MB, by steps of a clip")
            make_run(folder / "pairs", clips[: 2 * PAIRS], PAIR_STEPS)
            result["seconds"] = drawing(folder / "pairs")
            result["seconds"] |= opening(folder / str(LENGTHS[0]), config.runs)
            result["seconds"] |= voting(folder / str(LENGTHS[0]))
    except OSError as error:
        raise UserError(f"cannot measure in {out.parent}: {error.strerror or error}; name another --out") from error
    write_atomic(out, (json.dumps(result, indent=1) + "\n").encode())
    return table(result)


# -- what is voted on


def own_clips(n: int, length: int) -> Segments:
    """Returns clips (n, length, ...) of the shipped policy's own behaviour, no two from the same steps."""
    from rlhf_control.compute.threads import one_thread
    from rlhf_control.nets.zoo import own_policy
    from rlhf_control.queries.segments import cut_segments
    from rlhf_control.simulation.rollouts import collect
    from rlhf_control.simulation.vector import start_envs

    with one_thread():
        policy, rng = own_policy(POLICY), np.random.default_rng(0)
        envs = start_envs(ENV_ID, 8, seed=0, env=policy.env)
        parts: list[Segments] = []
        while sum(map(len, parts)) < n:
            parts.append(cut_segments(collect(envs, policy, 12 * length, rng), length, rng))
        envs.close()
    return Segments.concatenate(parts)[:n]


def make_run(run: Path, clips: Segments, length: int) -> float:
    """Makes a run that asks for a comparison of every two clips, cut to so many steps; returns the size of its store in
    MB."""
    run.mkdir()
    pairs = [Segments(**{k: a[i : i + 2, :length] for k, a in clips.arrays().items()}) for i in range(0, len(clips), 2)]
    FeedbackStore(run / "labels.sqlite").ask([Query(0, i, "uniform", pair) for i, pair in enumerate(pairs)])
    write_status(run, Status("training", os.getpid(), time.time(), ENV_ID, step_seconds=0.05, wanted=len(pairs)))
    return (run / "labels.sqlite").stat().st_size / 1e6


# -- measuring


def drawing(run: Path) -> dict[str, list[float]]:
    """Returns the seconds for each pair that was never drawn before, by a renderer that is warm."""
    pairs = [asked.clips for asked in FeedbackStore(run / "labels.sqlite").asked()]
    seconds: dict[str, list[float]] = {f"pair_{size}": [] for size in SIZES}
    with ClipCache(run, ENV_ID, {}) as cache:
        for size in SIZES:
            draw(cache, pairs[0], (64 + size // 10, 64))  # the first of a size sets OpenGL up
            for pair in pairs:
                seconds[f"pair_{size}"].append(draw(cache, pair, (size, size)))
    return seconds


def draw(cache: ClipCache, digests: Sequence[str], size: tuple[int, int]) -> float:
    started = time.perf_counter()
    cache.request(digests, size)
    while any(cache.get(digest, size) is None for digest in digests):
        if time.perf_counter() - started > PATIENCE_SECONDS:
            raise UserError(f"no clip was drawn in {PATIENCE_SECONDS:.0f} s: {cache.error()}")
        time.sleep(0.0005)
    return time.perf_counter() - started


def opening(run: Path, times: int) -> dict[str, list[float]]:
    """Returns the seconds from the start of the process to the window and to the first pair on it."""
    seconds: dict[str, list[float]] = {"open": [], "first_pair": []}
    for _ in range(times):
        started = time.monotonic()  # the same clock in all processes
        moments = in_window("open_once", run, 0)
        for name, values in seconds.items():
            values.append(moments[name] - started)
    return seconds


def voting(run: Path) -> dict[str, list[float]]:
    """Returns the seconds from key to vote, from key to the next first frame, and of the work of each frame."""
    return in_window("vote_through", run, min(VOTES, QUERIES - 1))  # before the last there is none to wait for


def in_window(function: str, run: Path, votes: int) -> Any:
    """Returns what that function of this module measures in a process of its own."""
    out = run / "measured.json"
    code = f"from rlhf_control.bench.window import {function} as measure; measure({str(run)!r}, {votes}, {str(out)!r})"
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy"}
    try:
        done = subprocess.run(python(code), env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        why = f"the window was not done in {PATIENCE_SECONDS:.0f} s; is the machine busy?"
        raise UserError(why) from None
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UserError(f"the window could not be timed: {words[-1]}")
    return json.loads(out.read_text())


# -- in the window's process


def open_once(run: str, votes: int, out: str) -> None:
    """Runs `rlhf-control label RUN`, as from the command line, until the first pair is on the screen."""
    from rlhf_control.config.commands import LabelConfig
    from rlhf_control.viewer.vote import label as window

    moments: dict[str, float] = {}

    class Timed(window.VotingController):
        def step(self) -> bool:
            going = super().step()
            moments.setdefault("open", time.monotonic())
            return going and (self.state.ballot is None or self.state.ballot.shown_at is None)

    window.VotingController = Timed  # type: ignore[misc]
    window.label(LabelConfig(run, annotator="bench"))
    moments["first_pair"] = time.monotonic()
    Path(out).write_text(json.dumps(moments))


def vote_through(run: str, votes: int, out: str) -> None:
    """Votes so many times. The next key comes when the next pair is ready and the one before was looked at."""
    from rlhf_control.config.commands import LabelConfig
    from rlhf_control.viewer.kit.canvas import pygame
    from rlhf_control.viewer.vote import label as window

    keys = {pygame.K_LEFT: "left", pygame.K_RIGHT: "right", pygame.K_UP: "up", pygame.K_DOWN: "down"}
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {"vote": [], "next_frame": [], "frame": []}

    class Timed(window.VotingController):
        key = ""  # of the question that was answered last
        pressed_at: float | None = None
        scheduled = False

        def step(self) -> bool:
            started = time.perf_counter()
            going = super().step()
            if self.state.ballot is None or self.state.ballot.shown_at is None:
                return going
            seconds["frame"].append(time.perf_counter() - started)
            if self.pressed_at is not None and self.state.ballot.question.key != self.key:
                seconds["next_frame"].append(self.state.ballot.shown_at - self.pressed_at)
                self.pressed_at, self.scheduled = None, False
            if not self.scheduled and self.prepared():
                self.scheduled = True
                threading.Timer(rng.uniform(0, 1 / 60), self.press).start()
            return going and len(seconds["next_frame"]) < votes

        def prepared(self) -> bool:
            """Whether this pair was looked at and the next one is ready."""
            assert self.state.ballot is not None and self.state.polled is not None and self.state.buffer is not None
            buffer = self.state.buffer
            looked = time.perf_counter() - (self.state.ballot.shown_at or 0.0) > LOOKING_SECONDS
            following = [q for q in self.state.polled.ahead if q.key != self.state.ballot.question.key][:1]
            return looked and bool(following) and all(buffer.frames(clip) is not None for clip in following[0].clips)

        def press(self) -> None:
            assert self.state.ballot is not None and self.state.session is not None
            if not hasattr(self.state.session.vote, "timed"):
                self.state.session.vote = self.timed(self.state.session.vote)  # type: ignore[method-assign]
            self.key = self.state.ballot.question.key
            key = rng.choice(list(keys))
            self.pressed_at = time.perf_counter()
            for what in (pygame.KEYDOWN, pygame.KEYUP):
                pygame.event.post(pygame.event.Event(what, key=key, mod=0, unicode="", scancode=0))

        def timed(self, vote: Any) -> Any:
            def voting(*arguments: Any) -> Any:
                following = vote(*arguments)  # the vote is committed
                seconds["vote"].append(time.perf_counter() - (self.pressed_at or 0.0))
                return following

            voting.timed = True  # type: ignore[attr-defined]
            return voting

    window.VotingController = Timed  # type: ignore[misc]
    window.label(LabelConfig(run, annotator="bench", seed=0))
    Path(out).write_text(json.dumps(seconds))


# -- telling


def table(result: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    rows = ["| figure | goal | median | p99 | of |", "|---|---|---:|---:|---:|"]
    for name, (words, goal, factor) in GOALS.items():
        values = np.array(result["seconds"][name]) * factor
        middle, worst = np.percentile(values, [50, 99], method="higher")
        rows.append(f"| {words} | {goal} | {middle:.{digits(factor)}f} | {worst:.{digits(factor)}f} | {len(values)} |")
    for length, size in result["megabytes"].items():
        goal = "<= 25" if int(length) == LENGTHS[0] else ""
        rows.append(f"| {QUERIES:,} queries of two {length}-step clips, MB | {goal} | {size:.1f} | | 1 |")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    facts = f"\n{ENV_ID}; {result['cores']} cores, {result['processor']}, Python {result['python']}; {versions}"
    return "\n".join([*rows, facts])


def digits(factor: float) -> int:
    """Tells how many digits a factor gets after the point."""
    return 1 if factor > 1 else 2
