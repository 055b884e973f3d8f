"""Makes the checkpoints beside it by the real RLlib, with what it answers to some observations.

python3.11 -m venv rllib && rllib/bin/pip install 'ray[rllib]==2.60.0' torch && rllib/bin/python make.py
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

HERE = Path(__file__).parent
KEPT = ("rllib_checkpoint.json", "module_state.pkl", "class_and_ctor_args.pkl", "state.pkl")


def make(name: str, env_id: str, model: dict, *, normalised: bool = False) -> None:
    config = PPOConfig().environment(env_id).learners(num_learners=0)
    filters = {"env_to_module_connector": lambda *_, **__: MeanStdFilter()} if normalised else {}
    config = config.env_runners(num_env_runners=0, **filters)
    config = config.training(train_batch_size=200, minibatch_size=100, num_epochs=2)
    algorithm = config.rl_module(model_config=DefaultModelConfig(**model)).build_algo()
    algorithm.train()
    whole = HERE / "whole"
    algorithm.save_to_path(str(whole))
    keep(whole, HERE / name)
    module = algorithm.learner_group._learner.module["default_policy"]
    space = algorithm.env_runner.env.single_observation_space
    obs = np.random.default_rng(0).normal(size=(20, *space.shape)).astype(np.float32)
    seen = obs
    if normalised:
        connector = next(c for c in algorithm.env_runner._env_to_module.connectors if isinstance(c, MeanStdFilter))
        seen = np.stack([connector._filters[None](row, update=False) for row in obs]).astype(np.float32)
    batch = {"obs": torch.from_numpy(seen)}
    with torch.no_grad():
        outputs = module.forward_train(batch)["action_dist_inputs"].numpy()
        values = module.compute_values(batch).numpy()
    np.savez(HERE / name / "answers.npz", obs=obs, outputs=outputs, values=values)
    algorithm.stop()


def keep(whole: Path, target: Path) -> None:
    """Only what says something of the policy."""
    shutil.rmtree(target, ignore_errors=True)
    module = Path("learner_group/learner/rl_module/default_policy")
    for folder in (Path(), module, Path("env_runner/env_to_module_connector/MeanStdFilter")):
        for file in KEPT if folder != Path() else KEPT[:1]:
            if (whole / folder / file).is_file():
                (target / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(whole / folder / file, target / folder / file)
    shutil.rmtree(whole)


make("pendulum", "Pendulum-v1", {"fcnet_hiddens": [8, 6], "vf_share_layers": False}, normalised=True)
make("cartpole", "CartPole-v1", {"fcnet_hiddens": [8], "fcnet_activation": "relu", "vf_share_layers": True})
make("free", "Pendulum-v1", {"fcnet_hiddens": [8], "head_fcnet_hiddens": [4], "head_fcnet_activation": "tanh",
                             "free_log_std": True})  # fmt: skip
