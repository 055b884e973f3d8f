"""New tries from where a clip began: what else the policy, with its noise, might have done there; and corrections made
of them.

S clips, M tries, L steps, D simulator state [qpos, qvel].
"""

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from gymnasium.spaces.utils import flatten

from rlhf_control.data import CORRECTION, RANKING, Array, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.foreign import ForeignEnv, make_env
from rlhf_control.labels import Labels
from rlhf_control.nets import Act, Policy
from rlhf_control.queries import TRIED_AGAIN, corrections
from rlhf_control.rng import stream

MOST = 10  # times that a try which ended early is made again


def simulator(env_id: str, env: Mapping[str, Any]) -> ForeignEnv:
    """One bare environment, without a time limit, that can be put into a state. Raises UserError where none can."""
    simulator = make_env(env_id, env).bare()
    bare: Any = simulator.unwrapped
    if not (hasattr(bare, "set_state") and hasattr(getattr(bare, "data", None), "qpos")):
        simulator.close()
        raise UserError(
            f"{env_id} cannot be put back to where a clip began (it is no MuJoCo environment with set_state), so there "
            "are no corrections; leave them out of --feedback"
        )
    simulator.reset(seed=0)
    return simulator


def try_again(policy: Policy, clips: Segments, tries: int, rng: np.random.Generator) -> Segments:
    """(S, M, L, ...): `tries` new tries of the policy from the first state of each clip (S, L, ...). They cost
    S * M * L environment steps, one after the other: 40 to 60 us each.

    Only positions and velocities are put back, not the solver's last guess, so that the same actions lead to the same
    clip up to some last digits. A try that ends before its time is made again, up to MOST times; the last one goes on
    in the simulator beyond the end.
    """
    if clips.state is None:
        raise UserError(f"these clips of {policy.env_id} have no simulator states to begin new tries from")
    found = []
    with closing(simulator(policy.env_id, policy.env)) as env:
        act = policy.acting()
        for clip in (clips[i] for i in range(len(clips))):
            for _ in range(tries):
                for _ in range(MOST):
                    attempt, whole = one_try(env, act, policy, clip, rng)
                    if whole:
                        break
                found.append(attempt)
    arrays = Segments.stack(found).arrays()
    return Segments(**{name: a.reshape(len(clips), tries, *a.shape[1:]) for name, a in arrays.items()})


def one_try(
    env: ForeignEnv, act: Act, policy: Policy, clip: Segments, rng: np.random.Generator
) -> tuple[Segments, bool]:
    """(L, ...) from the first state of the clip (L, ...), and whether the task did not end meanwhile."""
    assert clip.state is not None
    bare: Any = env.unwrapped
    bare.set_state(*np.split(clip.state[0], [bare.model.nq]))
    obs, whole = clip.obs[0], True
    steps: list[dict[str, Array]] = []
    for _ in range(len(clip)):
        state = np.concatenate([bare.data.qpos, bare.data.qvel])
        executed = policy.spaces.execute(act(obs[None], rng))[0]
        seen, reward, terminated, _, _ = env.step(executed.reshape(policy.spaces.action_shape))
        next_obs = np.asarray(flatten(env.observation_space, seen), np.float32)
        rewarded = np.asarray(reward, np.float32)
        steps.append({"obs": obs, "action": executed, "next_obs": next_obs, "env_reward": rewarded, "state": state})
        whole = whole and not terminated and bool(np.isfinite(next_obs).all())
        obs = next_obs
    return Segments(**{name: np.stack([step[name] for step in steps]) for name in steps[0]}), whole


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
