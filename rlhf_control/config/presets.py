"""Hyperparameters of PPO on the environment's reward, tuned by task.

`tuned` aims at the return after `total_steps`, `fast` at the return after seconds, `atari` is for ALE, `sb3` are
Stable-Baselines3's defaults on eight environments. Chosen on seeds 100 to 103, one to four runs a choice, whose
learning curves are in experiments/results/tuning.jsonl; `experiments/ppo_table.py` measures them on other seeds.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from rlhf_control.config.options import read_toml, with_options
from rlhf_control.config.policy import NetConfig, PPOConfig, ReferenceConfig
from rlhf_control.config.reward import GuardConfig
from rlhf_control.config.training import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError, unknown_name

ABOUT = ("env_id", "policy", "obs_stats", "trust")  # options that say what is trained, and not how

SB3 = PretrainConfig(
    "",
    net=NetConfig(log_std_init=0.0),
    ppo=PPOConfig(num_envs=8, num_steps=256, lr_schedule="constant"),
)

BASE = PretrainConfig("", ppo=PPOConfig(num_envs=64, num_steps=32))  # minibatches of 64, 10 epochs, lr 3e-4 to zero
RECOMPUTE = replace(BASE, ppo=replace(BASE.ppo, recompute_advantages=True))
CAUTIOUS = replace(BASE, net=NetConfig(log_std_init=-1.0))  # smaller actions at first

LINEAR = replace(SB3, ppo=replace(SB3.ppo, lr_schedule="linear"))

# The contact forces and inertias that these tasks observe by default are many and noisy: without them Ant-v5 reached
# 2.9k rather than 1.5k. They are options of the environment; its reward stays what it is.
NO_FORCES: dict[str, bool | int | float | str] = {"include_cfrc_ext_in_observation": False}
PROPRIOCEPTION: dict[str, bool | int | float | str] = {
    **NO_FORCES,
    "include_cinert_in_observation": False,
    "include_cvel_in_observation": False,
    "include_qfrc_actuator_in_observation": False,
}

# The shaped rewards say at once what was good: a horizon of 14 steps, 0.7 s. With gamma 0.97 or 0.95 as many steps of
# Grasp (1.2M) found the goal in 91 or 97 % of the episodes, but held the block there to the end in 33 %; so 98 %.
ARM = replace(
    BASE,
    ppo=PPOConfig(
        num_envs=128, num_steps=32, minibatch_size=256, epochs=6, lr=7e-4, gamma=0.93, gae_lambda=0.9
    ),
)  # fmt: skip
# Cloned from its turns; PPO's numbers are for `finetune` to go on with: a reply counts as a whole (gamma 1).
DIALOGUE = PretrainConfig(
    "",
    learner="cloning",
    total_steps=4_608_000,
    net=NetConfig(encoder="transformer", hidden=(), critic_hidden=(64,)),
    ppo=PPOConfig(
        num_envs=64, num_steps=32, minibatch_size=512, epochs=2, lr=3e-4, lr_schedule="constant", gamma=1.0,
        value_coef=0.1, gradients="autograd",
    ),
)  # fmt: skip

# A stroke pays late, so gamma is near 1 and a rollout has a whole episode: of 64 environments x 32 steps, of which the
# critic would have to tell how they end, 450,000 steps came to 330 and 26 (seeds 100, 101), this way to 326 and 349.
SWIMMING = replace(BASE.ppo, num_envs=4, num_steps=1024, gamma=0.9999, gae_lambda=0.98)

TUNED = {
    "Ant-v5": replace(CAUTIOUS, env=NO_FORCES),
    "HalfCheetah-v5": RECOMPUTE,  # which ruins Hopper (1.0k rather than 2.8k) and Walker2d
    "Hopper-v5": BASE,  # 2.8k rather than 2.1k with 16 environments x 128 steps
    "Humanoid-v5": replace(CAUTIOUS, env=PROPRIOCEPTION),
    "HumanoidStandup-v5": replace(CAUTIOUS, env=PROPRIOCEPTION),
    "InvertedDoublePendulum-v5": RECOMPUTE,
    "InvertedPendulum-v5": BASE,
    "Pusher-v5": BASE,
    "Reacher-v5": RECOMPUTE,
    "Swimmer-v5": replace(CAUTIOUS, ppo=SWIMMING),
    "rlhf/Dialogue-v0": DIALOGUE,
    "Walker2d-v5": LINEAR,  # 4.0k and 4.7k (two seeds) rather than 3.3k with BASE
    "rlhf/ArmDoor-v0": replace(ARM, total_steps=1_000_000),
    "rlhf/ArmGrasp-v0": replace(ARM, total_steps=1_500_000),
    "rlhf/ArmReach-v0": replace(ARM, total_steps=300_000),
}

# Our own games, from 84 x 84 x 4 pixels or, with `--env obs planes`, from planes in a tenth of the time: the CNN of
# Nature, large minibatches and few epochs. What they come to from planes: `experiments/game_tasks.py`. After 700,000
# steps Orchard was at 9.7 to 10.2 of 12, after 1.2 million at 10.5 to 11.0 (three seeds), after 1.8 million the seed
# with 10.5 at 10.95. Other minibatches, epochs and CNNs were tried only while updates on pictures paired gradients with
# the wrong weights (CHANGELOG).
GAME = PretrainConfig(
    "", total_steps=700_000, env={"obs": "pixels"},
    ppo=PPOConfig(num_envs=64, num_steps=64, minibatch_size=512, epochs=3, lr=1e-3, entropy_coef=0.01),
)  # fmt: skip
GAMES = {"rlhf/Bricks-v0": GAME, "rlhf/Orchard-v0": replace(GAME, total_steps=1_800_000)}

SHORT = replace(LINEAR.ppo, num_envs=16, num_steps=128)

FAST = {
    "HalfCheetah-v5": replace(RECOMPUTE, total_steps=300_000),
    # as good, but slower, with 32 environments, lr 4e-4 and advantages recomputed: 3.0k either way (six and nine seeds)
    "Hopper-v5": replace(LINEAR, ppo=SHORT, total_steps=650_000),
    # In 600,000 steps 4.0k (four seeds); 2.0k with lr 3e-4 (three). In 650,000 with what Hopper may have, 1.7k (four)
    "Walker2d-v5": replace(LINEAR, net=NetConfig(), ppo=replace(SHORT, lr=4e-4), total_steps=560_000),
}

# Of any ALE/*-v5: Stable-Baselines3's Atari hyperparameters (rl-baselines3-zoo), with DQN's preprocessing, which
# `simulation.atari.preprocessing` explains and tests compare this with. No running statistics: rewards are clipped.
ATARI = PretrainConfig(
    "",
    total_steps=10_000_000,
    normalize_reward=False,
    normalize_obs=False,
    env={
        "repeat_action_probability": 0.0, "noop_max": 30, "use_fire_reset": True, "episodic_life": True,
        "reward_clipping": True,
    },
    net=NetConfig(hidden=()),
    ppo=PPOConfig(
        num_envs=8, num_steps=128, minibatch_size=256, epochs=4, lr=2.5e-4, clip=0.1, clip_schedule="linear",
        entropy_coef=0.01,
    ),
)  # fmt: skip

PRESETS = {"tuned": TUNED | GAMES, "fast": FAST}

# What `finetune` starts from where a task wants other options than most. Chosen on seed 100, on which 500 comparisons
# took the gold reward of a reply from 0.0 to 0.2 this way, with 199 different replies of 368. With less of an anchor
# (beta 0.05, four epochs) it was 0.6, in loops of a few words, 2.5 nats a token away, which now is an alarm; with 0.5
# and four epochs 0.45, but half of all replies were one.
FINETUNING = {
    "rlhf/Dialogue-v0": FinetuneConfig(
        "dialogue", first_labels=100, total_steps=61_440, reference=ReferenceConfig("pretrained", beta=0.5),
        guard=GuardConfig(kl_jump=2.0, uncertainty_jump=3.0, unsure=0.8, moved=0.0, window=5),
    ),
}  # fmt: skip

# Of success marks alone, for each says little: of 300, and 20 of them at first, the guard against chance let an arm
# learn that succeeded in half of its episodes when 230 had been given (seed 0), with a third at first when 125 had; of
# 100, and 20 at first, not at all (seed 1). Figures: experiments/success_marks.py
MARKS = 300


def of_marks(start: FinetuneConfig, labels: int = MARKS) -> FinetuneConfig:
    """Returns the config with so many answers, as success marks alone want them: a third of them in the first round."""
    return replace(start, labels=labels, first_labels=max(1, labels // 3))


Config = TypeVar("Config", PretrainConfig, FinetuneConfig)


def from_file(start: Config, path: str) -> Config:
    """Returns the config with the options of a file such as `rlhf-control tune` leaves, but for those that say which
    task or policy that was about. Raises UserError for a file of the other command."""
    command = "pretrain" if isinstance(start, PretrainConfig) else "finetune"
    if not path.endswith(".toml"):
        raise UserError(f"{command} takes no preset {path}, but a file that `tune` left: NAME.toml")
    file = read_toml(path)
    if file.get("command", command) != command:
        raise UserError(f"{path} is a preset of {file['command']}, and this is {command}; search with that command")
    options = file.get("options", {})
    if not isinstance(options, Mapping):
        raise UserError(f"{path}: options is {options!r}; it is a table, [options]")
    try:
        found = with_options(start, {name: value for name, value in options.items() if name not in ABOUT})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return replace(found, preset=path)


def is_ale(env_id: str) -> bool:
    """Tells whether an id is one of ALE/*-v5."""
    return env_id.removeprefix("ale_py:").startswith("ALE/")


def preset(env_id: str, name: str) -> PretrainConfig:
    """Returns the preset of this name for a task; sb3 is for any, and atari, which is their `tuned` too, for all of
    ALE/*-v5. Raises UserError for an unknown name, and for `tuned` and `fast` where nothing was tuned. NAME.toml is a
    file, such as `rlhf-control tune` leaves."""
    if name.endswith(".toml"):
        return from_file(PretrainConfig(env_id), name)
    if name == "sb3":
        return replace(SB3, env_id=env_id, preset=name)
    if name in ("atari", "tuned") and is_ale(env_id):
        return replace(ATARI, env_id=env_id, preset=name)
    if name == "atari":
        raise UserError(f"the preset atari is for ALE/*-v5, and {env_id} is none of them; try without")
    if name not in PRESETS:
        raise unknown_name("preset", name, [*PRESETS, "sb3", "atari"])
    if env_id not in PRESETS[name]:
        raise UserError(f"there is no {name} preset for {env_id}, only for {', '.join(PRESETS[name])}; try without")
    return replace(PRESETS[name][env_id], env_id=env_id, preset=name)
