"""Finding OpenGL, in processes of their own."""

import os
import subprocess
import sys

import pytest

from rlhf_control.compute import gl

needs_gl = pytest.mark.skipif(gl.choose_gl() == "none", reason="no OpenGL here")


def run(code: str, **environment: str) -> str:
    keep = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**keep, **environment}, capture_output=True, text=True, check=True).stdout


@needs_gl
def test_a_backend_is_found_after_mujoco_was_imported():
    code = "import mujoco, os; from rlhf_control.compute import gl; print(gl.choose_gl(), os.environ['MUJOCO_GL'])"
    found, variable = run(code).split()
    assert found == variable == gl.choose_gl()


def test_a_broken_backend_is_not_chosen(tmp_path):
    code = "from rlhf_control.compute import gl; print(gl.choose_gl())"
    assert run(code, __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path)).strip() != "egl"


@pytest.mark.parametrize(("variable", "expected"), [("osmesa", "osmesa"), ("EGL ", "egl"), ("off", "none")])
def test_what_the_user_chose_is_not_tried(monkeypatch, variable, expected):
    monkeypatch.setenv("MUJOCO_GL", variable)
    assert gl.choose_gl.__wrapped__() == expected


def test_another_process_may_have_found_it(monkeypatch):
    monkeypatch.setattr(gl, "_settled", [])
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    gl.settle_gl("egl")
    assert gl.choose_gl.__wrapped__() == os.environ["MUJOCO_GL"] == "egl"
    gl.settle_gl("none")
    assert gl.choose_gl.__wrapped__() == "none"


def test_finding_it_imports_no_simulator():
    code = "import sys; from rlhf_control.compute import gl; assert not {'mujoco', 'numpy', 'torch'} & set(sys.modules)"
    run(code)
