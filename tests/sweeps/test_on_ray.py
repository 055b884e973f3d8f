"""Ray itself is only tried where it is installed: `make test-ray`."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.runs.files import load_state
from rlhf_control.sweeps.on_ray import at_most, free_core, input_parcel, inputs_of, knock, unreachable

TOML = """
command = "pretrain"
seeds = "0-1"
[options]
env_id = "CartPole-v1"
checkpoint_seconds = 0.0
ppo = {num_envs = 4, num_steps = 32, minibatch_size = 32, epochs = 2}
[methods.short]
total_steps = 512
[methods.long]
total_steps = 102400
"""


# -- without Ray


def test_what_a_config_names_below_the_current_folder_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/start")
    (run / "checkpoints").mkdir(parents=True)
    for name in ("policy.npz", "config.json", "checkpoints/1.npz"):
        (run / name).write_text(name)
    Path("mine.py").write_text("x")
    config = FinetuneConfig("runs/start", behaviours="mine.py", demonstrations=str(tmp_path / "mine.py"))
    assert inputs_of(config) == ["runs/start", "mine.py"] and inputs_of(PretrainConfig("X")) == []
    assert inputs_of(replace(config, policy="halfcheetah", behaviours="")) == []
    assert inputs_of(replace(config, obs_stats="mine.py", behaviours="")) == ["runs/start", "mine.py"]
    assert input_parcel(run).contents == {
        "runs/start/config.json": b"config.json", "runs/start/policy.npz": b"policy.npz"
    }  # fmt: skip
    assert input_parcel(Path("mine.py")).contents == {"mine.py": b"x"}
    (run / "policy.npz").unlink()
    assert "runs/start/checkpoints/1.npz" in input_parcel(run).contents


def test_every_station_has_a_core_of_its_own() -> None:
    held = [free_core() for _ in range(len(os.sched_getaffinity(0)) + 1)]
    cores = [core for core, _ in held if core is not None]
    assert len(set(cores)) == len(cores) and held[-1] == (None, None)
    for _, lock in held[:-1]:
        if lock:
            lock.close()


def test_nobody_at_an_address_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given in (address, f"ray://{address}", "127.0.0.1:99999999"):
            with pytest.raises(Exception, match=f"no Ray cluster can be reached at .*{given.rpartition(':')[2]}"):
                knock(given)
    knock("auto")
    assert unreachable("", "x") == "Ray does not start: x"


def test_native_code_that_does_not_come_back_ends_in_a_line() -> None:
    code = "import time; from rlhf_control.sweeps.on_ray import at_most\nwith at_most(0.1, 'too long'): time.sleep(99)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and ended.stderr == "rlhf-control: too long\n"
    with at_most(60, "never said"):
        pass


# -- with Ray


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster on this machine of a node without cores, which is asked, and two with one each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # which Ray reads when it is imported
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def driver(tmp_path: Path, *place: str) -> "subprocess.Popen[str]":
    (tmp_path / "sweep.toml").write_text(TOML)
    command = [sys.executable, "-m", "rlhf_control", "sweep", "sweep.toml", "--out", str(tmp_path / "out"), *place]
    return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_until(there: Any, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def stations() -> list[int]:
    """The processes of Ray that hold a run."""
    found = subprocess.run(["pgrep", "-f", "ray::Station"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def checked(tmp_path: Path) -> None:
    """All four runs are here, and one of them to the bits of a run that nobody disturbed."""
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert not summary["failed"] and [group["runs"] for group in summary["groups"]] == [2, 2]
    alone = tmp_path / "alone"
    command = [sys.executable, "-m", "rlhf_control", "pretrain", "CartPole-v1", "--ppo.num-envs", "4",
               "--ppo.num-steps", "32", "--ppo.minibatch-size", "32", "--ppo.epochs", "2", "--total-steps", "102400",
               "--out", str(alone)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    ours, theirs = (load_state(path / "policy.npz")["parameters"] for path in (tmp_path / "out" / "long-0", alone))
    assert all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.timeout(900)
def test_a_worker_a_node_and_the_driver_are_killed(cluster: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = driver(tmp_path, "--address", cluster.address)
    wait_until(lambda: list(out.glob("long-*/checkpoints/*.npz")), process)  # a parcel has come
    os.kill(stations()[0], signal.SIGKILL)
    time.sleep(3)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    cluster.add_node(num_cpus=1)
    time.sleep(3)
    process.kill()
    said = process.communicate()[1]
    assert "its worker is lost; it goes on at another" in said
    again = driver(tmp_path, "--address", cluster.address)
    stdout, stderr = again.communicate(timeout=600)
    assert again.returncode == 0, stderr
    assert "| long | " in stdout
    checked(tmp_path)


@pytest.mark.timeout(400)
def test_a_local_ray_and_a_run_that_fails(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "out" / "short-1").mkdir(parents=True)
    (tmp_path / "out" / "short-1" / "mine.txt").write_text("not a run")
    process = driver(tmp_path, "--ray")
    _, stderr = process.communicate(timeout=390)
    assert process.returncode == 1 and "short-1 failed: " in stderr and "short-1.log)" in stderr
    assert (tmp_path / "out" / "short-1.log").is_file() and not (tmp_path / "out" / "short-0.log").exists()
    assert (tmp_path / "out" / "long-1" / "policy.npz").is_file()


@pytest.mark.timeout(100)
def test_who_listens_but_is_no_ray_is_given_up(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        process = driver(tmp_path, "--address", f"127.0.0.1:{deaf.getsockname()[1]}")
        _, stderr = process.communicate(timeout=90)
    assert process.returncode == 2 and "no Ray cluster can be reached" in stderr and ": nothing in 14 s" in stderr
