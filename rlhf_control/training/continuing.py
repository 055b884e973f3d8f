"""What a fine-tuning goes on with beside the policy itself: how PPO was set when the policy was trained, the state of
its optimiser and, where the reward stays the same, the unit in which its critic learned it.

On the reward that the policy was trained on, fine-tuning is the computation that `pretrain` would go on with, bit for
bit: nothing is fitted, anchored or refitted, and the scale of the reward is that of before. (But with `stagger`, which
`pretrain` does not have, first episodes end elsewhere.)
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.config import FinetuneConfig, PPOConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.config.policy import AS_TRAINED, AsTrained
from rlhf_control.config.presets import FINETUNING, TUNED, is_ale, preset
from rlhf_control.errors import CorruptFileError, UserError, tell
from rlhf_control.interop.policies import foreign_kind
from rlhf_control.nets.policy import check_weights
from rlhf_control.nets.zoo import find_training
from rlhf_control.rl.protocol import Learner
from rlhf_control.rl.returns import RewardScaler

SCALE = "return_moments"
SAID = ("num_envs", "num_steps", "minibatch_size", "lr", "lr_schedule", "gamma", "gae_lambda")  # at the start of a run


def hyperparameters(policy: str | Path, env_id: str = "") -> PPOConfig:
    """Returns the hyperparameters with which `finetune` goes on from a policy (as FinetuneConfig names it) unless
    others are given: those of its own training or, if its file does not say, the preset `tuned` of the task, or the
    defaults where there is none."""
    return origin(policy, env_id)[0]


def origin(policy: str | Path, env_id: str = "") -> tuple[PPOConfig, str]:
    """Returns these hyperparameters, and in words where they come from."""
    training = training_of(policy)
    own = training["config"].get("ppo")
    if isinstance(own, Mapping):
        try:
            return from_dict(PPOConfig, own), "the policy"
        except (UserError, TypeError) as error:
            raise CorruptFileError(
                f"{policy} does not say in terms of this version how it was trained ({error})"
            ) from None
    task = env_id or training["env_id"]
    if task in TUNED or is_ale(task):
        return preset(task, "tuned").ppo, f"the preset of {task}"
    return PPOConfig(), "the defaults"


def suited(policy: str, env_id: str = "") -> FinetuneConfig:
    """Returns what `rlhf-control finetune POLICY` starts from: its hyperparameters, and the options that suit its task
    (`presets.FINETUNING`) or, of most, the defaults."""
    task = str(env_id or training_of(policy)["env_id"]).rpartition(":")[2]
    start = FINETUNING.get(task, FinetuneConfig(policy))
    return replace(start, policy=policy, ppo=hyperparameters(policy, env_id))


def training_of(policy: str | Path) -> dict[str, Any]:
    """Returns what is known about a policy's training, as `zoo.find_training`; of one of another library nothing is."""
    return {"env_id": "", "config": {}, "learner": {}} if foreign_kind(policy) else find_training(policy)


def continued(config: FinetuneConfig) -> FinetuneConfig:
    """Returns the config with the hyperparameters that AS_TRAINED stands for."""
    if not isinstance(config.ppo, AsTrained):
        return config
    if config.ppo != AS_TRAINED:
        raise UserError(
            "AS_TRAINED cannot be changed, but what it stands for can: replace(hyperparameters(policy), ...)"
        )
    return replace(config, ppo=hyperparameters(config.policy, config.env_id))


def where_from(config: FinetuneConfig) -> dict[str, Any]:
    """Returns, for the manifest, where the hyperparameters of a run come from, and which were given instead; says both
    in one line."""
    ppo, source = origin(config.policy, config.env_id)
    given = [name for name, value in vars(config.ppo).items() if value != getattr(ppo, name)]
    values = ", ".join(f"{name} {getattr(config.ppo, name)}" for name in SAID)
    but = f", but for {', '.join(given)}" if given else ""
    tell(f"PPO's hyperparameters are those of {source}{but}: {values}")
    return {"hyperparameters": {"from": source, "given": given}}


def optimiser_of(learner: Learner, scaler: RewardScaler) -> dict[str, Any]:
    """Returns the learner's state but for its policy, and the moments of the returns that the critic learned in units
    of, for that policy's file."""
    state = {name: value for name, value in learner.state().items() if name != "policy"}
    return state | {SCALE: scaler.state()["moments"]}


def same_reward(config: FinetuneConfig, training: Mapping[str, Any]) -> bool:
    """Tells whether the policy learns on from the very reward that its critic knows, in a unit that its file tells."""
    scaled = training["config"].get("normalize_reward", True)
    known = bool(training["learner"]) and (not scaled or SCALE in training["learner"])
    environments = {name.rpartition(":")[2] for name in (config.env_id, str(training["env_id"])) if name}
    true = config.learn_from == "oracle" and config.oracle == "env" and config.normalize_reward
    return true and known and len(environments) == 1 and not forgets(config)


def forgets(config: FinetuneConfig) -> bool:
    """Tells whether the policy is not to go on from what it can do."""
    return config.shrink != 1 or bool(config.clone_epochs)


def make_scaler(config: FinetuneConfig, training: Mapping[str, Any]) -> RewardScaler | None:
    """Makes what brings the reward into the critic's unit; None if that is the reward's own. Where the reward stays the
    same, its scale is that of before."""
    scaler = RewardScaler(config.ppo.num_envs, config.ppo.gamma)
    if not same_reward(config, training):
        return scaler if config.normalize_reward else None
    if SCALE not in training["learner"]:
        return None
    moments = np.asarray(training["learner"][SCALE], np.float64)
    if moments.shape != scaler.moments.shape or not np.isfinite(moments).all() or (moments[[0, 2]] < 0).any():
        raise CorruptFileError(f"{config.policy} does not hold the scale of this policy's reward")
    return scaler.with_moments(moments)


def take_over(learner: Learner, config: FinetuneConfig, state: Mapping[str, Any] | None) -> None:
    """Has the learner of a fresh run go on with the optimiser of the policy's training, where there is one and the
    policy is not to forget what it was about. An adaptive learning rate goes on from where it was."""
    if not state or forgets(config):
        return
    own = learner.state()
    kept = {"kl_coef": state.get("kl_coef", own["kl_coef"]), "adam": state.get("adam", own["adam"])}
    if config.ppo.lr_schedule == "adaptive":
        kept["lr"] = state.get("lr", own["lr"])
    try:
        for moments in kept["adam"].values():
            check_weights(moments)
        learner.load_state(own | kept)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        raise CorruptFileError(f"{config.policy} does not hold the optimiser of this policy ({error!r})") from error
