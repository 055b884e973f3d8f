"""Where networks that see are evaluated and updated: the processor, or a GPU of CUDA."""

from typing import TYPE_CHECKING

from rlhf_control.errors import UserError

if TYPE_CHECKING:
    import torch


def device_of(name: str) -> "torch.device":
    """Returns the device of `--device`: auto is the first GPU, if torch has one. Raises UserError where there is
    none."""
    import torch  # here: who only reads options does not wait for it

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError(
            f"--device cuda: torch {torch.__version__} finds no GPU here; install a build of torch for CUDA and its "
            "driver, or use --device cpu"
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")
