"""Clips of a demonstrator above those of the policy."""

from pathlib import Path

import numpy as np
import pytest

from rlhf_control.data import DEMONSTRATION, Segments
from rlhf_control.errors import UserError
from rlhf_control.interop.export import export
from rlhf_control.interop.policies import find_policy
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.demonstrations import check_demonstrations, demonstrations
from tests.conftest import random_segments


def pool_of(size: int, length: int = 6, seed: int = 0) -> Segments:
    return random_segments(np.random.default_rng(seed), size, length)


def test_demonstrations() -> None:
    shown, pool = pool_of(3, seed=1), pool_of(20)
    queries = demonstrations(shown, pool, 8, 1, 4, np.random.default_rng(0))
    theirs, own = ({q.segments[i].digest() for q in queries} for i in range(2))
    assert theirs <= {shown[i].digest() for i in range(3)} and len(own) == 8
    assert own <= {pool[i].digest() for i in range(20)}
    assert [(q.round, q.index, q.kind) for q in queries] == [(1, 4 + i, DEMONSTRATION) for i in range(8)]
    with pytest.raises(UserError, match="21 demonstrations"):
        demonstrations(shown, pool, 21, 0, 0, np.random.default_rng(0))


def test_what_a_demonstrators_statistics_need_is_said(
    tmp_path: Path, cheetah_policy: Policy, capsys: pytest.CaptureFixture
) -> None:
    theirs, _ = export(find_policy("halfcheetah"), "cleanrl", tmp_path / "them.cleanrl_model")
    check_demonstrations(str(theirs), cheetah_policy, 10)
    assert f"rlhf-control export {theirs} --to npz --env-id HalfCheetah-v5 --obs-stats" in capsys.readouterr().err
