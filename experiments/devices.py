"""Does a GPU come to what the processor comes to, for networks that see, and in how much less time?

A policy of Bricks from 84 x 84 x 4 pixels, by the CNN of Nature and Stable-Baselines3's hyperparameters for Atari,
and its fine-tuning with CNNs of the reward's own, on each device by turns: what the first update comes to, steps a
second of the last, and the seconds of the last fit. Exits with 1 where the value loss of the first update differs by
more than 2 %.

Command: python experiments/devices.py            (--devices cpu cpu where there is no GPU: the same, twice)
Cost:    some minutes
Result:  results/devices.json; none yet, for want of a GPU, and not yet run to its end
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from common import keep

import envs  # noqa: F401  registers our own games
from rlhf_control import train
from rlhf_control.compute.device import device_of
from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, PretrainConfig, RewardConfig
from rlhf_control.errors import guarded
from rlhf_control.runs.machine import environment_facts

PPO = PPOConfig(num_envs=8, num_steps=128, minibatch_size=256, epochs=4, lr=2.5e-4)
STEPS = PPO.num_envs * PPO.num_steps
FIRST = ("policy_loss", "value_loss", "entropy")  # of the first update
CLOSE = 0.02  # of the value loss: convolutions of CUDA may round products to ten bits


def of_device(device: str, folder: Path) -> dict[str, float]:
    """Trains and fine-tunes on a device; returns what is compared, and the times."""
    start, tuned = str(folder / f"{device}-start"), str(folder / f"{device}-tuned")
    config = PretrainConfig(
        "rlhf/Bricks-v0", env={"obs": "pixels"}, total_steps=4 * STEPS, ppo=PPO, device=device, out=start  # type: ignore[arg-type]
    )  # fmt: skip
    rows = train.pretrain(config).metrics()
    run = train.finetune(
        FinetuneConfig(
            start, oracle="home", labels=40, first_labels=20, rounds=2, total_steps=6 * STEPS, ppo=PPO, device=device,  # type: ignore[arg-type]
            reward=RewardConfig(pictures="networks"), guard=GuardConfig(chance="off"), termination="truncate",
            video=False, out=tuned,
        )
    )  # fmt: skip
    fits = [row["reward/fit_seconds"] for row in run.metrics() if "reward/fit_seconds" in row]
    return {name: rows[0][name] for name in FIRST} | {
        "steps_per_second": rows[-1]["steps_per_second"],
        "fit_seconds": fits[-1],
    }


def compare(devices: list[str]) -> None:
    for device in devices:
        device_of(device)
    found = []
    for i, device in enumerate(devices):
        with TemporaryDirectory() as folder:
            found.append(of_device(device, Path(folder)))
        print(device, *(f"{name} {value:.4g}" for name, value in found[i].items()), sep="  ", flush=True)
    keep("devices", {"command": " ".join(sys.argv), **environment_facts(), "devices": devices, "found": found})
    first, *others = (row["value_loss"] for row in found)
    if any(abs(other - first) > CLOSE * abs(first) for other in others):
        sys.exit("the devices come to different updates")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    sys.exit(guarded(lambda: compare(arguments.devices)))
