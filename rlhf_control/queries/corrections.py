"""Corrections: what else the policy, with its noise, might have done from where a clip began, and the best of that
beside the clip.

S clips, M attempts, L steps.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import numpy as np

from rlhf_control.data import CORRECTION, RANKING, Query, Segments
from rlhf_control.errors import UserError
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.schema import TAKEN_OVER, TRIED_AGAIN
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.choose import Pool
from rlhf_control.rng import stream
from rlhf_control.simulation.simulator import attempt_from, bare_simulator

MOST = 10  # times that an attempt which ended early is made again


def attempt_again(policy: Policy, clips: Segments, attempts: int, rng: np.random.Generator) -> Segments:
    """Returns (S, M, L, ...): M new attempts of the policy from the first state of each clip (S, L, ...). They cost
    S * M * L environment steps, one after the other: 40 to 60 us each.

    The state is put back (see `mujoco_states`), not the solver's last guess, so that the same actions lead to the same
    clip up to some last digits. An attempt that ends before its time is made again, up to MOST times. The last one goes
    on in the simulator beyond the end.
    """
    if clips.state is None:
        raise UserError(f"these clips of {policy.env_id} have no simulator states to begin new attempts from")
    found: list[Segments] = []
    with closing(bare_simulator(policy.env_id, policy.env)) as simulator:
        act = policy.acting()
        for clip in (clips[i] for i in range(len(clips))):
            for _ in range(attempts):
                for _ in range(MOST):
                    attempt, whole = attempt_from(simulator, act, policy.spaces, clip, rng)
                    if whole:
                        break
                found.append(attempt)
    arrays = Segments.stack(found).arrays()
    return Segments(**{name: a.reshape(len(clips), attempts, *a.shape[1:]) for name, a in arrays.items()})


def correct(
    policy: Policy, labels: Labels, pool: Pool, n: int, round: int, rng: np.random.Generator, *, attempts: int
) -> list[Query]:
    """Returns the queries of `corrections`, with that one of so many new attempts at a clip which the oracle ranks
    first; where it cannot tell, the first of them. What was chosen once is in the store: nobody is asked again."""
    chosen = {digest for asked in labels.store.asked() if asked.kind == CORRECTION for digest in asked.clips}

    def best(made: Segments, place: int) -> int:
        before = [i for i in range(len(made)) if made[i].digest() in chosen]
        if before:
            return before[0]
        if labels.oracle is None:
            raise UserError("people correct clips with the keyboard; leave correction out of --feedback")
        query = Query(round, place, TRIED_AGAIN, made, RANKING)
        answer = labels.oracle(query, pool.clips, stream(labels.seed, "best", round, place))
        return 0 if answer.ranks is None else int(np.argmin(answer.ranks))

    return corrections(pool, n, round, partial(attempt_again, policy, attempts=attempts, rng=rng), best, rng)


def corrections(
    pool: Pool, n: int, round: int, attempt: Callable[[Segments], Segments], best: Callable[[Segments, int], int],
    rng: np.random.Generator,
) -> list[Query]:  # fmt: skip
    """Returns n queries that set a better version of a free clip (a recent one, if there are enough) beside it: of the
    policy's new attempts from the clip's first state, `attempt(clips (n, L, ...))` (n, M, L, ...), the one that the
    annotator names, `best(attempts (M, L, ...), place)`. These clips are then no longer free.

    What it costs: n * M * L environment steps, which are not among those the policy learns from, and of the annotator
    a look at M + 1 clips. It counts as one answer. The attempts may all be worse than the clip, and the answer then
    says so: the annotator still ranks the two.
    """
    free = pool.free[: pool.recent] if pool.free[: pool.recent].sum() >= n else pool.free
    if free.sum() < n:
        raise UserError(f"{n} corrections need as many clips, the pool has {free.sum()} to spare")
    if not n:
        return []
    chosen = rng.permutation(np.flatnonzero(free))[:n]
    pool.free[chosen] = False
    attempts, queries = attempt(pool.clips[chosen]), []
    for index, clip in enumerate(chosen):
        pair = Segments.stack([pool.clips[clip], attempts[index][best(attempts[index], index)]])
        queries.append(Query(round, index, TRIED_AGAIN, pair, CORRECTION))
    return queries


# -- an expert takes over


def take_overs(
    policy: Policy, expert: Policy, labels: Labels, pool: Pool, n: int, round: int, rng: np.random.Generator
) -> list[Query]:
    """Returns n queries that set beside a clip of the policy's what the expert does, without noise, from where it
    began. He takes over where the policy falls behind: of two free clips (recent ones, if there are enough) in the one
    that the oracle likes less. All of them are then no longer free. It costs n * L environment steps."""
    free = pool.free[: pool.recent] if pool.free[: pool.recent].sum() >= 2 * n else pool.free
    if free.sum() < 2 * n:
        raise UserError(f"{n} take-overs need twice as many clips, the pool has {free.sum()} to spare")
    if labels.oracle is None:
        raise UserError("people take over by `rlhf-control play RUN`; leave take-over out of --feedback")
    queries = []
    with closing(bare_simulator(policy.env_id, policy.env)) as simulator:
        for index, pair in enumerate(rng.permutation(np.flatnonzero(free))[: 2 * n].reshape(n, 2)):
            pool.free[pair] = False
            question = Query(round, index, TAKEN_OVER, pool.clips[pair])
            ranks = labels.oracle(question, pool.clips, stream(labels.seed, "behind", round, index)).ranks
            behind = pool.clips[pair[0 if ranks is None else int(np.argmax(ranks))]].present()
            shown, _ = attempt_from(simulator, expert.acting(), policy.spaces, behind, None)
            both = Segments.stack([behind.without_frames(), shown])
            queries.append(Query(round, index, TAKEN_OVER, both, CORRECTION))
    return queries
