"""The method. `finetune` is all of it on one screen; `pretrain` is the same loop without people.

collect -> (ask, fit) -> replace the reward -> GAE and PPO -> policy
"""

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.again import make_way
from rlhf_control.anchor import Anchor
from rlhf_control.asking import (
    LabelRound,
    answers_of,
    check_demonstrations,
    clips_needed,
    demonstrated,
    demonstrations_due,
    demonstrations_of,
    gold_of,
    keep_inputs,
    label_rounds,
    questions,
)
from rlhf_control.asynchronous import Asynchronous
from rlhf_control.behaviours import BEHAVIOURS
from rlhf_control.cloning import clone
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.data import CORRECTION, Query, Rollout
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.files import refuse_module
from rlhf_control.foreign import check_env_id, environments_closed
from rlhf_control.guards import Guard, tell
from rlhf_control.human import attended, film
from rlhf_control.labels import Labels, accuracy, replay
from rlhf_control.lanes import Lanes, start_lanes
from rlhf_control.loop import Loop
from rlhf_control.machine import record_session
from rlhf_control.nets import Policy, one_thread
from rlhf_control.oracles import NO_REWARD, Oracle, make_oracle, reward_named
from rlhf_control.own_behaviours import behaviours_of, facts, load_behaviours
from rlhf_control.policies import CAME_IN, CLONED, adopt, find_policy, handed_back
from rlhf_control.ppo import PPO, RewardScaler
from rlhf_control.progress import ProgressLine
from rlhf_control.queries import AT_RANDOM, demonstrations, find_strategy
from rlhf_control.resuming import amend, check
from rlhf_control.reward import KnownReward, Reward, RewardModel
from rlhf_control.rng import stream
from rlhf_control.rollouts import (
    fixed_horizon,
    refuse_terminated,
    tell_of_endless_episodes,
    time_limit,
)
from rlhf_control.runs import Run
from rlhf_control.schema import query_key
from rlhf_control.segments import SegmentBank
from rlhf_control.store import FeedbackStore
from rlhf_control.trial import try_out
from rlhf_control.tries import check_simulator
from rlhf_control.watchdog import WATCHDOG


@environments_closed()
@one_thread()
def finetune(config: FinetuneConfig, *, oracle: Oracle | None = None, run: Run | None = None) -> Run:
    """Fine-tunes a policy on preferences. `oracle` answers instead of the config's; `run` is one to go on with."""
    refuse_many_seeds(config)
    WATCHDOG.limit = config.env_timeout
    config = config if oracle is None else replace(config, oracle="custom")
    run, p, rounds = prepare(config, oracle, run)
    policy, seed = p.learner.policy, config.seed
    with started(config, run, p, rounds) as loop:
        for iteration, log in loop:
            progress = iteration / loop.iterations
            rollout = p.envs.collect(p.learner, config.ppo.num_steps, stream(seed, "act", iteration))
            rollout = treat_termination(rollout, config.termination, policy.env_id, run.path)
            p.bank.add(rollout)

            label_round = rounds.get(iteration) or p.votes.due(iteration)
            if label_round:  # ask about recent and older clips, learn the reward anew, move the anchor
                log |= ask_and_fit(config, label_round, p)
                p.anchor.new_round(policy)

            learned = p.reward.predict(rollout)
            penalty, kl = p.anchor.penalty(p.learner, rollout)
            log |= p.guard.watch(p.reward, rollout, learned, kl["kl_start"])
            if p.guard.alarm:
                wait = not label_round and (iteration < max(rounds) or p.votes.more_to_come())
                rng = stream(seed, "roll-back", iteration)
                loop.halt = p.guard.react(run.path, p.learner, p.anchor, p.bank, rng, wait=wait)
            rollout = rollout.with_reward(learned - penalty)  # here, and only here, the reward is replaced

            if label_round:  # the old values belong to the old reward
                p.learner.fit_value(rollout, config.value_epochs, stream(seed, "value", iteration), progress)
                p.guard.keep(p.learner, run.path, handed_back(policy, p.anchor.pretrained.policy, run))
            if not p.guard.closed:
                if p.reward.fitted:
                    log |= p.learner.update(rollout, stream(seed, "update", iteration), progress)
                    log |= p.guard.keep_exploring(policy, log)
                if policy.obs_norm.count:  # else it was trained without
                    policy.obs_norm.update(rollout.obs)

            log |= kl | p.labels.counts() | p.votes.metrics()
            log |= episode_metrics(rollout) | {"reward_mean": float(learned.mean())}
            log |= true_reward(config, rollout, policy.env_id)
            log |= behaviour_metrics(config, p.bank, stream(seed, "score", iteration))
        handed_back(policy, p.anchor.pretrained.policy, run).save(run.path / "policy.npz", config=asdict(config))
        if isinstance(p.reward, RewardModel):
            p.reward.save(run.path / "reward.npz")
    return run


@environments_closed()
@one_thread()
def pretrain(config: PretrainConfig, *, run: Run | None = None) -> Run:
    """PPO on the environment's own reward."""
    refuse_many_seeds(config)
    WATCHDOG.limit = config.env_timeout
    if config.learner == "sb3":
        return pretrain_with_sb3(config, run)
    seed = config.seed
    envs = start_lanes(config.env_id, config.ppo.num_envs, seed=env_seed(seed), backend=config.backend, env=config.env)
    policy = Policy(envs.spaces, config.net, seed, config.env_id, config.env)
    tell_of_far_bounds(policy)
    tell_of_endless_episodes(config.env_id, config.env)
    learner = PPO(policy, config.ppo)
    scaler = RewardScaler(config.ppo.num_envs, config.ppo.gamma)
    run = run or new_run(config, "pretrain", config.env_id, config.env_id)
    with Loop(run, {"learner": learner, "envs": envs, "scaler": scaler}, config) as loop:
        record_session(run, loop.first)
        for iteration, log in loop:
            rollout = envs.collect(learner, config.ppo.num_steps, stream(seed, "act", iteration))
            scaled = scaler(rollout) if config.normalize_reward else rollout
            log |= learner.update(scaled, stream(seed, "update", iteration), iteration / loop.iterations)
            if config.normalize_obs:
                policy.obs_norm.update(rollout.obs)
            log |= episode_metrics(rollout)
        policy.save(run.path / "policy.npz", config=asdict(config))
    return run


def resume(
    path: str | Path, *, oracle: Oracle | None = None, env_id: str = "", behaviours: str = "",
    changes: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """Goes on with a run exactly where it stopped: the rest is bit-equal to that of a run that never stopped. A run
    with an oracle of its own needs it again. `env_id`: see `files.refuse_module`; `behaviours`: `own_behaviours`;
    `changes`: other options from now on, see `resuming.amend`, as in {"termination": "truncate"}."""
    run = Run.open(path)
    run.lock()  # before anything is read that another process may change
    try:
        verb, config = run.config()
        refuse_module(config.env_id, run.path, env_id)
        if changes:
            config = amend(run, config, changes)
        else:
            check(run, run.look_at_checkpoint()[1], config)
        if oracle is None:
            behaviours_of(run, behaviours)
        return pretrain(config, run=run) if verb == "pretrain" else finetune(config, oracle=oracle, run=run)
    finally:
        run.unlock()


# -- before the loop


def refuse_many_seeds(config: FinetuneConfig | PretrainConfig) -> None:
    if config.seeds:
        raise UserError(f"seeds is '{config.seeds}', but this is one run; see seeds.side_by_side, or the command line")


@dataclass
class Parts:
    """What a fine-tuning run consists of: each has a state that belongs into the checkpoints."""

    learner: PPO
    envs: Lanes
    bank: SegmentBank
    reward: Reward
    anchor: Anchor
    labels: Labels
    votes: Asynchronous
    guard: Guard


def prepare(config: FinetuneConfig, oracle: Oracle | None, run: Run | None) -> tuple[Run, Parts, dict[int, LabelRound]]:
    """The run's folder, its parts before the first iteration, and its label rounds by iteration. What is wrong with a
    request is said here, before there is a folder."""
    # Of a run that is resumed nothing is loaded because its folder says so
    sha256 = load_behaviours(config.behaviours) if config.behaviours and run is None else None
    kept = run is not None and (run.path / CAME_IN).exists()
    begun = run is not None and any((run.path / "checkpoints").glob("*.npz"))
    pretrained = find_policy(run.path / CAME_IN if run is not None and kept else config.policy, config.env_id)
    env_id = config.env_id or pretrained.env_id
    check_env_id(env_id)
    find_strategy(config.queries)
    check_score(config, env_id)
    source = answers_of(config, run) if config.replay else None
    if source is None and oracle is None:
        oracle = make_oracle(config.oracle, env_id, config.oracle_temperature, config.annotator)
    env = environment_arguments(config, env_id, {**pretrained.env, **config.env})
    envs = start_lanes(
        env_id, config.ppo.num_envs, seed=env_seed(config.seed), backend=config.backend, env=env,
        frames=config.oracle == "human",
    )  # fmt: skip
    came_in, policy = (adopt(pretrained, envs.spaces, env_id, env) for _ in range(2))
    length = max(2, round(config.clip_seconds / envs.step_seconds))
    if config.demonstrations and not begun:
        take_up_demonstrations(config, policy, length)
    anchor = Anchor(policy, config.reference)
    policy.loosen(config.shrink, config.min_log_std)
    reward = make_reward(config, envs.spaces.obs_size, envs.spaces.action_size, env_id)
    tell_of_endless_episodes(env_id, env)
    ppo, limit = config.ppo, time_limit(env_id, env)
    bank = SegmentBank(
        length, ppo.num_envs, ppo.num_steps, clips=clips_needed(config), time_limit=limit,
        older_bytes=int(config.query.older_mb * 1e6),
    )  # fmt: skip
    if run is None:
        steps = ppo.num_envs * ppo.num_steps * (bank.first_full + 1)  # before the first questions
        try_out(policy, env, length, config.seed, steps=steps, refuse_early=config.termination == "refuse")
    rounds = label_rounds(config, bank.first_full)
    gold = gold_of(config, run)
    if CORRECTION in config.feedback:
        check_simulator(env_id, env)

    run = run or new_run(config, "finetune", config.oracle, env_id, **facts(config, sha256))
    if source is not None:
        oracle = replay(source, run.path / "labels.sqlite")
    if not kept:
        came_in.save(run.path / CAME_IN)
    if not begun:
        keep_inputs(config, run, policy.env_id, gold)
    if config.clone_epochs and not begun:
        anchor.pretrained.policy.save(run.path / CLONED)
    store = FeedbackStore(run.path / "labels.sqlite", create=not begun)  # what has begun had one
    labels = Labels(store, oracle, config.seed, annotators=config.annotators)
    labels.gold = gold
    votes = Asynchronous(config, min(rounds), labels, bank, reward, policy)
    learned = config.learn_from == "votes"  # what is known cannot be hacked
    guard = Guard(config.guard if learned else replace(config.guard, chance="off", alarm="off"))
    return run, Parts(PPO(policy, config.ppo), envs, bank, reward, anchor, labels, votes, guard), rounds


@contextmanager
def started(config: FinetuneConfig, run: Run, p: Parts, rounds: Mapping[int, LabelRound]) -> Iterator[Loop]:
    """The loop over the iterations, with people beside it if they are to answer."""
    waits = rounds if config.asks_people() else ()
    with Loop(run, vars(p), config, save_before=waits) as loop:
        record_session(run, loop.first)
        if p.envs.frames and config.labelling == "blocking":
            film(loop, p.envs, p.bank.keep, rounds)
        p.labels.store.database.while_locked = loop.stop_if_asked
        with attended(config, loop, p.envs, p.labels, p.reward, p.learner.policy, rounds, p.guard):
            yield loop


def make_reward(config: FinetuneConfig, obs_size: int, action_size: int, env_id: str) -> Reward:
    """The learned reward, or one of the two that it is measured against."""
    if config.learn_from == "votes":
        return RewardModel(obs_size, action_size, config.reward, env_id)
    if config.learn_from == "oracle":
        return KnownReward(reward_named(config.oracle, env_id))
    return KnownReward(lambda steps: np.ones_like(steps.env_reward), normalized=False)


def take_up_demonstrations(config: FinetuneConfig, policy: Policy, length: int) -> None:
    """Raises UserError if there will be no clips of them; has the policy act like them if that is asked for."""
    check_demonstrations(config.demonstrations, policy, length)
    if config.clone_epochs:
        shown = demonstrated(config.demonstrations, policy, length, config.seed)
        clone(policy, shown, config.clone_epochs, stream(config.seed, "clone"))


def check_score(config: FinetuneConfig, env_id: str) -> None:
    """Raises UserError if the behaviour to score is unknown or another environment's."""
    if config.score and config.score not in BEHAVIOURS:
        raise unknown_name("behaviour", config.score, BEHAVIOURS)
    if config.score:
        reward_named(config.score, env_id)


def environment_arguments(config: FinetuneConfig, env_id: str, env: dict[str, Any]) -> dict[str, Any]:
    """The environment's arguments under the chosen treatment of early ends."""
    return fixed_horizon(env_id, env) if config.termination == "fixed-horizon" else env


def tell_of_far_bounds(policy: Policy) -> None:
    """A fresh policy acts around 0, within two standard deviations or so, and what it does is clipped to the bounds."""
    spaces, reach = policy.spaces, 2 * math.exp(policy.config.log_std_init)
    for low, high in zip(spaces.low, spaces.high, strict=True):
        finite = math.isfinite(low) and math.isfinite(high)
        if low > reach or high < -reach or (finite and not reach / 10 < high - low < 10 * reach):
            tell(
                f"{policy.env_id} takes actions from {low:g} to {high:g}, but a fresh policy does 0 +- {reach:.2g}, so "
                "it may not learn; wrap the environment in gymnasium.wrappers.RescaleAction(env, -1, 1)"
            )
            return


def env_seed(seed: int) -> int:
    """Far from those of the next seed: environments are seeded with this, this + 1, ..."""
    return int(stream(seed, "envs").integers(2**30))


def new_run(config: FinetuneConfig | PretrainConfig, verb: str, what: str, env_id: str, **facts: Any) -> Run:
    path = Path(config.out or f"runs/{verb}-{what}-{config.seed}")
    make_way(path)
    return Run.create(path, verb, config, env_id=env_id, **facts)


# -- what the loop calls by name


def ask_and_fit(config: FinetuneConfig, label_round: LabelRound, p: Parts) -> dict[str, float]:
    """Chooses queries and has them answered, measures the old reward on the new answers, fits it anew on all."""
    k, seed = label_round.index, config.seed
    bank, labels, reward = p.bank, p.labels, p.reward
    pool, recent = bank.pool(stream(seed, "pool", k))
    answered = list(label_round.answered)
    metrics = {}
    queries: list[Query] = []
    if label_round.labels:
        queries += questions(config, label_round, pool, recent, reward, labels, p.learner.policy)
    if demonstrations_due(config, k):
        name = demonstrations_of(config, labels.store.path.parent)
        shown = demonstrated(name, p.learner.policy, bank.length, seed)
        rng = stream(seed, "demonstrations", *([k] if k else []))
        queries += demonstrations(shown, pool[:recent], config.demonstration_clips, k, len(queries), rng)
    if queries:
        labels.ask(queries, pool, reward=k)
        answered += [query_key(query) for query in queries]
        if tried := sum(query.kind == CORRECTION for query in queries):
            metrics["correction_steps"] = float(tried * config.query.tries * bank.length)
    bank.archive(stream(seed, "archive", k))
    fresh = labels.pairs(first_asked(labels, answered, ("uniform",)))
    if reward.fitted and fresh is not None:
        metrics["reward/fresh_accuracy"] = accuracy(reward, *fresh)
    metrics |= p.guard.newest(reward, labels.answers(first_asked(labels, answered, AT_RANDOM)))
    answers = labels.answers()
    if answers is not None:
        started = time.perf_counter()
        fitted = reward.fit(answers, pool, stream(seed, "fit", k))
        metrics |= {f"reward/{name}": value for name, value in fitted.items()}
        metrics["reward/fit_seconds"] = time.perf_counter() - started
        p.guard.fitted(metrics)
    elif given := labels.counts()["answers"]:
        p.guard.silent(given)
    return metrics


def first_asked(labels: Labels, keys: Iterable[str], strategies: Collection[str]) -> list[str]:
    """Keys of the questions of these strategies among these, asked for the first time: the answers to repeats are
    known. For measuring a reward: the chosen ones are the hardest by design."""
    asked = [labels.asked[key] for key in keys]
    return [query.key for query in asked if query.strategy in strategies and not query.repeat]


def treat_termination(rollout: Rollout, treatment: str, env_id: str, run: Path) -> Rollout:
    """truncate: what ended early counts as cut off, so that its value is bootstrapped."""
    if treatment == "refuse":
        refuse_terminated(rollout.terminated, env_id, run=run)
    if treatment == "truncate":
        nothing = np.zeros_like(rollout.terminated)
        return replace(rollout, truncated=rollout.done, terminated=nothing)
    return rollout


def episode_metrics(rollout: Rollout) -> dict[str, float | None]:
    """Raw returns and lengths of the episodes that ended in this rollout."""
    ended = bool(rollout.episode_returns)
    return {
        "env_return": float(np.mean(rollout.episode_returns)) if ended else None,
        "episode_length": float(np.mean(rollout.episode_lengths)) if ended else None,
    }


def true_reward(config: FinetuneConfig, rollout: Rollout, env_id: str) -> dict[str, float]:
    """What the oracle goes by, a step on the mean, for reports only: over-optimisation shows in it."""
    judge = config.judge()
    if not judge or judge in NO_REWARD:
        return {}
    return {"true_reward": float(reward_named(judge, env_id)(rollout.as_segments()).mean())}


def behaviour_metrics(config: FinetuneConfig, bank: SegmentBank, rng: np.random.Generator) -> dict[str, float]:
    """The success score of the policy's newest clips, if the run is about a behaviour."""
    name = config.behaviour()
    if name not in BEHAVIOURS or bank.steps < bank.length:
        return {}
    with suppress(UserError):  # every clip's time spans the end of an episode
        return {"score": float(BEHAVIOURS[name].score(bank.newest(rng)).mean())}
    return {}


def pretrain_with_sb3(config: PretrainConfig, run: Run | None) -> Run:
    """Stable-Baselines3 in our place."""
    from rlhf_control.sb3 import make_sb3, pretrain_sb3  # 2.4 s to import

    if run is not None:
        raise UserError("a run of Stable-Baselines3 cannot be resumed exactly; start it again")
    make_sb3(config)  # refuses what it cannot do, before there is a folder
    tell_of_endless_episodes(config.env_id, config.env)
    run = new_run(config, "pretrain", f"{config.env_id}-sb3", config.env_id)
    with ProgressLine(run.path.name, config.total_steps) as progress:
        pretrain_sb3(config, run, progress.show).save(run.path / "policy.npz", config=asdict(config))
    run.unlock()
    return run
