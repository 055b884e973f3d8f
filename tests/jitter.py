"""Other kernels, played: products whose last bits depend on how many rows there are, as those of BLAS libraries do.

Switched on by RLHF_CONTROL_JITTER=N (see tests/kernels.py), N = 1, 2, ... for one kernel or another. What is computed
twice in the same way stays equal to the bit; a row computed alone differs from the same row among others, and from what
compiled code makes of it.
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

KERNEL = int(os.environ.get("RLHF_CONTROL_JITTER", "0"))
ULPS = 4  # about what one kernel differs from another by


def jittered(out: Tensor) -> Tensor:
    """The product, off by a few units in the last place: by how many is decided by place, size and N."""
    if out is None or not out.is_floating_point() or not out.numel():  # None: the gradient of what nothing depends on
        return out
    epsilon, n = torch.finfo(out.dtype).eps, out.numel()
    places = torch.arange(n, dtype=torch.float64).reshape(out.shape)
    noise = torch.sin(12.9898 * places + 78.233 * n * KERNEL).to(out.dtype)
    return out + ULPS * epsilon * noise * out.detach().abs()


def with_jitter(product: Callable[..., Tensor]) -> Callable[..., Any]:
    @wraps(product)
    def other_kernel(*arguments: Any, **keywords: Any) -> Tensor:
        out = jittered(product(*arguments, **keywords))
        if out.requires_grad:
            out.register_hook(jittered)
        return out

    return other_kernel


def switch_on() -> None:
    """From now on, for all of torch's products in this process."""
    torch.nn.functional.linear = with_jitter(torch.nn.functional.linear)
    for name in ("baddbmm", "matmul", "cdist"):
        setattr(torch, name, with_jitter(getattr(torch, name)))
    torch.Tensor.__matmul__ = with_jitter(torch.Tensor.__matmul__)  # type: ignore[method-assign]
