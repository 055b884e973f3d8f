"""`rlhf-control evaluate-reward RUN`: how right a run's learned reward is, most of all on clips that it has not learned
from.

S clips, L segment length, P pairs, n transitions, m samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rlhf_control.analysis.reward_distances import (
    BASELINES,
    RewardFunction,
    dard_canonical,
    epic_canonical,
    lost_since_peak,
    overoptimisation,
    pair_accuracy,
    pearson,
    pearson_distance,
    spearman,
)
from rlhf_control.analysis.reward_report import report_text
from rlhf_control.behaviours.catalogue import NO_REWARD, reward_named
from rlhf_control.behaviours.own import behaviours_of
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig
from rlhf_control.config.commands import EvaluateRewardConfig
from rlhf_control.data import Array, Segments, with_next_obs
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy, load_policy
from rlhf_control.nets.zoo import adopt
from rlhf_control.queries.segments import cut
from rlhf_control.reward.answers import Targets, stated_preferences
from rlhf_control.reward.calibration import both_ways, expected_calibration_error, reliability_table
from rlhf_control.reward.known import make_reward
from rlhf_control.reward.linear import EFFORT
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.reward.protocol import Reward
from rlhf_control.rng import stream
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.run import Run
from rlhf_control.simulation.early_ends import judged_whole
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.simulation.simulator import simulated
from rlhf_control.simulation.vector import start_envs

EPIC_SAMPLES = 256, 128  # transitions n, samples m; where there are fewer, divided alike
DARD_SAMPLES = 128, 8
SLIGHT = 0.02  # of a standard deviation
NO_NOISE = ("without noise", "expert")


@dataclass(frozen=True)
class Opened:
    """Holds a finished run, as far as its reward goes."""

    run: Run
    config: FinetuneConfig
    reward: Reward
    policy: Policy
    truth: RewardFunction | None
    truth_name: str
    length: int  # steps of a clip; 0: clips are whole episodes
    earlier: Segments | None  # clips of the policy in earlier rounds, asked about or not


@environments_closed()
@one_thread()
def evaluate_reward(config: EvaluateRewardConfig) -> dict[str, Any]:
    """Measures a run's learned reward by everything below, as plain values (None where there is no number). Also
    written into the run's folder, as reward_evaluation.json and, for reading, reward_evaluation.md.

    line: where there is one below the networks, what it goes by. sources: fresh clips of the run's policy with and
    without its noise, of an expert if one is named, and of the policy before; clips of earlier rounds that nobody was
    asked about; and, round by round, those that were, in new pairs. distances: EPIC and DARD to the true reward.
    baselines: what trivial rewards get right of the answers and, where the true reward is known, of clips and episodes.
    curves: learned and true reward and KL over steps.
    """
    opened = open_run(config)
    final = opened.policy
    policies = {
        "on-policy": final,
        "without noise": final,
        **({"expert": expert_of(config, final)} if config.expert else {}),
        "before": load_policy(opened.run.path / "pretrained.npz", final.env_id),
    }
    episodes = {}
    for name, policy in policies.items():
        policy = adopt(policy, final.spaces, final.env_id, final.env)
        _, episodes[name] = evaluate(policy, config.episodes, seed=config.seed, deterministic=name in NO_NOISE)
    asked = asked_by_round(opened.run)
    clips = {name: cut(whole, opened.length) for name, whole in episodes.items()} | not_asked(opened, asked) | asked
    rows = opened.run.metrics()
    curves = overoptimisation(rows, true_metric(opened, rows))
    result: dict[str, Any] = {
        "run": str(opened.run.path),
        "truth": opened.truth_name,
        "sources": {
            name: measure(opened, some, config.pairs, stream(config.seed, f"pairs {name}"))
            for name, some in clips.items()
        },
        "rounds": by_round(rows),
        "curves": curves,
        "over-optimisation": lost_since_peak(curves["env_steps"], curves["true"]),
    }
    if isinstance(opened.reward, RewardModel) and opened.reward.linear is not None:
        result["line"] = line(opened.reward)
    everything = [episode for whole in episodes.values() for episode in whole]
    if opened.truth is not None:
        result["distances"] = distances(opened, everything, stream(config.seed, "distances"))
    result["baselines"] = baselines(opened, everything, config.pairs, stream(config.seed, "baselines"))
    result = finite(result)
    opened.run.write_json("reward_evaluation.json", result)
    write_atomic(opened.run.path / "reward_evaluation.md", report_text(result).encode())
    return result


def open_run(config: EvaluateRewardConfig) -> Opened:
    """Raises UserError for a run without a fitted reward."""
    run = Run.open(config.run)
    command, of_run = run.config()
    behaviours_of(run, config.behaviours)
    if command != "finetune":
        raise UserError(
            f"{run.path} is a {command} run and has no learned reward; name the folder of a fine-tuning run"
        )
    state = run.load_checkpoint()[1]
    if "reward" not in state:
        raise UserError(f"{run.path} has no checkpoint yet; let the run go on")
    policy = find_policy(run.path, config.env_id)
    reward = make_reward(of_run, policy.spaces.obs_size, policy.spaces.executed_size, policy.env_id)  # and its state
    try:
        reward.load_state(state["reward"])
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptFileError(f"the checkpoint of {run.path} is of another version ({error!r})") from error
    if not reward.fitted:
        raise UserError(f"the reward of {run.path} has not been fitted yet; let the run go on")
    envs = start_envs(policy.env_id, 1, seed=0, env=policy.env)
    length = 0 if judged_whole(policy.env_id) else max(2, round(of_run.clip_seconds / envs.step_seconds))
    envs.close()
    name = config.truth or (of_run.score if of_run.oracle in NO_REWARD else of_run.oracle)
    truth = reward_named(name, policy.env_id) if name else None
    older = state.get("bank", {}).get("older")
    kept = None if older is None else Segments(**with_next_obs(older))
    return Opened(run, of_run, reward, policy, truth, name, length, kept)


def true_metric(opened: Opened, rows: Sequence[dict[str, Any]]) -> str:
    """Names the metric that follows the true reward along the run; empty where none does."""
    followed = {"true_reward": opened.config.judge(), "score": opened.config.behaviour(), "env_return": "env"}
    return next((m for m, name in followed.items() if name and name == opened.truth_name and m in rows[-1]), "")


# -- clips


def not_asked(opened: Opened, asked: dict[str, Segments]) -> dict[str, Segments]:
    """Returns clips (S, L, ...) of earlier rounds that are in no question, if the run has kept two."""
    if opened.earlier is None:
        return {}
    known = {clips[i].digest() for clips in asked.values() for i in range(len(clips))}
    free = [i for i in range(len(opened.earlier)) if opened.earlier[i].digest() not in known]
    return {"earlier": opened.earlier[np.array(free)]} if len(free) >= 2 else {}


def expert_of(config: EvaluateRewardConfig, final: Policy) -> Policy:
    """The expert's policy, in the environment of the run's."""
    return find_policy(config.expert, final.env_id, env=final.env, obs_stats=config.obs_stats, trust=config.trust)


def asked_by_round(run: Run) -> dict[str, Segments]:
    """Returns the clips (S, L, ...) of each label round's queries, each once; but of those about early ends, from
    which the reward of steps has not learned, and of whose clips one is shorter."""
    if not (run.path / "labels.sqlite").is_file():
        return {}
    store = FeedbackStore(run.path / "labels.sqlite", create=False)
    rounds: dict[int, dict[str, None]] = {}
    for asked in store.asked():
        if asked.strategy != EARLY_END:
            rounds.setdefault(asked.round, {}).update(dict.fromkeys(asked.clips))
    found = {k: list(store.segments(digests).values()) for k, digests in sorted(rounds.items())}
    return {f"round {k}": Segments.stack(clips) for k, clips in found.items() if len(clips) >= 2}


def random_pairs(clips: int, pairs: int, rng: np.random.Generator) -> Array:
    """Draws indices (P, 2) of two different clips."""
    first = rng.integers(clips, size=pairs)
    return np.stack([first, (first + rng.integers(1, clips, size=pairs)) % clips], 1)


# -- measuring


def line(reward: RewardModel) -> dict[str, Any]:
    """Returns of the straight line below the networks the `weights` that are no less than SLIGHT, the largest first:
    how many of its standard deviations the reward changes by one of that of a number, of its square or of effort,
    the sum of the actions' squares, as if these were normal; and whether networks `add` to it."""
    assert reward.linear is not None
    weights = (reward.linear / reward.config.logit_scale / reward.output_std).mean(0).numpy()
    weights[2 * reward.inputs :] *= EFFORT
    seen = np.concatenate([np.r_[part] for part in reward.parts])
    columns = [f"obs {i}" if i < reward.obs_size else f"critic's view {i - reward.obs_size}" for i in seen]
    columns += [f"action {i}" for i in range(reward.inputs - len(seen))]
    names = [*columns, *(f"{name} squared" for name in columns), "effort"]
    order = [i for i in np.argsort(-np.abs(weights), kind="stable") if abs(weights[i]) >= SLIGHT]
    adds = any(bool(parameter.any()) for parameter in reward.layers[-1])
    return {"weights": {names[i]: float(weights[i]) for i in order}, "networks_add": adds}


def measure(opened: Opened, clips: Segments, pairs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Measures what the reward says of clips (S, L, ...), and how right that is by the true reward: as the probability
    of which of two has the higher return, and as correlations of steps and of clips."""
    reward = opened.reward
    learned = reward.predict(clips)
    result: dict[str, Any] = {
        "clips": len(clips),
        "learned_mean": float(learned.mean()),
        "uncertainty_mean": float(reward.uncertainty(clips).mean()),
    }
    if opened.truth is None:
        return result
    true = opened.truth(clips)
    index = random_pairs(len(clips), pairs, rng)
    logits = reward.clip_logits(clips)[:, index]  # (E, P, 2)
    p = np.exp(-np.logaddexp(0, logits[..., 1] - logits[..., 0])).mean(0)
    better = true.mean(-1)[index[:, 0]] - true.mean(-1)[index[:, 1]]
    clear = better != 0
    probability, outcome = both_ways(np.where(better > 0, p, 1 - p)[clear])
    table = reliability_table(probability, outcome)
    return result | {
        "accuracy": pair_accuracy(p - 0.5, better),
        "ece": expected_calibration_error(probability, outcome),
        "step_pearson": pearson(learned, true),
        "step_spearman": spearman(learned, true),
        "segment_pearson": pearson(learned.mean(-1), true.mean(-1)),
        "segment_spearman": spearman(learned.mean(-1), true.mean(-1)),
        "true_mean": float(true.mean()),
        "reliability": {f.name: getattr(table, f.name).tolist() for f in fields(table)},
    }


def by_round(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what each fit said of itself: fresh_accuracy is that of the model before, on answers it had not seen."""
    names = ("fresh_accuracy", "heldout_accuracy", "heldout_ece", "train_accuracy", "uncertainty")
    return [
        {"env_steps": row["env_steps"], "labels": row.get("labels"), **{n: row.get(f"reward/{n}") for n in names}}
        for row in rows
        if "reward/heldout_accuracy" in row
    ]


# -- distances


def distances(opened: Opened, episodes: Sequence[Segments], rng: np.random.Generator) -> dict[str, float]:
    """Computes EPIC and DARD between the learned and the true reward, over transitions of these episodes. They are NaN
    where the true reward is the environment's own, which is nobody's function of (s, a, s'), and DARD also where there
    is no MuJoCo simulator to ask for successors."""
    assert opened.truth is not None
    gamma, rewards = opened.config.ppo.gamma, (opened.reward.predict, opened.truth)
    transitions = Segments.concatenate([e[:-1] for e in episodes])
    successors = Segments.concatenate([e[1:] for e in episodes])
    (n, m), (k, samples) = EPIC_SAMPLES, DARD_SAMPLES
    order = rng.permutation(len(transitions))
    n = min(n, len(order) * n // (n + m))  # or short episodes would leave nothing for the m
    chosen, coverage = order[:n], transitions[order[n : n + m]]
    epic = pearson_distance(
        *(epic_canonical(r, transitions[chosen], successors[chosen], coverage, gamma) for r in rewards)
    )
    chosen = order[:k]
    actions = transitions.action[rng.integers(len(transitions), size=(len(chosen), samples))]
    from_here = simulated(opened.policy.env_id, opened.policy.env, transitions[chosen], actions)
    from_there = simulated(opened.policy.env_id, opened.policy.env, successors[chosen], actions)
    if from_here is None or from_there is None:
        return {"epic": epic, "dard": float("nan")}
    (here, after), (there, _) = from_here, from_there
    between = Segments(here.next_obs, actions, there.next_obs, here.env_reward, after)
    dard = pearson_distance(*(dard_canonical(r, transitions[chosen], here, there, between, gamma) for r in rewards))
    return {"epic": epic, "dard": dard}


# -- trivial rewards


def baselines(
    opened: Opened, episodes: Sequence[Segments], pairs: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Measures the accuracy of the learned reward, and of those that know nothing, on what the answers state (the
    learned reward has seen them), on pairs of clips, and on all pairs of whole episodes by their sums. What `alive`
    gets right of episodes, their length has leaked; what `coin flips` gets right, a model of this kind gets right with
    answers that say nothing."""
    clips = cut(episodes, opened.length)
    index = random_pairs(len(clips), pairs, rng)
    options = opened.reward.config if isinstance(opened.reward, RewardModel) else opened.config.reward
    coins = RewardModel(episodes[0].obs.shape[-1], episodes[0].action.shape[-1], options)
    asked = random_pairs(len(clips), opened.config.labels, rng)
    coins.fit(comparisons(clips[asked], rng.integers(2, size=len(asked)).astype(np.float32)), clips, rng)
    rewards: dict[str, RewardFunction] = {"learned": opened.reward.predict, **BASELINES, "coin flips": coins.predict}
    first, second = np.triu_indices(len(episodes), 1)

    def of_pairs(reward: RewardFunction) -> tuple[Array, Array]:
        """Differences of the two clips of each pair, and of each two episodes."""
        means, sums = reward(clips).mean(-1), np.array([reward(e).sum() for e in episodes])
        return means[index[:, 0]] - means[index[:, 1]], sums[first] - sums[second]

    stated, truth = preferred(opened.run), None if opened.truth is None else of_pairs(opened.truth)
    result: dict[str, dict[str, float]] = {name: {} for name in rewards}
    for name, reward in rewards.items():
        if stated is not None:
            means = reward(stated).mean(-1)  # (P, 2)
            result[name]["answers"] = pair_accuracy(means[:, 0] - means[:, 1], np.ones(len(means)))
        if truth is not None:
            of_clips, of_episodes = of_pairs(reward)
            result[name] |= {
                "clips": pair_accuracy(of_clips, truth[0]), "episodes": pair_accuracy(of_episodes, truth[1])
            }  # fmt: skip
    return result


def preferred(run: Run) -> Segments | None:
    """Returns the better clip and the worse of every preference that the run's answers state, (P, 2, L, ...); None if
    there are none."""
    if not (run.path / "labels.sqlite").is_file():
        return None
    labels = Labels(FeedbackStore(run.path / "labels.sqlite", create=False), None, 0)
    labels.adopt()
    answers = labels.answers()
    pairs = np.zeros((0, 2), np.int64) if answers is None else stated_preferences(Targets.of(answers))[0]
    return answers.clips[pairs] if answers is not None and len(pairs) else None


# -- the report


def finite(value: Any) -> Any:
    """Returns the same with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
