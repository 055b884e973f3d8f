"""A command line becomes a config: by tyro, on top of a preset or of what a policy was trained with. Errors and help
are shorter than tyro's."""

import contextlib
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, get_type_hints

from rlhf_control.config import training as c
from rlhf_control.config.checks import POSITIONAL, RENAMED, field_texts, summary
from rlhf_control.config.presets import from_file, of_marks, preset
from rlhf_control.errors import UserError

# What `--help` explains of the two long commands; `--help-all` explains the rest too
EVERYDAY = {
    "pretrain": ("env_id", "total_steps", "preset", "seed", "seeds", "out", "learner", "track", "env"),
    "finetune": (
        "policy", "oracle", "behaviours", "labels", "feedback", "labelling", "question", "queries", "clip_seconds",
        "total_steps", "seed", "seeds", "out", "track", "shrink", "termination", "env_id", "env",
    ),
}  # fmt: skip


def mark_positional(config_type: Any) -> None:
    """Says in tyro's words, on the class, which fields are positional. The configs say it in a word of their own, for
    to import tyro takes longer than all that `--help` does."""
    import tyro

    for name, hint in get_type_hints(config_type, include_extras=True).items():
        if POSITIONAL in getattr(hint, "__metadata__", ()):
            config_type.__annotations__[name] = Annotated[hint.__origin__, tyro.conf.Positional]


def everyday_help(config_type: Any, command: str) -> None:
    """Prints the options that one needs every day, and where the others are; raises SystemExit."""
    import tyro

    hints, texts = get_type_hints(config_type, include_extras=True), field_texts(config_type)
    known = {f.name: f for f in fields(config_type)}
    columns: list[Any] = []
    for name in EVERYDAY[command]:
        f = known[name]
        again = field(default=f.default, default_factory=f.default_factory)
        columns.append((name, Annotated[hints[name], tyro.conf.arg(help=texts[name])], again))
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    try:
        description = summary(config_type).splitlines()[0]
        tyro.cli(make_dataclass(config_type.__name__, columns), prog=f"rlhf-control {command}", args=["--help"],
                 description=description)  # fmt: skip
    finally:
        single = [f"--{name.replace('_', '-')}" for name in known if name not in (*EVERYDAY[command], *groups)]
        print(textwrap.fill(f"And {', '.join(single)}; and groups:", 80, break_on_hyphens=False))
        for name, hint in groups.items():
            print(f"  --{name + '.*':<13} {' '.join(summary(hint).split()).partition('. ')[0].rstrip('.')}")
        print(f"rlhf-control {command} --help-all explains them all.")


def current(argument: str) -> str:
    """Returns an option of older command lines under the name that it has now."""
    name, sign, value = argument.partition("=")
    return f"--{RENAMED[name[2:]]}{sign}{value}" if name[:2] == "--" and name[2:] in RENAMED else argument


def starting_from(config: Any, arguments: Sequence[str] | None = None) -> Any:
    """Returns the config that a command line changes, where that is not the default one: a preset, or what suits the
    policy to fine-tune and what is asked for. `arguments`: the line itself; None: of a file, which says how many."""
    if isinstance(config, c.PretrainConfig):
        return preset(config.env_id, config.preset) if config.preset else None
    if isinstance(config, c.FinetuneConfig):
        from rlhf_control.training.continuing import suited

        start = suited(config.policy, config.env_id)
        if config.feedback == ("success",) and arguments is not None:
            given = any(argument.partition("=")[0] == "--labels" for argument in arguments)
            start = of_marks(start, *([config.labels] if given else []))
        return from_file(start, config.preset) if config.preset else start
    return None


def parse(config_type: type, command: str, arguments: Sequence[str]) -> Any:
    """Returns the command's config. What tyro says about wrong arguments, in a box of many lines, becomes one line."""
    import tyro

    mark_positional(config_type)
    if "--help-all" in arguments:
        arguments = ["--help"]
    elif command in EVERYDAY and {"-h", "--help"} & set(arguments):
        everyday_help(config_type, command)
    said, arguments = io.StringIO(), [current(argument) for argument in arguments]
    try:
        with contextlib.redirect_stderr(said):
            config: Any = tyro.cli(config_type, prog=f"rlhf-control {command}", args=arguments)
            if start := starting_from(config, arguments):  # once more, on top of it
                # With keys in the default, tyro would want a flag for each
                config = tyro.cli(config_type, args=arguments, default=replace(start, env={}))
                config = replace(config, env={**start.env, **config.env})
            return config
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise UserError(
            f"{in_a_line(said.getvalue(), command, arguments)} (see rlhf-control {command} --help)"
        ) from None


def in_a_line(said: str, command: str, arguments: Sequence[str]) -> str:
    """Returns what tyro says in a box about wrong arguments of a command: of options that may have been meant the
    names alone, of choices all but None, which nobody types."""
    lines = [line.strip(" │╭╮╰╯─") for line in said.splitlines()]
    words = [line for line in lines if line.strip("-") and not line.startswith("For full helptext")]  # - in ASCII
    text = " ".join(words[1:] or words).split(" Argument helptext")[0]  # the first line is the box's title
    text, *near = re.split(r" (?:Perhaps you meant|Arguments similar to \S+):", text)
    if near:
        options = re.findall(r"^[│ ] {5}(--.*)", said, re.MULTILINE)  # what explains them is further to the right
        text += f"; did you mean {' or '.join(re.findall(r'--[a-z.-]+', ' '.join(options)))}?"
    if choices := re.search(r"Expected one of \((.*)\)", text):
        typed = sorted({choice.strip(" '") for choice in choices[1].split(",")} - {"None", ""})
        text = text.replace(choices[0], f"Expected one of {', '.join(typed)}")
    # An option that is not known, before what goes without a name, is taken for it
    bare = re.fullmatch(r"Missing value for argument '([a-z]+(?:-[a-z]+)*)'\. Expected 1 values?\.", text)
    if bare and f"--{bare[1]}" in arguments:
        return f"{bare[1]} goes without a name: rlhf-control {command} {bare[1].upper()}"
    if bare:
        return f"an option before {bare[1].upper()} is not known; put {bare[1].upper()} first to be told which"
    return text
