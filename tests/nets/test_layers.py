"""Layers whose weights are yet to be set."""

import subprocess
import sys

import torch
from torch import nn

from rlhf_control.nets.layers import unset


def test_the_parameters_are_on_the_device_and_the_generator_is_untouched() -> None:
    state = torch.get_rng_state()
    layer = unset(nn.Conv2d(3, 4, 5, device="meta"))
    assert layer.weight.device.type == "cpu"
    assert layer.weight.shape == (4, 3, 5, 5)
    assert layer.weight.requires_grad
    assert layer.bias is not None
    assert layer.bias.device.type == "cpu"
    assert torch.equal(torch.get_rng_state(), state)
    assert unset(nn.Linear(3, 4, bias=False, device="meta")).bias is None


def test_a_policy_is_loaded_without_sympy() -> None:
    program = "import sys, rlhf_control; rlhf_control.find_policy('halfcheetah'); print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
