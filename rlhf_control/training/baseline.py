"""Stable-Baselines3's PPO in the place of our own, as a baseline in the same run folder."""

from dataclasses import asdict
from typing import Any

from rlhf_control.config import PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.runs.progress import ProgressLine
from rlhf_control.runs.run import Run
from rlhf_control.runs.trackers import tracked
from rlhf_control.simulation.early_ends import tell_of_endless_episodes
from rlhf_control.training.parts import new_run


def pretrain_with_sb3(config: PretrainConfig, run: Run | None) -> Run:
    """Trains a policy by Stable-Baselines3's PPO. Raises UserError for what it cannot do, and for a run to resume."""
    from rlhf_control.interop.sb3_baseline import make_sb3, pretrain_sb3  # 2.4 s to import

    if run is not None:
        raise UserError("a run of Stable-Baselines3 cannot be resumed exactly; start it again")
    make_sb3(config)  # refuses what it cannot do, before there is a folder
    tell_of_endless_episodes(config.env_id, config.env)
    run = new_run(config, "pretrain", f"{config.env_id}-sb3", config.env_id)
    tracking = tracked(run, config.track, asdict(config))
    with ProgressLine(run.path.name, config.total_steps) as progress, tracking as track:

        def show(row: dict[str, Any]) -> None:
            progress.show(row)
            track(row)

        pretrain_sb3(config, run, show).save(run.path / "policy.npz", config=asdict(config))
    run.unlock()
    return run
