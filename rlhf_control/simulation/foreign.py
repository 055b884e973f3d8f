"""Environments that are not ours, at arm's length. Every one that is made anywhere is a `ForeignEnv`: what it is handed
and what it hands out are copies, and whatever goes wrong inside is one line with its place.

N environments, O observation.
"""

import copy
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.runs.watchdog import WATCHDOG, HungError
from rlhf_control.simulation.atari.env import AtariEnv
from rlhf_control.simulation.atari.ids import is_atari, rom_of
from rlhf_control.simulation.env_ids import unregistered
from rlhf_control.simulation.robots import (
    complete,
    ends_by_its_clock,
    import_module_of,
    place_camera,
    turn_cameras,
)

SAME_STEP = AutoresetMode.SAME_STEP
LONGEST = 400  # characters of what an error says
GYMNASIUM = Path(gymnasium.__file__).parent
OURS = tuple(map(str, (
    Path(__file__).parents[1], Path(np.__file__).parent, GYMNASIUM / "core.py", GYMNASIUM / "wrappers",
    GYMNASIUM / "vector", GYMNASIUM / "utils", GYMNASIUM / "envs" / "registration.py",
)))  # fmt: skip
STANDARD_LIBRARY = sysconfig.get_path("stdlib")


class MisfitError(ValueError):
    """Says that what an environment gave is not what its spaces, or Gymnasium, say."""


class ForeignEnv(gymnasium.Wrapper):
    """Wraps a Gymnasium environment that may write into the actions it gets, reuse one array for all observations, give
    lists, odd infos or wrong shapes, and raise anything. Raises UserError, which names the environment's number, its
    first seed, its episode (counted from the last seed) and its step (from 1), and the line in its code."""

    def __init__(self, env: gymnasium.Env, name: str, number: int = 0) -> None:
        super().__init__(env)
        self.name, self.number = name, number
        self.seed: int | None = None
        self.closed = False
        close_with_the_work(self.close)
        self.episode = self.steps = 0
        self._clock = ends_by_its_clock(env)
        self._space: spaces.Space = env.observation_space  # each look at it goes through all wrappers

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seed, self.episode = seed, 0
        self.episode, self.steps = self.episode + 1, 0
        WATCHDOG.enter(self)
        try:
            obs, info = self.env.reset(seed=seed, options=options)
            return owned(self._space, obs), info
        except BaseException as error:
            self._fail("its reset", error)
        finally:
            WATCHDOG.leave()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        WATCHDOG.enter(self)
        try:
            obs, reward, terminated, truncated, info = self.env.step(lent(action))
            obs = owned(self._space, obs)
            reward = reward if type(reward) is float else number("reward", reward)
            terminated = terminated if type(terminated) is bool else bool(number("terminated", terminated))
            truncated = truncated if type(truncated) is bool else bool(number("truncated", truncated))
            if terminated and self._clock:
                terminated, truncated = False, True
            return obs, reward, terminated, truncated, info
        except BaseException as error:
            self._fail(f"step {self.steps}", error)
        finally:
            WATCHDOG.leave()

    def render(self) -> Any:
        WATCHDOG.enter(self)
        try:
            return self.env.render()
        except BaseException as error:
            self._fail(f"render after step {self.steps}", error)
        finally:
            WATCHDOG.leave()

    def close(self) -> None:
        """Says what the environment raises, and goes on: what it was needed for has been done."""
        if self.closed:
            return
        self.closed = True
        WATCHDOG.enter(self)
        try:
            self.env.close()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"rlhf-control: {self.called} fails in close: {told(error)}", file=sys.stderr)
        finally:
            WATCHDOG.leave()

    def bare(self) -> "ForeignEnv":
        """Returns the same without Gymnasium's own wrappers, its time limit among them, to be put into states."""
        env = ForeignEnv(self.unwrapped, self.name, self.number)
        self.closed = True  # the other one does it
        return env

    @property
    def called(self) -> str:
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"environment {self.number}{seed} of {self.name}"

    def __str__(self) -> str:
        """Where it is, for the watchdog."""
        return f"{self.called}, at step {self.steps} of its episode {self.episode}"

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        if isinstance(error, UserError | KeyboardInterrupt):  # of one of our own inside; of the person at the keyboard
            raise error
        hint = "; look at the arguments in --env" if " with {" in self.name and self.episode * self.steps <= 1 else ""
        raise UserError(f"{self.called} fails in {what} of its episode {self.episode}: {told(error)}{hint}") from error


_work: ContextVar[ExitStack | None] = ContextVar("work", default=None)


@contextmanager
def environments_closed() -> Iterator[None]:
    """Watches every environment that is made within, and closes it at the end, however it ends. To decorate what makes
    some."""
    with WATCHDOG.watching(), ExitStack() as stack:
        token = _work.set(stack)
        try:
            yield
        finally:
            _work.reset(token)


def close_with_the_work(close: Callable[[], None]) -> None:
    stack = _work.get()
    if stack is not None:
        stack.callback(close)


class ForeignVectorEnv(SyncVectorEnv):
    """Is Gymnasium's SyncVectorEnv in its mode SAME_STEP, without infos: it puts those of all environments into arrays,
    and dies of what does not fit. `info` holds `final_obs`, an object array (N,) with the last observations of the
    episodes that ended in this step, and the mask `_final_obs`, in such steps alone. Of infos there is `success` (N,):
    1 or 0 after the last step, NaN where the environment does not tell."""

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]]) -> None:
        with ExitStack() as stack:  # if one cannot be made, those before it are closed
            made = [stack.enter_context(closing(make())) for make in makers]
            super().__init__([partial(made.__getitem__, i) for i in range(len(made))], autoreset_mode=SAME_STEP)
            stack.pop_all()
        self.success = np.full(self.num_envs, np.nan)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed or [None] * self.num_envs
        observations = [env.reset(seed=s, options=options)[0] for env, s in zip(self.envs, seeds, strict=True)]
        return np.stack(observations), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        observations, rewards, terminated, truncated = [], np.empty(self.num_envs), [], []
        info: dict[str, Any] = {}
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            obs, rewards[i], ended, cut, told_of = env.step(action)
            self.success[i] = success_in(told_of)
            if ended or cut:
                if not info:
                    info = {"final_obs": np.full(self.num_envs, None), "_final_obs": np.zeros(self.num_envs, bool)}
                info["final_obs"][i], info["_final_obs"][i] = obs, True
                obs, _ = env.reset()
            observations.append(obs)
            terminated.append(ended)
            truncated.append(cut)
        return np.stack(observations), rewards, np.array(terminated), np.array(truncated), info


def success_in(info: Any) -> float:
    """Returns 1 or 0 as an info says whether the task is done now (`is_success` or `success`), and NaN if it does not
    say."""
    for key in ("is_success", "success"):
        value = np.asarray(info.get(key)) if isinstance(info, Mapping) else np.array(None)
        if value.size == 1 and value.dtype.kind in "biuf":
            return float(value.item() > 0)
    return np.nan


def check_env_id(env_id: str) -> None:
    """Raises UserError for an id that is not registered; MODULE:ID is Gymnasium's business."""
    if is_atari(env_id):
        try:
            rom_of(env_id)
        except ValueError as error:
            raise UserError(str(error)) from error
    elif ":" not in env_id and not is_registered(env_id):
        raise unregistered(env_id, gymnasium.registry)


def is_registered(env_id: str) -> bool:
    """Tells whether Gymnasium knows an id. The older ones of ale-py do not count, which it knows only once something
    has imported that."""
    spec = gymnasium.registry.get(env_id)
    return spec is not None and not str(spec.entry_point).startswith("ale_py.")


def make_env(env_id: str, arguments: Mapping[str, Any], number: int = 0) -> ForeignEnv:
    """Calls `gymnasium.make`, but for ALE's ids, which are prepared by ourselves. Raises UserError for an unknown id,
    and for whatever the environment raises."""
    check_env_id(env_id)
    with in_one_line(f"cannot make {described(env_id, arguments)}"):
        if is_atari(env_id):
            return ForeignEnv(AtariEnv(env_id, **arguments), described(env_id, arguments), number)
        import_module_of(env_id)
        env = gymnasium.make(env_id, **complete(env_id, arguments))
        turn_cameras(env)
        place_camera(env)
        return ForeignEnv(env, described(env_id, arguments), number)


def described(env_id: str, arguments: Mapping[str, Any]) -> str:
    return f"{env_id} with {dict(arguments)}" if arguments else env_id


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turns whatever is raised within, SystemExit too, into a UserError of one line."""
    WATCHDOG.enter(what)
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserError(f"{what}: {told(error)}") from error
    finally:
        WATCHDOG.leave()


def told(error: BaseException) -> str:
    """Returns what an error says, and FILE:LINE of where it was raised: the last line of it that belongs to neither
    Python nor a library, or else the last one outside Gymnasium."""
    name = "" if isinstance(error, MisfitError | HungError) else f"{type(error).__name__}: "
    words = " ".join(f"{name}{error}".split()).removesuffix(":")
    words = words if len(words) <= LONGEST else words[:LONGEST] + " ..."
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*OURS, "<"))]
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(STANDARD_LIBRARY)]
    place = (own or frames)[-1:]
    return words + "".join(f" ({frame.filename}:{frame.lineno})" for frame in place)


# -- what crosses the line


def lent(action: Any) -> Any:
    """Copies an action, for the environment to do with as it likes."""
    if isinstance(action, np.ndarray):
        return action.copy()
    return action if isinstance(action, int | np.generic) else copy.deepcopy(action)


def owned(space: spaces.Space, obs: Any) -> Any:
    """Copies an observation, which the environment cannot write into, as its space has it: lists and tuples become
    arrays of the space's dtype. Raises MisfitError where that would change it."""
    if isinstance(space, spaces.Box):
        if type(obs) is np.ndarray and obs.dtype == space.dtype and obs.shape == space.shape:
            return obs.copy()
        return fitted(space, obs)
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or not space.spaces.keys() <= obs.keys():
            raise MisfitError(f"its observation is {short(obs)}, not a dictionary of {', '.join(map(str, space))}")
        return {key: owned(part, obs[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(obs, Sequence) or len(obs) != len(space.spaces):
            raise MisfitError(f"its observation is {short(obs)}, not a tuple of {len(space.spaces)}")
        return tuple(owned(part, value) for part, value in zip(space.spaces, obs, strict=True))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        array = fitted(space, obs)
        if not space.contains(array if space.shape else space.dtype.type(array)):
            raise MisfitError(f"its observation {short(obs)} lies outside its space {space}")
        return array if space.shape else int(array)
    return copy.deepcopy(obs)


def fitted(space: spaces.Space, obs: Any) -> Array:
    """Makes a new array of the space's shape and dtype. Raises MisfitError where the observation has another shape, is
    not of numbers, or of numbers that the dtype cannot hold."""
    try:
        array = np.asarray(obs)
    except ValueError:  # lists of unequal lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise MisfitError(f"its observation is {short(obs)}, not numbers as its space {space} has them")
    if array.shape != space.shape:
        raise MisfitError(f"its observation has shape {array.shape}, not {space.shape} as its space has")
    with np.errstate(over="ignore", invalid="ignore"):  # too large for a float: infinity, which is found later
        cast = array.astype(space.dtype)
    if cast.dtype.kind != "f" and (cast != array).any():
        wrong = array[cast != array].flat[0]
        raise MisfitError(f"its observation of dtype {array.dtype} holds {wrong}, and its space is of {space.dtype}")
    return cast


def number(name: str, value: Any) -> float:
    """Returns a reward or flag that may be an array of one number. Raises MisfitError for anything else."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise MisfitError(f"its {name} is {short(value)}, not a number")
    return float(array.item())


def short(value: Any) -> str:
    """Shortens a value for an error's line."""
    words = " ".join(repr(value).split())
    return words if len(words) <= 60 else f"{words[:60]} ..."
