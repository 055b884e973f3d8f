"""From what a user names to a policy."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig
from rlhf_control.config.presets import PRESETS
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy, load_policy, refuse_modules
from rlhf_control.runs.files import load_state
from rlhf_control.runs.progress import say_once
from rlhf_control.runs.run import Run
from rlhf_control.spaces import Spaces

CAME_IN = "pretrained.npz"  # in a run's folder: the policy to fine-tune, for the run's environment
CLONED = "cloned.npz"  # the same after behaviour cloning, if that was asked for


def shipped() -> dict[str, Path]:
    """Names the policies that come with the project."""
    folder = Path(str(resources.files("rlhf_control") / "pretrained"))
    return {path.stem: path for path in sorted(folder.glob("*.npz"))}


def known() -> dict[str, Any]:
    """Reads what is known of policies: `shipped`, of each by its name, and by preset what each task's reaches, the mean
    return of the final policy: interquartile mean over seeds and its 95 % interval."""
    return dict(json.loads((resources.files("rlhf_control") / "pretrained" / "zoo.json").read_text()))


def table() -> str:
    """Lists the policies that ship, and those that presets make."""
    facts = known()
    lines = ["These ship with the project; their names stand wherever a policy is taken:", ""]
    for name, fact in facts["shipped"].items():
        success = f", success {fact['success']:.1%}" if "success" in fact else ""
        lines.append(f"  {name:<13} {fact['env_id']:<18} {fact['what']}")
        measured = (
            f"return {fact['return']:,.1f}{success} ({fact['measured']})" if "return" in fact else fact["measured"]
        )
        lines.append(f"  {'':<13} {measured}")
        lines += [f"  {'':<13} {fact['command']}", f"  {'':<13} SHA-256 {fact['sha256']}", ""]
    lines += ["`rlhf-control pretrain TASK --preset PRESET` makes these; the return over seeds, and its interval:", ""]
    for name, presets in PRESETS.items():
        for env_id, config in presets.items():
            iqm, low, high = facts[name].get(env_id, (None,) * 3)
            reached = "not measured yet" if iqm is None else f"{iqm:,.6g} ({low:,.6g} to {high:,.6g})"
            lines.append(f"  {env_id:<26} {name:<6} {config.total_steps:>9,} steps  {reached}")
    return "\n".join(lines)


def own_policy(name: str | Path, env_id: str = "") -> Policy:
    """Returns the policy of a file, of a run's folder (its last, or its newest checkpoint's) or of a shipped name.
    `env_id`: see `files.refuse_module`."""
    path = Path(name)
    if path.is_dir():
        if (path / "policy.npz").is_file():
            return load_policy(policy_file(name), env_id)
        run = Run.open(path)
        iteration, state = run.load_checkpoint()
        if "learner" not in state:
            raise UserError(f"{path} has no policy yet")
        policy = refuse_modules(Policy.from_state(state["learner"]["policy"]), path, env_id)
        if "anchor" in state:
            policy = handed_back(policy, Policy.from_state(state["anchor"]["pretrained"]), run)
        say_once(f"rlhf-control: {path} is not finished; this is what it would hand back after iteration {iteration:,}")
        return policy
    return load_policy(policy_file(name), env_id)


def policy_file(name: str | Path) -> Path:
    """The file of a policy that is not in a checkpoint alone. Raises UserError where there is none of this name."""
    path = Path(name)
    if path.is_dir():
        return path / "policy.npz"
    if not path.exists() and str(name) in shipped():
        return shipped()[str(name)]
    if not path.exists():
        raise UserError(f"no policy at {name}; give a policy.npz, a run's folder, or one of: {', '.join(shipped())}")
    return path


def find_training(name: str | Path) -> dict[str, Any]:
    """Returns what is known about the training of the policy that `find_policy` finds under this name: its `env_id`,
    the `config`, a plain dict of all options, and the state of the `learner`; empty ones where the file has none."""
    path = Path(name)
    if path.is_dir() and not (path / "policy.npz").is_file():
        run = Run.open(path)
        learner = dict(run.load_checkpoint()[1].get("learner", {}))
        env_id = learner.pop("policy", {}).get("env_id", "")
        return {"env_id": env_id, "config": asdict(run.config()[1]), "learner": learner}
    state = load_state(policy_file(name))
    config = _dict(_dict(state.get("facts")).get("config"))
    return {"env_id": state.get("env_id"), "config": config, "learner": _dict(state.get("learner"))}


def _dict(value: Any) -> dict[str, Any]:
    """Returns a part of a file, or an empty one in the place of what is none."""
    return value if isinstance(value, dict) else {}


def handed_back(policy: Policy, start: Policy, run: Run) -> Policy:
    """Returns what a fine-tuning run has to show for itself: its policy or, as long as that acts as the start did, the
    one that came in. To loosen it (or to clone another into it) is preparation, and no result."""
    config: FinetuneConfig = run.config()[1]
    start = start.frozen()
    start.loosen(config.shrink, config.min_log_std)
    return load_policy(run.path / CAME_IN, policy.env_id) if policy.acts_as(start) else policy


def unfit(policy: str | Path, theirs: str, env_id: str, spaces: Spaces) -> UserError:
    """Makes the error for a policy of other spaces than an environment has, which names both sides."""
    return UserError(f"{policy} is for {theirs}, but {env_id} has {spaces}; choose a policy of this environment")


def as_options(env: Mapping[str, Any]) -> str:
    """Returns an environment's arguments as the command line has them, with a space before; "" for none."""
    return f" with --env {' '.join(f'{name} {value}' for name, value in env.items())}" if env else ""


def adopt(policy: Policy, spaces: Spaces, env_id: str, env: dict[str, bool | int | float | str]) -> Policy:
    """Copies the policy for this environment. Raises UserError if its spaces differ; says so if only the id does."""
    if not policy.spaces.fits(spaces):
        own = {name: value for name, value in policy.env.items() if env.get(name) != value}
        given = {name: value for name, value in env.items() if policy.env.get(name) != value}
        theirs = f"{policy.env_id}{as_options(own)} ({policy.spaces})"
        raise unfit("the policy", theirs, f"{env_id}{as_options(given)}", spaces)
    if policy.env_id != env_id:
        print(f"rlhf-control: a policy of {policy.env_id} is taken for {env_id}: the spaces are equal", file=sys.stderr)
    return Policy.from_state({**policy.state(), "spaces": spaces.state(), "env_id": env_id, "env": env})
