"""A batch of MuJoCo simulations as Gymnasium's `MujocoEnv` runs one.

Letters in shapes: n environments, the rest as in `mujoco.MjModel` (nq, nv, nu, nbody, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import numpy as np
from mujoco import batch as mujoco_batch

# The warnings after which mj_step has thrown away the state (or, for BADCTRL, the controls).
DIVERGENCE_FIELDS = {
    mujoco.mjtWarning.mjWARN_BADQPOS: "qpos",
    mujoco.mjtWarning.mjWARN_BADQVEL: "qvel",
    mujoco.mjtWarning.mjWARN_BADQACC: "qacc",
    mujoco.mjtWarning.mjWARN_BADCTRL: "ctrl",
}
NO_STAGE, VELOCITY_STAGE = mujoco.mjtStage.mjSTAGE_NONE.value, mujoco.mjtStage.mjSTAGE_VEL.value


class SimulationError(RuntimeError):
    """Say that an action or a simulation is not finite, or the simulator gave up; reset before stepping on.

    Attributes:
        env_index: the first environment concerned.
        field: what is wrong there: "action", a field of `mujoco.MjData`, or the MuJoCo function that raised.
    """

    def __init__(self, env_index: int, field: str, problem: str) -> None:
        super().__init__(f"environment {env_index}: {field}: {problem}")
        self.env_index = env_index
        self.field = field
        self.problem = problem


class Simulation:
    """Step `num_envs` simulations of one model, with live arrays over the fields that a task reads.

    `qpos` (n, nq), `qvel` (n, nv) and `ctrl` (n, nu) are the current state. The fields named in `derived_fields` are
    attributes too; as in Gymnasium they describe the state before the last substep of `step`, and the state itself
    after `reset`. With `current` they describe the state itself after `step` too, at no cost: the next one begins with
    them. All are float64. Copy what you keep.
    """

    xpos: np.ndarray  # (n, nbody, 3) m, body frames
    xipos: np.ndarray  # (n, nbody, 3) m, body centres of mass
    site_xpos: np.ndarray  # (n, nsite, 3) m
    cinert: np.ndarray  # (n, nbody, 10) inertia about the centre of mass
    cvel: np.ndarray  # (n, nbody, 6) rad/s, m/s
    cfrc_ext: np.ndarray  # (n, nbody, 6) N m, N, external (contact) force on each body
    qfrc_actuator: np.ndarray  # (n, nv) N or N m
    qfrc_constraint: np.ndarray  # (n, nv) N or N m
    ten_length: np.ndarray  # (n, ntendon)
    ten_velocity: np.ndarray  # (n, ntendon)

    def __init__(
        self, model: mujoco.MjModel, frame_skip: int, num_envs: int, num_threads: int, derived_fields: Sequence[str],
        current: bool = False,
    ) -> None:  # fmt: skip
        self.model = model
        self.num_envs = num_envs
        self.frame_skip = frame_skip
        self.dt = model.opt.timestep * frame_skip  # s, one environment step
        # By number too, as `mujoco.MjData.body` takes them; every kind of integer finds its int.
        self.body_ids: dict[int | str, int] = {key: i for i in range(model.nbody) for key in (i, model.body(i).name)}
        self.site_ids = _site_ids(model)

        self._data = mujoco.MjData(model)
        self.init_qpos = self._data.qpos.copy()
        self.init_qvel = self._data.qvel.copy()

        # mj_step leaves cfrc_ext alone; computing it afterwards needs each simulation's whole MjData.
        self._reads_cfrc_ext = "cfrc_ext" in derived_fields
        self._stage = VELOCITY_STAGE if current else NO_STAGE
        self._batch = mujoco_batch.Batch(model, num_envs, num_threads, persistent=self._reads_cfrc_ext or current)
        self.qpos = self._batch.bind("qpos")
        self.qvel = self._batch.bind("qvel")
        self.ctrl = self._batch.bind("ctrl")
        self.state = self._batch.state  # (n, nstate), mjSTATE_INTEGRATION: time, qpos, qvel, ..., qacc_warmstart
        self.motion = self.state[:, 1 : 1 + model.nq + model.nv]  # (n, nq + nv), [qpos, qvel] side by side
        self._warning_counts = self._batch.warning[:, :, 1]
        for field in derived_fields:
            array = np.zeros((num_envs, model.nbody, 6)) if field == "cfrc_ext" else self._batch.bind(field)
            setattr(self, field, array)

    def step(self, ctrl: np.ndarray) -> None:
        """Advance every simulation by `frame_skip` substeps under `ctrl`, (n, nu)."""
        self.ctrl[:] = ctrl
        self._run(self._batch.step, nstep=self.frame_skip, stage=self._stage)
        # A warning means that the state was replaced; under RK4 a state can also stop being finite without one.
        if self._warning_counts.any() or not np.isfinite(self.motion).all():
            self._raise_if_diverged()
        if self._reads_cfrc_ext:
            for i in range(self.num_envs):
                self._batch.get_data(i, self._data)
                mujoco.mj_rnePostConstraint(self.model, self._data)
                self.cfrc_ext[i] = self._data.cfrc_ext

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Start simulations `ids` (k,), sorted, afresh at `qpos` (k, nq) and `qvel` (k, nv)."""
        self._batch.reset(ids, stage=NO_STAGE)
        self.qpos[ids] = qpos
        self.qvel[ids] = qvel
        self._run(self._batch.forward, ids)
        if self._reads_cfrc_ext:
            self.cfrc_ext[ids] = 0.0  # what Gymnasium sees: mj_resetData clears it and mj_forward does not compute it

    def restore(self, state: np.ndarray) -> None:
        """Continue from a copy of `state`; the derived fields are stale until the next step."""
        self._batch.reset(stage=NO_STAGE)
        self.state[:] = state

    def _run(self, call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            call(*args, **kwargs)
        except mujoco_batch.SimulationError as error:
            env_index = int(error.ids[0])
            raise SimulationError(env_index, f"mj_{call.__name__}", self._batch.error(env_index)) from error

    def _raise_if_diverged(self) -> None:
        for warning, field in DIVERGENCE_FIELDS.items():
            diverged = np.flatnonzero(self._warning_counts[:, warning])
            if diverged.size:
                raise SimulationError(int(diverged[0]), field, "not finite or huge: the simulation is unstable")
        for field in ("qpos", "qvel"):
            diverged = np.flatnonzero(~np.isfinite(getattr(self, field)).all(axis=1))
            if diverged.size:
                raise SimulationError(int(diverged[0]), field, "not finite: the simulation is unstable")


class Single(Simulation):
    """Wraps one simulation that steps an `MjData` of somebody else's, where a `current` batch of one would step its
    own."""

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, frame_skip: int, derived_fields: Sequence[str]
    ) -> None:
        self.model, self.num_envs, self.frame_skip = model, 1, frame_skip
        self.dt = model.opt.timestep * frame_skip
        self.site_ids = _site_ids(model)
        self._data = data
        self.init_qpos, self.init_qvel = data.qpos.copy(), data.qvel.copy()
        for field in ("qpos", "qvel", "ctrl", *derived_fields):
            setattr(self, field, getattr(data, field)[None])

    def step(self, ctrl: np.ndarray) -> None:
        """Do what `Simulation.step` does. The data must be current: after `mj_forward`, or after a step."""
        self.ctrl[:] = ctrl
        for _ in range(self.frame_skip):
            mujoco.mj_step2(self.model, self._data)
            mujoco.mj_step1(self.model, self._data)


def _site_ids(model: mujoco.MjModel) -> dict[str, int]:
    return {model.site(i).name: i for i in range(model.nsite)}
