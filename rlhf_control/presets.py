"""Tuned hyperparameters of PPO on the environment's reward, one line of thought a task.

`tuned` aims at the return after `total_steps`, `fast` at the return after seconds, `sb3` are Stable-Baselines3's
defaults on eight environments. Found on seeds 100 and 101; `experiments/mujoco_table.py` measures them on others.
"""

from dataclasses import replace

from rlhf_control.config import NetConfig, PPOConfig, PretrainConfig
from rlhf_control.errors import UserError, unknown_name

SB3 = PretrainConfig(
    "",
    net=NetConfig(log_std_init=0.0),
    ppo=PPOConfig(num_envs=8, num_steps=256, lr_schedule="constant"),
)

BASE = PretrainConfig("")  # 16 environments x 128 steps, minibatches of 64, 10 epochs, lr 3e-4 to zero, gamma .99

TUNED = {
    "HalfCheetah-v5": replace(BASE, ppo=PPOConfig(num_envs=64, num_steps=32)),
}

FAST = {
    "HalfCheetah-v5": BASE,
}

PRESETS = {"tuned": TUNED, "fast": FAST}


def preset(env_id: str, name: str) -> PretrainConfig:
    """The preset of this name for a task; tasks without one of their own have SB3's defaults or ours. Raises UserError
    for an unknown name, and for `tuned` and `fast` where nothing was tuned."""
    if name == "sb3":
        return replace(SB3, env_id=env_id, preset=name)
    if name not in PRESETS:
        raise unknown_name("preset", name, [*PRESETS, "sb3"])
    if env_id not in PRESETS[name]:
        raise UserError(f"there is no {name} preset for {env_id}, only for {', '.join(PRESETS[name])}; try without")
    return replace(PRESETS[name][env_id], env_id=env_id, preset=name)
