"""Several games, one after the other in this process, or in one beside it: ALE holds Python's lock while it plays.

n games, h, w of the observation.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np

from rlhf_control.compute.processes import python
from rlhf_control.simulation.atari.game import AtariGame
from rlhf_control.simulation.atari.pictures import Array
from rlhf_control.simulation.atari.preprocessing import Preprocessing


@dataclass(frozen=True)
class Shots:
    """Holds what a step of n games leads to."""

    pictures: Array  # (n, h, w) uint8
    scores: Array  # (n,) int64: gained in it
    ends: Array  # (n,) int64: as in `game`
    firsts: Array  # (n, h, w) uint8: the first pictures of what comes next, where something ended; else `pictures`
    facts: Array  # (n, F) float64: see `AtariGame.facts`, of what comes next


class Games:
    """Plays n games in this process."""

    def __init__(self, rom: str, n: int, options: Preprocessing) -> None:
        self.games = [AtariGame(rom, options) for _ in range(n)]
        self.actions = self.games[0].actions
        self._shots: Shots | None = None

    def reset(self, seeds: Mapping[int, int | None]) -> tuple[Array, Array]:
        """Begin those games that `seeds` names by their numbers, with a seed each, or None to let it run on. Returns
        their first pictures (k, h, w) and the facts (n, F) of all."""
        pictures = np.stack([self.games[i].reset(seed) for i, seed in seeds.items()])
        return pictures, self._facts()

    def send(self, actions: Array) -> None:
        """Step by actions (n,); `receive` returns the shots."""
        shots = [game.step(action) for game, action in zip(self.games, actions.tolist(), strict=True)]
        self._shots = Shots(
            np.stack([shot.picture for shot in shots]),
            np.array([shot.score for shot in shots]),
            np.array([shot.end for shot in shots]),
            np.stack([shot.picture if shot.first is None else shot.first for shot in shots]),
            self._facts(),
        )

    def receive(self) -> Shots:
        assert self._shots is not None
        return self._shots

    def _facts(self) -> Array:
        return np.stack([game.facts() for game in self.games])

    def pngs(self) -> list[bytes]:
        """Return the screens, as PNG."""
        return [game.png() for game in self.games]

    def states(self) -> list[dict[str, Any]]:
        """Return all there is of the games; see `AtariGame.state`."""
        return [game.state() for game in self.games]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> Array:
        """Go on from states, and return their facts (n, F). Raises ValueError for those of another game."""
        for game, state in zip(self.games, states, strict=True):
            game.load_state(state)
        return self._facts()

    def close(self) -> None:
        """Have nothing to close."""


class GamesElsewhere:
    """Plays n games in a process of their own; otherwise as `Games`. It ends when this process does, however it
    ends."""

    def __init__(self, rom: str, n: int, options: Preprocessing) -> None:
        self._process = subprocess.Popen(
            python("from rlhf_control.simulation.atari.games import serve; serve()"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self.rom, self.actions = rom, self._ask("make", rom=rom, n=n, options=asdict(options))["actions"]

    def _order(self, order: str, **given: Any) -> None:
        try:
            write(self._orders, {"order": order, **given})
        except (OSError, ValueError) as error:
            raise self._death() from error

    def _answer(self) -> dict[str, Any]:
        answer = read(self._answers)
        if answer is None:
            raise self._death()
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def _ask(self, order: str, **given: Any) -> dict[str, Any]:
        self._order(order, **given)
        return self._answer()

    def _death(self) -> RuntimeError:
        self.close()
        how = self._process.returncode
        return RuntimeError(f"the process that plays {self.rom} ended, with {f'signal {-how}' if how < 0 else how}")

    def reset(self, seeds: Mapping[int, int | None]) -> tuple[Array, Array]:
        answer = self._ask("reset", seeds=list(seeds.items()))
        return answer["pictures"], answer["facts"]

    def send(self, actions: Array) -> None:
        self._order("step", actions=actions)

    def receive(self) -> Shots:
        return Shots(**self._answer())

    def pngs(self) -> list[bytes]:
        answer = self._ask("pngs")
        return [answer[str(i)].tobytes() for i in range(len(answer))]

    def states(self) -> list[dict[str, Any]]:
        answer = self._ask("states")
        return [{**facts, **named(answer, i)} for i, facts in enumerate(answer["facts"])]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> Array:
        facts = [{name: value for name, value in state.items() if name not in ARRAYS} for state in states]
        facts = [{name: v if isinstance(v, str) else int(v) for name, v in fact.items()} for fact in facts]
        memories = numbered(states)
        found: Array = self._ask("load_states", facts=facts, **memories)["facts"]
        return found

    def close(self) -> None:
        for pipe in (self._orders, self._answers):
            with suppress(OSError):  # what is still to be written has no reader
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __del__(self) -> None:
        if hasattr(self, "_answers"):
            self.close()


def serve() -> None:
    """Play for `GamesElsewhere`, at the other ends of its pipes, until nobody asks any more."""
    orders, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what libraries print is no answer
    games: Games | None = None
    while (order := read(orders)) is not None:
        try:
            if order["order"] == "make":
                games = Games(order["rom"], order["n"], Preprocessing(**order["options"]))
            assert games is not None
            answer = answered(games, order)
        except Exception as error:
            answer = {"error": str(error)}
        try:
            write(answers, answer)
        except BrokenPipeError:
            break
    sys.stdout = None  # whose pipe may be broken, which Python would complain about


def answered(games: Games, order: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out an order of `GamesElsewhere` and return the answer to it."""
    match order["order"]:
        case "step":
            games.send(order["actions"])
            return vars(games.receive())
        case "reset":
            pictures, facts = games.reset(dict(order["seeds"]))
            return {"pictures": pictures, "facts": facts}
        case "pngs":
            return {str(i): np.frombuffer(png, np.uint8) for i, png in enumerate(games.pngs())}
        case "states":
            states = games.states()
            plain = [{name: value for name, value in state.items() if name not in ARRAYS} for state in states]
            return {**numbered(states), "facts": plain}
        case "load_states":
            restored = [{**fact, **named(order, i)} for i, fact in enumerate(order["facts"])]
            return {"facts": games.load_states(restored)}
    return {"actions": games.actions}


ARRAYS = ("ale", "before")  # of `AtariGame.state`


def numbered(states: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Name the arrays of states by their numbers."""
    return {f"{name} {i}": np.asarray(state[name], np.uint8) for i, state in enumerate(states) for name in ARRAYS}


def named(message: Mapping[str, Any], i: int) -> dict[str, Array]:
    """Return the arrays of state i of a message."""
    return {name: message[f"{name} {i}"] for name in ARRAYS}


# -- messages: plain values as JSON, and behind them the bytes of arrays


def write(pipe: IO[bytes], message: Mapping[str, Any]) -> None:
    arrays = {name: np.ascontiguousarray(v) for name, v in message.items() if isinstance(v, np.ndarray)}
    plain = {name: value for name, value in message.items() if name not in arrays}
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    head = json.dumps([plain, shapes]).encode()
    pipe.write(b"".join([len(head).to_bytes(4, "little"), head, *(array.tobytes() for array in arrays.values())]))
    pipe.flush()


def read(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Return the next message; None where there is none any more, or only a part of one."""
    length = pipe.read(4)
    if len(length) < 4:
        return None
    head = pipe.read(int.from_bytes(length, "little"))
    try:
        message, shapes = json.loads(head)
    except ValueError:  # cut off
        return None
    for name, dtype, shape in shapes:
        array = np.empty(shape, dtype)
        if pipe.readinto(array.reshape(-1).view(np.uint8)) < array.nbytes:  # type: ignore[attr-defined]
            return None
        message[name] = array
    result: dict[str, Any] = message
    return result
