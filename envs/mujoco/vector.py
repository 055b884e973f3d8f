"""Gymnasium's MuJoCo tasks and our arm's, stepped together on threads by `mujoco.batch`; see `MujocoVectorEnv`."""

from __future__ import annotations

import copy
import difflib
import operator
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.arm import door, grasp, reach
from envs.mujoco.generators import GENERATOR_WORDS, generator_of, generator_words
from envs.mujoco.locomotion import Ant, HalfCheetah, Hopper, Humanoid, HumanoidStandup, Swimmer, Walker2d
from envs.mujoco.pendulums_and_arms import InvertedDoublePendulum, InvertedPendulum, Pusher, Reacher
from envs.mujoco.simulation import Simulation, SimulationError
from envs.mujoco.task import Task, Terms

Arrays = dict[str, np.ndarray]
# Arguments of `gymnasium.make` and its MuJoCo tasks that change no number while nothing is drawn.
WITHOUT_EFFECT = {
    "camera_id", "camera_name", "default_camera_config", "disable_env_checker", "height", "max_geom", "render_mode",
    "visual_options", "width",
}  # fmt: skip

TASKS: dict[str, type[Task]] = {
    "Ant-v5": Ant,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "HumanoidStandup-v5": HumanoidStandup,
    "InvertedDoublePendulum-v5": InvertedDoublePendulum,
    "InvertedPendulum-v5": InvertedPendulum,
    "Pusher-v5": Pusher,
    "Reacher-v5": Reacher,
    "Swimmer-v5": Swimmer,
    "Walker2d-v5": Walker2d,
    "rlhf/ArmDoor-v0": door.Door,
    "rlhf/ArmGrasp-v0": grasp.Grasp,
    "rlhf/ArmReach-v0": reach.Reach,
}


def has_batched(env_id: str) -> bool:
    """Tell whether `MujocoVectorEnv` can make `env_id`, for example "HalfCheetah-v5"."""
    return env_id in TASKS


class MujocoVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Step Gymnasium's MuJoCo tasks (version 5) and those of `envs.arm`, many at a time: twice as fast on two cores.

    For the same seed and actions, observations, rewards, ends and infos equal, bit for bit and for any number of
    threads, those of

        gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync",
                           vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, **task_options)

    Example:
        >>> envs = MujocoVectorEnv("Hopper-v5", num_envs=8, terminate_when_unhealthy=False)
        >>> observations, info = envs.reset(seed=0)
        >>> observations, rewards, terminated, truncated, info = envs.step(envs.action_space.sample())

    Autoreset: an environment whose episode ends in a step is reset in that same step. The step returns the reward and
    the end of the old episode with the first observation of the new one; the last observation of the old one is
    `info["final_obs"][i]` (an object array, None where `info["_final_obs"]` is False), its infos `info["final_info"]`.

    Actions are not clipped: MuJoCo clips its controls, while the control cost is that of the action as given, in its
    dtype (float32 actions give float32 costs, as in Gymnasium). Unlike Gymnasium, an action that is not finite, or a
    simulation that diverges, raises a `SimulationError`.

    Not supported: rendering, for which `states` has what is needed. Its options are ignored, but for `render_mode`.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        num_threads: int | None = None,
        max_episode_steps: int | None = None,
        **task_options: Any,
    ) -> None:
        """Make `num_envs` environments; call `reset` before the first step.

        Args:
            env_id: one of the ids for which `has_batched` is true.
            num_envs: n, the number of environments.
            num_threads: simulator threads; by default one a core of this process, at most `num_envs`.
            max_episode_steps: time limit in steps, -1 for none; by default the one Gymnasium registered.
            task_options: the options of Gymnasium's constructor.
        """
        task = _make_task(env_id, task_options)
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        self.spec = _spec(env_id, num_envs, max_episode_steps, task_options)
        max_episode_steps = self.spec.max_episode_steps if max_episode_steps is None else max_episode_steps
        if max_episode_steps is None or (max_episode_steps < 1 and max_episode_steps != -1):
            raise ValueError(f"max_episode_steps must be at least 1, or -1 for no limit, not {max_episode_steps}")
        if num_threads is None:
            num_threads = min(_available_cores(), num_envs)

        self.num_envs = num_envs
        self.max_episode_steps = None if max_episode_steps == -1 else max_episode_steps
        self._limit = self.max_episode_steps or sys.maxsize
        self._env_id = env_id
        self.model = mujoco.MjModel.from_xml_path(expand_model_path(task.xml_file))
        self._task = task
        task.prepare(self.model)
        self._sim = Simulation(self.model, task.frame_skip, num_envs, num_threads, task.derived_fields, task.current)

        self._dt = self._sim.dt
        self.metadata = _metadata(self.spec, self._dt) | {"autoreset_mode": AutoresetMode.SAME_STEP}

        self.single_action_space = gymnasium.spaces.Box(*task.action_bounds(self.model), dtype=np.float32)
        observation_shape = self._checked_observation().shape[1:]
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, observation_shape, dtype=np.float64)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

        self.success = np.full(num_envs, np.nan)  # 1 or 0 as the last step left the task; NaN: it does not tell
        self.infos = True  # False: none but `final_obs`; `collect` reads no other
        self._started, self._generators = False, dict[int, np.random.Generator]()
        self._elapsed_steps = np.zeros(num_envs, dtype=np.int64)
        # What the last step saw. Both may depend on derived fields, which no state brings back.
        self._observations = np.zeros((num_envs, *observation_shape))
        self._positions = task.position(self._sim)

    @property
    def dt(self) -> float:
        """Return the simulated seconds of one step."""
        return self._dt

    @property
    def states(self) -> np.ndarray:
        """Return a copy of every environment's current [qpos, qvel], (n, nq + nv) float64."""
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("states of a closed MujocoVectorEnv")
        return self._sim.motion.copy()

    def unhealthy(self) -> np.ndarray:
        """Tell which environments would be terminated now, were that not switched off, (n,) bool."""
        return self._task.unhealthy(self._sim)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return, once for each environment, an attribute of Gymnasium's single one that all share, for example
        "dt"."""
        shared = {
            "action_space": self.single_action_space,
            "dt": self.dt,
            "frame_skip": self._task.frame_skip,
            "model": self.model,
            "observation_space": self.single_observation_space,
            "render_mode": self.render_mode,
        }
        if name not in shared:
            raise AttributeError(f"the environments share no attribute {name!r}{_did_you_mean(name, shared)}")
        return (shared[name],) * self.num_envs

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Do the same as `get_attr`: no method is shared, and as in Gymnasium an attribute ignores the arguments."""
        return self.get_attr(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Raise an AttributeError, always: what the environments share was compiled into the batch."""
        raise AttributeError(f"{name!r} of a MujocoVectorEnv cannot be set; give its options when you make it")

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new episode in every environment, or in those of `options["reset_mask"]`, (n,) bool.

        An int `seed` seeds environment i with `seed + i`, a sequence has one seed an environment, and None lets the
        generators run on.
        """
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("reset() of a closed MujocoVectorEnv")
        seeds, mask = self._seeds(seed), self._reset_mask(options)
        if not (self._started or mask.all()):
            raise gymnasium.error.ResetNeeded("the first reset() must be one of all environments")
        ids = np.flatnonzero(mask)
        for i in ids.tolist():
            if seeds[i] is not None or i not in self._generators:
                self._generators[i], _ = seeding.np_random(seeds[i])
        self._start_episodes(ids)
        self._started = True
        return self._observations.copy(), _masked(self._task.state_info(self._sim), mask)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment under `actions`, (n, A), and reset those whose episode ends.

        Returns:
            observations (n, O) float64, rewards (n,) float64, terminated (n,) bool, truncated (n,) bool, info.
        """
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = self._checked(actions)
        self._sim.step(self._task.controls(actions))
        self._elapsed_steps += 1

        positions = self._task.position(self._sim)
        velocities = (positions - self._positions) / self._sim.dt
        self._positions = positions
        self._observations = self._task.observation(self._sim)
        rewards, terminated, terms = self._task.outcome(self._sim, velocities, actions)
        if self.infos and not self._task.tells_all:
            terms = self._task.state_info(self._sim) | terms
        self.success = (terms["success"] if self._task.tells_all else self._task.success(self._sim)).astype(np.float64)
        truncated = self._elapsed_steps >= self._limit
        ended = terminated | truncated
        info = self._autoreset(ended, terms) if ended.any() else _of_all(terms, ~ended) if self.infos else {}
        return self._observations.copy(), rewards, terminated, truncated, info

    def snapshot(self) -> Arrays:
        """Return all that the future depends on; no object arrays, so that `np.load` reads it with
        `allow_pickle=False`."""
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before snapshot()")
        return {
            "env_id": np.array(self._env_id),
            "simulation": self._sim.state.copy(),
            "elapsed_steps": self._elapsed_steps.copy(),
            "generators": np.stack([generator_words(self._generators[i]) for i in range(self.num_envs)]),
            "observations": self._observations.copy(),
            "positions": self._positions.copy(),
        }

    def restore(self, snapshot: Arrays) -> np.ndarray:
        """Continue where `snapshot` was taken, bit for bit, in an environment made with the same arguments.

        Returns:
            The current observations, (n, O).
        """
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("restore() of a closed MujocoVectorEnv")
        self._check_snapshot(snapshot)
        self._sim.restore(snapshot["simulation"])
        self._elapsed_steps = snapshot["elapsed_steps"].copy()
        self._generators = {i: generator_of(words) for i, words in enumerate(snapshot["generators"])}
        self._observations = snapshot["observations"].copy()
        self._positions = snapshot["positions"].copy()
        self._started = True
        return self._observations.copy()

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulations and their threads."""
        self._started = False
        del self._sim

    def _checked_observation(self) -> np.ndarray:
        """The first observation, (n, O), after a try of all that a step reads: another robot's model may lack it."""
        sim = self._sim
        try:
            velocity = np.zeros_like(self._task.position(sim))
            self._task.outcome(sim, velocity, np.zeros((sim.num_envs, len(self._task.action_bounds(self.model)[0]))))
            self._task.state_info(sim)
            return self._task.observation(sim)
        except KeyError as error:
            raise ValueError(f"{self._task.xml_file} has no body {error}, which {self._env_id} reads") from error
        except IndexError as error:
            model = self._task.xml_file
            raise ValueError(f"{self._env_id} does not fit the model {model} and these options: {error}") from error

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments")
        return list(seed)

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)))
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool with a True, not {mask!r}")
        return mask

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        # Contiguous, because the order in which the control cost is summed depends on the layout.
        actions = np.ascontiguousarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions must have shape {self.action_space.shape}, not {actions.shape}")
        finite = np.isfinite(actions)
        if not finite.all():
            env_index = int(np.flatnonzero(~finite.all(axis=1))[0])
            raise SimulationError(env_index, "action", f"not finite: {actions[env_index]}")
        return actions

    def _start_episodes(self, ids: np.ndarray) -> None:
        starts = [self._task.start(self._sim, self._generators[i]) for i in ids]
        qpos, qvel = (np.stack(rows) for rows in zip(*starts, strict=True))
        self._sim.reset(ids, qpos, qvel)
        self._elapsed_steps[ids] = 0
        self._positions[ids] = self._task.position(self._sim)[ids]
        self._observations[ids] = self._task.observation(self._sim)[ids]

    def _autoreset(self, ended: np.ndarray, terms: Terms) -> dict[str, Any]:
        """Start new episodes where `ended`, (n,) bool; return the step's info with the ends of the old ones."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            final_obs[i] = self._observations[i].copy()
        info: dict[str, Any] = {"final_obs": final_obs, "_final_obs": ended}
        if self.infos:
            info |= {"final_info": _masked(terms, ended), "_final_info": ended}
        self._start_episodes(np.flatnonzero(ended))
        if not self.infos:
            return info
        reset_terms = self._task.state_info(self._sim)
        info |= _masked({name: values for name, values in terms.items() if name not in reset_terms}, ~ended)
        info |= _masked(reset_terms, np.ones(self.num_envs, dtype=np.bool_))
        return info

    def _check_snapshot(self, snapshot: Arrays) -> None:
        if str(snapshot["env_id"]) != self._env_id:
            raise ValueError(f"a snapshot of {snapshot['env_id']} cannot be restored into {self._env_id}")
        shapes = {
            "simulation": self._sim.state.shape,
            "elapsed_steps": (self.num_envs,),
            "generators": (self.num_envs, GENERATOR_WORDS),
            "observations": self._observations.shape,
            "positions": self._positions.shape,
        }
        for name, shape in shapes.items():
            if snapshot[name].shape != shape:
                raise ValueError(f"{name} of the snapshot has shape {snapshot[name].shape}, expected {shape}")


def _available_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _make_task(env_id: str, options: dict[str, Any]) -> Task:
    if env_id not in TASKS:
        raise ValueError(f"no batched environment {env_id!r}{_did_you_mean(env_id, TASKS)}")
    if options.get("render_mode") is not None:
        raise TypeError("batched environments do not draw; leave out 'render_mode' or take Gymnasium's (backend auto)")
    known = [field.name for field in fields(TASKS[env_id])]
    options = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}
    for name in options:
        if name not in known:
            raise TypeError(f"{env_id} has no option {name!r}{_did_you_mean(name, known)}")
    task = TASKS[env_id](**options)
    try:
        whole = operator.index(task.frame_skip) > 0
    except TypeError:
        whole = False
    if not whole:
        raise ValueError(
            f"the simulator refuses to step with frame_skip={task.frame_skip!r}; give an int of at least 1"
        )
    return task


def _spec(env_id: str, num_envs: int, max_episode_steps: int | None, options: dict[str, Any]) -> EnvSpec:
    """What `gymnasium.make_vec` makes equal environments from."""
    spec = copy.deepcopy(gymnasium.spec(env_id))
    limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
    number = {} if num_envs == 1 else {"num_envs": num_envs}  # as `make_vec` writes it
    vector = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    spec.kwargs = {**spec.kwargs, **limit, **options, **number, **vector}
    return spec


def _metadata(spec: EnvSpec, dt: float) -> dict[str, Any]:
    """That of Gymnasium's single environment."""
    make: Any = load_env_creator(str(spec.entry_point))
    return {**make.metadata, "render_fps": int(np.round(1.0 / dt))}


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known: {', '.join(sorted(known))}"


def _masked(terms: Terms, mask: np.ndarray) -> dict[str, Any]:
    """Gymnasium's vector info: each term, zero where `mask` (n,) is False, and `mask` itself under "_" + its name."""
    if mask.all():
        return _of_all(terms, mask)
    if not mask.any():
        return {}
    terms = {name: values.copy() for name, values in terms.items()}
    for values in terms.values():
        values[~mask] = 0
    return _of_all(terms, mask)


def _of_all(terms: Terms, mask: np.ndarray) -> dict[str, Any]:
    return {**terms, **{f"_{name}": mask for name in terms}}
