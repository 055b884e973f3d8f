import json

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
