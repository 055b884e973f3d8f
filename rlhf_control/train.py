"""The method. `finetune` is all of it on one screen; `pretrain` is the same loop without people.

collect -> (ask, fit) -> replace the reward -> GAE and PPO -> policy
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rlhf_control.behaviours.own import behaviours_of
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.feedback.oracles import Oracle
from rlhf_control.feedback.schema import query_key
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.ends import asks_about_ends
from rlhf_control.queries.questions import clips_wanted, round_queries
from rlhf_control.queries.rounds import LabelRound
from rlhf_control.rl.returns import RewardScaler
from rlhf_control.rng import stream
from rlhf_control.runs.files import refuse_module
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.resuming import amend, check
from rlhf_control.runs.run import Run
from rlhf_control.runs.watchdog import WATCHDOG
from rlhf_control.simulation.double_buffer import start_double_buffered
from rlhf_control.simulation.early_ends import tell_of_endless_episodes, treat_termination
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.training.baseline import pretrain_with_sb3
from rlhf_control.training.cloning import pretrain_by_cloning
from rlhf_control.training.continuing import continued, optimiser_of
from rlhf_control.training.metrics import episode_metrics, iteration_metrics, on_new_answers, query_metrics
from rlhf_control.training.parts import (
    Parts,
    env_seed,
    learn_end_costs,
    make_learner,
    new_run,
    prepare,
    refuse_many_seeds,
    started,
    tell_of_far_bounds,
    tell_of_flat_pictures,
    tell_of_the_preset,
)
from rlhf_control.training.sessions import record_session


@environments_closed()
@one_thread()
def finetune(config: FinetuneConfig, *, oracle: Oracle | None = None, run: Run | None = None) -> Run:
    """Fine-tunes a policy on preferences. `oracle` answers instead of the config's; `run` is one to go on with."""
    refuse_many_seeds(config)
    WATCHDOG.limit = config.env_timeout
    config = continued(config if oracle is None else replace(config, oracle="custom"))
    run, p = prepare(config, oracle, run)
    policy, seed = p.learner.policy, config.seed
    with started(config, run, p) as loop:  # people beside it, if they are to answer
        for iteration, log in loop:
            progress = p.guard.progress(iteration, loop.iterations)
            rollout = p.envs.collect(p.learner, config.ppo.num_steps, stream(seed, "act", iteration))
            rollout = treat_termination(rollout, config.termination, policy.env_id, run.path)
            p.bank.add(rollout)

            label_round = p.votes.due(iteration)
            if label_round:  # ask about recent and older clips, learn the reward anew, move the anchor
                log |= ask_and_fit(config, label_round, p)
                p.anchor.new_round(policy)
                if p.guard.impatient:
                    p.votes.ask_sooner(iteration)

            learned = p.reward.predict(rollout)
            penalty, kl = p.anchor.penalty(p.learner, rollout)
            log |= p.guard.watch(p.reward, rollout, learned, kl)
            if p.guard.alarm:
                wait = not label_round and p.votes.more_to_come(iteration)
                loop.halt = p.react_to_alarm(run, stream(seed, "roll-back", iteration), wait=wait)
            rollout = p.scaled(rollout.with_reward(p.paid(learned) - penalty))  # here alone the reward is replaced

            if label_round:  # the old values belong to the old reward
                p.refit_value(rollout, stream(seed, "value", iteration), progress)
                p.guard.keep(p.learner, run.path, p.result(run))
            if not p.guard.closed:
                if p.reward.fitted:
                    log |= p.learner.update(rollout, stream(seed, "update", iteration), progress)
                    log |= p.guard.keep_exploring(policy, log)
                if policy.obs_norm.count:  # else it was trained without
                    policy.observe(rollout.obs)
            log |= kl | iteration_metrics(config, p, rollout, learned, iteration)
        p.hand_back(run, config)
    return run


@environments_closed()
@one_thread()
def pretrain(config: PretrainConfig, *, run: Run | None = None) -> Run:
    """Trains a policy by PPO on the environment's own reward."""
    refuse_many_seeds(config)
    WATCHDOG.limit = config.env_timeout
    if config.learner == "sb3":
        return pretrain_with_sb3(config, run)
    if config.learner == "cloning":
        return pretrain_by_cloning(config, run)
    seed = config.seed
    envs = start_double_buffered(
        config.env_id, config.ppo.num_envs, seed=env_seed(seed), backend=config.backend, env=config.env
    )
    policy = Policy(envs.spaces, config.net, seed, config.env_id, config.env)
    tell_of_far_bounds(policy)
    tell_of_flat_pictures(policy)
    tell_of_the_preset(config)
    tell_of_endless_episodes(config.env_id, config.env)
    learner = make_learner(policy, config)
    scaler = RewardScaler(config.ppo.num_envs, config.ppo.gamma)
    run = run or new_run(config, "pretrain", config.env_id, config.env_id)
    with Loop(run, {"learner": learner, "envs": envs, "scaler": scaler}, config) as loop:
        record_session(run, loop.first)
        for iteration, log in loop:
            rollout = envs.collect(learner, config.ppo.num_steps, stream(seed, "act", iteration))
            scaled = scaler(rollout) if config.normalize_reward else rollout
            log |= learner.update(scaled, stream(seed, "update", iteration), iteration / loop.iterations)
            if config.normalize_obs:
                policy.observe(rollout.obs)
            log |= episode_metrics(rollout)
        policy.save(run.path / "policy.npz", learner=optimiser_of(learner, scaler), config=asdict(config))
    return run


def resume(
    path: str | Path, *, oracle: Oracle | None = None, env_id: str = "", behaviours: str = "",
    changes: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """Goes on with a run exactly where it stopped: the rest is bit-equal to that of a run that never stopped. A run
    with an oracle of its own needs it again. `env_id`: see `files.refuse_module`; `behaviours`: `own.behaviours_of`;
    `changes`: other options from now on, see `resuming.amend`, as in {"termination": "truncate"}."""
    run = Run.open(path)
    run.lock()  # before anything is read that another process may change
    try:
        command, config = run.config()
        refuse_module(config.env_id, run.path, env_id)
        if changes:
            config = amend(run, config, changes)
        else:
            check(run, run.look_at_checkpoint()[1], config)
        if oracle is None:
            behaviours_of(run, behaviours)
        return pretrain(config, run=run) if command == "pretrain" else finetune(config, oracle=oracle, run=run)
    finally:
        run.unlock()


def ask_and_fit(config: FinetuneConfig, label_round: LabelRound, p: Parts) -> dict[str, float]:
    """Chooses queries and has them answered, measures the old reward on the new answers, fits it anew on all."""
    k, seed = label_round.index, config.seed
    pool, recent = p.bank.pool(stream(seed, "pool", k), clips_wanted(config, label_round, p.labels))
    episodes = p.bank.early_ends() if asks_about_ends(p.reward) else p.bank.episodes
    sources = (pool, recent), p.reward, p.labels, p.learner.policy, episodes
    queries = round_queries(p.guard.asking(config), label_round, *sources)
    if queries:
        p.labels.ask(queries, pool, reward=k)
    p.bank.archive(stream(seed, "archive", k))
    newest = [*label_round.answered, *(query_key(query) for query in queries)]
    metrics = query_metrics(config, queries) | on_new_answers(p, newest)
    answers = p.labels.answers()
    if answers is not None:
        started = time.perf_counter()
        fitted = p.reward.fit(answers, pool, stream(seed, "fit", k))
        metrics |= {f"reward/{name}": value for name, value in fitted.items()}
        metrics |= learn_end_costs(p.reward, p.labels, fitted)
        metrics["reward/fit_seconds"] = time.perf_counter() - started
        p.guard.fitted(metrics)
    elif given := p.labels.counts()["answers"]:
        p.guard.silent(given)
    return metrics
