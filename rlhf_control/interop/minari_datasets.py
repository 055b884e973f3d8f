"""Minari data sets of this machine: demonstrations out of them, and a run's votes with their clips into one.

Minari 0.5.4. T time, O observation, A action. Nothing is downloaded. Names are as in Minari: mujoco/hopper/expert-v0.
"""

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np

from rlhf_control.data import Array, Segments, follows
from rlhf_control.errors import CorruptFileError, UserError, tell, unknown_name
from rlhf_control.feedback.export import ANSWERS, QUERIES, tables
from rlhf_control.feedback.recordings import Recording
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rng import stream
from rlhf_control.runs.files import write_atomic
from rlhf_control.spaces import Spaces, packing, sampled
from rlhf_control.wording import counted

PREFIX = "minari:"
MOST_STEPS = 100_000  # of demonstrations that a run keeps; data sets of a million are common
DAMAGED = (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError)  # h5py's


def check_installed() -> None:
    """Raises UserError where Minari is not installed."""
    if find_spec("minari") is None:
        raise UserError("minari is not installed: pip install 'rlhf_control[data]'")


def minari_recording(name: str, env_id: str, spaces: Spaces) -> Recording:
    """Reads a data set as demonstrations for an environment with these spaces: its whole episodes, or a fixed choice of
    them where it has more than MOST_STEPS. Raises UserError for an unknown name (with near ones), for other spaces
    (with both) and for what is damaged."""
    check_installed()
    import minari

    known = minari.list_local_datasets()
    if name not in known:
        missing = unknown_name("Minari data set on this machine", name, known)
        raise UserError(f"{missing} (`minari download {name}` fetches one)")
    try:
        dataset = minari.load_dataset(name)
        _check_spaces(name, dataset, env_id, spaces)
        chosen, steps = [], 0
        for index in stream(0, "minari").permutation(len(dataset)):
            (episode,) = dataset.iterate_episodes([int(index)])
            chosen.append((int(index), _arrays(episode, dataset.observation_space, dataset.action_space, spaces)))
            steps += len(episode.rewards)
            if steps >= MOST_STEPS:
                break
    except DAMAGED as error:
        raise CorruptFileError(f"the Minari data set {name} cannot be read ({error}); download it again") from None
    if not chosen:
        raise UserError(f"the Minari data set {name} has no episodes; record some, or choose another")
    if len(chosen) < len(dataset):
        tell(f"{name} has {counted(len(dataset), 'episode')}; {len(chosen)} drawn from them are taken")
    if dataset.storage.jpeg_encoding and any(part.picture for part in spaces.parts):
        tell(f"{name} keeps its pictures as JPEG, so they are not quite what the policy sees")
    parts = [arrays for _, arrays in sorted(chosen, key=lambda pair: pair[0])]
    return Recording(env_id, {}, **{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def _check_spaces(name: str, dataset: Any, env_id: str, spaces: Spaces) -> None:
    found = Spaces.of(packing(dataset.observation_space)[0], dataset.action_space)
    if not replace(spaces, low=found.low, high=found.high).fits(found):  # actions are clipped to the bounds
        raise UserError(
            f"the Minari data set {name} has {found}, but {env_id} has {spaces}; choose a data set of this environment"
        )
    own = dataset.env_spec.id if dataset.env_spec is not None else ""
    if own and own != env_id:
        tell(f"demonstrations of {own} are taken for {env_id}: the spaces are equal")


def _arrays(episode: Any, observation: gymnasium.Space, action: gymnasium.Space, spaces: Spaces) -> dict[str, Array]:
    """The arrays of a Recording (T, ...) of one episode, which ends where its data ends."""
    steps = len(episode.rewards)
    if isinstance(observation, gymnasium.spaces.Box):
        obs = spaces.flat(np.asarray(episode.observations))
    else:
        pack = packing(observation)[1]
        obs = np.stack([pack(_at(episode.observations, t)) for t in range(steps + 1)])
    taken = sampled(action, np.asarray(episode.actions), steps)
    arrays = {
        "obs": obs[:-1], "next_obs": obs[1:], "action": spaces.execute(taken).astype(np.float32),
        "env_reward": np.asarray(episode.rewards, np.float32), "terminated": np.asarray(episode.terminations, bool),
    }  # fmt: skip
    for key, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{key} of episode {episode.id} is not finite")
    last = np.arange(steps) == steps - 1
    truncated = (np.asarray(episode.truncations, bool) | last) & ~arrays["terminated"]
    return arrays | {"truncated": truncated}


def _at(tree: Any, t: int) -> Any:
    """One observation out of what Minari keeps of an episode's."""
    if isinstance(tree, Mapping):
        return {key: _at(value, t) for key, value in tree.items()}
    return tuple(_at(value, t) for value in tree) if isinstance(tree, tuple) else tree[t]


def export_to_minari(store: FeedbackStore, name: str, spaces: Spaces | None) -> None:
    """Writes the store's clips as the episodes of a new data set, and beside its data the votes, as queries.jsonl and
    answers.jsonl (see `feedback.export`).

    An episode's metadata has the clip's digest, by which the queries name it. Its rewards are the environment's (NaN:
    not known), its last step is truncated, and its pictures are kept as they are. Observations and actions have the
    form of the run's spaces or, where only a store is known (None), are flat and one-hot as it has them.
    """
    check_installed()
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.storage.datasets_root_dir import get_dataset_path

    asked, lines = tables(store)
    clips = store.segments({digest: None for query in asked for digest in query.clips})
    if not clips:
        raise UserError("there are no clips to export: nothing was asked yet")
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError):
        raise UserError(f"'{name}' is no name of a Minari data set; write it as votes-v0 or mine/votes-v0") from None
    place = get_dataset_path(name)
    if place.exists():
        raise UserError(f"the Minari data set {name} exists; choose another name or version")
    present = {digest: clip.present() for digest, clip in clips.items()}
    buffers = [
        EpisodeBuffer(
            observations=_observations(clip, spaces), actions=_actions(clip, spaces),
            rewards=clip.env_reward.tolist(), terminations=[False] * len(clip),
            truncations=[False] * (len(clip) - 1) + [True],
        )
        for clip in present.values()
    ]  # fmt: skip
    try:
        with warnings.catch_warnings(action="ignore"):  # that there is no environment to evaluate in
            dataset = minari.create_dataset_from_buffers(
                name, buffers, observation_space=_observation_space(next(iter(present.values())), spaces),
                action_space=_action_space(next(iter(present.values())), spaces), jpeg_encoding=False,
                description="Clips that people or oracles judged; their votes are in queries.jsonl and answers.jsonl.",
                author="rlhf_control", author_email="-", code_permalink="-", algorithm_name="-",
            )  # fmt: skip
        dataset.storage.update_episode_metadata([{"digest": digest} for digest in present], range(len(present)))
        for table in (QUERIES, ANSWERS):
            write_atomic(place / "data" / table, lines[table])
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)  # it was not there before
        raise


def _observations(clip: Segments, spaces: Spaces | None) -> Any:
    """(L + 1, ...), by part where there are several."""
    if not follows(clip.obs, clip.next_obs):
        raise UserError("a clip's successors are not its next observations, which Minari has no place for")
    packed = np.concatenate([clip.obs, clip.next_obs[-1:]])
    if spaces is None:
        return packed
    values = {part.name.replace("/", "."): part.read(packed) for part in spaces.parts}
    return values if spaces.obs_parts else values[""]


def _actions(clip: Segments, spaces: Spaces | None) -> Array:
    if spaces is None:
        return clip.action
    chosen = spaces.chosen(clip.action)
    if spaces.choices:
        return chosen[:, 0] if len(spaces.choices) == 1 else chosen
    return chosen.reshape(len(clip), *spaces.action_shape)


def _observation_space(clip: Segments, spaces: Spaces | None) -> gymnasium.Space:
    if spaces is None:
        return _box(clip.obs.shape[1:], clip.obs.dtype)
    boxes: dict[str, gymnasium.Space]
    boxes = {part.name.replace("/", "."): _box(part.shape, np.dtype(part.dtype)) for part in spaces.parts}
    return gymnasium.spaces.Dict(boxes) if spaces.obs_parts else boxes[""]


def _action_space(clip: Segments, spaces: Spaces | None) -> gymnasium.Space:
    if spaces is None:
        return _box(clip.action.shape[1:], clip.action.dtype)
    if spaces.choices:
        one = len(spaces.choices) == 1
        return (
            gymnasium.spaces.Discrete(spaces.choices[0])
            if one
            else gymnasium.spaces.MultiDiscrete(list(spaces.choices))
        )
    low, high = (np.array(bound, np.float32).reshape(spaces.action_shape) for bound in (spaces.low, spaces.high))
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


def _box(shape: tuple[int, ...], dtype: np.dtype) -> gymnasium.spaces.Box:
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)
    return gymnasium.spaces.Box(low, high, shape, dtype.type)
