"""Pretraining by cloning what an environment brings along to be imitated, in the place of PPO on its reward."""

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.rl.cloning import Cloning
from rlhf_control.rng import stream
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.run import Run
from rlhf_control.simulation.double_buffer import start_double_buffered
from rlhf_control.training.parts import env_seed, new_run
from rlhf_control.training.sessions import record_session

LOOK_EVERY = 10  # iterations: how well is predicted what is not learned from


def pretrain_by_cloning(config: PretrainConfig, run: Run | None) -> Run:
    """Trains a policy on the demonstrations that come with the environment: `total_steps` of them, again and again.
    Raises UserError where there are none."""
    envs = start_double_buffered(config.env_id, 1, seed=env_seed(config.seed), backend=config.backend, env=config.env)
    source: Any = envs.groups[0].vector
    if not hasattr(source, "demonstrations"):
        raise UserError(
            f"{config.env_id} brings no demonstrations along; leave --learner cloning out, or see --demonstrations and "
            "--clone-epochs of finetune"
        )
    policy = Policy(envs.spaces, config.net, config.seed, config.env_id, config.env)
    shown, held_out = (source.demonstrations(held_out=held_out) for held_out in (False, True))
    learner = Cloning(policy, shown, config.ppo.minibatch_size, partial(stream, config.seed, "clone"))
    run = run or new_run(config, "pretrain", config.env_id, config.env_id)
    with Loop(run, {"learner": learner}, config) as loop:
        record_session(run, loop.first)
        an_iteration = -(-loop.steps_per_iteration // config.ppo.minibatch_size)
        for iteration, log in loop:
            log["loss"] = learner.train(an_iteration, an_iteration * loop.iterations)
            if iteration % LOOK_EVERY == 0 or iteration == loop.iterations - 1:
                log["held_out_loss"] = learner.loss_on(*held_out)
                log["perplexity"] = math.exp(log["held_out_loss"])
        policy.save(run.path / "policy.npz", config=asdict(config))
    return run
