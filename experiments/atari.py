"""Atari's Pong: does our PPO learn what Stable-Baselines3's learns, and can a style of play be taught by preferences?

pretrain: the preset atari (Stable-Baselines3's hyperparameters, DQN's preprocessing), ours beside Stable-Baselines3's
CnnPolicy on the same environment, by seeds. A return is the game's score over a whole game, of the sampling policy.
finetune: from the first seed's policy, `rally` (long rallies, whoever makes the point) by 300 comparisons of an oracle,
beside its reward at every step and coin flips. A frame is a 60th of a second; a step takes 4.

Command: python experiments/atari.py pretrain --steps 2000000; python experiments/atari.py finetune
         (--seeds 0-2 --learners ppo sb3 --game Pong; stopped, it goes on where it was, Stable-Baselines3's from its
         last file)
Cost:    hours: on one core that had other work, 130 steps a second of ours and 160 of Stable-Baselines3's
Files:   results/atari.json and .md, with the steps and frames that were made
Result:  none yet
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from common import RESULTS, add_place, curve, keep, make_runs

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.presets import preset
from rlhf_control.errors import guarded
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.simulation.atari.env import AtariEnv
from rlhf_control.sweeps.seeds import parse_seeds

FRAMES = 4  # of a step
PART = 20_480  # steps of Stable-Baselines3's between two files
LearnFrom = Literal["votes", "oracle", "constant"]
CONDITIONS: dict[str, tuple[str, LearnFrom]] = {
    "300 comparisons": ("rally", "votes"), "its reward": ("rally", "oracle"), "coin flips": ("coin-flip", "votes"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pretrain", "finetune"))
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--learners", nargs="+", default=["ppo", "sb3"], choices=["ppo", "sb3"])
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--policy", default="", help="to fine-tune (default: that of the first seed)")
    parser.add_argument("--runs", type=Path, default=Path("runs/atari"))
    add_place(parser)
    arguments = parser.parse_args()
    sys.exit(guarded(lambda: (pretrain if arguments.what == "pretrain" else finetune)(arguments)))


def pretrain(arguments: argparse.Namespace) -> None:
    found: dict[str, dict[str, Any]] = {}
    if "ppo" in arguments.learners:
        configs = {seed: of_seed(arguments, seed) for seed in parse_seeds(arguments.seeds)}
        make_runs(configs.values(), arguments.runs, arguments)
        found["ours"] = {str(seed): curve(Path(config.out)) for seed, config in configs.items()}
    if "sb3" in arguments.learners:
        for seed in parse_seeds(arguments.seeds):
            found.setdefault("SB3", {})[str(seed)] = stable_baselines(arguments, seed)
    keep("atari", {"command": " ".join(sys.argv), **environment_facts(), "steps": arguments.steps,
                   "frames": FRAMES * arguments.steps, "game": arguments.game, "learners": found})  # fmt: skip


def of_seed(arguments: argparse.Namespace, seed: int) -> PretrainConfig:
    env_id = f"ALE/{arguments.game}-v5"
    out = arguments.runs / f"ppo-{arguments.game}-{seed}"
    return replace(preset(env_id, "atari"), total_steps=arguments.steps, seed=seed, out=str(out))


def stable_baselines(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains Stable-Baselines3's PPO on our environment, with the hyperparameters of our preset, and returns its
    curve."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    config = of_seed(arguments, seed)
    ppo, folder = config.ppo, arguments.runs / f"sb3-{arguments.game}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    games: list[list[float]] = []  # steps, score
    if (folder / "games.json").is_file():
        games = json.loads((folder / "games.json").read_text())
    envs = DummyVecEnv([lambda: AtariEnv(config.env_id, None, **config.env) for _ in range(ppo.num_envs)])
    envs.seed(seed)
    if (folder / "model.zip").is_file():
        model = PPO.load(folder / "model.zip", envs, device="cpu")
    else:
        model = PPO(
            "CnnPolicy", envs, n_steps=ppo.num_steps, batch_size=ppo.minibatch_size, n_epochs=ppo.epochs, seed=seed,
            ent_coef=ppo.entropy_coef, device="cpu", learning_rate=lambda left: left * ppo.lr,
            clip_range=lambda left: left * ppo.clip,
        )  # fmt: skip
    scores = np.zeros(ppo.num_envs)

    def note(given: dict[str, Any], _: Any) -> bool:
        for i, info in enumerate(given["infos"]):
            scores[i] += info["score"]
            if info["game_over"]:
                games.append([model.num_timesteps, scores[i]])
                scores[i] = 0
        if model.num_timesteps % PART == 0:
            model.save(folder / "model.zip")
            (folder / "games.json").write_text(json.dumps(games))
        return True

    if model.num_timesteps < arguments.steps:  # a file goes on with the schedules where it was
        model.learn(arguments.steps - model.num_timesteps, callback=note, reset_num_timesteps=False)
        model.save(folder / "model.zip")
        (folder / "games.json").write_text(json.dumps(games))
    envs.close()
    return {"steps": [step for step, _ in games], "return": [score for _, score in games]}


def finetune(arguments: argparse.Namespace) -> None:
    policy = arguments.policy or of_seed(arguments, parse_seeds(arguments.seeds)[0]).out
    configs = {
        (name, seed): replace(
            FinetuneConfig(policy, oracle=oracle, learn_from=learn_from, score="rally", labels=300, first_labels=60),
            total_steps=arguments.steps,
            clip_seconds=2.0,
            termination="truncate",
            seed=seed,
            video=False,
            out=str(arguments.runs / f"{name.replace(' ', '-')}-{seed}"),
        )
        for name, (oracle, learn_from) in CONDITIONS.items()
        for seed in parse_seeds(arguments.seeds)
    }
    make_runs(configs.values(), arguments.runs, arguments)
    rows = ["| learned from | rally before | rally after | by seed |", "|---|---:|---:|---|"]
    for name in CONDITIONS:
        results = [Run.open(config.out).metrics() for (of, _), config in configs.items() if of == name]
        scores = [[row["score"] for row in run if row.get("score") is not None] for run in results]
        last = [score[-1] for score in scores]
        cells = ", ".join(f"{x:.2f}" for x in last)
        rows.append(f"| {name} | {np.mean([s[0] for s in scores]):.2f} | {np.mean(last):.2f} | {cells} |")
    (RESULTS / "atari.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
