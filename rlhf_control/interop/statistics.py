"""Observation statistics of other libraries: what a policy's normaliser takes over."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_control.data import Array
from rlhf_control.errors import UserError
from rlhf_control.interop.pickles import NUMPY, Record, as_array, read_pickle
from rlhf_control.nets.encoders import RunningNorm
from rlhf_control.runs.files import read_own
from rlhf_control.runs.npz import FREE, read_npz
from rlhf_control.spaces import Part

EPSILON = 1e-8  # under our own root
NUMBERS = ("mean", "var", "count")
HOW = (
    "make an .npz of it, in Python where you trust it: "
    "np.savez('stats.npz', clip=v.clip_obs, epsilon=v.epsilon, **vars(v.obs_rms)) with v = VecNormalize.load(...)"
)
IN_A_VEC_NORMALIZE = NUMPY | {
    "collections OrderedDict",
    "stable_baselines3.common.vec_env.vec_normalize VecNormalize",
    "stable_baselines3.common.running_mean_std RunningMeanStd",
    "numpy.random._pickle __generator_ctor", "numpy.random._pickle __bit_generator_ctor",
    "numpy.random._pcg64 PCG64", "numpy.random.bit_generator __pyx_unpickle_SeedSequence",
    "numpy.random.bit_generator SeedSequence",
    *(
        f"{gym}.spaces.{module} {name}"
        for gym in ("gym", "gymnasium")
        for module, name in (
            ("box", "Box"), ("dict", "Dict"), ("discrete", "Discrete"), ("multi_binary", "MultiBinary"),
            ("multi_discrete", "MultiDiscrete"),
        )
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Statistics:
    """Holds mean, variance and number of the observations seen, by the name of the part that they are of ("" where
    there is one), with what the other library clips to and puts under its root."""

    mean: dict[str, Array]
    var: dict[str, Array]
    count: float
    clip: float = 10.0
    epsilon: float = EPSILON

    def load_into(self, norm: RunningNorm, parts: tuple[Part, ...], where: str | Path) -> None:
        """Takes them over; `norm` clips to the same already. Parts without statistics stay as they are."""
        if set(self.mean) == {""}:  # of all of it as one vector, in the order of our parts
            parts = (Part("", (len(norm.mean),), "float32", 0, len(norm.mean)),)
        names = {part.name for part in parts}
        if unknown := set(self.mean) - names:
            raise UserError(f"{where} has statistics of {sorted(unknown)}, and the policy observes {sorted(names)}")
        mean, var = [], []
        for part in parts:
            size = math.prod(part.shape)
            own_mean, own_var = self.mean.get(part.name, np.zeros(size)), self.var.get(part.name)
            own_var = np.full(size, 1 - EPSILON) if own_var is None else own_var + (self.epsilon - EPSILON)
            for name, value in (("mean", own_mean), ("var", own_var)):
                if value.size != size:
                    raise UserError(f"{where} holds {value.size} numbers as {name}, not {size}")
                if not np.isfinite(value).all() or (name == "var" and (value < -EPSILON).any()):
                    raise UserError(f"{where} holds {name} that is not finite; use another copy")
            mean.append(own_mean.ravel())
            var.append(own_var.ravel())
        norm.mean.copy_(torch.from_numpy(np.concatenate(mean).astype(np.float64)))
        norm.var.copy_(torch.from_numpy(np.concatenate(var).astype(np.float64)))
        norm.count.fill_(self.count)


def statistics_of(given: dict[str, Any], where: str | Path) -> Statistics:
    """Make them of plain values: mean, var and count, or KEY/mean, ... for the entries of a Dict; clip and epsilon
    where they are not 10 and 1e-8. Raises UserError for what is not."""
    try:
        arrays = {name: np.asarray(as_array(value), np.float64) for name, value in given.items()}
        keys = sorted({name.rpartition("/")[0] for name in arrays if name.rpartition("/")[2] == "mean"})
        if not keys:
            raise KeyError("mean")
        prefixes = {key: f"{key}/" if key else "" for key in keys}
        mean, var, count = ({key: arrays[f"{prefix}{name}"] for key, prefix in prefixes.items()} for name in NUMBERS)
        found = Statistics(
            mean, var, float(next(iter(count.values()))), float(arrays.get("clip", 10.0)),
            float(arrays.get("epsilon", EPSILON)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} has no {error}: observation statistics are mean, var and count; {HOW}") from None
    if not (0 < found.count < math.inf and 0 < found.clip < math.inf and 0 <= found.epsilon < math.inf):
        raise UserError(f"{where} holds count, clip or epsilon that is not finite and positive; use another copy")
    return found


def read_statistics(path: str | Path, *, trust: bool = False) -> Statistics:
    """Read an .npz; with `trust` a pickled VecNormalize too, of which nothing is run."""
    try:
        content = read_own(path, follow=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if content[:2] == b"PK":
        return statistics_of(read_npz(content, path), path)
    if not trust:
        raise UserError(
            f"cannot read {path} as an .npz of mean, var and count: pickles could run code; {HOW}. With --trust a "
            "pickled VecNormalize is read too, as data"
        )
    return statistics_of(vec_normalize_state(content, path), path)


def vec_normalize_state(content: bytes, where: str | Path) -> dict[str, Any]:
    """Return mean, var, count, clip and epsilon out of a pickled VecNormalize, without running any of it."""
    try:
        if len(content) > FREE:
            raise ValueError(f"{len(content):,} bytes are too much")
        found = read_pickle(content, IN_A_VEC_NORMALIZE)
        if not isinstance(found, Record) or not found.name.endswith("VecNormalize"):
            raise ValueError("it holds no VecNormalize")
        state, rms = found.state, found.state["obs_rms"]
        if not state.get("norm_obs", True):
            raise ValueError("it normalises no observations, so leave --obs-stats out")
        by_key = {f"{key}/": value for key, value in rms.items()} if isinstance(rms, dict) else {"": rms}
        numbers = {f"{key}{name}": one.state[name] for key, one in by_key.items() for name in NUMBERS}
        return numbers | {"clip": state["clip_obs"], "epsilon": state["epsilon"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {where} as a VecNormalize of Stable-Baselines3: {error}") from None
