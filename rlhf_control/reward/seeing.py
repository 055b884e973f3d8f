"""CNNs that are learned with the reward, where it does not see through the policy's.

E ensemble, B batch, I inputs, F features of all networks.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.pictures import Sight
from rlhf_control.nets.transformer import TokenEncoder
from rlhf_control.reward.critics_view import CriticsView

FEATURES = 64  # of a picture, as in arXiv 1706.03741, appendix A.2
Shared = Literal["heads", "networks"]


class LearnedEncoders(nn.Module):
    """Makes features of pictures by one network for all members ("heads") or by one each ("networks"), whose features
    stand side by side: `mask` says which of them a member reads."""

    def __init__(self, encoders: list[Encoder], shared: Shared, members: int) -> None:
        super().__init__()
        self.encoders, self.shared, self.members = nn.ModuleList(encoders), shared, members

    @staticmethod
    def like(encoder: Encoder, shared: Shared, members: int, generator: torch.Generator) -> "LearnedEncoders":
        """Makes new ones for observations as this encoder reads them, whose statistics they keep."""
        sight, made = Sight("christiano", FEATURES, encoder.sight.precision), []
        for _ in range(1 if shared == "heads" else members):
            made.append(Encoder(encoder.parts, generator, sight, encoder.norm.clip))
            made[-1].norm.load_state_dict(encoder.norm.state_dict())
        return LearnedEncoders(made, shared, members)

    @property
    def size(self) -> int:
        """Returns the number F of features."""
        return sum(self._each())

    def _each(self) -> list[int]:
        return [encoder.size for encoder in self.encoders]  # type: ignore[misc]

    def mask(self, others: int) -> Tensor:
        """Tells which of F features and so many other inputs each member reads, (E, I, 1) float."""
        own = (
            torch.ones(self.members, self.size)
            if self.shared == "heads"
            else torch.block_diag(*(torch.ones(1, size) for size in self._each()))
        )
        return torch.cat([own, torch.ones(self.members, others)], 1)[..., None]

    def prepare(self, packed: np.ndarray) -> Tensor:
        """Returns what no gradient changes of packed observations (..., O), as bytes."""
        return self.encoders[0].prepare(packed)  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Returns where pictures are seen."""
        return self.encoders[0].device  # type: ignore[return-value]

    def to_device(self, device: torch.device) -> "LearnedEncoders":
        """Moves what sees pictures there; returns itself."""
        for encoder in self.encoders:
            encoder.to_device(device)  # type: ignore[operator]
        return self

    def forward(self, prepared: Tensor) -> Tensor:
        """Returns the features (..., F) of what `prepare` gave; the heads are always evaluated by the processor."""
        return torch.cat([encoder(prepared).cpu() for encoder in self.encoders], -1)

    def of_members(self, prepared: Tensor) -> Tensor:
        """Returns the features (E, B, F) of what `prepare` gave of each member's own batch (E, B, bytes); 0 for those
        that it does not read."""
        if self.shared == "heads":
            return self(prepared)
        blocks = [[encoder(x).cpu() if i == e else x.new_zeros((len(x), encoder.size), dtype=torch.float32)
                   for i, encoder in enumerate(self.encoders)] for e, x in enumerate(prepared)]  # fmt: skip
        return torch.stack([torch.cat(row, -1) for row in blocks])

    def without_gradients(self, prepared: Tensor) -> Tensor:
        """Does the same as `forward` without gradients, for as many rows as there may be."""
        return torch.cat([encoder.without_gradients(prepared).cpu() for encoder in self.encoders], -1)  # type: ignore[operator]

    def state(self) -> dict[str, Any]:
        """Returns all of it, as arrays and plain values."""
        each = {str(i): encoder.state() for i, encoder in enumerate(self.encoders)}  # type: ignore[operator]
        return {"shared": self.shared, "members": self.members, "encoders": each}


def encoders_from_state(state: dict[str, Any]) -> "Encoder | TokenEncoder | LearnedEncoders | CriticsView":
    """Makes a copy that no longer changes, from what either's `state` gave. Raises KeyError or ValueError for
    another."""
    if "critic_of" in state:
        return CriticsView.from_state(state)
    if "encoders" not in state:
        return TokenEncoder.from_state(state) if "tokens" in state else Encoder.from_state(state)
    each = [Encoder.from_state(state["encoders"][str(i)]) for i in range(len(state["encoders"]))]
    shared, members = state["shared"], int(state["members"])
    if len(each) != (1 if shared == "heads" else members):
        raise ValueError(f"{len(each)} networks for {members} members")
    return LearnedEncoders(each, shared, members)
