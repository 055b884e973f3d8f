import pytest
import torch

from rlhf_control.compute.device import device_of
from rlhf_control.errors import UserError


def test_a_gpu_is_taken_where_there_is_one_and_its_absence_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == "cpu"
    with pytest.raises(UserError, match=r"--device cuda: torch .* finds no GPU here; install .* or use --device cpu"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == device_of("cuda").type == "cuda" and device_of("cpu").type == "cpu"
