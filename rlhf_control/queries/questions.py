"""What to ask in each label round, and what of that a run keeps.

S clips, L segment length.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rlhf_control.config import FinetuneConfig
from rlhf_control.config.schedules import apportion
from rlhf_control.config.training import comparable
from rlhf_control.data import (
    COMPARISON,
    CORRECTION,
    GROUPS,
    KINDS,
    RANKING,
    RATING,
    REWARD,
    SUCCESS,
    Array,
    Query,
    Segments,
)
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.answering import Gold
from rlhf_control.feedback.export import import_labels, import_pairs
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.recordings import save_recording
from rlhf_control.feedback.schema import EARLY_END, GOLD, TAKEN_OVER, Asked, query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import adopt
from rlhf_control.queries.choose import Form, Pool, ask_again, choose, contexts
from rlhf_control.queries.corrections import correct, take_overs
from rlhf_control.queries.demonstrations import (
    demonstrated,
    demonstrations,
    demonstrations_due,
    is_data,
    recording_of,
)
from rlhf_control.queries.ends import END_SHARE, asks_about_ends, end_questions
from rlhf_control.queries.rounds import LabelRound, share_due
from rlhf_control.reward.protocol import Reward
from rlhf_control.rng import stream
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.runs.progress import say_once
from rlhf_control.runs.run import Run
from rlhf_control.simulation.early_ends import judged_whole
from rlhf_control.wording import counted

# Kinds of which an answer can be held against an earlier one
REPEATABLE = (COMPARISON, RANKING, RATING, SUCCESS, GROUPS)
IN_MIND = 5  # newest questions that are not asked again: whoever answered them still remembers
GOLD_SHARE = 0.05  # of the run's own questions
NEWEST_ENDS = 10  # episodes to choose from, for each question about an early end

# In a run's folder: what it was started from, so that it goes on with that, whatever becomes of the user's files
DEMONSTRATIONS, GOLD_PAIRS, EXPERT = "demonstrations.npz", "gold.npz", "expert.npz"
# What a run and its replay may differ in
REPLAY_MAY_DIFFER = (
    "policy", "behaviours", "out", "replay", "question", "window", "video", "track", "checkpoint_seconds",
    "env_timeout",
)  # fmt: skip


# -- a round's questions


def round_queries(
    config: FinetuneConfig, label_round: LabelRound, pool: tuple[Segments, int], reward: Reward, labels: Labels,
    policy: Policy, episodes: Sequence[Segments] = (),
) -> list[Query]:  # fmt: skip
    """Returns all queries of a round: its questions, if it has any, and the demonstrations that are due."""
    k, (clips, recent), seed = label_round.index, pool, config.seed
    asking = (config, label_round, pool, reward, labels, policy, episodes)
    queries = questions(*asking) if label_round.labels else []
    if not demonstrations_due(config, k):
        return queries
    name = demonstrations_of(config, labels.store.path.parent)
    shown = demonstrated(name, policy, clips.action.shape[1], seed)
    rng = stream(seed, "demonstrations", *([k] if k else []))
    beside = clips[:recent] if recent >= config.demonstration_clips else clips
    return queries + demonstrations(shown, beside, config.demonstration_clips, k, len(queries), rng)


def questions(
    config: FinetuneConfig, label_round: LabelRound, pool: tuple[Segments, int], reward: Reward, labels: Labels,
    policy: Policy, episodes: Sequence[Segments] = (),
) -> list[Query]:  # fmt: skip
    """Returns a round's questions: new ones about the policy's own clips, in place of some of them such as were asked
    before, and beside them gold. `pool`: the clips to choose from, and how many of them, the first, are recent;
    `episodes`: those whose success can be asked about, the newest last."""
    k, n, rng = label_round.index, label_round.labels, stream(config.seed, "repeats", label_round.index)
    asked = labels.questions()
    earlier = [q.query(labels.clips) for q in repeatable(asked, labels)]
    due, of_this_round = repeats_due(config, n, labels)
    new = make_queries(config, replace(label_round, labels=n - due), pool, reward, labels, policy, episodes)
    again = ask_again(earlier, due, k, 0, rng)
    of_now = [query for query in new[:of_this_round] if query.strategy != EARLY_END]
    again += ask_again(of_now, due - len(again), k, 0, rng)
    of_gold = [query for key, (query, _) in labels.gold.items() if key not in labels.asked]
    known = sum(q.strategy == GOLD for q in labels.asked.values())
    every = mixed(new, again + of_gold[: share_due(GOLD_SHARE, len(asked), n, known)], k, rng)
    return every if config.labelling == "async" else none_lost(every, k, labels)  # async asks others


def clips_wanted(config: FinetuneConfig, label_round: LabelRound, labels: Labels) -> int:
    """Returns how many clips of the policy's own a round needs, so that no kind of feedback shows one twice."""
    new = label_round.labels - repeats_due(config, label_round.labels, labels)[0]
    by_kind = zip(shares(config, new), config.clips_by_kind().values(), strict=True)
    beside = config.demonstration_clips if demonstrations_due(config, label_round.index) else 0
    return max(beside, *(n * size for n, size in by_kind))


def repeats_due(config: FinetuneConfig, n: int, labels: Labels) -> tuple[int, int]:
    """Returns how many of a round's n questions are repeats, and how many of its own new ones may be among them."""
    asked = labels.questions()
    due = share_due(config.repeat_share(), len(asked), n, sum(q.repeat > 0 for q in asked))
    of_this_round = (n - due) // 3 if set(config.feedback) <= set(REPEATABLE) else 0
    return min(due, len(repeatable(asked, labels)) + of_this_round), of_this_round


def shares(config: FinetuneConfig, n: int) -> list[int]:
    """Returns how many of n questions are of each kind of feedback."""
    return apportion(n, [1.0] * len(config.feedback))


def make_queries(
    config: FinetuneConfig, label_round: LabelRound, pool: tuple[Segments, int], reward: Reward, labels: Labels,
    policy: Policy, episodes: Sequence[Segments] = (),
) -> list[Query]:  # fmt: skip
    """Returns queries about the policy's own clips: of every kind of feedback the same number, as far as possible, in
    random order, and no clip twice while there are others."""
    queries: list[Query] = []
    clips, recent = pool
    within = contexts(clips) if judged_whole(policy.env_id) else None
    source, k = Pool(clips, recent, ~asked_alone(clips, labels), within), label_round.index
    counts = shares(config, label_round.labels)
    for (kind, size), n in zip(config.clips_by_kind().items(), counts, strict=True):
        taken = 0  # clips of which questions about ends have one each
        if kind == COMPARISON:
            ends = about_ends(config, n, k, episodes, source, reward, labels)
            queries, n, taken = queries + ends, n - len(ends), len(ends)
        rng = stream(config.seed, "queries", k, KINDS.index(kind) if kind in KINDS else 100)
        if kind == SUCCESS:
            queries += marks(config, n, k, episodes, reward, labels)
            continue
        few = source.free[:recent] if recent >= (n + taken) * size else source.free
        if few.sum() < n * size:
            source.free[:] = True
        if kind == TAKEN_OVER:
            expert = expert_of(config, labels.store.path.parent, policy)
            queries += take_overs(policy, expert, labels, source, n, k, rng)
        elif kind == CORRECTION:
            queries += correct(policy, labels, source, n, k, rng, attempts=config.query.attempts)
        else:
            form = Form(kind, size)
            queries += choose(config.queries, source, n, k, reward, rng, form=form, config=config.query)
    of_ends = any(query.strategy == EARLY_END for query in queries)
    if len(config.feedback) > 1 or of_ends:  # or an annotator who tires would spoil one kind more than another
        queries = [queries[i] for i in stream(config.seed, "order", k).permutation(len(queries))]
    return [replace(query, index=index) for index, query in enumerate(queries)]


def none_lost(queries: Sequence[Query], round: int, labels: Labels) -> list[Query]:
    """Returns a round's queries, as repeats those that were asked, in this order of their clips, in another round or
    just before: of few clips the same are chosen again now and then, and what has the same key is not asked, so the
    budget would be short of it. A round that is made anew, by a resumed run, is to have its old keys."""
    keys, found = {key for key, asked in labels.asked.items() if asked.round != round}, []
    for query in queries:
        while query.kind in REPEATABLE and query_key(query) in keys:
            query = replace(query, segments=query.segments[::-1], repeat=query.repeat + 1)
        keys.add(query_key(query))
        found.append(query)
    return found


def about_ends(
    config: FinetuneConfig, n: int, k: int, episodes: Sequence[Segments], source: Pool, reward: Reward, labels: Labels
) -> list[Query]:
    """Returns those of round k's n comparisons that are to tell what an early end costs, if it is not known: END_SHARE
    of all comparisons, however small the rounds are."""
    if not config.learn_end_costs or not reward.fitted or not asks_about_ends(reward):
        return []
    before = sum(asked.kind == COMPARISON for asked in labels.questions())
    due = int(END_SHARE * (before + n) + 1e-9) - int(END_SHARE * before + 1e-9)
    return end_questions(episodes[-NEWEST_ENDS * due :], source, due, k, reward, stream(config.seed, "ends", k))


def marks(
    config: FinetuneConfig, n: int, k: int, episodes: Sequence[Segments], reward: Reward, labels: Labels
) -> list[Query]:
    """Returns queries of round k about n of the newest episodes that were not asked about before, fewer if there are no
    more."""
    known = {digest for asked in labels.asked.values() if asked.kind == SUCCESS for digest in asked.clips}
    fresh = [episode for episode in episodes if episode.digest() not in known][-config.query.candidates * n :]
    if len(fresh) < n:
        say_once(
            f"rlhf-control: a round asks whether {counted(n, 'episode')} succeeded, and only {len(fresh)} ended since "
            "the round before: wherever it is so, fewer are asked about; raise --ppo.num-envs or lower --rounds"
        )
    n, form, rng = min(n, len(fresh)), Form(SUCCESS, 1), stream(config.seed, "queries", k, KINDS.index(SUCCESS))
    if not n:
        return []
    pool = Pool.of(Segments.stack(fresh))
    return choose(config.queries, pool, n, k, reward, rng, form=form, config=config.query)


def asked_alone(pool: Segments, labels: Labels) -> Array:
    """Marks, (S,) bool, the clips that were rated before: asked again, they would count as the same answer."""
    rated = {asked.clips[0] for asked in labels.questions() if asked.kind in (RATING, REWARD)}
    return np.array([bool(rated) and pool[i].digest() in rated for i in range(len(pool))])


def repeatable(asked: Sequence[Asked], labels: Labels) -> list[Asked]:
    """Returns the questions that can be asked once more: answered, not lately, and not repeated before."""
    repeated = {frozenset(q.clips) for q in asked if q.repeat}
    unanswered = set(labels.pending())
    return [
        q for q in asked[: max(0, len(asked) - IN_MIND)] if q.strategy != EARLY_END
        if q.kind in REPEATABLE and frozenset(q.clips) not in repeated and q.key not in unanswered
    ]  # fmt: skip


def mixed(queries: list[Query], special: Sequence[Query], round: int, rng: np.random.Generator) -> list[Query]:
    """Puts the special ones at random places among the second half of the others, far from the first third, of which
    some may be repeats. All are numbered anew."""
    if not special:
        return queries
    places = np.sort(rng.integers(-(-len(queries) // 2), len(queries) + 1, size=len(special)))
    order = list(queries)
    for place, i in zip(places[::-1], rng.permutation(len(special)), strict=True):  # from the back: places stay valid
        order.insert(int(place), special[i])
    return [replace(query, round=round, index=index) for index, query in enumerate(order)]


# -- clips from elsewhere


def load_gold(path: str, seed: int) -> Gold:
    """Reads comparisons with known answers and their ranks, by key and in random order: of an exported store (or an
    .npz of pairs) those on which all its annotators agree. Raises UserError if there are none, or none that can be
    shown."""
    with TemporaryDirectory() as folder:
        store = FeedbackStore(Path(folder) / "gold.sqlite")
        (import_labels if Path(path).is_dir() else import_pairs)(store, path)
        labels = Labels(store, None, seed)
        labels.adopt()
        found = []
        for asked in labels.questions():
            ranks = {feedback.ranks for feedback in labels.votes.get(asked.key, {}).values()}
            clear = asked.kind == COMPARISON and asked.strategy != EARLY_END
            if clear and len(ranks) == 1 and (known := ranks.pop()) in ((0, 1), (1, 0)):
                found.append((Query(0, 0, GOLD, asked.query(labels.clips).segments), known))
    if not found:
        raise UserError(f"{path} has no pairs with one clear answer, so it is no gold; give another export")
    if any(query.segments.state is None and query.segments.frames is None for query, _ in found):
        raise UserError(f"{path} has clips without simulator states, which cannot be shown; give another export")
    return {query_key(found[i][0]): found[i] for i in stream(seed, "gold").permutation(len(found))}


# -- what a run keeps of what it is started from


def keep_inputs(config: FinetuneConfig, run: Run, policy: Policy, gold: Gold) -> None:
    """Copies demonstrations for the policy's environment, gold and the expert who takes over into the run's folder,
    unless they are there."""
    if config.annotator.expert and not (run.path / EXPERT).exists():
        find_policy(config.annotator.expert, policy.env_id, env=policy.env).save(run.path / EXPERT)
    kept = run.path / DEMONSTRATIONS
    if config.demonstrations and not kept.exists():
        if is_data(config.demonstrations):
            save_recording(kept, recording_of(config.demonstrations, policy.env_id, policy.spaces))
        else:
            find_policy(config.demonstrations, policy.env_id, env=policy.env).save(kept)
    if gold and not (run.path / GOLD_PAIRS).exists():
        pairs = {
            f"{i:06d}": {"ranks": list(ranks), "clips": query.segments.arrays()}
            for i, (query, ranks) in enumerate(gold.values())
        }
        save_state(run.path / GOLD_PAIRS, {"kind": GOLD, "pairs": pairs})


def expert_of(config: FinetuneConfig, folder: Path, policy: Policy) -> Policy:
    """Returns the expert of the run in this folder, as a policy of the environment of its `policy`."""
    kept = folder / EXPERT
    found = find_policy(kept if kept.exists() else config.annotator.expert, policy.env_id, env=policy.env)
    return adopt(found, policy.spaces, policy.env_id, policy.env)


def demonstrations_of(config: FinetuneConfig, folder: Path) -> str:
    """Returns the path of the run's own copy or (in runs of before, which have none) what the user named."""
    return str(folder / DEMONSTRATIONS) if (folder / DEMONSTRATIONS).exists() else config.demonstrations


def gold_of(config: FinetuneConfig, run: Run | None) -> Gold:
    """Reads gold as `load_gold` does, from the run's own copy if it has one."""
    if not config.query.gold:
        return {}
    if run is None or not (run.path / GOLD_PAIRS).exists():
        return load_gold(config.query.gold, config.seed)
    state = load_state(run.path / GOLD_PAIRS)
    if state.get("kind") != GOLD:
        raise CorruptFileError(f"{run.path / GOLD_PAIRS} holds no gold; restore it from a copy")
    pairs = [(Segments(**pair["clips"]), tuple(pair["ranks"])) for _, pair in sorted(state["pairs"].items())]
    queries = [(Query(0, 0, GOLD, clips), ranks) for clips, ranks in pairs]
    return {query_key(query): (query, ranks) for query, ranks in queries}


def answers_of(config: FinetuneConfig, run: Run | None = None) -> FeedbackStore:
    """Opens the store of the run to replay, which must have had the same options; of a replay that has begun, its own
    copy of it. Raises UserError if they differ."""
    if run is not None and (run.path / "labels.sqlite").exists():
        return FeedbackStore(run.path / "labels.sqlite", create=False)
    source = Run.open(config.replay)
    command, options = source.config()
    theirs, mine = asdict(comparable(options)), asdict(comparable(config))
    if command != "finetune":
        raise UserError(f"{source.path} was not answered by anybody; replay a run of `rlhf-control finetune`")
    changed = [note["option"] for note in source.read_json("manifest.json").get("changed", [])]
    if of_weight := [name for name in changed if name not in REPLAY_MAY_DIFFER]:
        raise UserError(
            f"{source.path} went on with another {of_weight[0]} on its way, so it cannot be replayed as a whole"
        )
    differing = [name for name in theirs if name not in REPLAY_MAY_DIFFER and theirs[name] != mine[name]]
    if differing:
        options_there = ", ".join(f"{name} {theirs[name]} (here {mine[name]})" for name in differing)
        raise UserError(f"{source.path} was run with {options_there}; a replay needs the same options")
    return FeedbackStore(source.path / "labels.sqlite", create=False)
