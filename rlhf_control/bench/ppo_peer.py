"""One learner, kept warm for `bench/ppo.py` to time: ours, or a peer in its fastest in-process setting.

A script of its own, because peers need interpreters of their own: it imports nothing of this project but for `ours`.
Every line on stdin asks for a run of that many seconds (at least one iteration); the answer is a line of JSON.

python bench_peer.py LEARNER ENV_ID NUM_ENVS NUM_STEPS             times iterations
python bench_peer.py LEARNER ENV_ID NUM_ENVS NUM_STEPS TOTAL FILE  trains and saves the policy, once
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

MINIBATCH, EPOCHS, HIDDEN = 64, 10, [64, 64]  # and all else as Stable-Baselines3 has it by default
ALE = "ALE/"
until_the_end = ExitStack()
Parts = dict[str, list[float]]  # seconds of every call
Learner = tuple[Callable[[int], Any], Callable[[str], None], Parts]  # train so many steps more, save, parts


def ours(env_id: str, num_envs: int, num_steps: int, precision: Literal["float32", "bfloat16"] = "float32") -> Learner:
    """Makes our learner; `precision`: of a CNN. The seconds of calls in groups side by side are divided by the number
    of groups."""
    from dataclasses import replace

    from rlhf_control.compute.threads import one_thread
    from rlhf_control.config.presets import preset
    from rlhf_control.nets.policy import Policy
    from rlhf_control.rl.ppo import PPO
    from rlhf_control.rng import stream
    from rlhf_control.simulation.double_buffer import start_double_buffered

    until_the_end.enter_context(one_thread())
    config = preset(env_id, "atari" if env_id.startswith(ALE) else "sb3")
    config = replace(
        config,
        net=replace(config.net, precision=precision),
        ppo=replace(config.ppo, num_envs=num_envs, num_steps=num_steps),
    )
    envs = start_double_buffered(env_id, num_envs, seed=0, env=config.env)
    policy = Policy(envs.spaces, config.net, 0, env_id, {})
    learner = PPO(policy, config.ppo)
    parts: Parts = {"environment": [], "inference": [], "update": []}
    acting = learner.acting
    for group in envs.groups:
        group.step = timed(group.step, parts["environment"], len(envs.groups))  # type: ignore[method-assign]
    learner.acting = lambda: timed(acting(), parts["inference"], len(envs.groups))  # type: ignore[method-assign]
    learner.update = timed(learner.update, parts["update"])  # type: ignore[method-assign]

    def train(steps: int) -> None:
        for i in range(max(1, steps // (num_envs * num_steps))):
            rollout = envs.collect(learner, num_steps, stream(0, "act", i))
            learner.update(rollout, stream(0, "update", i), 0.0)
            policy.observe(rollout.obs)

    return train, lambda path: policy.save(path), parts


def timed(function: Callable[..., Any], seconds: list[float], side_by_side: int = 1) -> Callable[..., Any]:
    """Returns the same function, which also notes how long it took. That costs a third of a microsecond."""

    def call(*args: Any) -> Any:
        started = time.perf_counter()
        result = function(*args)
        seconds.append((time.perf_counter() - started) / side_by_side)
        return result

    return call


def sb3(env_id: str, num_envs: int, num_steps: int) -> Learner:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    if env_id.startswith(ALE):  # with torch's own number of threads
        return stable_baselines_atari(PPO, env_id, num_envs, num_steps)
    torch.set_num_threads(1)  # two are slower for networks of this size
    return stable_baselines(PPO, make_vec_env(env_id, num_envs, seed=0), num_steps)


def sbx(env_id: str, num_envs: int, num_steps: int) -> Learner:
    from sbx import PPO
    from stable_baselines3.common.env_util import make_vec_env

    return stable_baselines(PPO, make_vec_env(env_id, num_envs, seed=0), num_steps)


def stable_baselines(PPO: Any, envs: Any, num_steps: int) -> Learner:
    kwargs = {} if PPO.__module__.startswith("sbx") else {"device": "cpu"}
    model = PPO(
        "MlpPolicy", envs, n_steps=num_steps, batch_size=MINIBATCH, n_epochs=EPOCHS, seed=0,
        policy_kwargs={"net_arch": HIDDEN}, **kwargs,
    )  # fmt: skip
    return lambda steps: model.learn(steps), model.save, {}


def stable_baselines_atari(PPO: Any, env_id: str, num_envs: int, num_steps: int) -> Learner:
    """Makes Stable-Baselines3's own way to play Atari: its wrappers, and the hyperparameters of its zoo."""
    import ale_py  # noqa: F401  # registers the games
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    one_frame = {"frameskip": 1, "repeat_action_probability": 0.0}  # AtariWrapper skips frames itself
    envs = VecFrameStack(make_atari_env(env_id, num_envs, seed=0, env_kwargs=one_frame), 4)
    model = PPO(
        "CnnPolicy", envs, n_steps=num_steps, batch_size=256, n_epochs=4, seed=0, device="cpu", ent_coef=0.01,
        learning_rate=lambda left: left * 2.5e-4, clip_range=lambda left: left * 0.1,
    )  # fmt: skip
    return lambda steps: model.learn(steps), model.save, {}


def rllib(env_id: str, num_envs: int, num_steps: int) -> Learner:
    """Makes RLlib's learner, on its new API stack, local. It pins a Gymnasium of its own: `pip install 'ray[rllib]'
    torch mujoco imageio` in an environment of its own, and OMP_NUM_THREADS=1, without which its threads fight."""
    from ray.rllib.algorithms.ppo import PPOConfig

    batch = num_envs * num_steps
    config = (
        PPOConfig()
        .environment(env_id)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs, rollout_fragment_length=num_steps)
        .learners(num_learners=0)
        .training(train_batch_size=batch, minibatch_size=MINIBATCH, num_epochs=EPOCHS, lr=3e-4)
        .rl_module(model_config={"fcnet_hiddens": HIDDEN, "fcnet_activation": "tanh", "vf_share_layers": False})
    )
    algorithm = config.build_algo()
    return lambda steps: [algorithm.train() for _ in range(max(1, steps // batch))], algorithm.save, {}


HALF = "ours-bfloat16"
LEARNERS: dict[str, Callable[[str, int, int], Learner]] = {
    "ours": ours,
    HALF: partial(ours, precision="bfloat16"),
    "sb3": sb3,
    "sbx": sbx,
    "rllib": rllib,
}
PACKAGES = {"ours": "rlhf_control", HALF: "rlhf_control", "sb3": "stable_baselines3", "sbx": "sbx-rl", "rllib": "ray"}


def main() -> None:
    learner, env_id, num_envs, num_steps, *whole = sys.argv[1:]
    if env_id.startswith("rlhf/"):
        import envs  # noqa: F401 registers our own, where the interpreter is ours
    train, save, parts = LEARNERS[learner](env_id, int(num_envs), int(num_steps))
    if whole:
        train(int(whole[0]))
        save(whole[1])
        return
    batch = int(num_envs) * int(num_steps)
    out = sys.stdout
    sys.stdout = sys.stderr  # what learners print is not for us
    started = time.perf_counter()
    train(2 * batch)  # warms up and compiles
    facts = {"warm_up_seconds": time.perf_counter() - started, "version": version(PACKAGES[learner])}
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        for calls in parts.values():
            calls.clear()
        steps, started = 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - started < float(line):
            train(batch)
            steps += batch
        seconds = time.perf_counter() - started
        sums = {name: sum(calls) for name, calls in parts.items()}
        print(json.dumps({"seconds": seconds, "steps": steps, "parts": sums}), file=out, flush=True)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # since Python 3.11
        sys.path.pop(0)  # this file's folder, whose modules are no packages: `sb3.py` must not hide somebody's `sb3`
    main()
