"""The renderer's side of the pipe, with a real run."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_control.data import Query, Segments
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.rendering.cache_process import Renderer
from rlhf_control.rendering.flat import draw_flat
from rlhf_control.simulation.make import mujoco_model
from tests.conftest import random_segments

PROGRAM = "from rlhf_control.rendering.cache_process import main; main()"


@pytest.fixture
def process(tmp_path: Path) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    tell(process, run=str(tmp_path), env_id="HalfCheetah-v5", env={}, disk=10**7)
    with process:
        yield process
        process.kill()


def tell(process: Any, **order: Any) -> None:
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()


def hear(process: Any) -> tuple[dict[str, Any], np.ndarray | None]:
    answer = json.loads(process.stdout.readline())
    if not answer.get("frames"):
        return answer, None
    size = int(np.prod(answer["frames"]))
    return answer, np.frombuffer(process.stdout.read(size), np.uint8).reshape(answer["frames"])


def test_it_answers_orders_and_ends_with_its_parent(process: Any, tmp_path: Path) -> None:
    clips = random_segments(np.random.default_rng(0), 2, 3)
    (asked,) = FeedbackStore(tmp_path / "labels.sqlite").ask([Query(0, 0, "uniform", clips)])
    assert hear(process)[0] == {"hello": process.pid}
    tell(process, gl="none")
    order = {"digest": asked.clips[1], "size": [48, 32], "camera": 1, "deliver": True}
    tell(process, **order)
    answers = {}
    while "frames" not in answers:  # the button for another camera is there with the first clip
        answer, shown = hear(process)
        answers |= answer
    assert answers["cameras"] == ["track", "side", "front", "top"]
    assert answers["notice"].startswith("OpenGL does not work here; ")
    model = mujoco_model("HalfCheetah-v5", {})
    assert clips.state is not None
    np.testing.assert_array_equal(shown, draw_flat(model, clips.state[1], width=48, height=32, camera="side"))

    tell(process, **order | {"digest": "0" * 64})
    assert "damaged" in hear(process)[0]["failed"]
    tell(process, **order | {"camera": None})
    assert hear(process)[0].keys() == {"failed"}
    assert not (tmp_path / "clips").exists(), "plain drawings are not kept"
    process.stdin.close()
    assert process.wait(5) == 0 and process.stderr.read() == b""


def test_clips_recorded_as_pictures_need_no_environment(process: Any, tmp_path: Path) -> None:
    """The one that is named here would not fit."""
    from rlhf_control.simulation.pictures import encode_all

    pictures = np.random.default_rng(0).integers(0, 255, (2, 30, 40, 3), np.uint8)
    nothing = np.zeros((1, 2, 1), np.float32)
    clip = Segments(nothing, nothing, nothing, nothing[..., 0], frames=encode_all(list(pictures))[None])
    (asked,) = FeedbackStore(tmp_path / "labels.sqlite").ask([Query(0, 0, "uniform", clip, "rating")])
    tell(process, digest=asked.clips[0], size=[40, 40], camera=0, deliver=False)
    tell(process, gl="none")
    while (found := hear(process)) and "frames" not in found[0]:
        pass
    np.testing.assert_array_equal(found[1], pictures)


def test_what_views_there_are_is_kept_beside_the_clips(tmp_path: Path) -> None:
    setup = {"run": str(tmp_path), "env_id": "HalfCheetah-v5", "env": {}, "disk": 10**7}

    def renderer(**changed: Any) -> tuple[Renderer, io.BytesIO]:
        answers = io.BytesIO()
        return Renderer(io.BytesIO(json.dumps(setup | changed).encode() + b"\n"), answers), answers

    first, _ = renderer()
    first._gl_known.set()
    first._keep_cameras()  # nothing is known yet
    assert not (tmp_path / "clips").exists()
    first._get_renderer()
    first._keep_cameras()
    again, answers = renderer()
    again._remember_cameras()
    assert json.loads(answers.getvalue()) == {"cameras": ["track", "side", "front", "top"]}
    for other in ({"env_id": "Hopper-v5"}, {"run": str(tmp_path / "other")}):
        again, answers = renderer(**other)
        again._remember_cameras()
        assert answers.getvalue() == b""
    (tmp_path / "clips" / "cameras.json").write_text("{")
    again, answers = renderer()
    again._remember_cameras()
    assert answers.getvalue() == b""


def test_it_never_imports_torch() -> None:
    code = (
        "import sys; from rlhf_control.rendering import cache_process; assert 'mujoco' not in sys.modules\n"
        "from rlhf_control.rendering import clips; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
