"""Atari: does our PPO learn what Stable-Baselines3's learns, and can a style of play be taught by preferences?

teach:    a player of Pong in half a minute, cloned from one that reads the game's memory.
finetune: from that player, `centre` (the paddle rests near the middle while the ball is away; or `rally`, long rallies,
          whoever makes the point) by 300 comparisons of an oracle, beside its reward at every step and coin flips.
pretrain: the preset atari (Stable-Baselines3's hyperparameters, DQN's preprocessing), ours beside Stable-Baselines3's
          CnnPolicy on the same environment, by seeds. A return is the game's score over a whole game, of the sampling
          policy. A frame is a 60th of a second; a step takes 4.

Command: python experiments/atari.py teach --precision bfloat16
         python experiments/atari.py finetune --steps 40960
         python experiments/atari.py pretrain --game UpNDown --steps 51200 --precision bfloat16
         (--style rally --seeds 0-2 --learners ppo sb3 --game Pong; stopped, it goes on where it was,
         Stable-Baselines3's from its last file)
Cost:    teach half a minute of a core, finetune two to three minutes a run, nine runs; pretrain three minutes a run of
         ours, six of Stable-Baselines3's
Files:   results/atari.json and .md, with the steps and frames that were made
Result:  `centre`: of the time without a coming ball the taught player is near the middle for 24 %; from the reward at
         every step for 67, 57 and 64 % (seeds 0 to 2), winning 12 % of the points rather than 9; from 300 comparisons
         for 45, 51 and 60 %, at the price of play: it wins 2 % of them, 3.8 s a point rather than 6.7, as it follows
         the ball less. Coin flips, unguarded, come to 50, 15 and 58 %: three seeds do not tell votes from chance.
         Settings were chosen on seed 100. A player that acts at random is near the middle for 27 %.
         While a step near the middle was worth 1 and missed balls nothing, with a clip range that falls to zero, 24,576
         steps left it at 25 %. With the CNN of a player cloned on three times as much, whose choices are firmer, and a
         discount of 0.99 at lr 4e-4, 300 comparisons made 25 % and the reward 30.
         pretrain: after 51,200 steps of UpNDown, 204,800 frames, early in learning, ours makes 1,710, 1,585
         and 1,704 points a game, Stable-Baselines3's 1,032, 1,610 and 935 (30 games each), an untrained player 290. Of
         Breakout 102,400 steps teach hardly anything, 1.9 (seed 0): too few to tell learners apart.
         `rally` is not learned in 40,960 steps, not from its reward at every step either (seed 100, lr 5e-4, the
         player of before): a ball is sent back once in four seconds
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, add_place, keep, make_runs
from torch import Tensor, nn

from rlhf_control import api
from rlhf_control.behaviours.ale import BALL_TO_US, BALL_X, COMES, centre_score, rally_score
from rlhf_control.compute.threads import one_thread
from rlhf_control.config import FinetuneConfig, GuardConfig, NetConfig, PretrainConfig, ReferenceConfig
from rlhf_control.config.presets import preset
from rlhf_control.errors import guarded
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.layers import unset
from rlhf_control.nets.pictures import orthogonal
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run
from rlhf_control.simulation.atari.env import AtariEnv
from rlhf_control.simulation.atari.vector import AtariVectorEnv
from rlhf_control.simulation.rollouts import collect, fresh_episodes
from rlhf_control.simulation.vector import start_envs
from rlhf_control.spaces import Spaces
from rlhf_control.sweeps.seeds import parse_seeds

FRAMES = 4  # of a step
GAMES = 30  # of a final policy
SHOWN, EPOCHS = 8_000, 12  # steps of Pong, passes over them
PLACES = [
    54,
    51,
    BALL_X,
    50,
]  # bytes of Pong's memory: ball's and our paddle's height, ball's side, their paddle's height
NOOP, UP, DOWN = 0, 2, 3  # actions of Pong
PART = 20_480  # steps of Stable-Baselines3's between two files
CONDITIONS: dict[str, dict[str, Any]] = {
    "its reward": {"learn_from": "oracle", "labels": 10, "first_labels": 10, "rounds": 1},
    "300 comparisons": {},
    "coin flips": {"oracle": "coin-flip", "guard": GuardConfig(chance="off", alarm="off")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("teach", "pretrain", "finetune"))
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--learners", nargs="+", default=["ppo", "sb3"], choices=["ppo", "sb3"])
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--lr", type=float, default=1e-3, help="of finetune")
    parser.add_argument("--style", default="centre", choices=["centre", "rally"], help="of finetune")
    parser.add_argument("--policy", default="", help="to fine-tune (default: what `teach` made of the first seed)")
    parser.add_argument("--runs", type=Path, default=Path("runs/atari"))
    add_place(parser)
    arguments = parser.parse_args()
    sys.exit(guarded(lambda: {"teach": teach, "pretrain": pretrain, "finetune": finetune}[arguments.what](arguments)))


def pretrain(arguments: argparse.Namespace) -> None:
    seeds = parse_seeds(arguments.seeds)
    configs = {seed: of_seed(arguments, seed) for seed in seeds}
    found = {"none: an untrained player": [played(configs[seeds[0]], untrained(arguments, configs[seeds[0]]))]}
    if "ppo" in arguments.learners:
        make_runs(configs.values(), arguments.runs, arguments, trained)
        found["ours"] = [played(configs[seed], Path(configs[seed].out)) for seed in seeds]
    if "sb3" in arguments.learners:
        found["Stable-Baselines3"] = [played(configs[seed], stable_baselines(arguments, seed)) for seed in seeds]
    game = {"steps": arguments.steps, "frames": FRAMES * arguments.steps, "precision": arguments.precision,
            "seeds": seeds, "learners": found}  # fmt: skip
    add("pretrain", {arguments.game: {"command": " ".join(sys.argv), **environment_facts(), **game}})


def untrained(arguments: argparse.Namespace, config: PretrainConfig) -> Path:
    """Returns the file of a policy of before any training, whose actions are about equally likely."""
    file = arguments.runs / f"untrained-{arguments.game}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    policy = Policy(Spaces.of(*spaces_of(config)), config.net, config.seed, config.env_id, config.env)
    policy.save(file, config=asdict(config))
    return file


def played(config: PretrainConfig, policy: Path) -> dict[str, Any]:
    """Returns the scores of whole games of a final policy, of either library, that draws its actions as in training."""
    player = find_policy(policy, config.env_id, env=config.env)
    found = fresh_episodes(player, GAMES, seed=10_000, deterministic=False, observations=False)
    return {"seed": config.seed, "return": float(np.mean(found.returns)), "returns": found.returns}


def teach(arguments: argparse.Namespace) -> None:
    """Makes a player of Pong in half a minute, small enough to be shipped: cloned from one that reads the game's
    memory. What its network sees has to tell, too, where ball and paddles are and whether the ball comes: without that
    the actions alone taught it nothing in as many steps."""
    config = taught(parse_seeds(arguments.seeds)[0])
    config = replace(config, net=replace(config.net, precision=arguments.precision))
    shown, action, places = tracked(8, SHOWN // 8, config)
    policy = Policy(Spaces.of(*spaces_of(config)), config.net, config.seed, config.env_id, config.env)
    generator, rng = torch.Generator().manual_seed(config.seed), np.random.default_rng(config.seed)
    tell = orthogonal(unset(nn.Linear(config.net.picture_features, places.shape[-1], device="meta")), generator)
    optimizer = torch.optim.Adam([*policy.parameters(), *tell.parameters()], lr=1e-3)
    started, out = time.perf_counter(), arguments.runs / f"taught-{config.seed}.npz"
    with one_thread():
        for epoch in range(EPOCHS):
            losses = []
            for rows in torch.from_numpy(rng.permutation(len(action))).split(64):
                features = policy.encoder(shown[rows])
                loss = nn.functional.cross_entropy(policy.actor(policy.trunk(features)), action[rows])
                told = (tell(features) - places[rows]).square().mean()
                optimizer.zero_grad()
                (loss + told).backward()
                optimizer.step()
                losses.append([loss.item(), told.item()])
            print(f"pass {epoch}: {np.mean(losses, 0).round(3)}, {time.perf_counter() - started:.0f} s", flush=True)
    policy.zero_grad(set_to_none=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    policy.save(out, config=asdict(config))


def taught(seed: int) -> PretrainConfig:
    """What `finetune` goes on with."""
    base = preset("ALE/Pong-v5", "atari")
    ppo = replace(
        base.ppo, num_envs=16, epochs=4, clip=0.2, clip_schedule="constant", gamma=0.95, gae_lambda=0.9
    )  # a paddle is moved in less than a second
    return replace(base, net=NetConfig((), encoder="cnn-small", picture_features=160), ppo=ppo, seed=seed)


def spaces_of(config: PretrainConfig) -> tuple[Any, Any]:
    env = AtariEnv(config.env_id, None, **config.env)
    return env.observation_space, env.action_space


def tracked(num_envs: int, steps: int, config: PretrainConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what is seen (M, O) in so many steps of each of some games, what a player who keeps its paddle at the
    ball's height, which it reads in the game's memory, would do there (M,), and where ball and paddles are, in 40
    pixels, and whether the ball comes, 1 or -1 (M, 5). Half of the time it does anything, for ten steps, to get
    astray."""
    envs = AtariVectorEnv(config.env_id, num_envs, num_processes=0, **config.env)  # type: ignore[arg-type]
    obs, _ = envs.reset(seed=config.seed)
    rng = np.random.default_rng(config.seed)
    astray, left = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
    seen, right, places = [], [], []
    for _ in range(steps):
        at = envs.facts[:, PLACES]
        to_go = at[:, 0] - at[:, 1] - 8  # of their tops
        do = np.where(to_go > 8, DOWN, np.where(to_go < -8, UP, NOOP))
        do[(at[:, 2] == 0) | (at[:, 0] == 0)] = NOOP  # there is no ball
        begins = (left == 0) & (rng.random(num_envs) < 0.08)
        astray[begins] = rng.choice([NOOP, UP, DOWN], num_envs)[begins]
        left = np.where(begins, 10, np.maximum(left - 1, 0))
        seen.append(obs.reshape(num_envs, -1))
        right.append(do)
        comes = np.where(envs.facts[:, BALL_TO_US] == COMES, 1, -1)
        places.append(np.column_stack([(at - 128) / 40, comes]))
        obs, *_ = envs.step(np.where(left > 0, astray, do))
    envs.close()
    return (
        torch.from_numpy(np.concatenate(seen)),
        torch.from_numpy(np.concatenate(right)),
        torch.from_numpy(np.concatenate(places).astype(np.float32)),
    )


def of_seed(arguments: argparse.Namespace, seed: int) -> PretrainConfig:
    env_id = f"ALE/{arguments.game}-v5"
    out = arguments.runs / f"ppo-{arguments.game}-{seed}"
    config = preset(env_id, "atari")
    net = replace(config.net, precision=arguments.precision)
    return replace(config, net=net, total_steps=arguments.steps, seed=seed, out=str(out))


def stable_baselines(arguments: argparse.Namespace, seed: int) -> Path:
    """Trains Stable-Baselines3's PPO on our environment, with the hyperparameters of our preset, and returns its
    file."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    config = of_seed(arguments, seed)
    ppo, folder = config.ppo, arguments.runs / f"sb3-{arguments.game}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
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

    def keep_file(_: Any, __: Any) -> bool:
        if model.num_timesteps % PART == 0:
            model.save(folder / "model.zip")
        return True

    if model.num_timesteps < arguments.steps:  # a file goes on with the schedules where it was
        model.learn(arguments.steps - model.num_timesteps, callback=keep_file, reset_num_timesteps=False)
        model.save(folder / "model.zip")
    envs.close()
    return folder / "model.zip"


def finetune(arguments: argparse.Namespace) -> None:
    """All conditions of a seed before the next seed."""
    seeds, style = parse_seeds(arguments.seeds), arguments.style
    start = arguments.policy or str(arguments.runs / f"taught-{seeds[0]}.npz")
    configs = {
        (name, seed): replace(
            FinetuneConfig(
                start, **{"oracle": style, "score": style, "labels": 300, "first_labels": 100, "rounds": 3} | options
            ),
            total_steps=arguments.steps,
            clip_seconds=2.0,
            reference=ReferenceConfig("pretrained", beta=0.1),
            termination="truncate",
            ppo=replace(taught(seed).ppo, lr=arguments.lr),
            seed=seed,
            video=False,
            checkpoint_seconds=60,
            out=str(arguments.runs / f"{style}-{name.replace(' ', '-')}-{seed}"),
        )
        for seed in seeds
        for name, options in CONDITIONS.items()
    }
    make_runs(configs.values(), arguments.runs, arguments, trained)
    before = measured(start)
    found = {name: [of_run(configs[name, seed].out) for seed in seeds] for name in CONDITIONS}
    commit = Run.open(configs[next(iter(configs))].out).read_json("manifest.json")["git_commit"]
    sha = hashlib.sha256(Path(start).read_bytes()).hexdigest()
    facts = {"command": " ".join(sys.argv), **environment_facts(), "commit": commit, "policy": sha, "seeds": seeds}
    add(
        "finetune",
        {**facts, "style": style, "steps": arguments.steps, "lr": arguments.lr, "before": before, "runs": found},
    )


def trained(config: PretrainConfig | FinetuneConfig) -> None:
    """Makes a run, or goes on with it, without a report: ten whole games would take longer than the training."""
    run = Path(config.out)
    if (run / "policy.npz").is_file():
        return
    if (run / "config.json").is_file():
        api.resume(run, report=False)
    elif isinstance(config, PretrainConfig):
        api.pretrain(config, report=False)
    else:
        api.finetune(config, report=False)


def add(part: str, result: dict[str, Any]) -> None:
    """Keeps a part of the results beside the others, and makes the tables of all."""
    file = RESULTS / "atari.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    if part == "pretrain":  # a game beside others
        result = kept.get(part, {}) | result
    kept[part] = result
    keep("atari", kept)
    tables = [table(kept[name]) for name, table in TABLES.items() if name in kept]
    (RESULTS / "atari.md").write_text("\n".join(tables))
    print("\n".join(tables))


def styles_table(result: dict[str, Any]) -> str:
    score, unit = {"centre": ("centre", "near the middle"), "rally": ("long", "in rallies of 10 s")}[result["style"]]
    rows = [f"| learned from | {unit} | by seed | s a point | points won |", "|---|---:|---|---:|---:|"]
    for name, runs in {"nothing (before)": [result["before"]], **result["runs"]}.items():
        mean = {key: np.mean([run[key] for run in runs]) for key in result["before"]}
        by_seed = ", ".join(f"{run[score]:.0%}" for run in runs) if len(runs) > 1 else ""
        rows.append(f"| {name} | {mean[score]:.0%} | {by_seed} | {mean['seconds']:.1f} | {mean['won']:.0%} |")
    return "\n".join(rows) + "\n"


def returns_table(result: dict[str, Any]) -> str:
    rows = ["| game | frames | learner | return, by seed | mean |", "|---|---:|---|---|---:|"]
    for game, found in result.items():
        for name, runs in found["learners"].items():
            returns = [run["return"] for run in runs]
            by_seed = ", ".join(f"{x:.1f}" for x in returns)
            rows.append(f"| {game} | {found['frames']:,} | {name} | {by_seed} | {np.mean(returns):.1f} |")
    return "\n".join(rows) + "\n"


TABLES = {"finetune": styles_table, "pretrain": returns_table}


def of_run(out: str) -> dict[str, float]:
    """What a finished run's policy is measured at, which is kept beside it."""
    run = Run.open(out)
    if not (run.path / "measured.json").is_file():
        run.write_json("measured.json", measured(out))
    return dict(run.read_json("measured.json"))


def measured(policy: str) -> dict[str, float]:
    """How much of the time without a coming ball the paddle is near the middle, how long a point takes, in seconds, the
    share of steps in rallies of ten seconds and the share of points won, in a thousand steps of each of eight games
    whose players draw their actions as in training. Whole games would take longer the better they are."""
    player = find_policy(policy)
    with one_thread():
        envs = start_envs(player.env_id, 8, seed=10_000, env=player.env)
        steps = collect(envs, player, 1_000, np.random.default_rng(10_000)).as_segments()
        envs.close()
    scores, points = steps.env_reward, max(1.0, float(np.abs(steps.env_reward).sum()))
    assert steps.state is not None
    games = replace(steps, **{name: array.swapaxes(0, 1) for name, array in steps.arrays().items()})
    shares = {"centre": centre_score(games), "long": rally_score(games)}
    found = {name: float(share.mean()) for name, share in shares.items()}
    return {**found, "seconds": scores.size / 15 / points, "won": float((scores > 0).sum() / points)}


if __name__ == "__main__":
    main()
