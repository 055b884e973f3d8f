"""What environments carry from one episode to the next comes back; what cannot is found before it matters."""

import random
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import NormalizeObservation

from rlhf_control import train
from rlhf_control.config import NetConfig, PPOConfig, PretrainConfig
from rlhf_control.nets.policy import Policy
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.simulation.backends.gymnasium import make_flat
from rlhf_control.simulation.replayable import Replayable, leaves, noted, probe, put_leaf
from rlhf_control.simulation.rollouts import collect
from rlhf_control.simulation.vector import start_envs

EVERYWHERE = {"episodes": 0}  # which no attribute of an environment holds


class Task:
    def __init__(self) -> None:
        self.level, self.goals = 1.0, np.zeros(2)


class Carrying(gymnasium.Env):
    """Five steps an episode; `kind` says what outlives them and changes the reward."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (1,))

    def __init__(self, kind: str = "nothing") -> None:
        self.kind, self.t = kind, 0
        self.counter, self.task, self.seen = 0, Task(), deque([0.0], maxlen=3)
        self.own, self.old, self.table = np.random.default_rng(7), random.Random(7), {1: 0, "best": 0.5}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        self.counter += 1
        EVERYWHERE["episodes"] += 1
        self.task.level *= 1.5
        self.task.goals += 1
        self.seen.append(float(self.counter))
        self.table[1] += 2
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = {
            "nothing": lambda: 0.0,
            "counter": lambda: self.counter,
            "object": lambda: self.task.level + self.task.goals.sum(),
            "deque": lambda: sum(self.seen),
            "dictionary": lambda: self.table[1],
            "generator": lambda: self.own.normal(),
            "random": lambda: self.old.random(),
            "module": lambda: EVERYWHERE["episodes"],
        }[self.kind]()
        return np.full(2, self.t, np.float32), float(reward + action[0]), self.t == 5, False, {}


@pytest.fixture(autouse=True, scope="module")
def registered() -> Any:
    gymnasium.register("Carrying-v0", Carrying, disable_env_checker=True)
    gymnasium.register("Normalized-v0", lambda: NormalizeObservation(Carrying()), disable_env_checker=True)
    yield
    gymnasium.registry.pop("Carrying-v0")
    gymnasium.registry.pop("Normalized-v0")


KINDS = ["nothing", "counter", "object", "deque", "dictionary", "generator", "random"]
OTHERS = ["Normalized-v0", "CartPole-v1", "Hopper-v5"]
CASES: list[tuple[str, dict[str, Any]]] = [("Carrying-v0", {"kind": kind}) for kind in KINDS]
CASES += [(env_id, {}) for env_id in OTHERS]


@pytest.mark.parametrize(("env_id", "env"), CASES)
def test_rollouts_go_on_bit_for_bit_from_a_file(env_id: str, env: dict[str, Any], tmp_path: Path) -> None:
    assert probe(lambda: make_flat(env_id, env)) == ""
    whole = start_envs(env_id, 2, seed=0, env=env, backend="gymnasium")
    policy = Policy(whole.spaces, NetConfig((8,)), 0, env_id, env)
    collect(whole, policy, 33, np.random.default_rng(0))
    save_state(tmp_path / "s.npz", whole.state())
    again = start_envs(env_id, 2, seed=0, env=env, backend="gymnasium")
    again.load_state(load_state(tmp_path / "s.npz"))
    assert again.differs == ""
    for _ in range(2):
        one, two = (collect(envs, policy, 21, np.random.default_rng(1)) for envs in (whole, again))
        for name in ("obs", "next_obs", "env_reward", "terminated"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
        assert one.episode_returns == two.episode_returns


def test_what_is_kept_elsewhere_is_found_before_training() -> None:
    assert probe(lambda: make_flat("Carrying-v0", {"kind": "module"})) == "the rewards are others"


def test_which_of_bullets_simulators_it_is_stays_with_the_environment() -> None:
    """Brought back with another one's number, an environment would step that one's simulator."""

    class BulletClient:
        __module__ = "pybullet_utils.bullet_client"

        def __init__(self) -> None:
            self._client = 0

    env = Carrying()
    env.client = BulletClient()  # type: ignore[attr-defined]
    assert not [path for path, _, _ in leaves(env) if "client" in path]


def test_an_environment_that_does_not_come_back_begins_new_episodes() -> None:
    envs = start_envs("Carrying-v0", 2, seed=0, env={"kind": "module"})
    policy = Policy(envs.spaces, NetConfig((8,)), 0, "Carrying-v0", {})
    collect(envs, policy, 13, np.random.default_rng(0))
    state = envs.state()
    again = start_envs("Carrying-v0", 2, seed=0, env={"kind": "module"})
    again.load_state(state)
    assert again.differs == "the rewards are others"
    assert (again.obs == 0).all() and (again.lengths == 0).all() and (again.returns == 0).all()
    rollout = collect(again, policy, 5, np.random.default_rng(0))
    assert rollout.episode_lengths == (5, 5)


def test_snapshots_of_before_go_on_as_they_did() -> None:
    env = make_flat("CartPole-v1", {})
    env.reset(seed=3)
    for _ in range(4):
        obs, *_ = env.step(1)
    snapshot = {name: value for name, value in env.snapshot().items() if name in ("seed", "generator", "actions")}
    np.testing.assert_array_equal(make_flat("CartPole-v1", {}).restore(snapshot), obs)


def test_gymnasiums_own_cost_nothing() -> None:
    env = make_flat("CartPole-v1", {})
    env.reset(seed=0)
    assert not env.carries and env.snapshot()["carried"] == {}
    assert isinstance(make_flat("Normalized-v0", {}), Replayable) and make_flat("Normalized-v0", {}).carries


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.1, "text", np.float32(0.5), np.arange(6.0).reshape(2, 3), [1, [2.5, None]], (1, 2), {3, 4},
     {1: "a", "b": [1]}, deque([1, 2], maxlen=2)],
)  # fmt: skip
def test_values_come_back_as_they_were(value: Any, tmp_path: Path) -> None:
    class Holder:
        def __init__(self) -> None:
            self.value = value

    ((path, owner, key),) = leaves(Holder())
    save_state(tmp_path / "s.npz", {"carried": {path: noted(owner[key])}})
    for now in (value, None):
        there = {key: now}
        put_leaf(there, key, load_state(tmp_path / "s.npz")["carried"][path])
        assert type(there[key]) is type(value) or now is None
        np.testing.assert_equal(there[key], value)


def config_of(tmp_path: Path, kind: str, steps: int) -> PretrainConfig:
    ppo = PPOConfig(num_envs=2, num_steps=16, minibatch_size=16, epochs=2)
    return PretrainConfig(
        "Carrying-v0", env={"kind": kind}, total_steps=steps, net=NetConfig((8,)), ppo=ppo, checkpoint_seconds=0,
        out=str(tmp_path / f"{kind}-{steps}"),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["counter", "generator", "module"])
def test_a_run_goes_on_exactly_or_says_so(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train.pretrain(config_of(tmp_path, kind, 8 * 32))
    said = capsys.readouterr().err
    assert ("goes on, but not to the same numbers" in said) == (kind == "module")
    for checkpoint in sorted((whole.path / "checkpoints").glob("*.npz"))[-1:]:
        checkpoint.unlink()  # as if it had been stopped before its end
    numbers = [row["value_loss"] for row in whole.metrics()]
    again = train.resume(whole.path)
    said, manifest = capsys.readouterr().err, again.read_json("manifest.json")
    if kind == "module":
        assert "goes on, but not to the numbers of one that never stopped, and new episodes begin" in said
        assert manifest["resumes_inexactly"] == "the rewards are others" and len(manifest["resumed_inexactly"]) == 1
    else:
        assert "goes on" not in said and "resumed_inexactly" not in manifest
        assert [row["value_loss"] for row in again.metrics()] == numbers
