"""The method. `finetune` is all of it on one screen; `pretrain` is the same loop without people.

collect -> (ask, fit) -> replace the reward -> GAE and PPO -> policy
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.anchor import Anchor
from rlhf_control.behaviours import BEHAVIOURS
from rlhf_control.config import FinetuneConfig, PretrainConfig, from_dict
from rlhf_control.data import Query, Rollout, Segments
from rlhf_control.errors import UserError, unknown_name
from rlhf_control.labels import Labels, accuracy
from rlhf_control.loop import Loop, Part
from rlhf_control.nets import Policy
from rlhf_control.oracles import Oracle, make_oracle, reward_named
from rlhf_control.policies import adopt, find_policy
from rlhf_control.ppo import PPO, RewardScaler
from rlhf_control.progress import ProgressLine
from rlhf_control.queries import STRATEGIES, choose
from rlhf_control.reward import KnownReward, RewardModel
from rlhf_control.rng import stream
from rlhf_control.rollouts import collect, fixed_horizon, make_envs, refuse_early_ends, refuse_terminated
from rlhf_control.runs import Run
from rlhf_control.segments import SegmentBank
from rlhf_control.store import FeedbackStore


def finetune(config: FinetuneConfig, *, oracle: Oracle | None = None, run: Run | None = None) -> Run:
    """Fine-tunes a policy on preferences. `oracle` answers instead of the config's; `run` is one to go on with."""
    seed, steps = config.seed, config.ppo.num_envs * config.ppo.num_steps
    rounds = label_rounds(config)
    pretrained = find_policy(config.policy)
    env_id = config.env_id or pretrained.env_id
    oracle = oracle or make_oracle(config.oracle, env_id, config.oracle_temperature)
    scored = behaviour_to_score(config, env_id)
    env = environment_arguments(config, env_id, {**pretrained.env, **config.env})
    envs = make_envs(env_id, config.ppo.num_envs, seed=seed, backend=config.backend, env=env)
    policy = adopt(pretrained, envs.spaces, env_id, env)
    anchor = Anchor(policy, config.reference)
    policy.loosen(config.shrink, config.min_log_std)
    learner = PPO(policy, config.ppo)
    reward = make_reward(config, envs.spaces.obs_size, envs.spaces.action_size, env_id)
    bank = SegmentBank(max(2, round(config.clip_seconds / envs.step_seconds)), config.ppo.num_steps)

    resumed = run is not None
    run = run or new_run(config, "finetune", config.oracle, env_id)
    labels = Labels(FeedbackStore(run.path / "labels.sqlite"), oracle, seed)
    if not resumed:
        anchor.pretrained.save(run.path / "pretrained.npz")
    parts: dict[str, Part] = {
        "learner": learner, "envs": envs, "bank": bank, "reward": reward, "anchor": anchor, "labels": labels
    }  # fmt: skip
    with Loop(run, parts, config.total_steps, steps, config.checkpoint_seconds, resumed) as loop:
        for iteration, log in loop:
            rollout = collect(envs, policy, config.ppo.num_steps, stream(seed, "act", iteration))
            rollout = treat_termination(rollout, config.termination, env_id)
            bank.add(rollout)
            progress = iteration / loop.iterations

            if iteration in rounds:  # ask about recent and older clips, learn the reward anew, move the anchor
                label_round, number = rounds[iteration]
                pool = bank.pool(stream(seed, "pool", label_round))
                queries = choose(
                    config.queries, pool, number, label_round, reward, stream(seed, "queries", label_round)
                )
                log |= ask_and_fit(labels, queries, pool, reward, stream(seed, "fit", label_round))
                bank.archive(stream(seed, "archive", label_round))
                anchor.new_round(policy)

            score = reward.score(rollout)
            penalty, kl = anchor.penalty(policy, rollout)
            rollout = rollout.with_reward(score - penalty)  # here, and only here, the reward is replaced

            if iteration in rounds:  # the old values belong to the old reward
                learner.fit_value(rollout, config.value_epochs, stream(seed, "value", iteration), progress)
            log |= learner.update(rollout, stream(seed, "update", iteration), progress)
            policy.obs_norm.update(rollout.obs)

            log |= {**kl, **labels.counts(), **episode_metrics(rollout), "reward_mean": float(score.mean())}
            if scored:
                clips = bank.recent(stream(seed, "score", iteration))
                log["score"] = float(BEHAVIOURS[scored].score(clips).mean())
    policy.save(run.path / "policy.npz", config=asdict(config))
    return run


def pretrain(config: PretrainConfig, *, run: Run | None = None) -> Run:
    """PPO on the environment's own reward."""
    if config.learner == "sb3":
        return pretrain_with_sb3(config, run)
    seed, steps = config.seed, config.ppo.num_envs * config.ppo.num_steps
    envs = make_envs(config.env_id, config.ppo.num_envs, seed=seed, backend=config.backend, env=config.env)
    policy = Policy(envs.spaces, config.net, seed, config.env_id, config.env)
    learner = PPO(policy, config.ppo)
    scaler = RewardScaler(config.ppo.num_envs, config.ppo.gamma)

    resumed = run is not None
    run = run or new_run(config, "pretrain", config.env_id, config.env_id)
    parts: dict[str, Part] = {"learner": learner, "envs": envs, "scaler": scaler}
    with Loop(run, parts, config.total_steps, steps, config.checkpoint_seconds, resumed) as loop:
        for iteration, log in loop:
            rollout = collect(envs, policy, config.ppo.num_steps, stream(seed, "act", iteration))
            scaled = scaler(rollout) if config.normalize_reward else rollout
            log |= learner.update(scaled, stream(seed, "update", iteration), iteration / loop.iterations)
            if config.normalize_obs:
                policy.obs_norm.update(rollout.obs)
            log |= episode_metrics(rollout)
    policy.save(run.path / "policy.npz", config=asdict(config))
    return run


def resume(path: str | Path) -> Run:
    """Goes on with a run exactly where it stopped: the rest is bit-equal to that of a run that never stopped."""
    run = Run.open(path)
    saved = run.read_json("config.json")
    if saved["verb"] == "pretrain":
        return pretrain(from_dict(PretrainConfig, saved["config"]), run=run)
    return finetune(from_dict(FinetuneConfig, saved["config"]), run=run)


# -- what the loop calls by name


def ask_and_fit(
    labels: Labels,
    queries: Sequence[Query],
    pool: Segments,
    reward: RewardModel | KnownReward,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Has the queries answered, measures the old reward on the new answers, and fits it anew on all of them."""
    labels.ask(queries, pool)
    metrics = {}
    fresh = labels.pairs([q for q in queries if q.strategy == "uniform"])  # the chosen ones are the hardest by design
    if reward.fitted and fresh is not None:
        metrics["reward/fresh_accuracy"] = accuracy(reward, *fresh)
    everything = labels.pairs()
    if everything is not None:
        started = time.perf_counter()
        metrics |= {f"reward/{name}": value for name, value in reward.fit(*everything, pool, rng).items()}
        metrics["reward/fit_seconds"] = time.perf_counter() - started
    return metrics


def label_rounds(config: FinetuneConfig) -> dict[int, tuple[int, int]]:
    """Iteration -> (round, how many to ask), evenly over the first `label_until` of the run."""
    iterations = max(1, config.total_steps // (config.ppo.num_envs * config.ppo.num_steps))
    at = [int(k * config.label_until * iterations / config.rounds) for k in range(config.rounds)]
    if len(set(at)) < config.rounds:
        raise UserError(
            f"{config.rounds} label rounds do not fit into the first {config.label_until:.0%} of {iterations} "
            "iterations; lower --rounds or raise --total-steps"
        )
    return {i: (k, n) for k, (i, n) in enumerate(zip(at, config.labels_by_round(), strict=True)) if n}


def make_reward(config: FinetuneConfig, obs_size: int, action_size: int, env_id: str) -> RewardModel | KnownReward:
    """The learned reward, or one of the two that it is measured against."""
    if config.learn_from == "votes":
        return RewardModel(obs_size, action_size, config.reward)
    if config.learn_from == "oracle":
        return KnownReward(reward_named(config.oracle, env_id))
    return KnownReward(lambda steps: np.zeros_like(steps.env_reward))


def behaviour_to_score(config: FinetuneConfig, env_id: str) -> str:
    """The name of the behaviour whose success is reported, or ""."""
    if config.queries not in STRATEGIES:
        raise unknown_name("query strategy", config.queries, STRATEGIES)
    if config.score:
        reward_named(config.score, env_id)  # refuses another environment's
        return config.score
    return config.oracle if config.oracle in BEHAVIOURS else ""


def environment_arguments(config: FinetuneConfig, env_id: str, env: dict[str, Any]) -> dict[str, Any]:
    """The environment's arguments under the chosen treatment of early ends; refuses early ends if none was chosen."""
    if config.termination == "fixed-horizon":
        return fixed_horizon(env_id, env)
    if config.termination == "refuse":
        refuse_early_ends(env_id, env, config.seed)
    return env


def treat_termination(rollout: Rollout, treatment: str, env_id: str) -> Rollout:
    """truncate: what ended early counts as cut off, so that its value is bootstrapped."""
    if treatment == "refuse":
        refuse_terminated(rollout.terminated, env_id)
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


def new_run(config: FinetuneConfig | PretrainConfig, verb: str, what: str, env_id: str) -> Run:
    return Run.create(config.out or f"runs/{verb}-{what}-{config.seed}", verb, config, env_id=env_id)


def pretrain_with_sb3(config: PretrainConfig, run: Run | None) -> Run:
    """Stable-Baselines3 in our place."""
    from rlhf_control.sb3 import pretrain_sb3  # 2.4 s to import

    if run is not None:
        raise UserError("a run of Stable-Baselines3 cannot be resumed exactly; start it again")
    run = new_run(config, "pretrain", f"{config.env_id}-sb3", config.env_id)
    with ProgressLine(run.path.name, config.total_steps) as progress:
        pretrain_sb3(config, run, progress.show).save(run.path / "policy.npz", config=asdict(config))
    return run
