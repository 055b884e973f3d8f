#!/usr/bin/env bash
# torch 2.13.0: the second derivative of `logaddexp` is NaN where its terms are far apart (by 89 in float32, 710 in
# float64), though value and first derivative are right; that of `logsumexp` of the same two is 0, as it should be.
#
# Mixtures are written with it, such as a likelihood with a share of answers that are given at random; Newton's method
# and Laplace's approximation take their second derivatives, and one answer that is far from what was expected makes all
# of it NaN. Keep to `logsumexp` there, or count what is not finite as 0.
#
# Seen: "torch 2.13.0+cpu: logaddexp(-100, 0) has the derivatives 0 and nan, logsumexp 3.8e-44 and 3.8e-44"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import math

import torch


def derivatives(sum_of) -> tuple[float, float]:
    x = torch.tensor(-100.0, requires_grad=True)
    (first,) = torch.autograd.grad(sum_of(x, torch.tensor(0.0)), x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    return first.item(), second.item()


ours, other = derivatives(torch.logaddexp), derivatives(lambda x, y: torch.stack([x, y]).logsumexp(0))
print(f"torch {torch.__version__}: logaddexp(-100, 0) has the derivatives {ours[0]:.2g} and {ours[1]:.2g}, logsumexp "
      f"{other[0]:.2g} and {other[1]:.2g}")
if not math.isnan(ours[1]) or math.isnan(other[1]):
    raise SystemExit("this has changed")
PY
