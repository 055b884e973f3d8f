"""States of MuJoCo simulators: [qpos, qvel], and behind them whatever else was moved, coloured or set.

Gymnasium's own tasks change nothing else, and their states are [qpos, qvel]. Other environments also move mocap bodies,
or edit the model: where a goal lies, what colour it has, how heavy a body is. Behind qvel then stand the number of such
fields, their places in FIELDS, and their values. What is not among them is as in the model that the environment began
with. Zeros may follow, so that states of different lengths stand side by side.

D numbers of a state.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import gymnasium
import mujoco
import numpy as np

from rlhf_control.data import Array, widened
from rlhf_control.errors import UserError
from rlhf_control.simulation.attributes import put as put_numbers
from rlhf_control.simulation.attributes import read
from rlhf_control.simulation.foreign import make_env

OWN = ("gymnasium.envs.mujoco.", "envs.arm.")  # tasks that change nothing but positions and velocities
DATA = ("time", "act", "mocap_pos", "mocap_quat", "eq_active", "userdata", "qfrc_applied", "xfrc_applied")
MODEL = (
    "body_pos", "body_quat", "body_ipos", "body_iquat", "body_mass", "body_inertia", "body_gravcomp",
    "geom_pos", "geom_quat", "geom_size", "geom_rgba", "geom_matid", "geom_group", "geom_friction",
    "site_pos", "site_quat", "site_size", "site_rgba", "site_matid", "site_group",
    "jnt_pos", "jnt_axis", "jnt_range", "jnt_stiffness", "qpos0", "qpos_spring",
    "dof_damping", "dof_armature", "dof_frictionloss",
    "cam_pos", "cam_quat", "light_pos", "light_dir", "light_active", "light_ambient", "light_diffuse", "light_specular",
    "mat_rgba", "mat_emission", "mat_texrepeat", "tendon_rgba", "tendon_width", "skin_rgba",
    "actuator_gear", "actuator_gainprm", "actuator_biasprm", "actuator_ctrlrange", "eq_data", "opt.gravity", "opt.wind",
)  # fmt: skip
PYTHON = "python"
FIELDS = (*DATA, *MODEL, PYTHON)  # stored states name them by their places here: append only


def marks_goals(bare: Any) -> bool:
    """Tells whether an environment shows its goal only when it draws itself, as those of Gymnasium-Robotics do."""
    return type(bare).__module__.startswith("gymnasium_robotics.") and hasattr(bare, "_render_callback")


def with_goals_marked(bare: Any, scratch: mujoco.MjData) -> mujoco.MjData:
    """Has such an environment mark its goal in its model and in a copy of its data, which is returned: in its own data
    it would compute anew what its next step begins from, and go elsewhere than without."""
    own = bare.data
    mujoco.mj_copyData(scratch, bare.model, own)
    bare.data = scratch
    try:
        bare._render_callback()
    finally:
        bare.data = own
    return scratch


def is_own(env: gymnasium.Env) -> bool:
    """Tells whether [qpos, qvel] is all that changes, for certain."""
    bare: Any = env.unwrapped
    model = getattr(bare, "model", None)
    if not isinstance(model, mujoco.MjModel):
        return True  # what is known of others, such as dm_control's, is not more
    return type(bare).__module__.startswith(OWN) and model.na == model.nmocap == 0


def field(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> Any:
    return attrgetter(name)(data if name in DATA else model)


def defaults(model: mujoco.MjModel) -> dict[str, Array]:
    """Name -> value of all FIELDS of a model that has them, as it is now and before any step."""
    data = mujoco.MjData(model)
    values = {name: np.array(field(model, data, name), np.float64) for name in (*DATA, *MODEL)}
    return {name: value for name, value in values.items() if value.size}


def origin(env: gymnasium.Env) -> dict[str, Array]:
    """Returns the `defaults` of an environment before its first reset; empty where only [qpos, qvel] changes."""
    if is_own(env):
        return {}
    bare: Any = env.unwrapped
    spec = bare.spec
    if spec is None or spec.id not in gymnasium.registry:  # not made by its id
        return defaults(bare.model)
    with closing(make_env(spec.id, spec.kwargs)) as fresh:
        model: Any = fresh.unwrapped
        return defaults(model.model)


@dataclass
class Watched:
    """Holds fields that have not changed yet; the arrays are the simulator's memory."""

    model: mujoco.MjModel
    data: mujoco.MjData
    arrays: list[Array]
    bytes: bytes = b""


class MujocoReader:
    """Gives, when it is called, the states (N, D) float64 of copies of one environment, after their reset."""

    def __init__(self, envs: Sequence[gymnasium.Env]) -> None:
        self._bare: list[Any] = [env.unwrapped for env in envs]
        self.origin = origin(envs[0])
        self._own = is_own(envs[0])
        self._scratch = [mujoco.MjData(env.model) for env in self._bare] if marks_goals(self._bare[0]) else []
        self.fields: list[str] = []  # those that have changed so far, in the order of FIELDS
        self._watched: list[Watched | None] = [None] * len(envs)

    def __call__(self) -> Array:
        shown = [env.data for env in self._bare]
        for i, data in enumerate(self._scratch):
            shown[i] = with_goals_marked(self._bare[i], data)
        if self.origin:
            self._look()
        states = []
        for env, data in zip(self._bare, shown, strict=True):
            numbers = [] if self._own else [read(env)]
            states.append(self._state(env.model, data, numbers) if self.fields or numbers else plain(data))
        return np.stack(widened(states))

    def _look(self) -> None:
        """Finds fields that have begun to change: at every step, so it costs 10 us rather than the 160 us of comparing
        them one by one."""
        for i, env in enumerate(self._bare):
            held = self._watched[i]
            if held is None or held.model is not env.model or held.data is not env.data:
                names = [name for name in self.origin if name not in self.fields and name != "time"]
                held = Watched(env.model, env.data, [field(env.model, env.data, name) for name in names])
                self._watched[i] = held
            now = b"".join(array.data for array in held.arrays)
            if now != held.bytes:
                held.bytes = now
                self.watch(
                    name for name, value in self.origin.items()
                    if name != "time" and not np.array_equal(field(env.model, env.data, name), value)
                )  # fmt: skip

    def watch(self, fields: Iterable[str]) -> None:
        """Has these fields belong to the states from now on, and the time with them."""
        found = {*self.fields, *fields}
        if len(found) > len(self.fields):
            self.fields = [name for name in FIELDS if name in found or name == "time"]
            self._watched = [None] * len(self._bare)

    def _state(self, model: mujoco.MjModel, data: mujoco.MjData, numbers: Sequence[Array] = ()) -> Array:
        python = [FIELDS.index(PYTHON)] * len(numbers)
        head = [len(self.fields) + len(python), *map(FIELDS.index, self.fields), *python]
        values = [np.ravel(field(model, data, name)) for name in self.fields]
        return np.concatenate([data.qpos, data.qvel, head, *values, *([len(n), *n] for n in numbers)])


def plain(data: Any) -> Array:
    """Returns [qpos, qvel], (nq + nv,)."""
    return np.concatenate([data.qpos, data.qvel])


def parts(model: mujoco.MjModel, data: mujoco.MjData, state: Array) -> dict[str, Array]:
    """Name -> value of the fields behind [qpos, qvel] in a state (D,). Raises UserError if it is of another model."""
    rest = state[model.nq + model.nv :]
    found: dict[str, Array] = {}
    count = int(rest[0]) if len(rest) and 0 <= rest[0] <= len(FIELDS) else 0
    at = 1 + count
    shape: tuple[int, ...]
    for number in rest[1:at].tolist():
        if number == FIELDS.index(PYTHON) and at < len(rest):
            shape, at = (max(int(rest[at]), 0),), at + 1
        else:
            shape = np.shape(field(model, data, FIELDS[int(number)])) if 0 <= number < FIELDS.index(PYTHON) else ()
        size = int(np.prod(shape))
        if at + size > len(rest) or number not in range(len(FIELDS)):
            break
        found[FIELDS[int(number)]] = rest[at : at + size].reshape(shape)
        at += size
    if len(state) < model.nq + model.nv or len(found) != count or (len(rest) and rest[0] != count) or rest[at:].any():
        raise UserError(
            f"the clip's states have {len(state)} numbers, which do not fit the model with its {model.nq} positions "
            f"and {model.nv} velocities; it was recorded in another environment"
        )
    return found


def put(model: mujoco.MjModel, data: mujoco.MjData, state: Array, origin: Mapping[str, Array]) -> None:
    """Brings positions, velocities and fields to a state (D,), and the fields that it does not have to `origin`. What
    follows from them is not computed. Raises UserError for a state of another model."""
    values = {**origin, **parts(model, data, state)}
    data.qpos[:], data.qvel[:] = state[: model.nq], state[model.nq : model.nq + model.nv]
    for name, value in values.items():
        if name == "time":
            data.time = float(value)
        elif name != PYTHON:
            field(model, data, name)[...] = value


def put_back(env: gymnasium.Env, state: Array, origin: Mapping[str, Array], *, attributes: bool = True) -> None:
    """Does what `put` does for a running environment (`origin`: its own), with all that follows, and the numbers in its
    attributes."""
    bare: Any = env.unwrapped
    numbers = parts(bare.model, bare.data, state).get(PYTHON)
    if attributes and numbers is not None:
        put_numbers(bare, numbers)
    put(bare.model, bare.data, state, origin)
    mujoco.mj_forward(bare.model, bare.data)
