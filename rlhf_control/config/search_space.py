"""What `rlhf-control tune` searches: hyperparameters and architectures of PPO and of the reward model; beside the
presets, which such searches end in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlhf_control.config.options import nested, with_options
from rlhf_control.errors import UserError


@dataclass(frozen=True)
class Span:
    """Holds a range of numbers, both ends included; `log`: each factor is as likely as any other of the same size."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise UserError(f"the range from {self.low:g} to {self.high:g} is none{' for log' * self.log}")


Space = dict[str, Span | tuple[Any, ...]]  # option -> its range, or its choices

PPO_SPACE: Space = {  # around the ranges of "What matters in on-policy reinforcement learning?" (arXiv 2006.05990)
    "ppo.lr": Span(3e-5, 3e-3, log=True),
    "ppo.lr_schedule": ("linear", "constant"),
    "ppo.num_envs": (8, 16, 32, 64),
    "ppo.num_steps": (32, 64, 128, 256),
    "ppo.minibatch_size": (32, 64, 128, 256),
    "ppo.epochs": (3, 5, 10, 15),
    "ppo.gamma": (0.95, 0.98, 0.99, 0.995, 0.999),
    "ppo.gae_lambda": Span(0.8, 1.0),
    "ppo.clip": (0.1, 0.2, 0.3),
    "ppo.entropy_coef": Span(1e-6, 1e-2, log=True),
    "ppo.recompute_advantages": (False, True),
}
POLICY_SPACE: Space = {
    "net.hidden": ((64, 64), (128, 128), (256, 256), (64, 64, 64)),
    "net.log_std_init": Span(-2.0, 0.5),
}
REWARD_SPACE: Space = {
    "reward.members": (1, 3, 5, 7),
    "reward.hidden": ((32, 32), (64, 64), (128, 128), (64, 64, 64)),
    "reward.lr": Span(3e-4, 3e-3, log=True),
    "reward.weight_decay": Span(1e-3, 0.3, log=True),
    "reward.steps": (100, 200, 400),
    "reward.lapse": Span(0.0, 0.2),
    "reference.beta": Span(3e-3, 0.3, log=True),
    "queries": ("uniform", "disagreement", "bald"),
}
LEARNER: Space = {name: PPO_SPACE[name] for name in ("ppo.lr", "ppo.epochs", "ppo.clip", "ppo.entropy_coef")}
SPACES = {"pretrain": {**PPO_SPACE, **POLICY_SPACE}, "finetune": {**REWARD_SPACE, **LEARNER}}


def read_space(table: Mapping[str, Any], config: Any) -> Space:
    """Reads the table [space] of a file: option = [choices], or {low = ..., high = ..., log = true}. Raises UserError
    for what the config does not have or take."""
    space: Space = {}
    for name, given in flat(table).items():
        if isinstance(given, list) and given:
            space[name] = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in given)
        elif isinstance(given, Mapping) and {"low", "high"} <= given.keys() <= {"low", "high", "log"}:
            space[name] = Span(given["low"], given["high"], given.get("log", False))
        else:
            raise UserError(f"space {name} is {given!r}; it takes [choices] or {{low = 0.1, high = 1.0, log = true}}")
    check_space(space, config)
    return space


def check_space(space: Space, config: Any) -> None:
    """Raises UserError unless the config takes each end and each choice."""
    for name, domain in space.items():
        for value in (domain.low, domain.high) if isinstance(domain, Span) else domain:
            with_options(config, nested({name: value}))


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"ppo": {"lr": [1, 2]}} -> {"ppo.lr": [1, 2]}; a range stays one."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        inner = isinstance(value, Mapping) and not {"low", "high"} & value.keys()
        found |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name.replace('-', '_')}": value}
    return found


def toml_of(command: str, options: Mapping[str, Any], comment: str) -> str:
    """Returns a file that is a preset (`--preset FILE`) and a sweep of one run."""
    lines = [f"# {line}" for line in comment.splitlines()] + [f'command = "{command}"', "", "[options]"]
    return "\n".join([*lines, *(f"{name} = {toml_value(value)}" for name, value in options.items())]) + "\n"


def toml_value(value: Any) -> str:
    """Says a number, a text or a list of them in TOML, where they look as in JSON, and a table in a line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_value(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def chosen(config: Any, values: Mapping[str, Any], **change: Any) -> Any:
    """Returns the config with what a search chose, by option."""
    return replace(with_options(config, nested(values)), **change)
