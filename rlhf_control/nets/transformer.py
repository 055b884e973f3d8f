"""A small causal transformer over tokens (Radford et al. 2019: pre-norm, learned positions), in the place of
`encoders.Encoder` where observations are text so far.

What it reads of a context (O,) hangs on the tokens up to the last alone. So of contexts of which one begins with the
other, as they follow each other in a dialogue, the longest is read, once, and each takes its place in it.

B contexts, O tokens of a context, S sequences that are read, L their length, F features, H heads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rlhf_control.nets.encoders import RunningNorm
from rlhf_control.nets.pictures import Sight
from rlhf_control.spaces import Part, parts_from_state

GROUP = 16  # sequences that attention sees at a time


@dataclass(frozen=True)
class Packing:
    """Says where the tokens of some sequences of about one length stand among all tokens, end to end, so that attention
    alone sees what fills the shorter ones up. M tokens of these sequences, C numbers."""

    tokens: slice  # (M,) of all
    index: Tensor  # (M,) places in the filled-up sequences, (S * L,)
    sequences: int
    length: int

    @staticmethod
    def of(sequences: np.ndarray, group: int) -> "list[Packing]":
        """Makes it for so many sequences (S, L) at a time, with zeros behind."""
        packings, start = [], 0
        for first in range(0, len(sequences), group):
            some = sequences[first : first + group]
            some = some[:, : int((some != 0).any(0).sum())]
            index = torch.from_numpy(np.flatnonzero(some))
            packings.append(Packing(slice(start, start + len(index)), index, *some.shape))
            start += len(index)
        return packings

    def filled(self, x: Tensor) -> Tensor:
        """Returns, of all tokens (..., C), those of these sequences (S, L, C), with zeros behind."""
        whole = x.new_zeros(self.sequences * self.length, x.shape[-1]).index_copy(0, self.index, x[self.tokens])
        return whole.unflatten(0, (self.sequences, self.length))

    def packed(self, x: Tensor) -> Tensor:
        """Returns the tokens (M, C) of these sequences (S, L, C)."""
        return x.flatten(0, 1).index_select(0, self.index)


class Block(nn.Module):
    """Computes one layer: attention to what stands before, then a network of two layers at each place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, packings: Sequence[Packing]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what becomes of tokens x (M, F), and the keys and values (S, H, L, F / H) of the last of the
        packings, for who goes on from here."""
        three, brought = self.asked(x), []
        for packing in packings:
            query, key, value = self.heads_of(packing.filled(three))
            seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            brought.append(packing.packed(seen.transpose(1, 2).flatten(2)))
        return self.after(x, torch.cat(brought)), key, value

    def asked(self, x: Tensor) -> Tensor:
        """Returns queries, keys and values of x (..., F) side by side, (..., 3 F)."""
        return self.attend(self.norm_1(x))

    def heads_of(self, three: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, (S, H, L, F / H) each, of what was `asked`, (S, L, 3 F)."""
        query, key, value = three.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def after(self, x: Tensor, seen: Tensor) -> Tensor:
        """Returns x (..., F) with what attention brought (..., F), through the rest of the layer."""
        x = x + self.out(seen)
        return x + self.narrow(functional.relu(self.widen(self.norm_2(x))))


class TokenEncoder(nn.Module):
    """Reads contexts (..., O) of tokens; satisfies what `Policy` and `RewardModel` need of an `Encoder`."""

    def __init__(
        self, parts: tuple[Part, ...], tokens: int, generator: torch.Generator, *, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.parts, self.tokens, self.width, self.layers, self.heads = parts, tokens, width, layers, heads
        self.seen, self.counted = parts, ()
        self.sight = Sight("transformer")  # as far as others ask
        with torch.device("meta"):  # whose weights are drawn below
            self.embedding, self.position = nn.Embedding(tokens, width), nn.Embedding(parts[0].stop, width)
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
            self.last = nn.LayerNorm(width)
        self.to_empty(device="cpu")
        self.norm = RunningNorm(0)
        self.words = False  # whether the last token's own embedding is among the features
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 / (2 * layers) ** 0.5 if name.endswith(("out.weight", "narrow.weight")) else 0.02
                nn.init.normal_(parameter, 0.0, std, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if "weight" in name else 0.0)

    @property
    def size(self) -> int:
        """Returns the number F of features."""
        return self.width * (1 + self.words)

    @property
    def device(self) -> torch.device:
        """Returns where tokens are read: so few are fastest on the processor."""
        return torch.device("cpu")

    def to_device(self, device: torch.device) -> "TokenEncoder":
        """Stays where it is; returns itself."""
        return self

    def numbers(self, packed: np.ndarray) -> np.ndarray:
        """Returns the numbers of contexts (..., O) that are normalised: none."""
        return np.zeros((*packed.shape[:-1], 0), np.float32)

    def each_block(self) -> Iterator[Block]:
        """Yields the layers."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def prepare(self, packed: np.ndarray) -> Tensor:
        """Returns the contexts (..., O) as they are."""
        return torch.from_numpy(np.require(packed, requirements="W"))  # clips from files are not

    def arranged(self, prepared: Tensor) -> Tensor:
        """Returns contexts as they are; see `Encoder.arranged`."""
        return prepared

    def forward(self, prepared: Tensor) -> Tensor:
        """Returns the features (..., F) of contexts (..., O): what the last layer says at their last tokens, and their
        embeddings if there are to be `words`."""
        sequences, (number, place) = reading(prepared)
        length = (sequences != 0).sum(1)
        order = np.argsort(length, kind="stable")  # alike in length, or attention fills up much
        begins = np.empty(len(order), np.int64)
        begins[order] = length[order].cumsum() - length[order]
        hidden = self.read(sequences[order])[0][torch.from_numpy(begins[number] + place)]
        if self.words:
            last = torch.from_numpy(sequences[number, place].astype(np.int64))
            hidden = torch.cat([hidden, self.embedding(last)], -1)
        return hidden.unflatten(0, prepared.shape[:-1])

    @torch.no_grad()
    def without_gradients(self, prepared: Tensor) -> Tensor:
        """Does the same without gradients."""
        return self(prepared)

    def read(self, sequences: np.ndarray, group: int = GROUP) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Returns what the last layer says at every token of sequences (S, O), end to end (M, F), and the keys and
        values of every layer, of the last `group` of them."""
        tokens, places = torch.from_numpy(sequences[sequences != 0].astype(np.int64)), np.nonzero(sequences)[1]
        packings, kept = Packing.of(sequences, group), []
        x = self.embedded(tokens, torch.from_numpy(places))
        for block in self.each_block():
            x, key, value = block(x, packings)
            kept.append((key, value))
        return self.last(x), kept

    def embedded(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Returns what goes into the first layer, (..., F), for tokens at these places."""
        return self.embedding(tokens) + self.position(places)

    def frozen(self) -> "TokenEncoder":
        """Returns a copy that no longer changes, for a reward to see through: with `words`. What a word is worth hangs
        on the word, and the last layer says what comes next (of pairs of replies to other prompts 70 % were judged
        rightly rather than 66, after 500 answers; seed 1)."""
        return TokenEncoder.from_state(self.state() | {"words": True})

    def state(self) -> dict[str, Any]:
        """Returns all of it, as arrays and plain values."""
        parts = [{**vars(part), "shape": list(part.shape)} for part in self.parts]
        parameters = {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()}
        facts = {name: getattr(self, name) for name in ("tokens", "width", "layers", "heads")}
        return {"parts": parts, "parameters": parameters, **facts} | ({"words": True} if self.words else {})

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TokenEncoder":
        """Makes a copy that no longer changes, from what `state` gave. Raises KeyError or ValueError for another."""
        parts, sizes = parts_from_state(state["parts"]), {n: int(state[n]) for n in ("width", "layers", "heads")}
        check_tokens(parts, int(state["tokens"]), state["parameters"], sizes)
        encoder = cls(parts, int(state["tokens"]), torch.Generator(), **sizes)
        encoder.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state["parameters"].items()})
        encoder.words = bool(state.get("words", False))
        return encoder.requires_grad_(False)


def reading(contexts: Tensor) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns the sequences (S, O) that have to be read for contexts (..., O) of tokens, with zeros behind: those that
    no other one goes on from; and of each context (B,) the sequence and the place there of its last token."""
    rows = contexts.flatten(0, -2).numpy()
    order, follows = in_order(rows)
    last = ~np.append(follows, False)
    sequence = np.empty(len(rows), np.int64)
    sequence[order] = np.append(0, last[:-1].cumsum())
    return rows[order[last]], (sequence, np.maximum((rows != 0).sum(1) - 1, 0))


def in_order(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns an order (B,) in which every context (B, O) stands before those that begin with it, and of all but the
    last whether the next one does."""
    keys = np.ascontiguousarray(rows.astype(">u4")).view(f"S{4 * rows.shape[1]}")[:, 0]
    order = np.argsort(keys, kind="stable")
    ordered = rows[order]
    return order, ((ordered[1:] == ordered[:-1]) | (ordered[:-1] == 0)).all(1)


def dialogues(contexts: Tensor) -> np.ndarray:
    """Numbers contexts (B, O) by the sequence they are read in, (B,)."""
    return reading(contexts)[1][0]


class Memory:
    """Reads contexts that grow by a token a call, with the keys and values of what it has read before: a dialogue that
    goes on costs one token, one that begins all of its prompt. Measured with 64 dialogues, `bench dialogue` says what
    it gains."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self.encoder = encoder
        self.before = np.zeros((0, 0), np.int64)
        self.kept: list[tuple[Tensor, Tensor]] = []  # of each layer (B, H, O, F / H)

    @torch.no_grad()
    def read(self, contexts: np.ndarray) -> Tensor:
        """Returns the features (B, F) of contexts (B, O)."""
        B, size = contexts.shape
        encoder, everyone = self.encoder, torch.arange(B)
        length = np.maximum((contexts != 0).sum(1), 1)
        if self.before.shape != contexts.shape:
            self.before = np.full((B, size), -1)
            shape = (B, encoder.heads, size, encoder.width // encoder.heads)
            self.kept = [(torch.zeros(shape), torch.zeros(shape)) for _ in encoder.blocks]
        behind = np.arange(size) >= length[:, None] - 1  # all but what the context has more than the one before it
        begins = ~((contexts == self.before) | behind).all(1)
        if begins.any():
            self._take_in(contexts[begins], torch.from_numpy(np.flatnonzero(begins)))
        self.before = contexts.copy()
        longest, at = int(length.max()), torch.from_numpy(length - 1)
        x = encoder.embedded(torch.from_numpy(contexts[np.arange(B), length - 1].astype(np.int64)), at)[:, None]
        mask = (torch.arange(longest) <= at[:, None])[:, None, None]  # (B, 1, 1, L)
        for block, (keys, values) in zip(encoder.each_block(), self.kept, strict=True):
            query, key, value = block.heads_of(block.asked(x))
            keys[everyone, :, at], values[everyone, :, at] = key[:, :, 0], value[:, :, 0]
            near = keys[:, :, :longest], values[:, :, :longest]
            seen = functional.scaled_dot_product_attention(query, *near, attn_mask=mask)
            x = block.after(x, seen.transpose(1, 2).flatten(2))
        return encoder.last(x)[:, 0]

    def _take_in(self, contexts: np.ndarray, rows: Tensor) -> None:
        for (keys, values), (key, value) in zip(self.kept, self.encoder.read(contexts, len(contexts))[1], strict=True):
            keys[rows, :, : key.shape[2]], values[rows, :, : value.shape[2]] = key, value


def check_tokens(
    parts: tuple[Part, ...], tokens: int, parameters: Mapping[str, Any], sizes: Mapping[str, int], prefix: str = ""
) -> None:  # fmt: skip
    """Raises ValueError unless the weights are there, each as large as said: a network is made only of what a file has,
    however much it claims."""
    width, layers, heads = (sizes[name] for name in ("width", "layers", "heads"))
    if width < 1 or heads < 1 or width % heads:
        raise ValueError(f"{heads} heads of a width of {width}")
    shapes = {"embedding.weight": (tokens, width), "position.weight": (parts[0].stop, width)}
    for i in range(min(layers, len(parameters))):
        shapes |= {f"blocks.{i}.attend.weight": (3 * width, width), f"blocks.{i}.widen.weight": (4 * width, width)}
    if layers > len(parameters):
        raise ValueError(f"{layers} layers of {len(parameters)} arrays")
    for name, size in shapes.items():
        if tuple(parameters[prefix + name].shape) != size:
            raise ValueError(f"{prefix}{name} is {tuple(parameters[prefix + name].shape)}, not {size}")
