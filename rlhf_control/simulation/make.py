"""Environments made from an id and its arguments, one or many; every refusal is one line."""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from numbers import Integral, Number
from typing import Any

import gymnasium
import mujoco
from gymnasium.vector import VectorEnv

from envs import DIALOGUE, GAMES, has_batched
from rlhf_control.compute.gl import has_display
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.simulation.atari.ids import is_atari
from rlhf_control.simulation.backends.ale import ALEBackend
from rlhf_control.simulation.backends.dialogue import DialogueBackend
from rlhf_control.simulation.backends.games import GamesBackend
from rlhf_control.simulation.backends.gymnasium import GymnasiumBackend
from rlhf_control.simulation.backends.mujoco import MujocoBackend
from rlhf_control.simulation.backends.protocol import Backend
from rlhf_control.simulation.foreign import check_env_id, described, in_one_line, make_env
from rlhf_control.simulation.robots import import_module_of
from rlhf_control.wording import counted

BACKENDS: dict[str, Callable[[str, int, Mapping[str, Any], int], Backend]] = {
    "batched": MujocoBackend,
    "games": GamesBackend,
    "ale": ALEBackend,
    "dialogue": DialogueBackend,
    "gymnasium": GymnasiumBackend,
}

OWN = {**dict.fromkeys(GAMES, "games"), DIALOGUE: "dialogue"}


def make_envs(env_id: str, num_envs: int, *, seed: int, backend: str = "auto", **env_kwargs: Any) -> VectorEnv:
    """Makes `num_envs` copies of a Gymnasium environment, reset, the i-th with seed + i. They reset themselves in the
    step in which an episode ends (SAME_STEP); its last observation is `info["final_obs"][i]`, which is all that there
    is of infos with the backend "gymnasium".

    backend: "batched" MuJoCo, our own "games" and "dialogue", "ale" (see `atari.vector`), "gymnasium"'s own, or "auto"
    for one of the others where it has the id and, since only ALE draws, no `render_mode` is asked for. `env_kwargs` are
    the environment's arguments. Raises UserError for an unknown id or backend, for wrong arguments, and for whatever
    the environment raises.
    """
    return make_backend(env_id, num_envs, seed, backend, env_kwargs).vector


def make_backend(
    env_id: str, num_envs: int, seed: int, backend: str, env: Mapping[str, Any], first: int = 0
) -> Backend:
    """Makes what steps them, reset, with the environment's arguments as a mapping, for they may have any name. `first`
    is the number of the first one in errors."""
    check_env_id(env_id)
    if backend not in ("auto", *BACKENDS):
        raise unknown_name("backend", backend, ("auto", *BACKENDS))
    if num_envs < 1:
        raise UserError(f"cannot make {counted(num_envs, 'environment')} of {env_id}: give a number of at least 1")
    render_mode = env.get("render_mode")
    if render_mode == "human" and has_batched(env_id) and not has_display():  # GLFW would kill the process
        raise UserError(f"{env_id} with render_mode='human' needs a display and there is none; use 'rgb_array'")
    if is_atari(env_id) and backend in ("auto", "gymnasium"):  # the latter would give the same, more slowly
        backend = "ale"
    if backend == "auto":
        own = "batched" if has_batched(env_id) else OWN.get(env_id, "gymnasium")
        backend = own if render_mode is None else "gymnasium"
    with in_one_line(f"cannot make {described(env_id, env)}"):
        if backend != "ale":  # which knows its arguments
            refuse_misread(env_id, env)
        made = BACKENDS[backend](env_id, num_envs, env, first)
        made.reset(seed)
    return made


def refuse_misread(env_id: str, env: Mapping[str, Any]) -> None:
    """Raises UserError for a value that an environment takes without a word and misreads, such as the string "false",
    which is true, or with which only its first step fails."""
    import_module_of(env_id)
    registered = env_id.rpartition(":")[2]
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


def mujoco_model(env_id: str, env_kwargs: Mapping[str, Any]) -> mujoco.MjModel:
    """Returns the model of a Gymnasium MuJoCo environment; made once. Raises UserError if it has none."""
    return _mujoco_model(env_id, json.dumps(dict(env_kwargs), sort_keys=True))


@functools.cache
def _mujoco_model(env_id: str, env_kwargs: str) -> mujoco.MjModel:
    env = make_env(env_id, json.loads(env_kwargs))
    model = getattr(env.unwrapped, "model", None)
    env.close()
    if not isinstance(model, mujoco.MjModel):
        raise UserError(f"{env_id} is not a MuJoCo environment, so its stored states cannot be drawn")
    return model
