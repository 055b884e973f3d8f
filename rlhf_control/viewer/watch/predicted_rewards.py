"""What a run's newest reward model says of each step of the stored clips, for whoever may not import torch.

A child process loads the model from the newest checkpoint and writes the predictions of every clip in the store to
RUN/predicted_rewards.npz. They hold as long as the model stays the same, which the file names by a SHA-256 of its
numbers.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from rlhf_control.compute.processes import python
from rlhf_control.data import Array, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.runs.run import Run

FILE = "predicted_rewards.npz"
ATTEMPTS = 5  # to read a checkpoint that a running run may replace meanwhile
BLOCK = 256  # clips predicted at once


@dataclass(frozen=True)
class Predicted:
    """Holds the file's content."""

    checkpoint: int  # the iteration of the checkpoint that was looked at last
    version: str  # SHA-256 of the reward model's state
    rewards: dict[str, Array]  # digest of a clip -> (L,) float32


def predicted_rewards(run: str | Path, queries: Iterable[str]) -> dict[str, Array]:
    """Returns {digest of a clip: (L,) rewards} for the clips of the queries of these keys, in the units of
    `RewardModel.predict` (mean 0, standard deviation 1 on what the policy did). Waits for the child process, some 4 s,
    unless all is known already. Raises UserError if the run has no fitted reward model."""
    store = FeedbackStore(Path(run) / "labels.sqlite", create=False)
    asked = {query.key: query for query in store.asked()}
    wanted = {digest for key in queries if key in asked for digest in asked[key].clips}
    known = load_predicted(run)
    if known is None or known.checkpoint != newest_checkpoint(run) or not wanted <= known.rewards.keys():
        with Predictor(run) as predictor:
            predictor.start()
            predictor.wait()
            if predictor.error:
                raise UserError(predictor.error)
            known = predictor.known
    return {} if known is None else {digest: known.rewards[digest] for digest in wanted & known.rewards.keys()}


class Predictor:
    """Does the same without waiting, for a window: `start` it, `poll` now and then, and look into `known`."""

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        self.known = load_predicted(run)
        self.error = ""  # why the last attempt failed
        self._child: subprocess.Popen[str] | None = None

    @property
    def busy(self) -> bool:
        return self._child is not None

    def start(self) -> None:
        """Sets the child process to work, unless it is working."""
        if self._child is None:
            command = python(
                "from rlhf_control.viewer.watch.predicted_rewards import main; sys.exit(main())", str(self.run)
            )
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            # Not in the terminal's foreground, so that Ctrl-C does not reach it.
            self._child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **pipes)

    def get(self, digest: str) -> Array | None:
        """Returns the rewards (L,) of the clip with this digest, if it is known."""
        return None if self.known is None else self.known.rewards.get(digest)

    def poll(self) -> bool:
        """Tells whether the child process has come to its end since the last time; `known` or `error` is new then."""
        if self._child is None or self._child.poll() is None:
            return False
        self._collect(self._child)
        return True

    def wait(self) -> None:
        """Waits until the child process has come to its end."""
        if self._child is not None:
            self._collect(self._child)

    def close(self) -> None:
        """Stops the child process."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _collect(self, child: subprocess.Popen[str]) -> None:
        said = child.communicate()[1].strip()
        self._child = None
        self.error = ""
        if child.returncode == 0:
            self.known = load_predicted(self.run)
            return
        last = said.splitlines()[-1] if said else f"exit code {child.returncode}"
        if child.returncode == 2:  # what `guarded` makes of an error that the user can mend
            self.error = last.removeprefix("rlhf-control: ")
        else:
            self.error = f"the process that predicts rewards ended unexpectedly ({last})"

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- the file


def load_predicted(run: str | Path) -> Predicted | None:
    """Returns what was predicted before; None if nothing was, or the file is damaged (it is made anew then)."""
    try:
        state = load_state(Path(run) / FILE)
        ends = np.cumsum(state["lengths"])[:-1]
        rewards = dict(zip(state["digests"], np.split(state["rewards"], ends), strict=True))
        return Predicted(state["checkpoint"], state["version"], rewards)
    except (UserError, KeyError, ValueError, TypeError):
        return None


def save_predicted(run: str | Path, predicted: Predicted) -> None:
    rewards = list(predicted.rewards.values())
    state = {
        "checkpoint": predicted.checkpoint,
        "version": predicted.version,
        "digests": list(predicted.rewards),
        "lengths": np.array([len(r) for r in rewards], np.int64),
        "rewards": np.concatenate([np.zeros(0, np.float32), *rewards]),
    }
    save_state(Path(run) / FILE, state)


def newest_checkpoint(run: str | Path) -> int:
    """Returns the iteration of the newest checkpoint; -1 if there is none."""
    return max((int(path.stem) for path in (Path(run) / "checkpoints").glob("[0-9]*.npz")), default=-1)


# -- the child process


def predict_all(run: str | Path) -> None:
    """Brings the file up to date with the run's newest reward model and all clips of its store."""
    opened, store = Run.open(run), FeedbackStore(Path(run) / "labels.sqlite", create=False)
    checkpoint, state = newest_state(opened)
    if "reward" not in state:
        raise UserError(f"{opened.path} has no learned reward yet; let the run go on")
    version, known = version_of(state["reward"]), load_predicted(run)
    rewards = known.rewards if known is not None and known.version == version else {}
    digests = dict.fromkeys(digest for asked in store.asked() for digest in asked.clips)
    missing = [digest for digest in digests if digest not in rewards]
    if missing:
        some = store.segments(missing[:1])[missing[0]]
        reward = load_reward(opened, state["reward"], some)
        for start in range(0, len(missing), BLOCK):
            clips = store.segments(missing[start : start + BLOCK])
            rewards |= {digest: reward.predict(clip).astype(np.float32) for digest, clip in clips.items()}
    save_predicted(run, Predicted(checkpoint, version, rewards))


def newest_state(run: Run) -> tuple[int, dict[str, Any]]:
    """Returns the newest checkpoint, also while the run replaces it."""
    for attempt in range(ATTEMPTS):
        try:
            return run.load_checkpoint()
        except CorruptFileError:
            raise
        except UserError:  # gone between looking and reading
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def load_reward(run: Run, state: Mapping[str, Any], clip: Segments) -> Any:
    """Returns the reward model of this state, for steps like the clip's. Raises UserError for a run without a fitted
    one."""
    from rlhf_control.reward.known import make_reward  # imports torch

    command, config = run.config()
    if command != "finetune":
        raise UserError(
            f"{run.path} is a {command} run and has no learned reward; name the folder of a fine-tuning run"
        )
    env_id = run.read_json("manifest.json").get("env_id", config.env_id)
    reward = make_reward(config, clip.obs.shape[-1], clip.action.shape[-1], env_id)
    try:
        reward.load_state(dict(state))
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptFileError(f"the checkpoint of {run.path} is of another version ({error!r})") from error
    if not reward.fitted:
        raise UserError(f"the reward of {run.path} has not been fitted yet; let the run go on")
    return reward


def version_of(state: Mapping[str, Any], name: str = "") -> str:
    """Returns the SHA-256 over names and values of a nested state."""
    sha = hashlib.sha256()
    for key in sorted(state):
        value, path = state[key], f"{name}/{key}"
        if isinstance(value, Mapping):
            sha.update(version_of(value, path).encode())
        elif isinstance(value, Array):
            sha.update(f"{path}{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            sha.update(f"{path}{value!r}".encode())
    return sha.hexdigest()


def main() -> int:
    """Runs the child process, whose argument is the run's folder."""
    from rlhf_control.compute.threads import one_thread
    from rlhf_control.errors import guarded

    with one_thread():
        return guarded(lambda: predict_all(sys.argv[1]))
