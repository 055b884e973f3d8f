"""What a fine-tuning takes over from the policy's own training."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control import train
from rlhf_control.arguments import parse
from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig
from rlhf_control.config.policy import AS_TRAINED
from rlhf_control.config.presets import TUNED
from rlhf_control.config.training import asks_for
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import find_training
from rlhf_control.rl.returns import RewardScaler
from rlhf_control.rng import stream
from rlhf_control.runs.run import Run
from rlhf_control.simulation.double_buffer import start_double_buffered
from rlhf_control.training.continuing import (
    SCALE,
    continued,
    hyperparameters,
    make_scaler,
    origin,
    same_reward,
    suited,
    take_over,
    where_from,
)
from rlhf_control.training.parts import env_seed, make_learner, prepare

OWN = PPOConfig(num_envs=2, num_steps=80, minibatch_size=16, epochs=1, gamma=0.9, gae_lambda=0.8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `pretrain` that nothing is written into."""
    out = str(tmp_path_factory.mktemp("runs") / "trained")
    return train.pretrain(PretrainConfig("HalfCheetah-v5", total_steps=480, out=out, ppo=OWN)).path


def test_hyperparameters_are_the_policys_then_its_tasks_then_the_defaults(
    trained: Path, cheetah_policy: Policy, tmp_path: Path
) -> None:
    assert origin(trained) == (OWN, "the policy") == origin(trained / "policy.npz")
    cheetah_policy.save(tmp_path / "bare.npz")  # as policies of other libraries are
    assert origin(tmp_path / "bare.npz") == (TUNED["HalfCheetah-v5"].ppo, "the preset of HalfCheetah-v5")
    assert origin(tmp_path / "bare.npz", "Mine-v0") == (PPOConfig(), "the defaults")
    assert hyperparameters("halfcheetah") == PPOConfig(), "which is what it was trained with"


def test_a_policy_in_a_checkpoint_alone_says_it_too(trained: Path, tmp_path: Path) -> None:
    run = Run.open(trained)
    whole = find_training(trained)
    policy_file = trained / "policy.npz"
    aside = policy_file.rename(tmp_path / "aside.npz")
    try:
        found = find_training(run.path)
    finally:
        aside.rename(policy_file)
    assert found["env_id"] == whole["env_id"] == "HalfCheetah-v5" and found["config"]["ppo"] == whole["config"]["ppo"]
    for name, moments in whole["learner"]["adam"].items():
        for key, value in moments.items():
            np.testing.assert_array_equal(found["learner"]["adam"][name][key], value)


@pytest.mark.parametrize("ppo", [{"lrr": 1.0}, {"lr": "fast"}, {"lr": -1.0}])
def test_hyperparameters_of_another_version_are_refused(ppo: dict, cheetah_policy: Policy, tmp_path: Path) -> None:
    cheetah_policy.save(tmp_path / "odd.npz", config={"ppo": ppo})
    with pytest.raises(CorruptFileError, match=r"odd.npz does not say in terms of this version how it was trained"):
        hyperparameters(tmp_path / "odd.npz")


def test_options_change_what_the_policy_says_and_nothing_else(trained: Path) -> None:
    """Also where they would not fit to the defaults (2,048 transitions), or are what these are."""
    for arguments in (["--ppo.minibatch-size", "160"], ["--ppo.gamma", "0.99"], ["--ppo.num-envs", "1"]):
        config = parse(FinetuneConfig, "finetune", [str(trained), *arguments, "--labels", "7"])
        name, value = arguments[0].removeprefix("--ppo.").replace("-", "_"), float(arguments[1])
        assert config.ppo == replace(OWN, **{name: type(getattr(OWN, name))(value)}) and config.labels == 7
        assert where_from(config) == {"hyperparameters": {"from": "the policy", "given": [name]}}
    assert parse(FinetuneConfig, "finetune", [str(trained)]) == continued(FinetuneConfig(str(trained)))
    with pytest.raises(UserError, match="no policy at nowhere"):
        parse(FinetuneConfig, "finetune", ["nowhere"])


def test_the_placeholder_is_no_place_for_values() -> None:
    given = FinetuneConfig("halfcheetah", ppo=PPOConfig())
    assert continued(given) is given and FinetuneConfig("halfcheetah").ppo == AS_TRAINED != PPOConfig()
    with pytest.raises(UserError, match="what it stands for can"):
        continued(FinetuneConfig("halfcheetah", ppo=replace(AS_TRAINED, lr=1.0)))


def test_a_run_is_set_as_its_policy_was_and_goes_on_with_its_optimiser(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = continued(FinetuneConfig(str(trained), labels=4, first_labels=4, rounds=1, out=str(tmp_path / "run")))
    run, parts = prepare(config, None, None)
    assert "PPO's hyperparameters are those of the policy: num_envs 2, num_steps 80" in capsys.readouterr().err
    assert run.read_json("manifest.json")["hyperparameters"] == {"from": "the policy", "given": []}
    assert run.config()[1].ppo == OWN == parts.learner.config
    kept = find_training(trained)["learner"]
    assert kept["adam"]["0"]["step"] > 0
    now = parts.learner.state()["adam"]
    for name, moments in kept["adam"].items():
        for key, value in moments.items():
            np.testing.assert_array_equal(now[name][key], value)
    again = prepare(config, None, Run.open(run.path))[1]  # killed before its first checkpoint
    np.testing.assert_array_equal(again.learner.state()["adam"]["0"]["exp_avg"], now["0"]["exp_avg"])
    assert parts.scaler is not None and "scaler" in parts.stateful()


def test_a_policy_that_is_to_forget_or_to_imitate_gets_a_new_optimiser(trained: Path, cheetah_policy: Policy) -> None:
    base = FinetuneConfig(str(trained), ppo=OWN, demonstrations="halfcheetah")
    state = find_training(trained)["learner"]
    for changed in ({"shrink": 0.1}, {"clone_epochs": 1}):
        learner = make_learner(
            Policy(cheetah_policy.spaces, replace(cheetah_policy.config, hidden=(64, 64)), 0, "", {}), base
        )
        take_over(learner, replace(base, **changed), state)  # type: ignore[arg-type]
        assert learner.state()["adam"]["0"]["step"] == 0
    take_over(learner, base, state)
    assert learner.state()["adam"]["0"]["step"] == state["adam"]["0"]["step"] > 0


def test_an_optimiser_of_other_networks_or_with_nan_is_refused(trained: Path, cheetah_policy: Policy) -> None:
    config, state = FinetuneConfig(str(trained), ppo=OWN), find_training(trained)["learner"]
    with pytest.raises(CorruptFileError, match="does not hold the optimiser of this policy"):
        take_over(make_learner(cheetah_policy, config), config, state)  # 16 units
    bad = {"adam": {"0": {"exp_avg": np.full(3, np.nan), "exp_avg_sq": np.zeros(3), "step": np.array(1.0)}}}
    with pytest.raises(CorruptFileError, match="does not hold the optimiser of this policy"):
        take_over(make_learner(cheetah_policy, config), config, bad)


def test_an_adaptive_learning_rate_goes_on_from_where_it_was(cheetah_policy: Policy) -> None:
    for schedule, expected in (("adaptive", 1e-5), ("linear", OWN.lr)):
        config = FinetuneConfig("p", ppo=replace(OWN, lr_schedule=schedule))  # type: ignore[arg-type]
        learner = make_learner(cheetah_policy, config)
        take_over(learner, config, {"lr": 1e-5, "kl_coef": 2.0})
        assert learner.state()["lr"] == expected and learner.state()["kl_coef"] == 2.0


def test_what_is_written_down_is_what_counted(tiny_config: FinetuneConfig) -> None:
    """A run that is gone on with does not look at the policy's hyperparameters again."""
    run = train.finetune(tiny_config)
    assert asdict(run.config()[1])["ppo"] == asdict(tiny_config.ppo)
    assert find_training(run.path)["config"]["ppo"] == asdict(tiny_config.ppo)
    assert run.read_json("manifest.json")["hyperparameters"]["from"] == "the preset of HalfCheetah-v5"


def test_a_run_is_what_a_config_asks_for_whatever_its_policy_says(trained: Path) -> None:
    asked = FinetuneConfig(str(trained), out="a")
    assert asks_for(asked, replace(continued(asked), out="elsewhere"))
    assert not asks_for(asked, replace(continued(asked), seed=1))
    older = replace(continued(asked), learn_end_costs=False)  # there was no such option
    assert asks_for(asked, older)
    assert not asks_for(replace(asked, termination="penalty"), replace(older, termination="penalty"))
    assert not asks_for(replace(asked, ppo=PPOConfig()), continued(asked))


def gone_on(start: Path, config: FinetuneConfig) -> Policy:
    """Returns what `pretrain`'s loop makes of a policy that it trained, with optimiser and scale, in new episodes."""
    kept = find_training(start)["learner"]
    policy, ppo = find_policy(start), config.ppo
    envs = start_double_buffered(policy.env_id, ppo.num_envs, seed=env_seed(config.seed), backend="auto", env={})
    learner, scaler = make_learner(policy, config), RewardScaler(ppo.num_envs, ppo.gamma).with_moments(kept[SCALE])
    learner.load_state(learner.state() | {"adam": kept["adam"]})
    iterations = config.total_steps // (ppo.num_envs * ppo.num_steps)
    for i in range(iterations):
        rollout = envs.collect(learner, ppo.num_steps, stream(config.seed, "act", i))
        learner.update(scaler(rollout), stream(config.seed, "update", i), i / iterations)
        policy.observe(rollout.obs)
    envs.close()
    return policy


def test_on_the_true_reward_it_is_what_pretrain_would_go_on_with(tmp_path: Path) -> None:
    """Bit for bit, with all defaults, early ends and label rounds."""
    out = str(tmp_path / "start")
    ppo = replace(OWN, num_envs=8, num_steps=40)
    start = train.pretrain(PretrainConfig("Hopper-v5", total_steps=8 * 40 * 3, out=out, ppo=ppo)).path
    config = continued(
        FinetuneConfig(
            str(start), oracle="env", learn_from="oracle", labels=6, first_labels=4, rounds=2, clip_seconds=0.1,
            termination="allow", total_steps=8 * 40 * 5, out=str(tmp_path / "on"), video=False,
        )
    )  # fmt: skip
    on, expected = find_policy(train.finetune(config).path), gone_on(start, config)
    for (name, ours), theirs in zip(on.state_dict().items(), expected.state_dict().values(), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_the_scale_goes_on_only_where_the_reward_does(trained: Path) -> None:
    training, true = find_training(trained), FinetuneConfig(str(trained), oracle="env", learn_from="oracle", ppo=OWN)
    moments = training["learner"][SCALE]
    assert moments[0] == 480 and moments[2] > 0
    scaler = make_scaler(true, training)
    assert scaler is not None
    np.testing.assert_array_equal(scaler.moments, moments)
    for changed in ({"oracle": "backward"}, {"learn_from": "votes"}, {"shrink": 0.1}, {"env_id": "Mine-v0"}):
        other = replace(true, **changed)  # type: ignore[arg-type]
        fresh = make_scaler(other, training)
        assert not same_reward(other, training) and fresh is not None and fresh.moments[0] == 0
    raw = {**training, "config": {"normalize_reward": False}, "learner": {"adam": training["learner"]["adam"]}}
    assert same_reward(true, raw) and make_scaler(true, raw) is None
    assert not same_reward(true, {**training, "learner": {"adam": training["learner"]["adam"]}}), "of an older file"
    with pytest.raises(CorruptFileError, match="scale of this policy's reward"):
        make_scaler(true, {**training, "learner": {SCALE: np.array([1.0, np.nan, 1.0])}})


def test_dialogue_starts_from_options_of_its_own() -> None:
    command = parse(FinetuneConfig, "finetune", ["dialogue", "--labels", "7"])
    assert command == replace(suited("dialogue"), labels=7)
    assert command.reference.policy == "pretrained" and command.guard.kl_jump
    assert parse(FinetuneConfig, "finetune", ["dialogue", "--reference.beta", "0.1"]).reference.beta == 0.1
    assert suited("halfcheetah") == FinetuneConfig("halfcheetah", ppo=hyperparameters("halfcheetah"))


def test_a_command_that_asks_for_success_alone_asks_more_and_more_of_it_at_first() -> None:
    for words, labels in (
        ("success", (300, 100)), ("success --labels 100", (100, 33)), ("success --labels=30", (30, 10)),
        ("success --first-labels 50", (300, 50)), ("success comparison", (100, 20)), ("rating", (100, 20)),
    ):  # fmt: skip
        config = parse(FinetuneConfig, "finetune", ["halfcheetah", "--feedback", *words.split()])
        assert (config.labels, config.first_labels) == labels and config.feedback[0] == words.split()[0]
