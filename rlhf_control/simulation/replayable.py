"""Environments that can be brought back: by what they carried into their reset, the reset, and the actions since.

Gymnasium's own carry nothing but their np_random. Others count their episodes, make their tasks harder, normalise by
what they have seen or draw from a generator of their own: whatever of this is numbers, text, arrays and generators, in
attributes of theirs, is noted before every reset. What is elsewhere (in a module, a class, a library's memory) cannot
be; then `probe` says so before training, and a restored episode has other rewards, which `restore` finds.
"""

import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.rng import generator_state, set_generator_state
from rlhf_control.runs.progress import say_once
from rlhf_control.simulation.foreign import ForeignEnv
from rlhf_control.spaces import packing, texts


class PackObservation(gymnasium.ObservationWrapper):
    """Packs observations into one array: see `spaces.packing`. Says once which texts are left out."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space, self.pack = packing(env.observation_space)
        if left_out := texts(env.observation_space):
            name = env.spec.id if env.spec is not None else "the environment"
            say_once(f"rlhf-control: {', '.join(left_out)} of {name} is text, which no policy here reads: left out")

    def observation(self, observation: Any) -> Array:
        return self.pack(observation)


CARRY_NOTHING = (ForeignEnv, OrderEnforcing, PackObservation, PassiveEnvChecker, TimeLimit)
PLAIN = (type(None), bool, int, float, str)
LARGEST, MOST = 100_000, 2_000  # numbers in an array that is noted; objects that are looked into
SEQUENCES = {kind.__name__: kind for kind in (list, tuple, set, frozenset, deque)}
PROBED, BEFORE = 15, 3  # steps of an episode of `probe`, and those before it is brought back
Generator = np.random.Generator | np.random.RandomState | random.Random


class Replayable(gymnasium.Wrapper):
    """Makes an environment resumable."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.carries = not carries_nothing(env)
        self._start: dict[str, Any] = {}
        self._actions: list[Any] = []
        self._rewards: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        state = None if seed is not None else generator_state(self.unwrapped.np_random)
        carried = {path: noted(owner[key]) for path, owner, key in leaves(self.env)} if self.carries else {}
        self._start, self._actions, self._rewards = {"seed": seed, "generator": state, "carried": carried}, [], []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self._actions.append(np.array(action))
        result = self.env.step(action)
        self._rewards.append(float(result[1]))
        return result

    def snapshot(self) -> dict[str, Any]:
        return {**self._start, "actions": np.array(self._actions), "rewards": np.array(self._rewards)}

    def restore(self, snapshot: Mapping[str, Any]) -> Any:
        """Resets, repeats the actions of the snapshot and returns the observation after them. Raises UserError if the
        rewards on the way were others, or the episode ends."""
        carried = snapshot.get("carried", {})  # older snapshots have none
        for path, owner, key in list(leaves(self.env)) if carried else ():
            if path in carried:
                put_leaf(owner, key, carried[path])
        if snapshot["seed"] is None and (snapshot["generator"] or not carried):
            set_generator_state(self.unwrapped.np_random, snapshot["generator"])
        obs, _ = self.reset(seed=snapshot["seed"])
        ended = False
        for action in snapshot["actions"]:
            if ended:
                raise UserError("the episode ends before")
            obs, _, terminated, truncated, _ = self.step(action)
            ended = terminated or truncated
        if ended:
            raise UserError("the episode ends")
        rewards = snapshot.get("rewards")
        if rewards is not None and not np.array_equal(rewards, np.array(self._rewards), equal_nan=True):
            raise UserError("the rewards are others")
        return obs


def carries_nothing(env: gymnasium.Env) -> bool:
    """Tells whether only np_random outlives a reset, for certain: Gymnasium's own and our arm, under wrappers
    of the usual kinds."""
    while isinstance(env, gymnasium.Wrapper):
        if type(env) not in CARRY_NOTHING:
            return False
        env = env.env
    return type(env).__module__.startswith(("gymnasium.envs.", "envs.arm."))


# -- what is carried from one episode to the next


def leaves(root: object) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields (path, dictionary, key) of all values that can be noted, in the attributes of an object and of those it
    has."""
    seen, ahead = {id(root)}, deque([("", root)])
    while ahead and len(seen) < MOST:
        path, owner = ahead.popleft()
        attributes = vars(owner)
        for name, value in attributes.items():
            at = f"{path}.{name}" if path else name
            if is_leaf(value):
                yield at, attributes, name
            elif hasattr(value, "__dict__") and id(value) not in seen and is_part(value):
                seen.add(id(value))
                ahead.append((at, value))


def is_part(value: Any) -> bool:
    """Tells whether an object belongs to its owner's state, unlike spaces, modules, classes and functions, and Bullet's
    client, whose number says which of the process's simulators it is."""
    apart = isinstance(value, gymnasium.spaces.Space | gymnasium.envs.registration.EnvSpec | type | ModuleType)
    library = type(value).__module__.split(".")[0]
    return not apart and not callable(value) and library not in ("logging", "threading", "pybullet_utils")


def is_leaf(value: Any) -> bool:
    if type(value) in PLAIN or isinstance(value, np.generic | Generator):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufcSU" and value.size <= LARGEST
    if isinstance(value, dict):
        return len(value) <= LARGEST and all(type(k) in PLAIN and is_plain(v) for k, v in value.items())
    return type(value) in SEQUENCES.values() and is_plain(list(value))


def is_plain(value: Any) -> bool:
    if type(value) is list:
        return len(value) <= LARGEST and all(is_plain(item) for item in value)
    return type(value) in PLAIN


def noted(value: Any) -> Any:
    """Returns a copy that a sealed file can hold; `put_leaf` brings it back."""
    if isinstance(value, np.ndarray | np.generic):
        return np.array(value)
    if isinstance(value, random.Random):
        return {"random": json.dumps(value.getstate())}
    if isinstance(value, Generator):
        return {"generator": json_safe(generator_state(value))}
    if isinstance(value, dict):
        return {"dict": json.dumps(list(value.items()))}
    if type(value) in SEQUENCES.values():
        return {type(value).__name__: json.dumps(list(value))}
    return value


def json_safe(state: Any) -> Any:
    """Returns the state of a generator with its arrays copied."""
    if isinstance(state, Mapping):
        return {key: json_safe(value) for key, value in state.items()}
    return state.copy() if isinstance(state, np.ndarray) else state


def put_leaf(owner: dict[str, Any], key: str, value: Any) -> None:
    """Brings one value back; arrays and generators, which others may hold too, in their places."""
    now = owner[key]
    if isinstance(value, Mapping):
        (kind, content), *_ = value.items()
        if kind == "generator":
            set_generator_state(now, content)
        elif kind == "random":
            version, internal, following = json.loads(content)
            now.setstate((version, tuple(internal), following))
        elif kind == "dict":
            owner[key] = dict(json.loads(content))
        elif kind == "deque":
            owner[key] = deque(json.loads(content), getattr(now, "maxlen", None))
        else:
            owner[key] = SEQUENCES[kind](json.loads(content))
    elif isinstance(value, np.ndarray):
        in_place = isinstance(now, np.ndarray) and now.shape == value.shape and now.dtype == value.dtype
        if in_place and now.flags.writeable:
            now[...] = value
        elif not in_place:
            owner[key] = value[()] if value.ndim == 0 and not isinstance(now, np.ndarray) else value.copy()
    else:
        owner[key] = value


# -- trying it


def probe(make: Callable[[], Replayable]) -> str:
    """Says what differs after a copy of the environment was brought back to the middle of another one's third episode:
    "" if nothing does, neither there nor in the episode after it."""
    one, two = make(), make()
    try:
        if not one.carries:
            return ""
        one.action_space.seed(0)
        actions = [one.action_space.sample() for _ in range(PROBED)]
        for env in (one, two):
            env.reset(seed=1)
            env.reset(seed=1)  # as training does
        for _ in range(2):
            played(one, actions)
            one.reset()
        ended = bool(played(one, actions[:BEFORE])[2].any())
        if ended:  # as training does at once
            one.reset()
        there = one.snapshot()
        try:
            two.restore(there)
        except UserError as error:
            return str(error)
        for when in ("", " of its next episode"):
            expected, found = (played(env, actions[BEFORE:]) for env in (one, two))
            for name, a, b in zip(("observations", "rewards", "ends"), expected, found, strict=True):
                if not (np.shape(a) == np.shape(b) and np.array_equal(a, b, equal_nan=True)):
                    return f"the {name}{when} are others"
            first, again = (np.asarray(env.reset()[0], np.float64) for env in (one, two))
            if not np.array_equal(first, again, equal_nan=True):
                return "the first observation of its next episode is another"
        return ""
    finally:
        one.close()
        two.close()


def played(env: Replayable, actions: list[Any]) -> tuple[Array, Array, Array]:
    """Returns observations, rewards and ends of one episode under these actions, as far as it goes."""
    steps = []
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        steps.append((np.asarray(obs, np.float64), reward, (terminated, truncated)))
        if terminated or truncated:
            break
    observations, rewards, ends = zip(*steps, strict=True)
    return np.array(observations), np.array(rewards), np.array(ends)
