import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from rlhf_control.analysis.comparison import compare, comparison_text
from rlhf_control.cli import main
from rlhf_control.config import NetConfig
from rlhf_control.config.comparing import CompareConfig
from rlhf_control.errors import UserError
from rlhf_control.interop.export import export
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from tests.synthetic_runs import ONE, finetuning, make_run


@pytest.fixture
def short_policies(tmp_path: Path) -> tuple[str, str]:
    """A policy that runs and one that was never trained, of cheetahs whose episodes have 60 steps."""
    runs = Policy.from_state({**find_policy("halfcheetah").state(), "env": {"max_episode_steps": 60}})
    stumbles = Policy(runs.spaces, NetConfig(), 3, runs.env_id, runs.env)
    for name, policy in (("runs", runs), ("stumbles", stumbles)):
        policy.save(tmp_path / f"{name}.npz")
    return str(tmp_path / "runs.npz"), str(tmp_path / "stumbles.npz")


def test_two_policies_are_compared_until_it_is_decided(short_policies: tuple[str, str]) -> None:
    good, bad = short_policies
    result = compare(CompareConfig((good,), (bad,), episodes=100, seed=7))
    assert result["better"] == "first" and result["pairs"] == 20 < result["planned"]  # the first look was enough
    assert result["sides"][0]["seeds"] == result["sides"][1]["seeds"] == list(range(7, 27))
    turned = compare(CompareConfig((bad,), (good,), episodes=100, seed=7))
    assert turned["better"] == "second" and turned["sides"][1]["scores"] == result["sides"][0]["scores"]


def test_a_policy_is_no_better_than_itself(short_policies: tuple[str, str], capsys: pytest.CaptureFixture) -> None:
    good, _ = short_policies
    assert main(["compare", good, "--against", good, "--episodes", "30"]) == 0
    said = capsys.readouterr().out
    assert "0.50" in said and "not decided" in said and "30 pairs of episodes" in said


def test_another_librarys_policy_is_compared_with_its_statistics(short_policies: tuple[str, str]) -> None:
    good, _ = short_policies
    theirs, stats = export(find_policy(good), "cleanrl", Path(good).with_suffix(".cleanrl_model"))
    foreign = {"env_id": "HalfCheetah-v5", "env": {"max_episode_steps": 60}, "obs_stats": str(stats)}
    result = compare(CompareConfig((good,), (str(theirs),), episodes=20, **foreign))
    np.testing.assert_allclose(*(side["scores"] for side in result["sides"]), rtol=1e-2)


def test_groups_of_runs_are_compared_seed_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def runs(labels: int, by: float, seeds: list[int]) -> list[str]:
        of = [replace(ONE, labels=labels, seed=seed) for seed in seeds]
        return [str(finetuning(tmp_path / f"{labels}-{c.seed}", c, score=[0.0, c.seed + by])) for c in of]

    # Seed s scores s + 0.5 and s: every pair of one seed is won, though 0.5 of seed 0 is below most of the others
    more, fewer = runs(200, 0.5, list(range(9))), runs(100, 0.0, [8, 7, 6, 5, 4, 3, 2, 1, 0])
    out = tmp_path / "both"
    assert main(["compare", *more, "--against", *fewer, "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "both.json").read_text())
    assert result["improvement"] == 1 and result["better"] == "first" and result["metric"] == "score"
    wins = sum(a > b for a in np.arange(9) + 0.5 for b in np.arange(9)) / 81
    assert result["every_pair"][0] == pytest.approx(wins)
    assert "A is better in score" in comparison_text(result)
    assert imread(out.with_suffix(".png")).std() > 0 and out.with_suffix(".pdf").exists()
    few = compare(CompareConfig(tuple(more[:3]), tuple(fewer)))
    assert few["better"] == "" and few["pairs"] == 3 and few["improvement"] == 1  # of the three seeds that both have
    assert "more runs may decide it" in comparison_text(few)


def test_what_cannot_be_compared_is_named(short_policies: tuple[str, str], tmp_path: Path) -> None:
    good, bad = short_policies
    with pytest.raises(UserError, match="--against"):
        CompareConfig((good,))
    with pytest.raises(UserError, match="metric of runs"):
        compare(CompareConfig((good,), (bad,), metric="kl_start"))
    with pytest.raises(UserError, match="--score"):
        compare(CompareConfig((good,), (bad,), metric="score"))
    one, other = (finetuning(tmp_path / str(i), replace(ONE, seed=i)) for i in range(2))
    with pytest.raises(UserError, match="no run has the metric 'scores'"):
        compare(CompareConfig((str(one), str(other)), (str(one),), metric="scores"))


def test_runs_of_several_environments_or_behaviours_are_not_compared(tmp_path: Path) -> None:
    def run(name: str, oracle: str, env_id: str = "HalfCheetah-v5", seed: int = 0) -> str:
        return str(make_run(tmp_path / name, replace(ONE, oracle=oracle, seed=seed), {"score": [1.0]}, env_id=env_id))

    backward, jump, hopper = run("a", "backward"), run("b", "jump"), run("c", "backward", "Hopper-v5")
    with pytest.raises(UserError, match="HalfCheetah-v5 and Hopper-v5; compare runs of one environment"):
        compare(CompareConfig((backward, jump), (hopper,)))
    with pytest.raises(UserError, match="scored by backward and jump"):
        compare(CompareConfig((backward,), (jump, run("d", "jump", seed=1))))
