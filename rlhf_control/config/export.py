"""Options of `export`. As light to import as `commands`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from rlhf_control.config.checks import POSITIONAL, explained, typed


@explained
@dataclass(frozen=True)
class ExportConfig:
    """Write a policy for another library, which then acts equally."""

    path: Annotated[str, POSITIONAL]
    """A policy file, a run's folder, the name of a policy that ships with the project, or a file of another library."""
    to: Literal["sb3", "cleanrl", "torchscript", "npz"] = "sb3"
    """sb3: a zip that SB3 loads, and the statistics as a pickled VecNormalize. cleanrl: an Agent's state dict,
    with statistics beside it. torchscript: one module from raw observations to actions. npz: a policy of ours."""
    out: str = ""
    """The file to write (default: policy, with the format's suffix)."""
    env_id: str = ""
    """For a policy of an environment MODULE:ID, the same id again, to say that you trust the module; for a file of
    another library, the environment that it is for."""
    env: dict[str, bool | int | float | str] = field(default_factory=dict)
    """For a file of another library: arguments of the environment, as in `gymnasium.make`."""
    obs_stats: str = ""
    """For a policy of another library: a file of its observation statistics (an .npz of mean, var and count)."""
    trust: bool = False
    """Read obs_stats from a pickled VecNormalize too, as data."""

    def __post_init__(self) -> None:
        typed(self)
