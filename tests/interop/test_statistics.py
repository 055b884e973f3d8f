import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf_control.errors import UserError
from rlhf_control.interop.statistics import Statistics, read_statistics, statistics_of
from rlhf_control.nets.encoders import RunningNorm
from rlhf_control.spaces import Part

PARTS = (Part("a", (2,), "float32", 0, 2), Part("b", (1,), "float32", 2, 3))


def test_another_epsilon_and_parts_without_statistics() -> None:
    norm, x = RunningNorm(3, clip=3.0), torch.tensor([[4.0, -2.0, 0.7]])
    given = {"a/mean": [1.0, 2.0], "a/var": [4.0, 1e-9], "a/count": 7, "clip": 3.0, "epsilon": 0.5}
    statistics_of({k: np.asarray(v) for k, v in given.items()}, "x").load_into(norm, PARTS, "x")
    expected = np.clip([(4 - 1) / np.sqrt(4.5), (-2 - 2) / np.sqrt(0.5 + 1e-9), 0.7], -3, 3)
    np.testing.assert_allclose(norm(x)[0], expected, rtol=1e-6)
    assert norm.count == 7


@pytest.mark.parametrize(
    "change, words",
    [
        ({"mean": np.array([1.0, np.nan])}, "not finite"), ({"var": np.array([1.0, -2.0])}, "not finite"),
        ({"mean": np.ones(3)}, "3 numbers as mean, not 2"), ({"count": np.zeros(())}, "count"),
        ({"clip": np.array(-1.0)}, "clip"),
        ({"c/mean": np.ones(2), "c/var": np.ones(2), "c/count": 1}, "statistics of"),
    ],
)  # fmt: skip
def test_wrong_statistics_are_refused(change: dict, words: str) -> None:
    given = {"mean": np.ones(2), "var": np.ones(2), "count": np.ones(())} | change
    with pytest.raises(UserError, match=words):
        statistics_of(given, "x").load_into(RunningNorm(2), (Part("", (2,), "float32", 0, 2),), "x")


def test_what_holds_no_statistics(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mean=np.ones(2))
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Statistics({}, {}, 1)))
    with pytest.raises(UserError, match=r"has no 'var'.*np\.savez"):
        read_statistics(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"asks for rlhf_control\.interop\.statistics\.Statistics"):
        read_statistics(tmp_path / "x.pkl", trust=True)
    with pytest.raises(UserError, match="cannot read"):
        read_statistics(tmp_path / "absent.npz")
