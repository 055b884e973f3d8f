import json
from typing import Any

import pytest

from rlhf_control.analysis.evaluate import evaluation, measure
from rlhf_control.analysis.report import report_finetuning
from rlhf_control.config import FinetuneConfig
from rlhf_control.config.commands import EvaluateConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy
from rlhf_control.train import finetune


def test_before_is_the_policy_as_it_was_given(tiny_config: FinetuneConfig) -> None:
    run = finetune(tiny_config)
    report_finetuning(run)
    results = json.loads((run.path / "results.json").read_text())
    given = evaluation(EvaluateConfig(tiny_config.policy, seed=10_000))
    assert results["before"]["returns"] == given["returns"]


def test_a_behaviour_of_another_environment(cheetah_policy: Policy) -> None:
    with pytest.raises(UserError, match="did you mean prowl"):
        measure(cheetah_policy, "prowll", 1, 0)
    cheetah_policy.env_id = "Hopper-v5"
    with pytest.raises(UserError, match="is for HalfCheetah-v5"):
        measure(cheetah_policy, "prowl", 1, 0)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"path": "bricks", "env": {"obs": "planes"}}, "bricks is for rlhf/Bricks-v0, and --env obs planes would"),
        (
            {"path": "bricks-planes", "env": {"obs": "planes", "ob": 1}},
            "-v0 with --env obs planes, and --env ob 1 would",
        ),
        ({"path": "bricks-planes", "env_id": "rlhf/Orchard-v0"}, "and --env-id rlhf/Orchard-v0 would"),
    ],
)
def test_another_environment_than_the_policys_own_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        evaluation(EvaluateConfig(**given))


def test_its_own_environment_may_be_named() -> None:
    config = EvaluateConfig("bricks-planes", episodes=1, env_id="rlhf/Bricks-v0", env={"obs": "planes"})
    assert evaluation(config)["return_mean"] > 0
