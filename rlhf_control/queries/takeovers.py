"""Taking over from a policy: whose policy it is, where the corrections go, and the same without a window."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.feedback.corrections import store_correction
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import shipped
from rlhf_control.runs.run import Run
from rlhf_control.simulation.early_ends import CUT_OFF
from rlhf_control.simulation.foreign import environments_closed, make_env
from rlhf_control.simulation.simulator import Simulator, check_simulator, env_action
from rlhf_control.simulation.states import step_seconds
from rlhf_control.simulation.takeovers import Pilot, corrections_in

Controller = Callable[[Array, int], Any]  # observation (O,) and step -> an action of the environment, or None: not now
CLIP_SECONDS = 1.5  # of a policy that no fine-tuning run is behind


def names_a_policy(name: str) -> bool:
    """Tells whether a policy can be found under this name, which is no environment's then."""
    return Path(name).exists() or name in shipped()


def pilot_of(policy: Policy, clip_seconds: float = CLIP_SECONDS) -> Pilot:
    """Makes a pilot of a policy, whose corrections are clips of so many seconds."""
    with closing(make_env(policy.env_id, policy.env)) as env:
        length = max(2, round(clip_seconds / step_seconds(env)))
    return Pilot(policy.env_id, policy.env, policy.spaces, policy.acting(), length)


def cockpit(
    name: str, out: str = "", env_id: str = "", env: Mapping[str, Any] | None = None
) -> tuple[Pilot, FeedbackStore]:
    """Returns the pilot of a run's folder or a policy, and the store for the corrections: `out`, or else the run's own.
    `env_id`: see `files.refuse_module`; `env`: arguments of the environment beside those that the policy has. Raises
    UserError for a policy without a store."""
    folder = Path(name)
    path = Path(out) if out else folder / "labels.sqlite"
    if not out and not path.is_file():
        raise UserError(
            f"{name} has no labels.sqlite to keep corrections in; name a fine-tuning run, or a file with --out"
        )
    seconds = CLIP_SECONDS
    if (folder / "config.json").is_file():
        seconds = getattr(Run.open(folder).config()[1], "clip_seconds", CLIP_SECONDS)
    pilot = pilot_of(find_policy(name, env_id), seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    return replace(pilot, env={**pilot.env, **(env or {})}), FeedbackStore(path)


@environments_closed()
def take_over(
    policy: Policy | Pilot, controller: Controller, store: FeedbackStore, annotator: str, *, episodes: int = 1,
    seed: int = 0,
) -> list[str]:  # fmt: skip
    """Lets the policy act for some episodes, without noise, and takes over at every step for which the controller gives
    an action. Every stretch that was taken over is stored as a correction that stands above what the policy would have
    done there; returns the queries' keys. Raises UserError for an environment that is not all in its state."""
    pilot = pilot_of(policy) if isinstance(policy, Policy) else policy
    check_simulator(pilot.env_id, pilot.env)
    keys = []
    with closing(make_env(pilot.env_id, pilot.env)) as env:
        simulator = Simulator(pilot.env_id, env)
        for episode in range(episodes):
            obs = simulator.pack(env.reset(seed=seed + episode)[0])
            steps, taken = flown(simulator, obs, pilot, controller)
            for original, improved in corrections_in(steps, taken, pilot):
                keys.append(store_correction(store, original, improved, annotator))
    return keys


def flown(simulator: Simulator, obs: Array, pilot: Pilot, controller: Controller) -> tuple[Segments, list[bool]]:
    """Returns an episode (T, ...) that begins with this observation (O,), and who acted at each step: True for the
    controller."""
    space, spaces = simulator.env.action_space, pilot.spaces
    steps: list[Mapping[str, Any]] = []
    taken: list[bool] = []
    ended = False
    while not ended and len(steps) < CUT_OFF:
        state, action = simulator.state(), controller(obs, len(steps))
        taken.append(action is not None)
        if action is None:
            executed = spaces.execute(pilot.act(obs[None], None))[0]
        else:
            given = np.asarray(action).reshape(1, -1) - (getattr(space, "start", 0) if spaces.choices else 0)
            executed = spaces.execute(given)[0].astype(np.float32)
        after, reward, terminated, truncated = simulator.step(env_action(space, spaces, executed))
        paid = np.float32(reward)
        steps.append({"obs": obs, "action": executed, "next_obs": after, "env_reward": paid, "state": state})
        obs, ended = after, terminated or truncated
    columns = {name: [step[name] for step in steps] for name in steps[0]}
    columns["state"] = widened(columns["state"])
    return Segments(**{name: np.stack(column) for name, column in columns.items()}), taken
