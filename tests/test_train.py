"""The whole way through, on real MuJoCo: small runs for the wiring, short real ones for the learning."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control import train
from rlhf_control.analysis.report import report_finetuning
from rlhf_control.analysis.reward_evaluation import asked_by_round
from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import (
    AnnotatorConfig,
    FinetuneConfig,
    GuardConfig,
    PPOConfig,
    PretrainConfig,
    QueryConfig,
    ReferenceConfig,
)
from rlhf_control.data import Feedback, Query, Rollout, Segments
from rlhf_control.errors import CorruptFileError, Halted, NonFiniteError, UserError, guarded
from rlhf_control.feedback.oracles import Oracle, RewardOracle, coin_flip, make_oracle
from rlhf_control.feedback.schema import EARLY_END
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import shipped
from rlhf_control.queries.demonstrations import demonstrated
from rlhf_control.reward.ends import EndCosts
from rlhf_control.reward.model import RewardModel
from rlhf_control.rl.kl_anchor import Anchor
from rlhf_control.rl.ppo import PPO
from rlhf_control.runs.checkpoints import checkpoint_path
from rlhf_control.runs.run import Run
from rlhf_control.simulation import early_ends
from rlhf_control.simulation.double_buffer import DoubleBufferedEnvs
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.training import guard as guards
from rlhf_control.training import parts as training_parts
from rlhf_control.training.guard import Guard
from tests.conftest import TINY_PPO, TINY_REWARD, random_segments

TINY = PPOConfig(num_envs=2, num_steps=16, minibatch_size=8, epochs=2)
TIMES = {"wall_seconds", "steps_per_second", "reward/fit_seconds"}


def parameters_sha256(policy: Policy) -> str:
    sha = hashlib.sha256()
    for _name, tensor in sorted(policy.state_dict().items()):
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


def rows_without_times(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in run.metrics()]


def run_in_a_process(config: FinetuneConfig, out: Path, **more: object) -> subprocess.Popen:
    code = (
        "import json, sys; from rlhf_control import *; from rlhf_control.config.checks import from_dict;"
        "finetune(from_dict(FinetuneConfig, json.loads(sys.argv[1])))"
    )
    values = json.dumps(asdict(replace(config, out=str(out), **more)))  # type: ignore[arg-type]
    return subprocess.Popen([sys.executable, "-c", code, values], stderr=subprocess.PIPE)


# -- the loop


def test_a_run_leaves_everything(tiny_config: FinetuneConfig) -> None:
    run = train.finetune(tiny_config)
    assert {p.name for p in run.path.iterdir()} == {
        "manifest.json", "config.json", "metrics.jsonl", "checkpoints", "labels.sqlite", "pretrained.npz", "policy.npz",
        "last_good.npz", "reward.npz", "run.lock",
    }  # fmt: skip
    rows = run.metrics()
    assert [r["env_steps"] for r in rows] == [160 * (i + 1) for i in range(8)]
    assert [r["labels"] for r in rows] == [6, 9, 9, 12, 12, 12, 12, 12]
    for row in rows:
        assert {"score", "kl_start", "kl_reference", "beta", "reward_mean", "queries", "wall_seconds"} <= row.keys()
    assert "reward/heldout_accuracy" in rows[0] and "reward/fresh_accuracy" in rows[1]
    store = FeedbackStore(run.path / "labels.sqlite")
    assert len(store.asked()) == 12 and {v.query for v in store.votes()} == {asked.key for asked in store.asked()}
    with pytest.raises(UserError, match="exists"):
        train.finetune(tiny_config)


def test_the_environments_reward_cannot_leak(tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NaN for an environment reward and an oracle that does not read it, everything else stays finite."""
    collect = DoubleBufferedEnvs.collect

    def blind(*args: object) -> Rollout:
        rollout = collect(*args)  # type: ignore[arg-type]
        nan = np.full_like(rollout.env_reward, np.nan)
        return replace(rollout, env_reward=nan, reward=nan)

    monkeypatch.setattr(DoubleBufferedEnvs, "collect", blind)
    run = train.finetune(tiny_config)
    for row in run.metrics():
        assert not [k for k, v in row.items() if v is None and k not in ("env_return", "episode_length")]
        assert "gradient_steps" in row
    monkeypatch.undo()
    seeing = train.finetune(replace(tiny_config, out=tiny_config.out + "-seeing"))
    assert parameters_sha256(find_policy(seeing.path)) == parameters_sha256(find_policy(run.path))


def test_the_loop_is_wired_as_it_says(tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes where, and when: the learner gets the learned reward less the penalty, the critic is refitted and the
    anchor moves in label rounds, the normaliser and the bank take in what was collected."""
    seen: dict[str, list] = {"update": [], "value": [], "learned": [], "penalty": [], "parts": []}
    update, fit_value, predict, penalty = PPO.update, PPO.fit_value, RewardModel.predict, Anchor.penalty

    def spy_update(self: PPO, rollout: Rollout, rng: np.random.Generator, progress: float) -> dict[str, float]:
        seen["update"].append(rollout)
        return update(self, rollout, rng, progress)

    def spy_value(self: PPO, rollout: Rollout, *args: object) -> None:
        seen["value"].append(len(seen["update"]))
        fit_value(self, rollout, *args)  # type: ignore[arg-type]

    def spy_predict(self: RewardModel, steps: Rollout) -> np.ndarray:
        seen["learned"].append(predict(self, steps))
        return seen["learned"][-1]

    def spy_penalty(self: Anchor, policy: Policy, rollout: Rollout) -> tuple:
        seen["penalty"].append(penalty(self, policy, rollout))
        return seen["penalty"][-1]

    prepare = training_parts.prepare

    def spy_prepare(*args: object) -> tuple:
        seen["parts"].append(prepare(*args))  # type: ignore[arg-type]
        return seen["parts"][-1]

    monkeypatch.setattr(PPO, "update", spy_update)
    monkeypatch.setattr(PPO, "fit_value", spy_value)
    monkeypatch.setattr(RewardModel, "predict", spy_predict)
    monkeypatch.setattr(Anchor, "penalty", spy_penalty)
    monkeypatch.setattr(train, "prepare", spy_prepare)
    config = replace(
        tiny_config, reference=ReferenceConfig("round", beta=1.0), min_log_std=0.0, rescale_value=False
    )  # fmt: skip
    run = train.finetune(config)
    rows, (_, parts) = run.metrics(), seen["parts"][0]
    assert sorted(parts.votes.rounds) == seen["value"] == [0, 1, 3]
    for i, (rollout, learned, (taken, _)) in enumerate(
        zip(seen["update"], seen["learned"], seen["penalty"], strict=True)
    ):
        unit = (learned - taken).ravel() @ rollout.reward.ravel() / np.square(rollout.reward).sum()
        np.testing.assert_allclose(unit * rollout.reward, learned - taken, atol=1e-4)
        assert not np.array_equal(rollout.reward, rollout.env_reward)
        at_itself = float(np.abs(taken).max()) < 1e-4  # the ratchet: at a round the policy is its own reference
        assert at_itself == (i in parts.votes.rounds)
        assert taken.mean() > -1e-2  # a log-ratio, whose mean over the policy's actions is a KL
    np.testing.assert_allclose([r["lr"] for r in rows], config.ppo.lr * (1 - np.arange(8) / 8))
    assert "reward/fresh_accuracy" not in rows[0]
    start = find_policy(run.path / "pretrained.npz")
    assert parts.learner.policy.obs_norm.count == start.obs_norm.count + 8 * 160
    assert parts.bank.older is not None and len(parts.bank.older) > len(parts.bank.recent(np.random.default_rng(0)))
    assert rows[0]["kl_start"] > 0.1  # it was loosened: a standard deviation of 1 instead of 0.6


def test_the_critic_is_brought_to_each_reward_that_is_fitted(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rollouts that are kept, paid for by the new reward, the newest as PPO learns from it; before its passes,
    and not without them."""
    given: list[list[Rollout]] = []
    updated: list[Rollout] = []
    rescale, update, fit_value = PPO.rescale_value, PPO.update, PPO.fit_value

    def spy_rescale(self: PPO, rollouts: list[Rollout]) -> None:
        given.append(rollouts)
        rescale(self, rollouts)

    def spy_value(self: PPO, rollout: Rollout, *args: object) -> None:
        assert not given or rollout is given[-1][-1]
        fit_value(self, rollout, *args)  # type: ignore[arg-type]

    def spy_update(self: PPO, rollout: Rollout, *args: object) -> dict[str, float]:
        updated.append(rollout)
        return update(self, rollout, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(PPO, "rescale_value", spy_rescale)
    monkeypatch.setattr(PPO, "fit_value", spy_value)
    monkeypatch.setattr(PPO, "update", spy_update)
    run = train.finetune(replace(tiny_config, reference=ReferenceConfig(beta=0.0)))
    assert [rollouts[-1] is updated[i] for rollouts, i in zip(given, (0, 1, 3), strict=True)] == [True] * 3
    reward = RewardModel.load(run.path / "reward.npz")
    last = given[-1]  # after which nothing was fitted
    assert len(last) > 1
    learned = [reward.predict(rollout) for rollout in last]
    unit = learned[-1].ravel() @ last[-1].reward.ravel() / np.square(last[-1].reward).sum()
    assert abs(unit - 1) > 1e-3  # they are in the critic's
    for rollout, rewards in zip(last, learned, strict=True):
        np.testing.assert_allclose(unit * rollout.reward, rewards, atol=1e-4)
    given.clear()
    train.finetune(replace(tiny_config, value_epochs=0, out=tiny_config.out + "-without"))
    assert not given


def test_every_kind_of_feedback_in_one_run(tiny_config: FinetuneConfig) -> None:
    """Half as many of each kind as labels a round, demonstrations on top in the first; all are learned from."""
    kinds = ("comparison", "ranking", "rating", "reward", "success")
    config = replace(
        tiny_config, feedback=kinds, clips_per_query=3, labels=20, first_labels=10, rounds=3,
        env={"max_episode_steps": 30},
        demonstrations=tiny_config.policy, demonstration_clips=3, annotator=AnnotatorConfig(skip=0.3, equal=0.1),
    )  # fmt: skip
    run = train.finetune(config)
    rows = run.metrics()
    queries = [r["queries"] for r in rows]
    assert queries[0] == 10 + 3 and queries[-1] == 20 + 3
    assert rows[-1]["labels"] <= rows[-1]["answers"] == 23
    store = FeedbackStore(run.path / "labels.sqlite")
    asked = store.asked()
    assert [sum(a.kind == kind and a.round == 0 for a in asked) for kind in (*kinds, "demonstration")] == [*[2] * 5, 3]
    assert {a.kind: len(a.clips) for a in asked} == {
        "comparison": 2, "ranking": 3, "rating": 1, "reward": 1, "success": 1, "demonstration": 2
    }  # fmt: skip
    assert len({(a.round, a.index) for a in asked}) == len(asked)
    again = train.finetune(replace(config, out=config.out + "-again"))
    assert parameters_sha256(find_policy(again.path)) == parameters_sha256(find_policy(run.path))


def test_an_expert_takes_over_in_a_run_and_is_kept_with_it(tiny_config: FinetuneConfig, tmp_path: Path) -> None:
    for expert in ("", "halfcheetah"):
        with pytest.raises(UserError, match="go together"):
            feedback = ("comparison",) if expert else ("take-over",)
            replace(tiny_config, feedback=feedback, annotator=AnnotatorConfig(expert=expert))  # type: ignore[arg-type]
    expert = str(shutil.copy(shipped()["halfcheetah"], tmp_path / "expert.npz"))
    config = replace(tiny_config, feedback=("take-over",), annotator=AnnotatorConfig(expert=expert), total_steps=320)
    config = replace(config, rounds=1, labels=6)
    run = train.finetune(config)
    asked = FeedbackStore(run.path / "labels.sqlite").asked()
    assert [(a.kind, a.strategy) for a in asked] == [("correction", "take-over")] * 6
    assert parameters_sha256(find_policy(run.path / "expert.npz")) == parameters_sha256(find_policy(expert))
    assert run.metrics()[0]["correction_steps"] == 6 * 10 and run.metrics()[0]["reward/fit_seconds"] > 0


def test_demonstrations_alone_are_learned_from_in_every_round(tiny_config: FinetuneConfig) -> None:
    config = replace(tiny_config, labels=0, rounds=3, demonstrations="halfcheetah", demonstration_clips=4)
    run = train.finetune(config)
    asked = FeedbackStore(run.path / "labels.sqlite").asked()
    assert [a.kind for a in asked] == ["demonstration"] * 12 and [a.round for a in asked] == [0] * 4 + [1] * 4 + [2] * 4
    assert run.metrics()[-1]["labels"] == 12 and sum("reward/fit_seconds" in row for row in run.metrics()) == 3


def test_a_cloned_start_is_what_fine_tuning_begins_from(tiny_config: FinetuneConfig) -> None:
    config = replace(tiny_config, demonstrations="halfcheetah", demonstration_clips=2, shrink=1.0)
    plain, cloned = train.finetune(config), train.finetune(replace(config, clone_epochs=3, out=config.out + "-c"))
    starts = [find_policy(run.path / name) for run, name in ((plain, "pretrained.npz"), (cloned, "cloned.npz"))]
    assert parameters_sha256(find_policy(cloned.path / "pretrained.npz")) == parameters_sha256(starts[0])
    assert not (plain.path / "cloned.npz").exists()
    shown = demonstrated("halfcheetah", starts[0], 30, 0)
    expert = find_policy("halfcheetah")

    def off(policy: Policy) -> float:
        obs = shown.obs.reshape(-1, 17)
        return float(np.square(policy.act(obs, None) - expert.act(obs, None)).mean())

    assert off(starts[1]) < 0.5 * off(starts[0])
    again = train.finetune(replace(config, clone_epochs=3, out=config.out + "-again"))
    assert parameters_sha256(find_policy(again.path)) == parameters_sha256(find_policy(cloned.path))


def test_the_reward_is_left_for_others(tiny_config: FinetuneConfig) -> None:
    run = train.finetune(tiny_config)
    model, state = RewardModel.load(run.path / "reward.npz", "HalfCheetah-v5"), run.load_checkpoint()[1]["reward"]
    assert model.fitted and model.env_id == "HalfCheetah-v5"
    clips = random_segments(np.random.default_rng(0), 3, 5)
    same = RewardModel(17, 6, tiny_config.reward)
    same.load_state(state)
    np.testing.assert_array_equal(model.predict(clips), same.predict(clips))
    known = train.finetune(replace(tiny_config, learn_from="oracle", out=tiny_config.out + "-known"))
    assert not (known.path / "reward.npz").exists()


def test_a_schedule_spreads_the_labels(tiny_config: FinetuneConfig) -> None:
    config = replace(tiny_config, labels=26, first_labels=6, rounds=5)
    assert config.labels_by_round() == [6, 5, 5, 5, 5]
    front = replace(config, schedule="front-loaded").labels_by_round()
    assert front[0] == 6 and sum(front) == 26 and front[1:] == sorted(front[1:], reverse=True) and front[1] > 10
    for feedback in ((), ("rating", "rating")):
        with pytest.raises(UserError, match="feedback"):
            replace(config, feedback=feedback)


def test_pretraining_scales_the_reward_and_moves_the_schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Rollout] = []
    update = PPO.update
    monkeypatch.setattr(
        PPO, "update", lambda self, rollout, *args: seen.append(rollout) or update(self, rollout, *args)
    )
    config = PretrainConfig("HalfCheetah-v5", total_steps=32 * 4, out=str(tmp_path / "a"), ppo=TINY)
    rows = train.pretrain(config).metrics()
    np.testing.assert_allclose([r["lr"] for r in rows], TINY.lr * (1 - np.arange(4) / 4))
    for rollout in seen:
        ratio = rollout.reward / rollout.env_reward
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
        assert ratio[0, 0] != 1
    train.pretrain(replace(config, normalize_reward=False, out=str(tmp_path / "b")))
    assert (seen[-1].reward == seen[-1].env_reward).all()


# -- longer clips than rollouts


def test_hopper_with_clips_longer_than_a_rollout_waits_until_there_are_enough(tmp_path: Path) -> None:
    """1.5 s are 188 steps of Hopper; a rollout has 64 here. Nothing is learned before the first votes."""
    start = train.pretrain(PretrainConfig("Hopper-v5", total_steps=64, out=str(tmp_path / "h"), ppo=TINY))
    ppo = PPOConfig(num_envs=8, num_steps=64, minibatch_size=64, epochs=1)
    config = FinetuneConfig(
        str(start.path), oracle="env", labels=8, first_labels=4, rounds=2, total_steps=512 * 12, ppo=ppo, video=False,
        termination="fixed-horizon", reward=TINY_REWARD, out=str(tmp_path / "run"), guard=GuardConfig(chance="off"),
    )  # fmt: skip
    rows = train.finetune(config).metrics()
    first = next(i for i, row in enumerate(rows) if row["labels"])
    assert first == 5  # six rollouts: 384 steps, so at least one whole clip of each of eight environments
    assert ["gradient_steps" in row for row in rows] == [i >= first for i in range(12)]


# -- determinism and resuming


@pytest.mark.slow
def test_same_seed_same_parameters_in_two_processes_and_another_seed_not(
    tiny_config: FinetuneConfig, tmp_path: Path
) -> None:
    runs = {
        name: run_in_a_process(tiny_config, tmp_path / name, seed=seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    }
    for process in runs.values():
        assert process.wait(120) == 0, process.stderr and process.stderr.read()
        process.stderr and process.stderr.close()
    digests = [parameters_sha256(find_policy(tmp_path / name)) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    assert rows_without_times(Run.open(tmp_path / "a")) == rows_without_times(Run.open(tmp_path / "b"))


@pytest.mark.slow
@pytest.mark.parametrize("reference", [ReferenceConfig(), ReferenceConfig("pretrained", 0.1, 0.05)])
def test_kill_9_at_random_moments_then_resume_is_bit_equal(
    tiny_config: FinetuneConfig, tmp_path: Path, reference: ReferenceConfig
) -> None:
    config = replace(tiny_config, reference=reference, total_steps=16 * 160)
    started = run_in_a_process(config, tmp_path / "whole")  # as the others, which have no jitter
    assert started.wait(120) == 0
    started.stderr and started.stderr.close()
    whole = Run.open(tmp_path / "whole")
    rng = np.random.default_rng(0)
    process = run_in_a_process(config, tmp_path / "killed")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for kill in range(3):
        target = (kill + 1) * 4
        while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < target):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stderr and process.stderr.close()
        code = "import sys; from rlhf_control import resume; resume(sys.argv[1])"
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "killed")], stderr=subprocess.PIPE)
    assert process.wait(120) == 0
    process.stderr and process.stderr.close()
    killed = Run.open(tmp_path / "killed")
    assert rows_without_times(killed) == rows_without_times(whole)
    assert parameters_sha256(find_policy(killed.path)) == parameters_sha256(find_policy(whole.path))
    asked = [[a.key for a in FeedbackStore(r.path / "labels.sqlite").asked()] for r in (killed, whole)]
    assert asked[0] == asked[1]


def test_votes_after_the_last_checkpoint_are_not_asked_again(tiny_config: FinetuneConfig) -> None:
    """The run dies in the middle of a round; the votes given by then are found again."""
    asked: list[str] = []

    def dies(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        if len(asked) == 4:
            raise MemoryError("killed here")
        asked.append(query.segments.digest())
        return coin_flip(query, pool, rng)

    def goes_on(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        asked.append(query.segments.digest())
        return coin_flip(query, pool, rng)

    with pytest.raises(MemoryError):
        train.finetune(tiny_config, oracle=dies)
    train.finetune(tiny_config, oracle=goes_on, run=Run.open(tiny_config.out))
    assert len(asked) == len(set(asked)) == 12


def test_a_run_with_an_oracle_of_its_own_is_resumed_with_it_alone(tiny_config: FinetuneConfig) -> None:
    run = train.finetune(tiny_config, oracle=coin_flip)
    assert run.read_json("config.json")["config"]["oracle"] == "custom"
    with pytest.raises(UserError, match="oracle="):
        train.resume(run.path)
    Path(tiny_config.policy).unlink()  # a run has its own copy
    train.resume(run.path, oracle=coin_flip)


def test_a_runs_folder_cannot_have_a_module_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_thing.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    run = Run.create(tmp_path / "run", "pretrain", PretrainConfig("evil_thing:Thing-v0"))
    run.unlock()
    with pytest.raises(UserError, match=r"would import evil_thing; .* --env-id evil_thing:Thing-v0"):
        train.resume(run.path)
    assert "evil_thing" not in sys.modules
    with pytest.raises(UserError, match="cannot make evil_thing:Thing-v0"):
        train.resume(run.path, env_id="evil_thing:Thing-v0")
    assert "evil_thing" in sys.modules


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    """Whatever OMP_NUM_THREADS says; initial weights included."""
    code = (
        "import sys; from rlhf_control import *;"
        "ppo = PPOConfig(num_envs=2, num_steps=16, minibatch_size=16, epochs=1);"
        "pretrain(PretrainConfig('HalfCheetah-v5', total_steps=64, out=sys.argv[1], ppo=ppo))"
    )
    for threads in ("1", "2", "4"):
        variables = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / threads)], check=True, env=variables)
    digests = {parameters_sha256(find_policy(tmp_path / threads)) for threads in ("1", "2", "4")}
    assert len(digests) == 1


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "CartPole-v1"])
def test_pretraining_resumes_bit_equal(tmp_path: Path, env_id: str) -> None:
    config = PretrainConfig(env_id, total_steps=32 * 6, out=str(tmp_path / "whole"), ppo=TINY, checkpoint_seconds=0)
    whole = train.pretrain(config)
    cut = train.pretrain(replace(config, out=str(tmp_path / "cut")))
    newest = checkpoint_path(cut.path, 6)
    newest.unlink()  # as if it had been killed one iteration earlier
    (cut.path / "policy.npz").unlink()
    train.resume(cut.path)
    assert parameters_sha256(find_policy(cut.path)) == parameters_sha256(find_policy(whole.path))
    assert rows_without_times(cut) == rows_without_times(whole)


# -- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"oracle": "bakward"}, "did you mean backward"),
        ({"queries": "unifrom"}, "did you mean uniform"),
        ({"score": "prowll"}, "did you mean prowl"),
        ({"env_id": "HalfChetah-v5", "oracle": "env"}, "did you mean HalfCheetah-v5"),
        ({"env_id": "Swimmer-v5", "oracle": "env"}, r"HalfCheetah-v5 .*Box\(17,\).*Swimmer-v5 .*Box\(8,\)"),
        ({"env_id": "Swimmer-v5"}, "is for HalfCheetah-v5"),
        ({"policy": "nowhere.npz"}, "no policy at nowhere.npz"),
        ({"rounds": 7}, "or --rounds 5"),
        ({"labels": 0}, "nothing to learn from"),
        ({"clone_epochs": 1, "shrink": 1.0}, "nothing to clone"),
        ({"clone_epochs": 1, "demonstrations": "halfcheetah", "shrink": 0.1}, "would undo the cloning"),
        ({"labels": 0, "demonstrations": "halfcheetah", "oracle": "human"}, "people are asked nothing"),
        ({"clip_seconds": 100.0}, "shorten --clip-seconds"),
        ({"oracle": "coin-flip", "learn_from": "oracle"}, "coin flips have no reward"),
        ({"score": "env"}, "unknown behaviour"),
        ({"env_id": "HalfCheeta-v5", "termination": "fixed-horizon"}, "did you mean HalfCheetah-v5"),
        ({"env": {"max_episode_steps": 0}}, "cannot make"),
        ({"env": {"reset_noise_scale": -1.0}}, "cannot make"),
        ({"env": {"frame_skip": 0}}, "refuses to step"),
        ({"env": {"exclude_current_positions_from_observation": False}}, r"Box\(18,\)"),
    ],
)
def test_bad_requests(tiny_config: FinetuneConfig, change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        train.finetune(replace(tiny_config, **change))
    assert not Path(tiny_config.out).exists()


def test_early_ends_are_refused_until_their_treatment_is_named(tmp_path: Path) -> None:
    run = train.pretrain(PretrainConfig("Hopper-v5", total_steps=64, out=str(tmp_path / "h"), ppo=TINY))
    ppo = PPOConfig(num_envs=4, num_steps=64, minibatch_size=32, epochs=1)
    config = FinetuneConfig(
        str(run.path), oracle="env", labels=4, first_labels=4, rounds=1, total_steps=512, clip_seconds=0.1, ppo=ppo,
        video=False, unhealthy_seconds=0.2,
    )  # fmt: skip
    with pytest.raises(UserError, match="--termination"):
        train.finetune(replace(config, out=str(tmp_path / "refused")))
    for treatment in ("fixed-horizon", "truncate", "allow"):
        chosen = replace(config, out=str(tmp_path / treatment), termination=treatment)  # type: ignore[arg-type]
        tuned = train.finetune(chosen)
        lengths = [r["episode_length"] for r in tuned.metrics() if r["episode_length"]]
        assert bool(lengths) == (treatment != "fixed-horizon")  # 128 steps an environment, of 1000
        assert find_policy(tuned.path).env == ({} if treatment == "allow" else {"terminate_when_unhealthy": False})


def test_answers_tell_a_run_what_ends_cost_and_it_is_resumed_to_the_bit(tmp_path: Path) -> None:
    """A fresh Hopper falls at once. The second run dies while it asks about ends, and is gone on with."""
    start = train.pretrain(PretrainConfig("Hopper-v5", total_steps=64, out=str(tmp_path / "h"), ppo=TINY))
    ppo = PPOConfig(num_envs=4, num_steps=64, minibatch_size=64, epochs=1)
    config = FinetuneConfig(
        str(start.path), oracle="env", labels=20, first_labels=8, rounds=3, total_steps=256 * 10, ppo=ppo, video=False,
        termination="penalty", clip_seconds=0.05, reward=TINY_REWARD, out=str(tmp_path / "run"),
        guard=GuardConfig(chance="off"), checkpoint_seconds=0,
    )  # fmt: skip
    whole = train.finetune(config)
    asked = FeedbackStore(whole.path / "labels.sqlite").asked()
    assert [sum(a.strategy == EARLY_END for a in asked if a.round == k) for k in range(3)] == [0, 2, 2]
    found = [row["reward/end_costs"] for row in whole.metrics() if "reward/end_costs" in row]
    assert len(found) == 3 and found[0] == EndCosts(6.0, 6).cost and found[1] != found[0]

    ends, judge = [0], make_oracle("env", "Hopper-v5", 0.0)

    def dies(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        ends[0] += query.strategy == EARLY_END
        if ends[0] == 4:
            raise MemoryError("killed here")
        return judge(query, pool, rng)

    stopped = replace(config, out=str(tmp_path / "stopped"))
    with pytest.raises(MemoryError):
        train.finetune(stopped, oracle=dies)
    resumed = train.finetune(stopped, oracle=judge, run=Run.open(stopped.out))
    assert parameters_sha256(find_policy(resumed.path)) == parameters_sha256(find_policy(whole.path))
    again = train.finetune(replace(config, replay=str(whole.path), out=str(tmp_path / "again")))
    assert parameters_sha256(find_policy(again.path)) == parameters_sha256(find_policy(whole.path))
    shown = sum(len(clips) for clips in asked_by_round(whole).values())
    assert shown == 2 * (20 - 4)  # of the reward of steps no more is to be judged

    treated, ends[0] = replace(config, termination="truncate", out=str(tmp_path / "treated")), 3
    with pytest.raises(MemoryError):
        train.finetune(treated, oracle=lambda query, *rest: dies(replace(query, strategy=EARLY_END), *rest))
    treated_otherwise = train.resume(treated.out, oracle=judge, changes={"termination": "penalty"})
    assert any("reward/end_costs" in row for row in treated_otherwise.metrics())
    with pytest.raises(UserError, match="learn_end_costs True"):
        train.finetune(replace(config, replay=str(whole.path), learn_end_costs=False, out=str(tmp_path / "other")))


def test_a_diverging_update_is_stopped_before_it_is_saved(tmp_path: Path) -> None:
    config = PretrainConfig("CartPole-v1", total_steps=32 * 50, out=str(tmp_path / "nan"), ppo=replace(TINY, lr=1e20))
    with pytest.raises(NonFiniteError, match=r"lower --ppo\.lr"), np.errstate(all="ignore"):
        train.pretrain(config)
    assert not (tmp_path / "nan" / "policy.npz").exists()
    assert all(np.isfinite(p.detach().numpy()).all() for p in find_policy(tmp_path / "nan").parameters())


def test_one_process_at_a_time_works_on_a_run(tiny_config: FinetuneConfig) -> None:
    run = train.finetune(tiny_config)
    run.lock()
    with pytest.raises(UserError, match="another process"):
        train.resume(run.path)


@pytest.mark.parametrize("damage", ["{}", "[1]", '{"verb": "x", "config": {}}', '{"verb": "finetune", "config": null}'])
def test_a_damaged_config_is_named(tiny_config: FinetuneConfig, damage: str) -> None:
    run = train.finetune(tiny_config)
    (run.path / "config.json").write_text(damage)
    with pytest.raises(CorruptFileError, match=r"config\.json"):
        train.resume(run.path)


def test_a_checkpoint_of_another_run_is_refused(tiny_config: FinetuneConfig) -> None:
    run = train.finetune(tiny_config)
    config = run.read_json("config.json")
    config["config"]["reward"]["members"] = 3
    run.write_json("config.json", config)
    with pytest.raises(UserError, match=r"reward\.members is 3, not 2; put it back"):
        train.resume(run.path)


def test_truncate_bootstraps_what_ended_early() -> None:
    terminated = np.array([[True, False]])
    nothing = np.zeros((1, 2, 3), np.float32)
    flat = np.zeros((1, 2), np.float32)
    rollout = Rollout(nothing, nothing, nothing, nothing[0], flat, flat, terminated, ~terminated)
    treated = early_ends.treat_termination(rollout, "truncate", "X", Path("r"))
    assert not treated.terminated.any() and treated.truncated.all()
    assert early_ends.treat_termination(rollout, "allow", "X", Path("r")) is rollout
    with pytest.raises(UserError, match=r"leaks .* `rlhf-control resume r --termination truncate`"):
        early_ends.treat_termination(rollout, "refuse", "X", Path("r"))


# -- learning: short real runs from the shipped policy

SHORT = FinetuneConfig(
    "halfcheetah", labels=60, first_labels=20, rounds=5, total_steps=102_400, video=False, shrink=0.1,
    reference=ReferenceConfig("round", beta=0.02),
)  # fmt: skip


def learned_score(config: FinetuneConfig, tmp_path: Path, oracle: Oracle | None = None) -> float:
    """Mean backward speed, m/s."""
    run = train.finetune(replace(config, out=str(tmp_path / "run")), oracle=oracle)
    _, episodes = evaluate(find_policy(run.path), 3, seed=123)
    return float(np.mean([BEHAVIOURS["backward"].score(e) for e in episodes]))


@pytest.mark.slow
def test_votes_turn_the_cheetah_around(tmp_path: Path) -> None:
    assert learned_score(SHORT, tmp_path) > 1.0


@pytest.mark.slow
def test_negated_votes_make_it_run_the_other_way(tmp_path: Path) -> None:
    oracle = RewardOracle(lambda s: -BEHAVIOURS["backward"].reward(s), "negated")
    assert learned_score(SHORT, tmp_path, oracle) < -0.5  # loosened, it starts from 0.04


@pytest.mark.slow
def test_coin_flips_gain_nothing(tmp_path: Path) -> None:
    control = replace(SHORT, oracle="coin-flip", guard=GuardConfig(chance="off", alarm="off"))
    assert learned_score(control, tmp_path) < 0.7


def test_interrupting_the_command_line(tiny_config: FinetuneConfig, tmp_path: Path) -> None:
    """SIGINT leaves a checkpoint and exits with 130."""
    arguments = ["finetune", tiny_config.policy, "--out", str(tmp_path / "i"), "--no-video", "--total-steps", "2000000"]
    process = subprocess.Popen([sys.executable, "-m", "rlhf_control", *arguments], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "i" / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "rlhf-control resume" in err
    assert Run.open(tmp_path / "i").load_checkpoint()[0] >= 1


# -- guards


def jump_at(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    """From this iteration on the KL from the pretrained policy is said to be a hundred times what it is."""
    penalty, done = Anchor.penalty, [0]

    def jumping(self: Anchor, policy: Policy, rollout: Rollout) -> tuple:
        taken, metrics = penalty(self, policy, rollout)
        done[0] += 1
        return taken, metrics | ({"kl_start": 100 * metrics["kl_start"] + 100} if done[0] > iteration else {})

    monkeypatch.setattr(Anchor, "penalty", jumping)


CLONING = {"demonstrations": "halfcheetah", "demonstration_clips": 2, "clone_epochs": 2}


@pytest.mark.parametrize("change", [{}, {"shrink": 0.1}, CLONING], ids=["by default", "loosened", "cloned"])
def test_coin_flips_hand_back_the_policy_that_came_in(
    tiny_config: FinetuneConfig, capsys: pytest.CaptureFixture[str], change: dict
) -> None:
    """To the bit, normaliser, noise and critic included; and that is said first of all."""
    config = replace(
        tiny_config, oracle="coin-flip", score="backward", labels=60, first_labels=20, guard=GuardConfig(odds=1e9),
        ppo=replace(TINY_PPO, num_steps=160), total_steps=8 * 640, **change,
    )  # fmt: skip
    run = train.finetune(config)
    rows = run.metrics()
    assert [r["guard/holding"] for r in rows] == [1] * 8 and not any("gradient_steps" in r for r in rows)
    came_in = parameters_sha256(find_policy(config.policy))
    assert parameters_sha256(find_policy(run.path)) == parameters_sha256(find_policy(run.path / "pretrained.npz"))
    assert parameters_sha256(find_policy(run.path)) == came_in
    assert capsys.readouterr().err.count("not shown to be better than coin flips") == 1
    assert not (run.path / "last_good.npz").exists()
    said, report = report_finetuning(run), (run.path / "report.md").read_text()
    assert said.startswith("Nothing was learned") and report.split("\n\n")[1].startswith("**Nothing was learned")
    assert ("cloned.npz" in said) == bool(change.get("clone_epochs")) and "rlhf-control labels" in said
    results = run.read_json("results.json")
    assert results["before"] == results["after"]
    (run.path / "policy.npz").unlink()  # as it is before the end
    assert parameters_sha256(find_policy(run.path)) == came_in


@pytest.mark.parametrize(("sooner", "rounds", "dead"), [(True, [0, 1, 2], 2), (False, [0, 5, 11], 7)])
def test_while_the_policy_is_held_questions_come_as_soon_as_there_are_new_clips(
    tiny_config: FinetuneConfig, *, sooner: bool, rounds: list[int], dead: int
) -> None:
    """A run that is stopped in between, and resumed, too."""
    config = replace(
        tiny_config, oracle="coin-flip", total_steps=24 * 160, guard=GuardConfig(odds=1e9, sooner=sooner),
    )  # fmt: skip
    stopped = replace(config, out=config.out + "-stopped")
    keep, seen = training_parts.SegmentBank.add, list[Rollout]()

    def dies(self: training_parts.SegmentBank, rollout: Rollout) -> None:
        seen.append(rollout)
        if len(seen) == dead:
            raise MemoryError("killed here")
        keep(self, rollout)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(training_parts.SegmentBank, "add", dies)
        train.finetune(stopped)
    runs = [train.finetune(config), train.resume(stopped.out)]
    assert [[r["iteration"] for r in run.metrics() if "reward/fit_seconds" in r] for run in runs] == [rounds] * 2
    assert [run.metrics()[-1]["labels"] for run in runs] == [12, 12]


def test_answers_that_cannot_tell_teach_nothing_and_that_is_said(
    tiny_config: FinetuneConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(tiny_config, shrink=0.1, guard=GuardConfig())
    run = train.finetune(config, oracle=lambda query, pool, rng: Feedback(None, "nobody"))
    assert capsys.readouterr().err.count("none of the 6 answers says which clip is better") == 1
    assert parameters_sha256(find_policy(run.path)) == parameters_sha256(find_policy(config.policy))
    assert "none of the 12 answers says which clip is better" in report_finetuning(run)


def test_a_policy_that_sees_raw_observations_goes_on_seeing_them(tiny_config: FinetuneConfig) -> None:
    """Statistics of what it does would change all that it does."""
    policy = find_policy(tiny_config.policy)
    policy.obs_norm.count.zero_()
    policy.save(tiny_config.policy)
    run = train.finetune(tiny_config)
    assert find_policy(run.path).obs_norm.count == 0 and any("gradient_steps" in row for row in run.metrics())


def test_the_last_good_policy_before_anything_is_learned_is_the_one_that_came_in(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rolled back to the start, too."""
    jump_at(monkeypatch, 0)
    options = GuardConfig("off", alarm="roll-back", window=1, kl_jump=4.0, uncertainty_jump=1e3)
    run = train.finetune(replace(tiny_config, labels=6, rounds=1, guard=options, shrink=0.1))
    came_in = parameters_sha256(find_policy(tiny_config.policy))
    assert parameters_sha256(find_policy(run.path / "last_good.npz")) == came_in


def test_guards_that_say_nothing_change_nothing(tiny_config: FinetuneConfig) -> None:
    run = train.finetune(tiny_config)
    off = train.finetune(replace(tiny_config, out=tiny_config.out + "-off", guard=GuardConfig("off", alarm="off")))
    assert parameters_sha256(find_policy(run.path)) == parameters_sha256(find_policy(off.path))
    assert not any(r["guard/alarm"] for r in run.metrics()) and "guard/alarm" not in off.metrics()[0]


def test_an_alarm_stops_the_run_which_can_be_resumed(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(tiny_config, guard=replace(tiny_config.guard, window=1, kl_jump=4.0, uncertainty_jump=1e3))
    kept: list[str] = []
    keep = Guard.keep

    def spy_keep(self: Guard, learner: PPO, path: Path, policy: Policy) -> None:
        kept.append(parameters_sha256(policy))
        keep(self, learner, path, policy)

    with monkeypatch.context() as patch:
        jump_at(patch, 5)
        patch.setattr(Guard, "keep", spy_keep)
        with pytest.raises(Halted, match="KL from the pretrained policy jumped") as halted:
            train.finetune(config)
    assert halted.value.exit_code == 3 and str(Path(config.out) / "last_good.npz") in str(halted.value)
    run = Run.open(config.out)
    rows = run.metrics()
    assert len(rows) == 6 == run.load_checkpoint()[0] and "jumped" in rows[-1]["guard/event"]
    assert "gradient_steps" in rows[4] and "gradient_steps" not in rows[5]
    assert len(set(kept)) == 3  # rounds are iterations 0, 1 and 3
    assert parameters_sha256(find_policy(run.path / "last_good.npz")) == kept[-1]
    assert run.load_checkpoint()[1]["guard"]["good"] is None  # nothing goes back there by itself
    train.resume(config.out)
    assert ["gradient_steps" in r for r in run.metrics()] == [i != 5 for i in range(8)]
    report_finetuning(run)
    assert f"Alarm at {6 * 160:,} steps" in (run.path / "report.md").read_text()


def test_the_command_line_says_the_alarm_in_one_line(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jump_at(monkeypatch, 5)
    assert (
        guarded(
            lambda: (
                train.finetune(
                    replace(tiny_config, guard=GuardConfig("off", window=1, kl_jump=4.0, uncertainty_jump=1e3))
                )
                and None
            )
        )
        == 3
    )
    hyperparameters, alarm = capsys.readouterr().err.splitlines()
    assert hyperparameters.startswith("rlhf-control: PPO's") and "looks hacked" in alarm


@pytest.mark.parametrize("at", [2, 5])
def test_an_alarm_rolls_back(tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Rounds are iterations 0, 1 and 3. After the alarm at 2, the policy of 1 waits for the round of 3; after that at
    5, the policy of 3 goes on at once. The anchor is twice as strong."""
    jump_at(monkeypatch, at)
    kept: dict[int, str] = {}
    keep, update = Guard.keep, PPO.update
    updated: list[str] = []

    def spy_keep(self: Guard, learner: PPO, *args: object) -> None:
        kept[len(kept)] = parameters_sha256(learner.policy)
        keep(self, learner, *args)  # type: ignore[arg-type]

    def spy_update(self: PPO, rollout: Rollout, *args: object) -> dict[str, float]:
        updated.append(parameters_sha256(self.policy))
        return update(self, rollout, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Guard, "keep", spy_keep)
    monkeypatch.setattr(PPO, "update", spy_update)
    for name in ("fit_value", "rescale_value"):  # or the critics would differ
        monkeypatch.setattr(PPO, name, lambda *args: None)
    rows = train.finetune(
        replace(tiny_config, guard=GuardConfig("off", alarm="roll-back", window=1, kl_jump=4.0, uncertainty_jump=1e3))
    ).metrics()
    assert [i for i, r in enumerate(rows) if r["guard/alarm"]] == [at]
    assert [i for i, r in enumerate(rows) if "gradient_steps" not in r] == [at]
    assert updated[at] == kept[1 if at == 2 else 2]  # the first update after the alarm is of the good policy
    assert [r["beta"] for r in rows] == [tiny_config.reference.beta * (1 + (i > at)) for i in range(8)]


def test_an_alarm_can_only_warn(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jump_at(monkeypatch, 5)
    run = train.finetune(
        replace(tiny_config, guard=GuardConfig("off", alarm="warn", window=1, kl_jump=4.0, uncertainty_jump=1e3))
    )
    assert "the reward looks hacked: the KL" in capsys.readouterr().err
    assert all("gradient_steps" in r for r in run.metrics())


def test_newest_answers_against_a_rising_reward(tiny_config: FinetuneConfig) -> None:
    """An annotator who means the opposite from the third round on."""

    def turncoat(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        first = query.segments.obs[0, :, 8].mean() > query.segments.obs[1, :, 8].mean()
        return Feedback((0, 1) if first == (query.round < 2) else (1, 0), "turncoat")

    config = replace(
        tiny_config, labels=60, first_labels=20, rounds=3, query=QueryConfig(random_share=1.0),
        reward=replace(TINY_REWARD, inputs="state", obs_parts=("8",), members=5, bootstrap=0.8, steps=150),
        guard=GuardConfig(alarm="warn", surprise=0.05), total_steps=24 * 160,
    )  # fmt: skip
    rows = train.finetune(config, oracle=turncoat).metrics()
    rounds = [r for r in rows if "guard/surprise" in r]
    assert rounds[0]["guard/surprise"] > 0.05 > rounds[1]["guard/surprise"]


def test_a_guarded_run_resumes_bit_equal(tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """From each of its iterations, before and after a roll-back."""
    config = replace(
        tiny_config,
        guard=GuardConfig("off", alarm="roll-back", window=1, kl_jump=1.01, uncertainty_jump=1e3, min_log_std=-0.65),
    )
    monkeypatch.setattr(guards, "KL_FLOOR", 1e-6)
    whole = train.finetune(replace(config, out=tiny_config.out + "-whole"))
    assert any(r["guard/alarm"] for r in whole.metrics())
    save = Run.save_checkpoint

    def dies(self: Run, iteration: int, state: dict) -> None:
        save(self, iteration, state)
        if iteration and iteration not in died:
            died.add(iteration)
            raise MemoryError("killed here")

    monkeypatch.setattr(Run, "save_checkpoint", dies)
    died: set[int] = set()
    run = None
    while len(died) < 8:
        with pytest.raises(MemoryError):
            train.finetune(config, run=run)
        run = Run.open(config.out)
    train.finetune(config, run=run)
    assert rows_without_times(Run.open(config.out)) == rows_without_times(whole)
    assert parameters_sha256(find_policy(config.out)) == parameters_sha256(find_policy(whole.path))


# -- corrections and several kinds


def test_corrections_alone_and_with_others(tiny_config: FinetuneConfig) -> None:
    for feedback, expected in ((("correction",), 12), (("rating", "correction"), 3 + 1 + 1)):
        config = replace(tiny_config, feedback=feedback, out=tiny_config.out + str(len(feedback)))  # type: ignore[arg-type]
        run = train.finetune(config)
        rows, store = run.metrics(), FeedbackStore(run.path / "labels.sqlite")
        asked = [a for a in store.asked() if a.kind == "correction"]
        assert len(asked) == expected and {len(a.clips) for a in asked} == {2}
        clips = store.segments([digest for a in asked for digest in a.clips])
        for a in asked:  # both begin in the same state
            first, second = (clips[digest] for digest in a.clips)
            np.testing.assert_array_equal(first.state[0], second.state[0])  # type: ignore[index]
            assert not np.array_equal(first.action, second.action)
        assert rows[0]["correction_steps"] == 6 // len(feedback) * config.query.attempts * 10
        assert rows[-1]["labels"] == 12 and "gradient_steps" in rows[-1]
    again = train.finetune(replace(config, out=config.out + "-again"))
    assert parameters_sha256(find_policy(again.path)) == parameters_sha256(find_policy(run.path))


def test_what_was_chosen_for_a_correction_is_not_asked_again(tiny_config: FinetuneConfig) -> None:
    """The run dies in the middle of a round, after four answers of six."""
    asked: list[tuple[str, int, int]] = []

    def oracle(query: Query, pool: Segments, rng: np.random.Generator) -> Feedback:
        if alive.count(query.kind) == 4 and query.kind == "correction" and not reborn:
            raise MemoryError("killed here")
        alive.append(query.kind)
        asked.append((query.kind, query.round, query.index))
        return coin_flip(query, pool, rng)

    alive: list[str] = []
    reborn = False
    config = replace(tiny_config, feedback=("correction",))
    with pytest.raises(MemoryError):
        train.finetune(config, oracle=oracle)
    reborn = True
    run = train.finetune(config, oracle=oracle, run=Run.open(config.out))
    assert len(asked) == len(set(asked)) == 2 * 12
    whole = train.finetune(replace(config, out=config.out + "-whole"), oracle=coin_flip)
    assert parameters_sha256(find_policy(whole.path)) == parameters_sha256(find_policy(run.path))


def test_corrections_need_a_simulator_that_can_be_set(tmp_path: Path) -> None:
    start = train.pretrain(PretrainConfig("CartPole-v1", total_steps=64, out=str(tmp_path / "c"), ppo=TINY))
    config = FinetuneConfig(
        str(start.path), oracle="env", feedback=("correction",), total_steps=6400, termination="truncate",
        out=str(tmp_path / "run"), clip_seconds=0.2, labels=20, rounds=2, ppo=PPOConfig(),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"CartPole-v1 cannot be put back .* --feedback"):
        train.finetune(config)
    assert not (tmp_path / "run").exists()


def test_kinds_are_mixed_and_share_no_clip(tiny_config: FinetuneConfig) -> None:
    kinds = ("comparison", "rating", "reward", "correction")
    ppo = replace(TINY_PPO, num_steps=160)
    config = replace(tiny_config, feedback=kinds, labels=24, first_labels=16, rounds=2, total_steps=4 * 640, ppo=ppo)
    run = train.finetune(config)
    asked = [a for a in FeedbackStore(run.path / "labels.sqlite").asked() if a.round == 0]
    own = [digest for a in asked for digest in a.clips[: 1 if a.kind == "correction" else None]]
    assert len(own) == 4 * (2 + 1 + 1 + 1) == len(set(own))
    in_order = [a.kind for a in asked]
    assert in_order != sorted(in_order, key=kinds.index) and [a.index for a in asked] == list(range(16))


def test_a_run_goes_on_without_the_files_it_was_started_from(
    tiny_config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another working folder, with the policy and the demonstrations gone: to the same bits."""
    shutil.copy(tiny_config.policy, tmp_path / "shown.npz")
    monkeypatch.chdir(tmp_path)
    config = replace(tiny_config, policy="start.npz", demonstrations="shown.npz", demonstration_clips=2)
    cut = [train.finetune(replace(config, out=name)) for name in ("whole", "cut")][1]
    for newest in sorted((cut.path / "checkpoints").iterdir())[1:]:
        newest.unlink()  # as if it had been killed before
    path = cut.path.absolute()
    for name in ("start.npz", "shown.npz"):
        (tmp_path / name).unlink()
    monkeypatch.chdir(Path("/"))
    resumed = train.resume(path)
    assert rows_without_times(resumed) == rows_without_times(Run.open(tmp_path / "whole"))
    assert parameters_sha256(find_policy(resumed.path)) == parameters_sha256(find_policy(tmp_path / "whole"))
