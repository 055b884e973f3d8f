import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rlhf_control.cli import main
from rlhf_control.simulation import env_ids
from rlhf_control.simulation.env_ids import look_here, unregistered

POINT = """
import gymnasium, numpy as np
import beside

class Point(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.at, {}
    def step(self, action):
        self.at = np.clip(self.at + 0.1 * action, -1, 1).astype(np.float32)
        return self.at, beside.worth(self.at), False, False, {}

gymnasium.register("Point-v0", Point, max_episode_steps=20)
"""


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("PongNoFrameskip-v4", "write ALE/Pong-v5"),
        ("FetchReach-v4", "write gymnasium_robotics:FetchReach-v4"),
        ("AntMaze_UMaze-v5", "write gymnasium_robotics:AntMaze_UMaze-v5"),
        ("Meta-World/MT1", "write metaworld:Meta-World/MT1"),
        ("MiniGrid-Empty-5x5-v0", "write minigrid:MiniGrid-Empty-5x5-v0"),
        ("dm_control/walker-walk-v0", "write shimmy:dm_control/walker-walk-v0"),
        ("HalfChetah-v5", "did you mean HalfCheetah-v5"),
    ],
)
def test_an_id_of_another_package_names_its_module(env_id: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_ids, "found", lambda module: True)
    assert words in str(unregistered(env_id, gymnasium.registry))
    assert "pip install" not in str(unregistered(env_id, gymnasium.registry))


def test_a_package_that_is_missing_is_named() -> None:
    assert str(unregistered("mo-nothing-v0", ())).endswith("after `pip install mo-gymnasium`")


def test_no_id_of_gymnasiums_own_is_anybody_elses() -> None:
    assert not [env_id for env_id in gymnasium.registry if "mo_gymnasium" in str(unregistered(env_id, ()))]


def test_the_command_line_says_it(capsys: Any) -> None:
    for verb in ("pretrain", "play"):
        assert main([verb, "FetchReach-v4"]) == 2
        assert "gymnasium_robotics:FetchReach-v4" in capsys.readouterr().err.splitlines()[-1]


def test_a_module_beside_the_user_is_found_and_takes_no_librarys_place(tmp_path: Path) -> None:
    (tmp_path / "point.py").write_text(POINT)
    (tmp_path / "beside.py").write_text("def worth(at):\n    return float(at[0])\n")
    (tmp_path / "torch.py").write_text("raise SystemExit('this is not torch')\n")
    arguments = ["--total-steps", "64", "--ppo.num-envs", "2", "--ppo.num-steps", "32", "--ppo.minibatch-size", "64"]
    command = "import sys; from rlhf_control.cli import main; sys.exit(main())"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        python = [sys.executable, "-P", "-c", command]
        return subprocess.run([*python, *words], cwd=tmp_path, env=env, capture_output=True, text=True)

    done = run("pretrain", "point:Point-v0", "--out", "mine", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"rlhf-control: point is not installed; it is imported from {tmp_path}" in done.stderr
    evaluated = run("evaluate", "mine", "--env-id", "point:Point-v0", "--episodes", "2")
    assert evaluated.returncode == 0 and "return" in evaluated.stdout
    refused = run("evaluate", "mine", "--episodes", "2")  # a file alone has nothing imported
    assert refused.returncode == 2 and "--env-id point:Point-v0" in refused.stderr
    (tmp_path / "all.toml").write_text(
        'command = "pretrain"\n[options]\nenv_id = "point:Point-v0"\ntotal_steps = 64\n'
        "ppo = {num_envs = 2, num_steps = 32, minibatch_size = 64}\n"
    )
    swept = run("sweep", "all.toml", "--workers", "1")
    assert swept.returncode == 0, swept.stderr
    unknown = run("pretrain", "points:Point-v0", "--out", "other", *arguments)
    assert unknown.returncode == 2 and "No module named 'points'" in unknown.stderr


def test_what_is_installed_or_nowhere_adds_no_folder(capsys: Any) -> None:
    before = list(sys.path)
    for env_id in ("CartPole-v1", "gymnasium:CartPole-v1", "nowhere:Thing-v0", "__main__:Thing-v0", "", "a b:c"):
        look_here(env_id)
    assert sys.path == before and not capsys.readouterr().err
