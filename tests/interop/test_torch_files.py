import io
from typing import Any

import pytest
import torch

from rlhf_control.interop.torch_files import UNREADABLE, cannot_read, plain_weights, read_torch


def written(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_weights_are_read() -> None:
    weights = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float64)}
    found = plain_weights(read_torch(written(weights)))
    assert torch.equal(found["a"], weights["a"]) and found["b"].dtype == torch.float32
    assert read_torch(written({"deep": [weights, {"n": 3}]}))["deep"][1] == {"n": 3}


@pytest.mark.parametrize(
    "value",
    [
        {}, [1], {"a": 3}, {"a": torch.ones(2, dtype=torch.int64)}, {"a": torch.tensor([1.0, torch.nan])},
        {3: torch.ones(1)}, {"a": torch.zeros(1).expand(10**9)}, {"a": torch.eye(2).to_sparse()},
        {"deep": [{"x": torch.zeros(1).expand(10**9)}]},
    ],
)  # fmt: skip
def test_what_is_no_weights_is_refused(value: Any) -> None:
    with pytest.raises(UNREADABLE):
        plain_weights(read_torch(written(value)))


def test_torch_does_not_advise_to_trust_the_file() -> None:
    content = written({"a": torch.nn.Linear(1, 1)})
    with pytest.raises(UNREADABLE) as refused:
        read_torch(content)
    said = str(cannot_read("x.pt", "weights", refused.value))
    assert said == "cannot read x.pt as weights: it asks for torch.nn.modules.linear.Linear, which no weights need"
    with pytest.raises(UNREADABLE) as refused:
        read_torch(content.replace(b"Linear", b"Lin\xe4ar"))
    said = str(cannot_read("x.pt", "weights", refused.value))
    assert said.startswith("cannot read x.pt as weights: ") and "\n" not in said and "weights_only" not in said
