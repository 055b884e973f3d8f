"""Environments stepped side by side. The only file that knows about autoreset.

T time, N environments, O observation, A action, D simulator state.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral, Number
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FlattenObservation

import envs as project_envs
from rlhf_control.data import Array, Rollout, Segments, check_finite, widened
from rlhf_control.errors import NonFiniteError, UserError, unknown_name
from rlhf_control.foreign import (
    ForeignVectorEnv,
    check_env_id,
    described,
    environments_closed,
    in_one_line,
    make_env,
    told,
)
from rlhf_control.gl import has_display
from rlhf_control.mujoco_states import MujocoReader
from rlhf_control.nets import Act, Policy, Spaces, one_thread
from rlhf_control.pictures import encode, rendered, stride
from rlhf_control.progress import say_once
from rlhf_control.replayable import Replayable, probe
from rlhf_control.states import draws_itself, seen_whole, state_reader, step_seconds
from rlhf_control.wording import counted

EXACT = 2**24  # whole numbers up to here are exact in float32
CUT_OFF = 10_000  # steps, after which an evaluation cuts off what has no time limit, or has one above the next
MAX_EVALUATION_STEPS = 100_000
BACKENDS = ("auto", "batched", "gymnasium")


class Envs:
    """N environments between two rollouts: where they stand, and what their episodes have returned so far."""

    def __init__(self, vector: VectorEnv, seed: int, first: int = 0, name: str = "the environment") -> None:
        self.vector, self.name = vector, name
        self.first = first  # the number of the first one, where these are some of many
        self.num_envs = vector.num_envs
        if isinstance(vector, project_envs.MujocoVectorEnv):
            vector.infos = False
        self.spaces = Spaces.of(vector.single_observation_space, vector.single_action_space)
        self.obs = self._flat(vector.reset(seed=seed)[0])  # (N, O) float32
        self._read_states = state_reader(vector.envs) if isinstance(vector, SyncVectorEnv) else None
        self._frames = False
        self.differs = ""  # what, from where the checkpoint left them
        self.twin: Callable[[], Replayable] | None = None  # makes another one of those that are brought back by replay
        self.returns = np.zeros(self.num_envs)  # of the running episodes, raw
        self.lengths = np.zeros(self.num_envs, np.int64)

    def step(self, action: Array, executed: Array) -> tuple[Array, Array, Array, Array]:
        """(next_obs, reward, terminated, truncated), each (N, ...), with the true successor at an episode's end.
        `self.obs` is then the first observation of the next episode there."""
        space = self.vector.single_action_space
        action = (action if self.spaces.choices else executed).reshape(-1, *(space.shape or ()))
        if isinstance(space, Discrete | MultiDiscrete):
            action = action + space.start
        try:
            obs, reward, terminated, truncated, info = self.vector.step(action)
        except project_envs.SimulationError as error:
            place = f"environment {error.env_index + self.first}: {error.field}: {error.problem}"
            raise NonFiniteError(f"the simulation diverged: {place}; lower the learning rate") from error
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.name} fails in a step: {told(error)}; look at the arguments in --env") from error
        self.obs = self._flat(obs)
        next_obs = self.obs
        done = terminated | truncated
        if done.any():
            next_obs = self.obs.copy()
            next_obs[done] = np.stack([self._flat(o[None])[0] for o in info["final_obs"][done]])
        return next_obs, reward, terminated, truncated

    def count(self, reward: Array, done: Array) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Returns and lengths of the episodes that ended in a rollout (T, N), in the order of their ends."""
        returns: list[float] = []
        lengths: list[int] = []
        start = 0
        for t in [*np.flatnonzero(done.any(1)).tolist(), len(done) - 1]:
            self.returns += reward[start : t + 1].sum(0, dtype=np.float64)
            self.lengths += t + 1 - start
            start, ended = t + 1, done[t]
            returns += self.returns[ended].tolist()
            lengths += self.lengths[ended].tolist()
            self.returns[ended] = 0
            self.lengths[ended] = 0
            if start == len(done):
                break
        return tuple(returns), tuple(lengths)

    def tell_of_lost_digits(self, obs: Array) -> None:
        """Says once if observations (..., O) of a space of more digits are so large that float32 rounds them."""
        dtype = self.vector.single_observation_space.dtype
        if dtype is not None and not np.can_cast(dtype, np.float32, "safe") and abs(obs).max() > EXACT:
            say_once(
                f"rlhf-control: {self.name} observes {dtype} numbers beyond {EXACT:,}, of which float32, which "
                "policies read, keeps 7 digits; if smaller differences matter, scale or shift them in a wrapper"
            )

    def states(self) -> Array | None:
        """(N, D) float64 from which clips are drawn: see `mujoco_states`, or the variables of classic control; else
        None."""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            return self.vector.states
        return self._read_states() if self._read_states else None

    @property
    def frames(self) -> bool:
        """Whether pictures are recorded. Can be switched between rollouts, on only where `start_envs` did it first."""
        return self._frames

    @frames.setter
    def frames(self, on: bool) -> None:
        drawing = isinstance(self.vector, SyncVectorEnv) and self.vector.envs[0].render_mode == "rgb_array"
        self._frames = on and drawing

    def pictures(self, step: int) -> list[bytes]:
        """A small PNG of each environment as it is now; empty at steps between those that are recorded."""
        assert isinstance(self.vector, SyncVectorEnv)
        if step % stride(self.step_seconds):
            return [b""] * self.num_envs
        return [self._picture(env) for env in self.vector.envs]

    def _picture(self, env: gymnasium.Env) -> bytes:
        try:
            return encode(rendered(env, self.name))
        except UserError as error:  # one picture less
            say_once(f"rlhf-control: {error}; clips lack such pictures")
            return b""

    @property
    def step_seconds(self) -> float:
        """Simulated time of one step. Environments without a clock count as 30 steps a second."""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            return self.vector.dt
        assert isinstance(self.vector, SyncVectorEnv)
        return step_seconds(self.vector.envs[0])

    def state(self) -> dict[str, Any]:
        """All that decides what comes next; `load_state` continues from it bit for bit."""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            inner: Mapping[str, Any] = self.vector.snapshot()
        else:
            inner = {str(i): env.snapshot() for i, env in enumerate(self._replayable())}
        watched = self._read_states.fields if isinstance(self._read_states, MujocoReader) else []
        counts = {"returns": self.returns.copy(), "lengths": self.lengths.copy()}
        return {"inner": inner, "watched": watched, "obs": self.obs.copy(), **counts}

    def load_state(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from `state`. Where an environment does not come back, `differs` says how, and all begin new
        episodes."""
        self.differs = ""
        if isinstance(self.vector, project_envs.MujocoVectorEnv):
            self.obs = self._flat(self.vector.restore(snapshot["inner"]))
        else:
            try:
                inner = snapshot["inner"]
                self.obs = self._flat(
                    np.stack([env.restore(inner[str(i)]) for i, env in enumerate(self._replayable())])
                )
            except UserError as error:
                self.differs = str(error)
        if isinstance(self._read_states, MujocoReader):
            self._read_states.watch(snapshot.get("watched", []))
        if not self.differs and not np.array_equal(self.obs, snapshot["obs"], equal_nan=True):
            self.differs = "the observations are others"
        self.returns, self.lengths = snapshot["returns"].copy(), snapshot["lengths"].copy()
        if self.differs:
            self.obs = self._flat(self.vector.reset()[0])
            self.returns[:], self.lengths[:] = 0, 0

    def probe(self) -> str:
        """As `replayable.probe`, of such environments."""
        return probe(self.twin) if self.twin else ""

    def _replayable(self) -> list[Replayable]:
        assert isinstance(self.vector, SyncVectorEnv)
        return [env for env in self.vector.envs if isinstance(env, Replayable)]

    def _flat(self, obs: Array) -> Array:
        return obs.reshape(len(obs), -1).astype(np.float32)

    def close(self) -> None:
        self.vector.close()


def make_flat(env_id: str, kwargs: Mapping[str, Any], number: int = 0) -> Replayable:
    """One environment that can be resumed. Observations other than a Box (Dict, Discrete, ...) become one vector, as
    `gymnasium.spaces.flatten` makes it: the entries of a Dict in the order of its keys, discrete ones one-hot."""
    env = make_env(env_id, kwargs, number)
    return Replayable(env if isinstance(env.observation_space, Box) else FlattenObservation(env))


def make_envs(env_id: str, num_envs: int, *, seed: int, backend: str = "auto", **env_kwargs: Any) -> VectorEnv:
    """`num_envs` copies of a Gymnasium environment, reset, the i-th with seed + i. They reset themselves in the step in
    which an episode ends (SAME_STEP); its last observation is `info["final_obs"][i]`, which is all that there is of
    infos with the backend "gymnasium".

    backend: "batched" MuJoCo, "gymnasium"'s own, or "auto" for the first where it exists and no `render_mode` is asked
    for, since it cannot draw. `env_kwargs` are the environment's arguments. Raises UserError for an unknown id or
    backend, for wrong arguments, and for whatever the environment raises.
    """
    return make_vector(env_id, num_envs, seed, backend, env_kwargs)


def make_vector(
    env_id: str, num_envs: int, seed: int, backend: str, env: Mapping[str, Any], first: int = 0
) -> VectorEnv:
    """The same, with the environment's arguments as a mapping, for they may have any name. `first` is the number of the
    first one in errors."""
    check_env_id(env_id)
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    if backend == "batched" and not project_envs.has_batched(env_id):
        raise UserError(f"{env_id} has no batched version; use --backend auto")
    if num_envs < 1:
        raise UserError(f"cannot make {counted(num_envs, 'environment')} of {env_id}: give a number of at least 1")
    render_mode = env.get("render_mode")
    if render_mode == "human" and project_envs.has_batched(env_id) and not has_display():  # GLFW would kill the process
        raise UserError(f"{env_id} with render_mode='human' needs a display and there is none; use 'rgb_array'")
    with in_one_line(f"cannot make {described(env_id, env)}"):
        refuse_misread(env_id, env)
        if backend == "batched" or (backend == "auto" and render_mode is None and project_envs.has_batched(env_id)):
            vector: VectorEnv = project_envs.MujocoVectorEnv(env_id, num_envs, **env)
        else:
            numbers = range(first, first + num_envs)
            vector = ForeignVectorEnv([partial(make_flat, env_id, env, i) for i in numbers])
    vector.reset(seed=seed)
    return vector


def refuse_misread(env_id: str, env: Mapping[str, Any]) -> None:
    """Raises UserError for a value that an environment takes without a word and misreads, such as the string "false",
    which is true, or with which only its first step fails."""
    module, _, registered = env_id.rpartition(":")
    if module:
        importlib.import_module(module)  # registers it
    spec = gymnasium.registry.get(registered)
    if spec is None or spec.entry_point is None:
        return
    make: Any = spec.entry_point
    make = gymnasium.envs.registration.load_env_creator(make) if isinstance(make, str) else make
    parameters = inspect.signature(make).parameters
    for name, value in env.items():
        if name not in parameters:
            continue
        default, annotation = parameters[name].default, parameters[name].annotation
        # Where the annotation has more than bool, a string may be meant.
        boolean = isinstance(default, bool) and annotation in (bool, "bool", inspect.Parameter.empty)
        if boolean and (isinstance(value, str) or (isinstance(value, Number) and value not in (0, 1))):
            raise UserError(f"{name} of {env_id} is true or false, written True or False, not {value!r}")
        if name == "frame_skip" and not isinstance(value, Integral):
            raise UserError(f"frame_skip of {env_id} is a whole number, written without a point, not {value!r}")


def start_envs(
    env_id: str,
    num_envs: int,
    *,
    seed: int,
    backend: str = "auto",
    env: Mapping[str, Any] | None = None,
    first: int = 0,
    frames: bool = False,
) -> Envs:
    """The same as `collect` steps them: number `first`, `first` + 1, ... of those of this seed. Raises UserError for
    unsupported spaces too.

    frames: people will look at the clips, so environments that cannot be drawn from their states record pictures. That
    costs some milliseconds a step; `Envs.frames` switches it off and on between rollouts.
    """
    arguments = dict(env or {})

    def start() -> Envs:
        vector = make_vector(env_id, num_envs, seed + first, backend, arguments, first)
        made = Envs(vector, seed + first, first, described(env_id, arguments))
        made.twin = partial(make_flat, env_id, arguments) if isinstance(vector, SyncVectorEnv) else None
        return made

    drawing = {**arguments, "render_mode": "rgb_array"}
    envs = start()
    if not frames or not isinstance(envs.vector, SyncVectorEnv):
        return envs
    if envs.states() is not None and seen_whole(envs.vector.envs[0], lambda: make_env(env_id, drawing)):
        return envs
    envs.close()
    if not draws_itself(envs.vector.envs[0]):
        raise UserError(
            f"people cannot judge clips of {env_id}: it has neither simulator states to draw from nor the render mode "
            "rgb_array; answer by an oracle"
        )
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or the games' pygame prints that it found none
    arguments = drawing
    envs = start()
    assert isinstance(envs.vector, SyncVectorEnv)
    try:
        rendered(envs.vector.envs[0], env_id)
    except UserError as error:
        raise UserError(f"people cannot judge clips of it: {error}; answer by an oracle") from error
    envs.frames = True
    return envs


def fixed_horizon(env_id: str, env: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's arguments with early termination switched off. UserError where it has no such switch."""
    module, _, name = env_id.rpartition(":")
    if module:
        make_vector(env_id, 1, 0, "auto", env).close()  # imports the module, which registers the name
    entry_point = gymnasium.spec(name).entry_point
    make = gymnasium.envs.registration.load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    if make is None or "terminate_when_unhealthy" not in inspect.signature(make).parameters:
        raise UserError(f"{env_id} has no terminate_when_unhealthy to switch off; use --termination truncate or allow")
    return {**env, "terminate_when_unhealthy": False}


def time_limit(env_id: str, env: Mapping[str, Any]) -> int | None:
    """After how many steps every episode of an environment that was made is cut off; None if never, or if it does not
    say."""
    name = env_id.rpartition(":")[2]  # without the MODULE of MODULE:ID, which was imported when it was made
    limit = env.get("max_episode_steps", gymnasium.spec(name).max_episode_steps)
    return int(limit) if limit and int(limit) > 0 else None


def evaluation_steps(env_id: str, env: Mapping[str, Any]) -> int:
    """After how many steps an evaluation is over at the latest."""
    limit = time_limit(env_id, env)
    return limit if limit and limit <= MAX_EVALUATION_STEPS else CUT_OFF


def tell_of_endless_episodes(env_id: str, env: Mapping[str, Any]) -> None:
    """Says on stderr what follows where nothing cuts an episode off."""
    if time_limit(env_id, env) is None:
        print(
            f"rlhf-control: {env_id} has no time limit: an episode that does not end by itself has no return in "
            f"training, and evaluations cut it off after {CUT_OFF:,} steps; --env max_episode_steps 1000 gives it one",
            file=sys.stderr,
        )


@environments_closed()
def refuse_terminated(terminated: Array, env_id: str, first_step: int = 0, run: Path | None = None) -> None:
    """Raises UserError if an episode in `terminated` (T, N) ended early; of a run that has begun, which then can go on
    otherwise."""
    if terminated.any():
        step, env = np.argwhere(terminated)[0]
        raise UserError(
            f"{env_id} ended early (environment {env}, step {first_step + step}), and an episode's length leaks the "
            "task to the learner; "
            + (
                "say how to treat it with --termination fixed-horizon, truncate or allow"
                if run is None
                else f"say how to go on: `rlhf-control resume {run} --termination truncate`, or allow"
            )
        )


class Actor(Protocol):
    """A policy, or the learner that has one."""

    def acting(self) -> Act: ...


def collect(envs: Envs, actor: Actor, num_steps: int, rng: np.random.Generator) -> Rollout:
    """Runs the actor for `num_steps` steps of every environment. Raises NonFiniteError on the step it happens."""
    T, N = num_steps, envs.num_envs
    obs, next_obs = (np.empty((T, N, envs.spaces.obs_size), np.float32) for _ in range(2))
    executed = np.empty((T, N, envs.spaces.action_size), np.float32)
    actions: list[Array] = []
    states: list[Any] = []
    pictures: list[Any] = []
    reward = np.empty((T, N), np.float32)
    terminated, truncated = (np.empty((T, N), bool) for _ in range(2))
    act, first = actor.acting(), envs.first
    check_finite("observation", envs.obs[None], 0, first)
    for t in range(T):
        obs[t] = envs.obs
        states.append(envs.states())
        if envs.frames:
            pictures.append(envs.pictures(t))
        action = act(envs.obs, rng)
        check_finite("action", action[None], t, first)
        executed[t] = envs.spaces.execute(action)
        actions.append(action)
        next_obs[t], step_reward, terminated[t], truncated[t] = envs.step(action, executed[t])
        check_finite("observation", next_obs[t][None], t, first)
        if (terminated[t] | truncated[t]).any():
            check_finite("first observation of an episode", envs.obs[None], t, first)
        with np.errstate(over="ignore"):  # which the check finds
            reward[t] = step_reward
        check_finite("reward", reward[t][None], t, first)
    episodes = envs.count(reward, terminated | truncated)
    envs.tell_of_lost_digits(obs)
    state = None if states[0] is None else np.stack(widened(states))
    frames = np.array(pictures, "S") if pictures else None  # (T, N)
    return Rollout(
        obs, np.stack(actions), executed, next_obs, reward, reward, terminated, truncated, state, *episodes, frames
    )


@environments_closed()
@one_thread()
def evaluate(
    policy: Policy,
    episodes: int,
    *,
    seed: int,
    backend: str = "auto",
    deterministic: bool = True,
    frames: bool = False,
) -> tuple[list[float], list[Segments]]:
    """Raw returns of fresh episodes, and the episodes; `frames` as in `start_envs`. The policy's statistics stay as
    they are. Episodes without a time limit (or with one beyond 100,000 steps) are cut off after CUT_OFF steps, and that
    is said.

    Every environment contributes its first episode only, so that short episodes are not over-counted.
    """
    envs = start_envs(policy.env_id, episodes, seed=seed, backend=backend, env=policy.env, frames=frames)
    rng = None if deterministic else np.random.default_rng(seed)
    returns = np.zeros(episodes)
    running = np.ones(episodes, bool)
    lengths = np.zeros(episodes, np.int64)
    steps: list[dict[str, Array]] = []
    longest = evaluation_steps(policy.env_id, policy.env)
    while running.any() and len(steps) < longest:
        obs, state = envs.obs, envs.states()
        pictures = np.array(envs.pictures(len(steps)), "S") if envs.frames else None
        action = policy.act(obs, rng)
        executed = envs.spaces.execute(action)
        next_obs, reward, terminated, truncated = envs.step(action, executed)
        check_finite("reward", reward[None], len(steps))
        step = {"obs": obs, "action": executed, "next_obs": next_obs, "env_reward": reward.astype(np.float32)}
        optional = {"state": state, "frames": pictures}
        steps.append(step | {name: value for name, value in optional.items() if value is not None})
        returns += np.where(running, reward, 0)
        lengths += running
        running &= ~(terminated | truncated)
    envs.close()
    if running.any():
        print(
            f"rlhf-control: {running.sum()} of {counted(episodes, 'episode')} of {policy.env_id} had not ended after "
            f"{longest:,} steps and {'was' if running.sum() == 1 else 'were'} cut off: their returns are of these "
            "steps",
            file=sys.stderr,
        )
    columns = {name: [s[name] for s in steps] for name in steps[0]}
    columns = {name: widened(column) if name == "state" else column for name, column in columns.items()}
    arrays = {name: np.stack(column, axis=1) for name, column in columns.items()}  # (N, T, ...)
    whole = [Segments(**{name: a[i, : lengths[i]] for name, a in arrays.items()}) for i in range(episodes)]
    return returns.tolist(), whole
