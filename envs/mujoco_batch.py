"""Gymnasium's MuJoCo tasks, stepped together on threads by `mujoco.batch`; see `MujocoVectorEnv`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.mujoco_locomotion import Ant, HalfCheetah, Hopper, Humanoid, HumanoidStandup, Swimmer, Walker2d
from envs.mujoco_pendulums_and_arms import InvertedDoublePendulum, InvertedPendulum, Pusher, Reacher
from envs.mujoco_simulation import Simulation, SimulationError
from envs.mujoco_task import Task, Terms

Arrays = dict[str, np.ndarray]
GENERATOR_WORDS = 6

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
}


def has_batched(env_id: str) -> bool:
    """Whether `MujocoVectorEnv` can make `env_id`, for example "HalfCheetah-v5"."""
    return env_id in TASKS


class MujocoVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Gymnasium's MuJoCo tasks (version 5), many at a time: about twice as fast on two cores.

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

    Not supported: rendering. `states` has what is needed to draw any environment elsewhere.
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
            max_episode_steps: time limit in steps; by default the one Gymnasium registered.
            task_options: the options of Gymnasium's constructor, without those for rendering.
        """
        task = _make_task(env_id, task_options)
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        self.spec = gymnasium.spec(env_id)
        if max_episode_steps is None:
            max_episode_steps = self.spec.max_episode_steps
        if max_episode_steps is None or max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, not {max_episode_steps}")
        if num_threads is None:
            num_threads = min(_available_cores(), num_envs)

        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self._env_id = env_id
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.model = mujoco.MjModel.from_xml_path(expand_model_path(task.xml_file))
        self._task = task
        self._sim = Simulation(self.model, task.frame_skip, num_envs, num_threads, task.derived_fields)

        low, high = self.model.actuator_ctrlrange.astype(np.float32).T
        observation_shape = task.observation(self._sim).shape[1:]
        self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, observation_shape, dtype=np.float64)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

        self.infos = True  # False: none but `final_obs`; `collect` reads no other
        self._started = False
        self._generators: dict[int, np.random.Generator] = {}
        self._elapsed_steps = np.zeros(num_envs, dtype=np.int64)
        # What the last step saw. Both may depend on derived fields, which no state brings back.
        self._observations = np.zeros((num_envs, *observation_shape))
        self._positions = task.position(self._sim)

    @property
    def dt(self) -> float:
        """Simulated seconds of one step."""
        return self._sim.dt

    @property
    def states(self) -> np.ndarray:
        """(n, nq + nv) float64, a copy of every environment's current [qpos, qvel]."""
        return self._sim.motion.copy()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new episode in every environment, or in those of `options["reset_mask"]`, (n,) bool.

        An int `seed` seeds environment i with `seed + i`, a sequence has one seed an environment, and None lets the
        generators run on.
        """
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("reset() of a closed MujocoVectorEnv")
        seeds = self._seeds(seed)
        mask = self._reset_mask(options)
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
        self._sim.step(actions)
        self._elapsed_steps += 1

        positions = self._task.position(self._sim)
        velocities = (positions - self._positions) / self._sim.dt
        self._positions = positions
        self._observations = self._task.observation(self._sim)
        rewards, terminated, terms = self._task.outcome(self._sim, velocities, actions)
        if self.infos:
            terms = self._task.state_info(self._sim) | terms
        truncated = self._elapsed_steps >= self.max_episode_steps
        ended = terminated | truncated
        info = self._autoreset(ended, terms) if ended.any() else _of_all(terms, ~ended) if self.infos else {}
        return self._observations.copy(), rewards, terminated, truncated, info

    def snapshot(self) -> Arrays:
        """All that the future depends on; no object arrays, so that `np.load` reads it with `allow_pickle=False`."""
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before snapshot()")
        return {
            "env_id": np.array(self._env_id),
            "simulation": self._sim.state.copy(),
            "elapsed_steps": self._elapsed_steps.copy(),
            "generators": np.stack([_generator_words(self._generators[i]) for i in range(self.num_envs)]),
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
        self._generators = {i: _generator(words) for i, words in enumerate(snapshot["generators"])}
        self._observations = snapshot["observations"].copy()
        self._positions = snapshot["positions"].copy()
        self._started = True
        return self._observations.copy()

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulations and their threads."""
        self._started = False
        del self._sim

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments")
        return list(seed)

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        if options is None or "reset_mask" not in options:
            return np.ones(self.num_envs, dtype=np.bool_)
        mask = np.asarray(options["reset_mask"])
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
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _make_task(env_id: str, options: dict[str, Any]) -> Task:
    if env_id not in TASKS:
        raise ValueError(f"no batched environment {env_id!r}{_did_you_mean(env_id, TASKS)}")
    known = [field.name for field in fields(TASKS[env_id])]
    for name in options:
        if name not in known:
            raise TypeError(f"{env_id} has no option {name!r}{_did_you_mean(name, known)}")
    return TASKS[env_id](**options)


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


def _generator_words(generator: np.random.Generator) -> np.ndarray:
    """The state of a PCG64 `generator`, (6,) uint64: two 128-bit integers, low word first, and a buffered uint32."""
    state = generator.bit_generator.state
    words = [word for key in ("state", "inc") for word in (state["state"][key] % 2**64, state["state"][key] >> 64)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def _generator(words: np.ndarray) -> np.random.Generator:
    """The generator whose `_generator_words` are `words`, (6,) uint64."""
    low, high, inc_low, inc_high, has_uint32, uinteger = (int(word) for word in words)
    bit_generator = np.random.PCG64()
    bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": low | high << 64, "inc": inc_low | inc_high << 64},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bit_generator)
