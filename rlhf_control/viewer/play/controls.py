"""From the keys that are held to an environment's action, and the table that tells a person which key does what."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.viewer.kit.canvas import pygame

PAIRS = ("qa", "ws", "ed", "tg", "yh", "uj", "ik", "ol")  # of a Box: keys above each other, more and less
ARROWS = (("right", "left"), ("up", "down"))  # the same for at most two numbers
SHIFTS = {"left shift", "right shift"}  # held beside another key: half as strong
MOST_CHOICES = 9
# The codes of SDL 1, which some environments' get_keys_to_action still give
OLD_CODES = {273: "up", 274: "down", 275: "right", 276: "left"}


@dataclass(frozen=True)
class Row:
    """Holds a line of the key table."""

    keys: tuple[str, ...]  # for a number of a Box: the one for more, then the one for less
    does: str


@dataclass(frozen=True)
class Choices:
    """Keys of a Discrete action: one option for each set of keys that are held together."""

    options: Mapping[frozenset[str], int]
    idle: tuple[int, ...]  # while no key is held: these by turns
    names: Mapping[int, str]
    size: int
    start: int = 0

    def action(self, held: Collection[str], step: int, last: Array | None = None) -> int:
        """Returns the option of the most keys that are all held."""
        pressed = [keys for keys in self.options if keys and keys <= set(held)]
        return self.options[max(pressed, key=len)] if pressed else self.idle[step % len(self.idle)]

    def executed(self, action: Any) -> Array:
        """Returns the action (A,) float32: one-hot, as reward models read it."""
        return np.eye(self.size, dtype=np.float32)[action - self.start]

    @property
    def rows(self) -> list[Row]:
        rows = [Row(tuple(sorted(keys)), self.names[option]) for keys, option in self.options.items() if keys]
        idle = " and ".join(dict.fromkeys(self.names[option] for option in self.idle))
        return [*rows, Row((), f"{idle} by turns" if len(self.idle) > 1 else idle)]

    @property
    def keys(self) -> set[str]:
        return set().union(*self.options)


@dataclass(frozen=True)
class Pushes:
    """Keys of a Box action: two for each number, which goes to its bound while one is held and to 0 when released. A
    gripper stays as it was last told to be, or it would let go."""

    pairs: tuple[tuple[str, str], ...]  # keys of more and of less
    names: tuple[str, ...]
    low: Array  # (A,) float32
    high: Array
    shape: tuple[int, ...]
    dtype: Any

    @property
    def kept(self) -> list[int]:
        """Returns which numbers stay as they were last: those of grippers."""
        return [i for i, name in enumerate(self.names) if "grip" in name.lower()]

    def action(self, held: Collection[str], step: int, last: Array | None = None) -> Array:
        """Returns the action of the keys that are held, after the action `last` (A,), if there was one."""
        share = 0.5 if SHIFTS & set(held) else 1.0
        more, less = (np.array([pair[i] in held for pair in self.pairs]) for i in (0, 1))
        push = share * (np.where(more, self.high, 0) + np.where(less, self.low, 0))
        if last is not None:
            kept = [i for i in self.kept if not (more[i] or less[i])]
            push[kept] = last[kept]
        return push.clip(self.low, self.high).astype(self.dtype).reshape(self.shape)

    def executed(self, action: Any) -> Array:
        """Returns the action (A,) float32 that the environment carries out."""
        return np.asarray(action, np.float32).ravel()

    @property
    def rows(self) -> list[Row]:
        return [Row(pair, name) for pair, name in zip(self.pairs, self.names, strict=True)]

    @property
    def keys(self) -> set[str]:
        return {key for pair in self.pairs for key in pair}


Controls = Choices | Pushes


def find_controls(env: gymnasium.Env, name: str) -> Controls:
    """Returns the keys of an environment: from the table of classic control, by its own `get_keys_to_action`, or by the
    shape of its actions. Raises UserError if it cannot be driven by keys."""
    space, kind = env.action_space, type(env.unwrapped).__name__
    if isinstance(space, Box):
        return _pushes(env, space, name)
    if isinstance(space, Discrete):
        if kind in CLASSIC:
            return CLASSIC[kind]()
        if env.has_wrapper_attr("get_keys_to_action"):
            return _own_keys(env, space)
        if space.n <= MOST_CHOICES:
            start = int(space.start)
            options = {frozenset({str(i + 1)}): start + i for i in range(int(space.n))}
            return Choices(options, (start,), _meanings(env, space), int(space.n), start)
    raise UserError(
        f"{name} has actions {space}, which keys cannot give (up to {len(PAIRS)} numbers, or one choice of up to "
        f"{MOST_CHOICES}); let a policy demonstrate instead, with --demonstrations POLICY"
    )


def _pushes(env: gymnasium.Env, space: Box, name: str) -> Pushes:
    size = int(np.prod(space.shape))
    if size > len(PAIRS):
        raise UserError(
            f"{name} has {size} numbers in an action, and keys can give {len(PAIRS)}; let a policy demonstrate, "
            "with --demonstrations POLICY"
        )
    low, high = (np.asarray(bound, np.float32).ravel() for bound in (space.low, space.high))
    low, high = (np.where(np.isfinite(bound), bound, sign) for bound, sign in ((low, -1), (high, 1)))
    pairs = ARROWS[:size] if size <= len(ARROWS) else tuple((pair[0], pair[1]) for pair in PAIRS[:size])
    names = _actuators(env, size)
    if type(env.unwrapped).__name__ == "PendulumEnv":  # a positive torque turns it to the left
        pairs, names = (("left", "right"),), ("turn it left, right",)
    return Pushes(pairs, names, low.astype(np.float32), high.astype(np.float32), space.shape, space.dtype)


def _actuators(env: gymnasium.Env, size: int) -> tuple[str, ...]:
    """Returns the environment's own names of the numbers of an action (`action_names`), or the model's of what they
    drive, else their places."""
    own = env.get_wrapper_attr("action_names") if env.has_wrapper_attr("action_names") else None
    if isinstance(own, list | tuple) and len(own) == size:
        return tuple(map(str, own))
    model: Any = getattr(env.unwrapped, "model", None)
    if model is None or getattr(model, "nu", 0) != size:
        return tuple(f"number {i + 1} of the action" for i in range(size))
    names = [model.actuator(i).name or model.joint(int(model.actuator_trnid[i, 0])).name for i in range(size)]
    return tuple(name.removesuffix("_joint").replace("_", " ") or f"actuator {i + 1}" for i, name in enumerate(names))


def _own_keys(env: gymnasium.Env, space: Discrete) -> Choices:
    """By the environment's `get_keys_to_action`: keys are names, characters or codes, of SDL 2 or 1."""
    given: Mapping[Any, Any] = env.get_wrapper_attr("get_keys_to_action")()
    options = {_key_names(keys): int(option) for keys, option in given.items()}
    idle = options.get(frozenset(), int(space.start))
    return Choices(options, (idle,), _meanings(env, space), int(space.n), int(space.start))


def _key_names(keys: Any) -> frozenset[str]:
    keys = (keys,) if isinstance(keys, int) else keys  # a string is its characters
    names = [OLD_CODES.get(key) or pygame.key.name(key) if isinstance(key, int) else str(key).lower() for key in keys]
    return frozenset({" ": "space"}.get(name, name) for name in names)


def _meanings(env: gymnasium.Env, space: Discrete) -> dict[int, str]:
    """Returns what the options are called."""
    names = {i: f"action {i}" for i in range(int(space.start), int(space.start + space.n))}
    if env.has_wrapper_attr("get_action_meanings"):
        meanings = env.get_wrapper_attr("get_action_meanings")()
        names |= {i: str(name).lower() for i, name in zip(names, meanings, strict=False)}
    return names


def _left_right(does: str) -> Choices:
    """Left 0, nothing 1, right 2."""
    options = {frozenset({"left"}): 0, frozenset({"right"}): 2, frozenset({"left", "right"}): 1}
    return Choices(options, (1,), {0: f"{does} left", 1: "nothing", 2: f"{does} right"}, 3)


def _cart_pole() -> Choices:
    """It knows no rest: while no key is held the cart is pushed left and right by turns, which cancels out."""
    options = {frozenset({"left"}): 0, frozenset({"right"}): 1}
    return Choices(options, (0, 1), {0: "push left", 1: "push right"}, 2)


CLASSIC: dict[str, Callable[[], Choices]] = {
    "CartPoleEnv": _cart_pole,
    "MountainCarEnv": lambda: _left_right("push"),
    "AcrobotEnv": lambda: _left_right("turn"),
}
