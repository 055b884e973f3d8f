"""What an environment shows and takes. The only file that packs observations: whatever their space, every record holds
one array of them, in one dtype, whose last dimension has named parts; `nets.encoders` unpacks it.

B batch, O observation as packed, A action.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from rlhf_control.errors import UserError

PICTURE_SIDE = 8  # of a uint8 array: what is smaller, such as 3 x 4 x 3, is a table of numbers
FLOAT_SIDE, COLOURS = 32, 4  # of floats, the least sides and most channels that can but be a picture
Array = np.ndarray
Act = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]  # (B, ...), rng (None: the mode) -> actions


@dataclass(frozen=True)
class Part:
    """Names one part of a packed observation, and says how to read it."""

    name: str  # its keys in a Dict or places in a Tuple, such as "camera" or "arm/0"; "" where there is but one
    shape: tuple[int, ...]
    dtype: str  # NumPy's name
    start: int  # where it lies in the last dimension of the packed array
    stop: int

    @property
    def picture(self) -> bool:
        """Tells whether it is a picture: uint8, with two sides that are long enough, in either order with channels."""
        return self.dtype == "uint8" and len(self.shape) in (2, 3) and sorted(self.shape)[-2] >= PICTURE_SIDE

    @property
    def float_picture(self) -> bool:
        """Tells whether it is in all likelihood a picture that was made floats, in [0, 1] or so."""
        channels, *sides = sorted((1, *self.shape) if len(self.shape) == 2 else self.shape)
        return self.dtype.startswith("float") and len(sides) == 2 and channels <= COLOURS and sides[0] >= FLOAT_SIDE

    def read(self, packed: Array) -> Array:
        """Returns the part of packed observations (..., O), in its own dtype: (..., *shape)."""
        own = packed[..., self.start : self.stop]
        if packed.dtype != self.dtype:  # its bytes lie among those of others
            own = np.ascontiguousarray(own).view(self.dtype)
        return own.reshape(*packed.shape[:-1], *self.shape)


@dataclass(frozen=True)
class Spaces:
    """Says what a policy reads and does: enough to build its networks and to refuse another environment."""

    obs_shape: tuple[int, ...]
    action_kind: str  # "box" or "discrete"
    action_shape: tuple[int, ...]  # of a Box; else the options of each choice: (n,) for Discrete(n)
    low: tuple[float, ...] = ()  # a Box's bounds, flat
    high: tuple[float, ...] = ()
    obs_dtype: str = "float32"  # of the packed array
    obs_parts: tuple[Part, ...] = ()  # of a Dict or a Tuple; see `parts`
    tokens: int = 0  # where observations are text so far, to which an action adds one: how many tokens there are

    @classmethod
    def of(cls, observation: gymnasium.Space, action: gymnasium.Space) -> "Spaces":
        """Raises UserError for spaces other than Box observations and Box, Discrete, MultiDiscrete (a choice each) or
        MultiBinary (a choice of two for each place) actions."""
        if not isinstance(observation, Box):
            raise UserError(f"observation space {observation} is not supported; it must flatten to a Box")
        shape, parts = observation.shape, observation.parts if isinstance(observation, Packed) else ()
        parts = () if [part.shape for part in parts] == [shape] else parts  # of one that is flat, no more is to be said
        seen: dict[str, Any] = {"obs_dtype": record_dtype(observation), "obs_parts": parts}
        if not math.prod(observation.shape):
            raise UserError(
                f"observation space {observation} is not supported: it is empty; give the policy something to see"
            )
        match action:
            case Box():
                if not np.can_cast(np.float32, action.dtype):  # what the space's own `contains` asks
                    raise UserError(
                        f"action space {action} is not supported: actions are float32; make it a Box of floats, or "
                        "MultiDiscrete if only whole numbers will do"
                    )
                low, high = (tuple(bound.ravel().tolist()) for bound in (action.low, action.high))
                return cls(shape, "box", action.shape, low, high, **seen)
            case gymnasium.spaces.Discrete():
                return cls(shape, "discrete", (int(action.n),), **seen, tokens=tokens_of(observation, action))
            case gymnasium.spaces.MultiDiscrete():
                return cls(shape, "discrete", tuple(action.nvec.ravel().tolist()), **seen)
            case gymnasium.spaces.MultiBinary():
                return cls(shape, "discrete", (2,) * math.prod(action.shape), **seen)
        raise UserError(f"action space {action} is not supported; it must be Box or made of discrete choices")

    @property
    def obs_size(self) -> int:
        """Returns O, how many numbers a packed observation has."""
        return math.prod(self.obs_shape)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Returns what an observation is made of."""
        return self.obs_parts or (Part("", self.obs_shape, self.obs_dtype, 0, self.obs_size),)

    def flat(self, obs: Array) -> Array:
        """Returns a copy (B, O), in the packed dtype, of observations (B, ...) that are a Box's or packed already."""
        return obs.reshape(len(obs), -1).astype(self.obs_dtype)

    @property
    def counted(self) -> tuple[Part, ...]:
        """Returns all parts but pictures, for `numbers_of`."""
        return tuple(part for part in self.parts if not part.picture)

    @property
    def action_size(self) -> int:
        """Returns A, how many numbers a Box has, or options all choices."""
        return sum(self.choices) if self.choices else math.prod(self.action_shape)

    @property
    def choices(self) -> tuple[int, ...]:
        """Returns how many options each discrete choice has; () for a Box."""
        return self.action_shape if self.action_kind == "discrete" else ()

    @property
    def executed_size(self) -> int:
        """Returns how many numbers stand for an action that is carried out."""
        return 1 if self.tokens else self.action_size

    def execute(self, action: Array) -> Array:
        """Returns the sampled action (B, A) or choices (B, G) as the environment carries it out, (B, A) float32:
        clipped to a Box's bounds (as Stable-Baselines3 does), one-hot for each choice, but of tokens the number."""
        if self.tokens:
            return action.astype(np.float32)
        if self.choices:
            hot = [np.eye(n, dtype=np.float32)[action[:, i]] for i, n in enumerate(self.choices)]
            return np.concatenate(hot, -1)
        return action.clip(*float32_bounds(self.low, self.high))

    def chosen(self, executed: Array) -> Array:
        """Returns what was sampled, (B, A) or choices (B, G), of an action as carried out (B, A), as far as it can be
        known."""
        if not self.choices:
            return executed
        if self.tokens:
            return executed.astype(np.int64)
        return np.stack([hot.argmax(-1) for hot in np.split(executed, np.cumsum(self.choices)[:-1], -1)], -1)

    def fits(self, other: "Spaces") -> bool:
        """Tells whether a policy of these spaces can act in others: they are equal, or these are of a file from before
        observations had dtypes and parts, and all else is equal."""
        return self in (other, other.before)

    @property
    def before(self) -> "Spaces":
        """Returns these spaces as files have them that were written before observations had dtypes and parts: all that
        `numbers_of` gives, as float32."""
        shape = (self.numbers,) if self.obs_parts else self.obs_shape
        return replace(self, obs_shape=shape, obs_dtype="float32", obs_parts=(), tokens=0)

    @property
    def numbers(self) -> int:
        """Returns V, the numbers of all parts, which are fewer than those of the packed array where that is bytes."""
        return sum(math.prod(part.shape) for part in self.parts)

    def packed(self, numbers: Array) -> Array:
        """Returns (B, O) as packed, of the numbers (B, V) of all parts, as `gymnasium.spaces.flatten` makes them."""
        columns, start = [], 0
        for part in self.parts:
            size = math.prod(part.shape)
            own = np.ascontiguousarray(numbers[:, start : start + size].astype(part.dtype))
            columns.append(own if part.dtype == self.obs_dtype else own.view(self.obs_dtype))
            start += size
        return np.concatenate(columns, -1)

    def __str__(self) -> str:
        action = f"choices of {self.choices}" if self.choices else f"Box{self.action_shape}"
        parts = ", ".join(f"{part.name} {part.dtype}{part.shape}" for part in self.obs_parts)
        kind = "" if self.obs_dtype == "float32" else f" of {self.obs_dtype}"
        return f"observations {parts or f'Box{self.obs_shape}{kind}'}, actions {action}"

    # -- files

    def state(self) -> dict[str, Any]:
        """Returns plain values, for files."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if k != "tokens" or v}
        return plain | {"obs_parts": [asdict(part) | {"shape": list(part.shape)} for part in self.obs_parts]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Spaces":
        """Takes back what `state` gave, now or before observations had dtypes and parts."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items()}
        fields["obs_parts"] = parts_from_state(state.get("obs_parts", []))
        return cls(**fields)


# -- packing


class Packed(Box):
    """Is the space of packed observations, which knows their parts."""

    def __init__(self, parts: tuple[Part, ...], dtype: str) -> None:
        whole = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
        low, high = (whole.min, whole.max) if whole else (-np.inf, np.inf)
        super().__init__(low, high, (parts[-1].stop,), dtype=np.dtype(dtype))
        self.parts = parts


def packing(space: gymnasium.Space) -> tuple[Box, Callable[[Any], Array]]:
    """Returns (the space of packed observations, what packs one observation of `space` into (O,)).

    A Box stays a Box. Of a Dict or a Tuple the entries stand side by side in the order of `gymnasium.spaces.flatten`,
    discrete ones one-hot, as float32; where whole numbers are among them (pictures, tokens), as the bytes of all, so
    that each part keeps its dtype. Texts are left out. Raises UserError for a space that has no such form.
    """
    if isinstance(space, Box):
        dtype = record_dtype(space)
        return space, lambda obs: np.asarray(obs).astype(dtype).ravel()
    found = list(leaves(space))
    dtypes = [record_dtype(leaf) for _, leaf in found]
    mixed = len(set(dtypes)) > 1
    parts, start = [], 0
    for (path, leaf), dtype in zip(found, dtypes, strict=True):
        shape = leaf.shape if isinstance(leaf, Box) else (gymnasium.spaces.flatdim(leaf),)
        stop = start + math.prod(shape) * (np.dtype(dtype).itemsize if mixed else 1)
        parts.append(Part("/".join(map(str, path)), shape, dtype, start, stop))
        start = stop
    if not start:
        raise UserError(f"observation space {space} is not supported: it is empty; give the policy something to see")

    def pack(obs: Any) -> Array:
        values = [gymnasium.spaces.flatten(leaf, entry(obs, path)) for path, leaf in found]
        own = [np.asarray(value).astype(dtype) for value, dtype in zip(values, dtypes, strict=True)]
        return np.concatenate([value.view(np.uint8) for value in own] if mixed else own)

    return Packed(tuple(parts), "uint8" if mixed else dtypes[0]), pack


def leaves(space: gymnasium.Space) -> Iterator[tuple[tuple[Any, ...], gymnasium.Space]]:
    """Yield (keys, space) of the entries of nested Dicts and Tuples, in the order in which they are flattened, but for
    texts, which no network here reads. Raises UserError for an entry that is neither text nor numbers."""
    for path, leaf in entries(space):
        if is_text(leaf):
            continue
        try:
            numbers = isinstance(gymnasium.spaces.utils.flatten_space(leaf), Box)
        except NotImplementedError:  # a space of the environment's own
            numbers = False
        if not numbers:
            raise UserError(f"observation space {leaf} is not supported; it must flatten to a Box")
        yield path, leaf


def entries(space: gymnasium.Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], gymnasium.Space]]:
    """Yield (keys, space) of all entries of nested Dicts and Tuples."""
    match space:
        case gymnasium.spaces.Dict():
            inner: list[tuple[Any, gymnasium.Space]] = list(space.spaces.items())
        case gymnasium.spaces.Tuple():
            inner = list(enumerate(space.spaces))
        case _:
            yield path, space
            return
    for key, entry_space in inner:
        yield from entries(entry_space, (*path, key))


def is_text(space: gymnasium.Space) -> bool:
    """Tells whether a space is of strings: Gymnasium's Text, or one of an environment's own, such as MiniGrid's."""
    return space.dtype is not None and np.dtype(space.dtype).kind == "U"


def texts(space: gymnasium.Space) -> list[str]:
    """Names the entries of a space that are texts, and so are left out where observations are packed."""
    return ["/".join(map(str, path)) for path, leaf in entries(space) if is_text(leaf)]


def entry(obs: Any, path: tuple[Any, ...]) -> Any:
    """Return the entry of an observation under keys of `leaves`."""
    for key in path:
        obs = obs[key]
    return obs


def record_dtype(space: gymnasium.Space) -> str:
    """Returns the dtype in which records keep observations of a space: whole numbers their own, all else float32."""
    own = isinstance(space, Box) and space.dtype is not None and space.dtype.kind in "iu"
    return np.dtype(space.dtype).name if own else "float32"


def tokens_of(observation: Box, action: gymnasium.spaces.Discrete) -> int:
    """Returns how many tokens there are where observations are text so far, a row of whole numbers of which each is one
    of the actions, with zeros behind; else 0."""
    whole = observation.dtype is not None and observation.dtype.kind == "i" and len(observation.shape) == 1
    same = whole and bool((observation.low == 0).all() and (observation.high == action.n - 1).all())
    return int(action.n) if same and observation.shape[0] > 1 and action.start == 0 else 0


def numbers_of(parts: tuple[Part, ...], packed: Array) -> Array:
    """Returns these parts of packed observations (..., O) side by side, (..., V) float32."""
    if len(parts) == 1 and parts[0].stop - parts[0].start == packed.shape[-1]:
        return packed.astype(np.float32, copy=False)
    lead = packed.shape[:-1]
    columns = [part.read(packed).reshape(*lead, math.prod(part.shape)) for part in parts]
    return np.concatenate([np.zeros((*lead, 0), np.float32), *columns], -1, dtype=np.float32)


def parts_from_state(state: list[dict[str, Any]]) -> tuple[Part, ...]:
    """Makes parts from their plain values."""
    return tuple(Part(**{**part, "shape": tuple(part["shape"])}) for part in state)


# -- actions


def sampled(space: gymnasium.Space, actions: Any, n: int) -> Array:
    """Copies `actions` as the environment is given them to what our policies sample: (n, A), or choices (n, G)."""
    flat_actions = np.asarray(actions).reshape(n, -1)
    if isinstance(space, Box):
        return flat_actions.astype(np.float32)
    return flat_actions - np.ravel(getattr(space, "start", 0))


@lru_cache
def float32_bounds(low: tuple[float, ...], high: tuple[float, ...]) -> tuple[Array, Array]:
    """Returns the bounds (A,) as float32, not beyond the given ones: the nearest number to -0.1 lies below it."""
    ends = []
    for bound, inward in ((low, np.inf), (high, -np.inf)):
        exact = np.array(bound, np.float64)
        nearest = exact.astype(np.float32)
        beyond = nearest < exact if inward > 0 else nearest > exact
        ends.append(np.where(beyond, np.nextafter(nearest, np.float32(inward)), nearest))
    return ends[0], ends[1]
