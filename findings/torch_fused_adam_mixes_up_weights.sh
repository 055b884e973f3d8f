#!/usr/bin/env bash
# torch 2.13.0: on a processor, `Adam(fused=True)` pairs a gradient that is laid out otherwise than its weight with other
# weights, without a word.
#
# `backward()` lays gradients out as their weights. `torch.autograd.grad` leaves a convolution's channels last where its
# input was, which is contiguous in another order than the weight; assigned to `.grad`, the fused step walks through
# both as they lie in memory. Without `fused` the step is right.
#
# Seen: "torch 2.13.0+cpu: the fused step differs from Adam's by 1.41 of its length; with the gradient laid out as the
# weight by 0.00"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch

torch.manual_seed(0)
weight, pictures = torch.randn(64, 32, 4, 4), torch.randn(8, 9, 9, 32).permute(0, 3, 1, 2)


def step(fused: bool, laid_out_alike: bool) -> torch.Tensor:
    parameter = torch.nn.Parameter(weight.clone())
    loss = torch.nn.functional.conv2d(pictures, parameter).square().mean()
    gradient = torch.autograd.grad(loss, [parameter])[0]
    parameter.grad = gradient.contiguous() if laid_out_alike else gradient
    torch.optim.Adam([parameter], lr=1e-3, fused=fused).step()
    return parameter.detach() - weight


right = step(fused=False, laid_out_alike=False)
wrong, alike = ((step(True, same) - right).norm() / right.norm() for same in (False, True))
print(f"torch {torch.__version__}: the fused step differs from Adam's by {wrong:.2f} of its length; with the gradient "
      f"laid out as the weight by {alike:.2f}")
if wrong < 0.5 or alike > 0.01:
    raise SystemExit("this has changed")
PY
