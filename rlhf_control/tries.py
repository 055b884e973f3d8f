"""New tries from where a clip began: what else the policy, with its noise, might have done there; and corrections made
of them.

S clips, M tries, L steps.
"""

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from gymnasium.spaces.utils import flatten

from rlhf_control.data import CORRECTION, RANKING, Array, Query, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.foreign import make_env
from rlhf_control.labels import Labels
from rlhf_control.mujoco_states import MujocoReader, is_own, put_back
from rlhf_control.nets import Act, Policy
from rlhf_control.queries import TRIED_AGAIN, corrections
from rlhf_control.rng import stream
from rlhf_control.states import has_mujoco_data

PROBED = 5  # steps
INSTEAD = ", so there are no corrections; leave them out of --feedback"
MOST = 10  # times that a try which ended early is made again


class Simulator:
    """One bare environment, without a time limit, that can be put into a state. Raises UserError where none can."""

    def __init__(self, env_id: str, env: Mapping[str, Any]) -> None:
        self.env_id, self.env = env_id, make_env(env_id, env).bare()
        if not has_mujoco_data(self.env):
            self.close()
            raise UserError(f"{self._refusal()} (it is no MuJoCo environment){INSTEAD}")
        self.env.reset(seed=0)
        self.read = MujocoReader([self.env])

    def put(self, state: Array) -> None:
        put_back(self.env, state, self.read.origin)

    def step(self, action: Array) -> tuple[Array, float, bool]:
        """Observation (O,), reward and whether the task ended after an action of the action space's shape."""
        seen, reward, terminated, _, _ = self.env.step(action)
        return np.asarray(flatten(self.env.observation_space, seen), np.float32), reward, terminated

    def close(self) -> None:
        self.env.close()

    def _refusal(self) -> str:
        return f"{self.env_id} cannot be put back to where a clip began"


def check_simulator(env_id: str, env: Mapping[str, Any]) -> None:
    """Raises UserError for an environment that is not all in its state: one in which the same actions lead elsewhere
    after another one has been brought to the same state."""
    one, two = Simulator(env_id, env), Simulator(env_id, env)
    one.env.reset(seed=1)
    one.env.action_space.seed(0)
    actions = [one.env.action_space.sample() for _ in range(2 * PROBED)]
    for action in actions[:PROBED]:
        one.step(action)
    two.env.reset(seed=2)
    try:
        two.put(one.read()[0])
        for action in () if is_own(one.env) else actions[PROBED:]:
            (obs, reward, _), (again, rewarded, _) = one.step(action), two.step(action)
            if not (np.allclose(again, obs, 1e-2, 2e-3) and np.isclose(rewarded, reward, 1e-2, 0.02)):
                what = f"reward is {rewarded:.4g}, not {reward:.4g}"
                if not np.allclose(again, obs, 1e-2, 2e-3):
                    i = int(np.argmax(np.abs(again - obs)))
                    what = f"observation {i} is {again[i]:.4g}, not {obs[i]:.4g}"
                raise UserError(f"{one._refusal()} (something beside the simulator counts: the {what}){INSTEAD}")
    finally:
        one.close()
        two.close()


def try_again(policy: Policy, clips: Segments, tries: int, rng: np.random.Generator) -> Segments:
    """(S, M, L, ...): `tries` new tries of the policy from the first state of each clip (S, L, ...). They cost
    S * M * L environment steps, one after the other: 40 to 60 us each.

    The state is put back (see `mujoco_states`), not the solver's last guess, so that the same actions lead to the same
    clip up to some last digits. A try that ends before its time is made again, up to MOST times; the last one goes on
    in the simulator beyond the end.
    """
    if clips.state is None:
        raise UserError(f"these clips of {policy.env_id} have no simulator states to begin new tries from")
    found = []
    with closing(Simulator(policy.env_id, policy.env)) as simulator:
        act = policy.acting()
        for clip in (clips[i] for i in range(len(clips))):
            for _ in range(tries):
                for _ in range(MOST):
                    attempt, whole = one_try(simulator, act, policy, clip, rng)
                    if whole:
                        break
                found.append(attempt)
    arrays = Segments.stack(found).arrays()
    return Segments(**{name: a.reshape(len(clips), tries, *a.shape[1:]) for name, a in arrays.items()})


def one_try(
    simulator: Simulator, act: Act, policy: Policy, clip: Segments, rng: np.random.Generator
) -> tuple[Segments, bool]:
    """(L, ...) from the first state of the clip (L, ...), and whether the task did not end meanwhile."""
    assert clip.state is not None
    simulator.put(clip.state[0])
    obs, whole = clip.obs[0], True
    steps: list[dict[str, Array]] = []
    for _ in range(len(clip)):
        state = clip.state[0] if not steps else simulator.read()[0]
        executed = policy.spaces.execute(act(obs[None], rng))[0]
        next_obs, reward, terminated = simulator.step(executed.reshape(policy.spaces.action_shape))
        rewarded = np.asarray(reward, np.float32)
        steps.append({"obs": obs, "action": executed, "next_obs": next_obs, "env_reward": rewarded, "state": state})
        whole = whole and not terminated and bool(np.isfinite(next_obs).all())
        obs = next_obs
    columns = {name: [step[name] for step in steps] for name in steps[0]}
    columns["state"] = widened(columns["state"])
    return Segments(**{name: np.stack(column) for name, column in columns.items()}), whole


def correct(
    policy: Policy, labels: Labels, pool: Segments, n: int, round: int, rng: np.random.Generator, *,
    tries: int, recent: int, free: Array,
) -> list[Query]:  # fmt: skip
    """The queries of `queries.corrections`, with that one of a clip's new tries which the oracle ranks first; where it
    cannot tell, the first of them. What was chosen once is in the store, and nobody is asked again."""
    chosen = {digest for asked in labels.store.asked() if asked.kind == CORRECTION for digest in asked.clips}

    def best(attempts: Segments, place: int) -> int:
        before = [i for i in range(len(attempts)) if attempts[i].digest() in chosen]
        if before:
            return before[0]
        if labels.oracle is None:
            raise UserError("people correct clips with the keyboard; leave correction out of --feedback")
        query = Query(round, place, TRIED_AGAIN, attempts, RANKING)
        answer = labels.oracle(query, pool, stream(labels.seed, "best", round, place))
        return 0 if answer.ranks is None else int(np.argmin(answer.ranks))

    again = partial(try_again, policy, tries=tries, rng=rng)
    return corrections(pool, n, round, again, best, rng, recent=recent, free=free)
