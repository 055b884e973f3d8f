#!/usr/bin/env bash
# torch 2.13.0: `torch.nn.utils.skip_init`, which is there to save time, imports sympy in the first layer it makes, some
# 400 modules that nothing of an eager program needs.
#
# It makes the layer on the device `meta` and brings it over with `empty_like`, which for such tensors is written in
# Python and asks for `torch.fx.experimental.symbolic_shapes`. To make the layer itself imports nothing, so a program
# that only loads a small network and acts spends a third of a second more on it than with its initialisation.
#
# Seen: "torch 2.13.0+cpu: a Linear of its own way takes 0.0 s and 0 modules of sympy, by skip_init 0.7 s and 419", beside
# other work; 0.3 s where there was none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys
import time

import torch
from torch import nn


def timed(make) -> tuple[float, int]:
    started = time.perf_counter()
    make()
    return time.perf_counter() - started, sum(name.split(".")[0] == "sympy" for name in sys.modules)


(own, before), (skipped, after) = timed(lambda: nn.Linear(3, 4)), timed(lambda: nn.utils.skip_init(nn.Linear, 3, 4))
print(f"torch {torch.__version__}: a Linear of its own way takes {own:.1f} s and {before} modules of sympy, by "
      f"skip_init {skipped:.1f} s and {after}")
if before or after < 100:
    raise SystemExit("this has changed")
PY
