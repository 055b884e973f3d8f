"""One policy's episode as a video, or two policies' side by side.

T time, H height, W width. Frames are (T, H, W, 3) uint8.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from PIL import Image

from rlhf_control.compute.gl import has_display
from rlhf_control.compute.threads import one_thread
from rlhf_control.data import Array, widened
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.rendering.mujoco_renderer import render
from rlhf_control.rendering.video import caption, side_by_side, write_gif, write_video
from rlhf_control.simulation import pictures
from rlhf_control.simulation.dialogues import is_dialogue
from rlhf_control.simulation.foreign import environments_closed
from rlhf_control.simulation.make import mujoco_model
from rlhf_control.simulation.rollouts import acting_in
from rlhf_control.simulation.states import has_mujoco_data
from rlhf_control.simulation.vector import Envs, start_envs

WRITERS = {".mp4": write_video, ".gif": write_gif}
MAX_FPS = 30  # Hopper lives at 125 steps a second; nobody sees that many
SPEED_SECONDS = 0.5  # over which a speed is taken, longer than a stride


@environments_closed()
@one_thread()
def policy_frames(
    policy: Policy,
    *,
    seed: int = 0,
    seconds: float | None = None,
    width: int = 320,
    height: int = 320,
    title: str | None = None,
) -> tuple[Array, float, float]:
    """Returns (frames, frames a second in real time, return): the first `seconds` of one episode without exploration
    noise, all of it if None.

    With a title (it may be empty) the frames carry it, and under the picture the time, the speed of a MuJoCo body
    that can leave, and the return so far. Environments other than MuJoCo draw themselves, `height` pixels high; where
    they cannot, and the policy observes pictures, those are shown.
    """
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or the games' pygame prints that it found none
    envs = _envs_that_draw(policy, seed)
    if not policy.spaces.fits(envs.spaces):
        raise UserError(f"the policy does not fit {policy.env_id}: it has {policy.spaces}, not {envs.spaces}")
    act, rate = acting_in(policy, envs.spaces), 1 / envs.step_seconds
    stride = pictures.stride(envs.step_seconds, MAX_FPS)
    limit = math.inf if seconds is None else max(1, round(seconds * rate))

    first: Any = next(iter(getattr(envs.vector, "envs", ())), None)  # as the backend gymnasium has them
    from_states = first is not None and has_mujoco_data(first) and envs.backend.drawn_whole(policy.env_id, policy.env)
    states, drawn, returns = [], [], [0.0]
    done = False
    while not done and len(returns) <= limit:
        state = envs.states() if from_states else None
        if state is not None:
            states.append(state[0])
        elif (len(returns) - 1) % stride == 0:
            drawn.append(_fit(envs.picture(0), height))
        action = act(envs.obs, None)
        _, reward, *_ = envs.step(action, envs.spaces.execute(action))
        returns.append(returns[-1] + float(reward[0]))
        done = bool(envs.over[0])
    envs.close()

    speeds = None
    if states:
        model = mujoco_model(policy.env_id, policy.env)
        frames = render(model, np.stack(widened(states[::stride])), width=width, height=height)
        if _leaves(model):
            speeds = _speeds(np.array([state[0] for state in states]), rate)[::stride]
    else:
        frames = pictures.alike(drawn)
    if title is not None:
        lines = [f"{t * stride / rate:.1f} s    return {returns[t * stride]:.0f}" for t in range(len(frames))]
        if speeds is not None:
            lines = [f"{speed:+.1f} m/s    {line}" for speed, line in zip(speeds, lines, strict=True)]
        frames = caption(frames, title, lines)
    return frames, rate / stride, returns[-1]


def record_video(
    policies: Sequence[tuple[str, Policy]],
    out: str | Path,
    *,
    seed: int = 0,
    seconds: float | None = None,
    width: int = 320,
    height: int = 320,
) -> list[float]:
    """Writes (title, policy) pairs next to each other, from the same seed, as an .mp4 or a .gif; the returns of what
    is shown."""
    write = WRITERS.get(Path(out).suffix)
    if any(is_dialogue(policy.env_id) for _, policy in policies):
        raise UserError("a dialogue is text and has no video; `report.md` of its run has replies before and after")
    if write is None:
        raise UserError(f"cannot write {out}: a video is an .mp4 or a .gif file")
    shown = [
        policy_frames(policy, seed=seed, seconds=seconds, width=width, height=height, title=title)
        for title, policy in policies
    ]
    clips, rates, returns = zip(*shown, strict=True)
    if len(set(rates)) > 1:
        raise UserError(f"these environments run at different speeds ({rates} frames a second); record them apart")
    write(out, side_by_side(clips), rates[0])
    return list(returns)


def _envs_that_draw(policy: Policy, seed: int) -> Envs:
    """One environment, which draws itself if it can."""
    if any(part.picture for part in policy.spaces.parts):
        envs = start_envs(policy.env_id, 1, seed=seed, backend="gymnasium", env=policy.env)
        if not envs.backend.draws:
            return envs
        envs.close()
    return start_envs(policy.env_id, 1, seed=seed, backend="gymnasium", env={**policy.env, "render_mode": "rgb_array"})


def _fit(picture: Array, height: int) -> Array:
    """The picture (h, w, 3) at this height."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(Image.fromarray(picture).resize((width, height)))


def _leaves(model: mujoco.MjModel) -> bool:
    """Tells whether the first joint of a model lets its body go along x as far as it likes: a robot that walks does,
    one that stands and reaches has no speed of its own."""
    kind = model.jnt_type[0]
    slides = kind == mujoco.mjtJoint.mjJNT_SLIDE and not model.jnt_limited[0] and model.dof_damping[0] == 0
    return bool(kind == mujoco.mjtJoint.mjJNT_FREE or slides)


def _speeds(x: Array, rate: float) -> Array:
    """(T,) m/s from positions x (T,) m at `rate` steps a second: the mean over the last SPEED_SECONDS."""
    now = np.arange(len(x))
    before = np.maximum(now - round(SPEED_SECONDS * rate), 0)
    return (x - x[before]) * rate / np.maximum(now - before, 1)
