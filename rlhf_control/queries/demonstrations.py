"""Demonstrations: whose they are, checked, cut into clips and set above the policy's own."""

from pathlib import Path

import numpy as np

from rlhf_control.config import FinetuneConfig
from rlhf_control.data import DEMONSTRATION, Query, Segments
from rlhf_control.errors import UserError, tell
from rlhf_control.feedback.recordings import KIND as RECORDING
from rlhf_control.feedback.recordings import Recording, cut, load_recording
from rlhf_control.interop.minari_datasets import PREFIX, minari_recording
from rlhf_control.interop.policies import SB3, TORCH, find_policy, foreign_kind
from rlhf_control.nets.policy import Policy
from rlhf_control.nets.zoo import adopt
from rlhf_control.runs.files import load_state
from rlhf_control.simulation.rollouts import evaluate
from rlhf_control.spaces import Spaces
from rlhf_control.wording import counted

DEMONSTRATED_EPISODES = 4


def demonstrations_due(config: FinetuneConfig, round: int) -> bool:
    """Tells whether demonstrations are set above the policy's own clips in this round."""
    return bool(config.demonstrations) and (round == 0 or not config.labels)


def demonstrated(name: str, policy: Policy, length: int, seed: int) -> Segments:
    """Returns clips (S, L, ...), cut end to end, of a person's recording or of another policy's episodes in the
    environment of this policy."""
    env_id, spaces = policy.env_id, policy.spaces
    if is_data(name):
        return cut(recording_of(name, env_id, spaces), length).without_frames()
    demonstrator = adopt(find_policy(name, env_id, env=policy.env), spaces, env_id, policy.env)
    _, episodes = evaluate(demonstrator, DEMONSTRATED_EPISODES, seed=seed)
    clips = [episode[t : t + length] for episode in episodes for t in range(0, len(episode) - length + 1, length)]
    if not clips:
        raise UserError(
            f"the episodes of {name} are shorter than a clip of {counted(length, 'step')}; shorten --clip-seconds"
        )
    return Segments.stack(clips)


def check_demonstrations(name: str, policy: Policy, length: int) -> None:
    """Raises UserError if there will be no clips of these demonstrations."""
    if is_data(name):
        demonstrated(name, policy, length, 0)
        return
    if foreign_kind(name) in (SB3, TORCH):
        tell(
            f"the demonstrator's own statistics, if it has any, go with it by rlhf-control export {name} --to npz "
            f"--env-id {policy.env_id} --obs-stats FILE; then demonstrate by policy.npz"
        )
    adopt(find_policy(name, policy.env_id, env=policy.env), policy.spaces, policy.env_id, policy.env)


def is_data(name: str) -> bool:
    """Tells whether this is a file that `rlhf-control play` wrote or a Minari data set, and no policy."""
    return name.startswith(PREFIX) or is_recording(name)


def is_recording(name: str) -> bool:
    """Tells whether this is a file that `rlhf-control play` wrote."""
    return Path(name).is_file() and not foreign_kind(name) and load_state(name).get("kind") == RECORDING


def recording_of(name: str, env_id: str, spaces: Spaces) -> Recording:
    """Reads data as a recording in the environment with these spaces. Raises UserError for data of others."""
    if name.startswith(PREFIX):
        return minari_recording(name.removeprefix(PREFIX), env_id, spaces)
    return load_recording(name, env_id, (spaces.obs_size, spaces.executed_size))


def demonstrations(
    shown: Segments, pool: Segments, n: int, round: int, index: int, rng: np.random.Generator
) -> list[Query]:
    """Returns n queries that set a clip of the demonstrator's (S', L, ...) above one of the policy's own, at the places
    from `index` of this round; none of the policy's twice."""
    if len(pool) < n:
        raise UserError(f"{n} demonstrations need as many of the policy's clips, the pool has {len(pool)}")
    theirs, own = rng.integers(len(shown), size=n), rng.permutation(len(pool))[:n]
    return [
        Query(round, index + k, DEMONSTRATION, Segments.stack([shown[i], pool[j]]), DEMONSTRATION)
        for k, (i, j) in enumerate(zip(theirs, own, strict=True))
    ]
