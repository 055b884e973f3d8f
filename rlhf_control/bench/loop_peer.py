"""imitation's whole preference loop, timed once for `bench/loop.py`.

A script of its own, because imitation needs an interpreter of its own; it imports nothing of this project.

python loop_peer.py STEPS COMPARISONS

As its documentation has it: Stable-Baselines3's PPO on eight environments (tanh 2x64, minibatches of 64, 10 epochs, as
ours, which has sixteen), an ensemble of three networks fitted in three epochs a round, clips of 30 steps chosen by
their disagreement among ten times as many, nine rounds with a fifth of the comparisons in the first. Answers are those
of the environment's reward. Prints one line of JSON.
"""

import json
import sys
import time
from importlib.metadata import version

MEMBERS, NUM_ENVS, LENGTH, ROUNDS, FIRST, OVERSAMPLING = 3, 8, 30, 9, 0.2, 10


def loop(steps: int, comparisons: int) -> float:
    """Returns the seconds of a whole loop."""
    import numpy as np
    from imitation.algorithms import preference_comparisons as pc
    from imitation.rewards.reward_nets import AddSTDRewardWrapper, BasicRewardNet, RewardEnsemble
    from imitation.util.logger import configure
    from imitation.util.networks import RunningNorm
    from imitation.util.util import make_vec_env
    from stable_baselines3 import PPO

    started = time.perf_counter()
    rng, logger = np.random.default_rng(0), configure(format_strs=[])
    envs = make_vec_env("HalfCheetah-v4", rng=rng, n_envs=NUM_ENVS)
    spaces = envs.observation_space, envs.action_space
    nets = [BasicRewardNet(*spaces, hid_sizes=(64, 64), normalize_input_layer=RunningNorm) for _ in range(MEMBERS)]
    ensemble = RewardEnsemble(*spaces, nets)
    model = pc.PreferenceModel(ensemble, noise_prob=0.1)
    agent = PPO("MlpPolicy", envs, n_steps=256, batch_size=64, n_epochs=10, seed=0, device="cpu")
    reward = AddSTDRewardWrapper(ensemble, default_alpha=0.0)
    pc.PreferenceComparisons(
        pc.AgentTrainer(agent, reward, envs, rng=rng, custom_logger=logger),
        ensemble,
        num_iterations=ROUNDS,
        fragmenter=pc.ActiveSelectionFragmenter(
            model, pc.RandomFragmenter(rng, warning_threshold=0, custom_logger=logger), OVERSAMPLING,
            custom_logger=logger,
        ),
        preference_gatherer=pc.SyntheticGatherer(rng=rng, custom_logger=logger),
        reward_trainer=pc.EnsembleTrainer(
            model, pc.CrossEntropyRewardLoss(), rng, 25, epochs=3, custom_logger=logger
        ),
        fragment_length=LENGTH,
        transition_oversampling=1,
        initial_comparison_frac=FIRST,
        initial_epoch_multiplier=4,
        custom_logger=logger,
    ).train(steps, comparisons)  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # what trainers print is not for us
    seconds = loop(int(sys.argv[1]), int(sys.argv[2]))
    packages = ("imitation", "stable_baselines3", "gymnasium", "mujoco", "torch", "numpy")
    facts = {"python": sys.version.split()[0], "versions": {name: version(name) for name in packages}}
    print(json.dumps({"seconds": seconds, **facts}), file=out, flush=True)


if __name__ == "__main__":
    main()
