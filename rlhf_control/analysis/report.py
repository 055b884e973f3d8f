"""What a finished run says: evaluation before and after, figures, video, `report.md`, and a table for the terminal."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from textwrap import shorten
from typing import Any

import numpy as np

from rlhf_control.analysis.curves import flattened
from rlhf_control.analysis.evaluate import EPISODES, SEED, measure, run_score
from rlhf_control.analysis.figures import plot_finetune, plot_runs
from rlhf_control.analysis.replies import replies_table
from rlhf_control.analysis.tables import terminal_table
from rlhf_control.analysis.videos import record_video
from rlhf_control.behaviours.catalogue import BEHAVIOURS, NO_REWARD
from rlhf_control.config import FinetuneConfig
from rlhf_control.errors import UserError
from rlhf_control.nets.policy import Policy, load_policy
from rlhf_control.nets.zoo import CAME_IN, CLONED
from rlhf_control.reward.ends import CAUTION
from rlhf_control.runs.files import sha256, write_atomic
from rlhf_control.runs.progress import say, seconds_text
from rlhf_control.runs.resuming import MAY_DIFFER
from rlhf_control.runs.run import Run, command_for
from rlhf_control.runs.trackers import NONE, tracked
from rlhf_control.simulation.dialogues import is_dialogue
from rlhf_control.training.guard import note as guards_note
from rlhf_control.training.guard import nothing_learned
from rlhf_control.wording import counted

VIDEO_SECONDS = 8.0
REPLIES = 100  # episodes of dialogue, which are short and each good or not
MEDIA = ("curves.png", "before_after.mp4")
TOLD_ELSEWHERE = {*MAY_DIFFER, "policy", "env_id", "oracle", "labels", "seed", "seeds"} - {"question"}  # or no number's
SCORE_PANEL = "the behaviour score on the policy's own clips (it is never shown to the learner)"


def report(run: Run, env_id: str = "") -> str:
    """Writes the report of a finished run of either command and returns its table. `env_id`, here and below: the run's
    own MODULE:ID, where it has one (`files.refuse_module`)."""
    return report_finetuning(run, env_id=env_id) if run.config()[0] == "finetune" else report_pretraining(run, env_id)


def report_pretraining(run: Run, env_id: str = "") -> str:
    """Evaluates a pretrained policy, writes results.json, curves.png and .pdf, and returns lines for the terminal. Of
    one that was cloned it says how well it predicts demonstrations that it did not learn from."""
    backend = run.config()[1].backend
    result = measure(load_policy(run.path / "policy.npz", env_id), "", EPISODES, SEED, backend=backend)
    last = run.metrics()[-1]
    run.write_json("results.json", {**result, "env_steps": last["env_steps"], "wall_seconds": last["wall_seconds"]})
    shown = "loss" if "loss" in last else "env_return"
    if any(row[shown] is not None for row in run.metrics()):  # else no episode has ended yet
        plot_runs([run.path], run.path / "curves", metrics=[shown])
    show_tracker(run)
    policy = run.path / "policy.npz"
    cloned = f"loss {last['loss']:.3f}, held out {last['held_out_loss']:.3f} nats an action, " if "loss" in last else ""
    success = f"success {result['success_rate']:.0%} at any step, " if "success_rate" in result else ""
    return (
        f"{cloned}return {result['return_mean']:.1f} over {EPISODES} episodes{cut_off(result)}, {success}"
        f"{counted(last['env_steps'], 'step')}, {seconds_text(last['wall_seconds'])}\npolicy {policy}\n"
        f"sha256 {sha256(policy)}"
    )


def cut_off(result: Mapping[str, Any]) -> str:
    """Says of returns that their episodes did not end; empty if they did."""
    return f" cut off after {counted(result['cut_off_after'], 'step')}" if "cut_off_after" in result else ""


def report_finetuning(run: Run, note: str = "", env_id: str = "") -> str:
    """Writes results.json, curves.png and .pdf, before_after.mp4 and report.md (with `note`, a paragraph of the
    caller's), and returns the table for the terminal."""
    _, config = run.config()
    score = run_score(run.path)
    files = {"before": CAME_IN, "after": "policy.npz"}
    policies = {when: load_policy(run.path / name, env_id) for when, name in files.items()}
    say("evaluating before and after")
    spoken = is_dialogue(policies["after"].env_id)
    episodes = REPLIES if spoken else EPISODES
    results = {when: measure(p, score, episodes, SEED, backend=config.backend) for when, p in policies.items()}
    last = run.metrics()[-1]
    facts = {key: last[key] for key in ("labels", "queries", "env_steps", "wall_seconds")}
    run.write_json("results.json", {**results, **facts})
    plot_finetune(run.path)
    video = ""
    if spoken:
        video = f"Replies of both, sampled:\n\n{replies_table(list(policies.items()))}\n"
    elif config.video:
        say("recording before_after.mp4")
        try:
            record_video(list(policies.items()), run.path / "before_after.mp4", seed=SEED, seconds=VIDEO_SECONDS)
            video = "Video: [before_after.mp4](before_after.mp4), the two policies from the same start.\n"
        except UserError as error:  # the run is worth having without its video
            print(f"rlhf-control: no video: {error}", file=sys.stderr)
    show_tracker(run)
    first = untaught(run, policies["before"], policies["after"])
    note = " ".join(
        filter(None, (
            note, horizon_note(config, policies["after"].env), guards_note(run.metrics()),
            ends_note(run.metrics(), config.end_costs), changes_note(run),
        ))
    )  # fmt: skip
    rows = table_rows(results, facts, score)
    manifest = run.read_json("manifest.json")
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    text = "\n".join([
        f"# {run.path.name}: {config.oracle} from {counted(facts['labels'], 'label')}", "",
        *([f"**{first}**", ""] if first else []),
        setting(config, policies["after"].env_id), "",
        "| | before | after |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows), "",
        f"Means over {episodes} fresh episodes without exploration noise, with the spread (standard deviation) between "
        f"them. One seed ({config.seed}).", "", *([note, ""] if note else []),
        "![Learning curves](curves.png)", "",
        f"From the top left: {SCORE_PANEL if score else 'the learned reward'}, the environment's return, the reward "
        "model's accuracy on answers it has not seen, and the KL divergence from the pretrained policy.", "", video,
        f"To check it: {commands(run, policies['after'].env_id, score)}. The whole config is in config.json; git "
        f"commit {manifest['git_commit'][:12]}, {versions}, one torch thread.", "",
    ])  # fmt: skip
    write_atomic(run.path / "report.md", text.encode())
    return "\n".join(filter(None, (first, terminal_table(rows)))) + f"\nreport {run.path / 'report.md'}"


def setting(config: FinetuneConfig, env_id: str) -> str:
    """Says of what a run is: the environment, the policy to start from, and the options, but PPO's, that are not the
    default."""
    told = []
    own, usual = (flattened(asdict(replace(c, env={}))) for c in (config, FinetuneConfig(config.policy)))
    for name, value in own.items():
        if value == usual.get(name) or name in TOLD_ELSEWHERE or name.startswith("ppo."):
            continue
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool) and "." not in name:
            told.append(option if value else f"--no-{option[2:]}")
        else:
            told.append(shlex.join([option, *map(str, value if isinstance(value, tuple | list) else [value])]))
    told += [shlex.join(["--env", name, str(value)]) for name, value in config.env.items()]
    short = [f"`{shorten(words.replace('`', ' '), 100)}`" for words in told]
    return f"{env_id}, from {config.policy}" + (f"; {', '.join(short)}" if short else "") + "."


def show_tracker(run: Run) -> None:
    """Shows the run's figures and video to its tracker, if it has one."""
    config = run.config()[1]
    if config.track != NONE:
        media = [path for name in MEDIA if (path := run.path / name).is_file()]
        with tracked(run, config.track, asdict(config), media):
            pass


def untaught(run: Run, before: Policy, after: Policy) -> str:
    """Says, to come first of all, that nothing was learned; empty if something was."""
    if not after.acts_as(before):
        return ""
    cloned = f" The cloned policy is {run.path / CLONED}." if (run.path / CLONED).exists() else ""
    return nothing_learned(run.metrics(), run.path) + cloned


def horizon_note(config: FinetuneConfig, env: Mapping[str, Any]) -> str:
    """Says that episodes are not those of the task itself, where a run's environment goes on after what ends them."""
    longer = env.get("terminate_when_unhealthy") is False or env.get("endless")  # see `environment_arguments`
    if not longer or config.termination not in ("fixed-horizon", "truncate"):
        return ""
    return (
        f"With `--termination {config.termination}` what ends an episode of the task early does not end those of this "
        "table: such returns are not to be set beside those of a run by another treatment."
    )


def ends_note(rows: Sequence[Mapping[str, Any]], given: float) -> str:
    """Says what answers made of the cost of an early end, which was given to begin with, where they were asked."""
    costs = [row["reward/end_costs"] for row in rows if "reward/end_costs" in row]
    if not costs:
        return ""
    if math.isclose(costs[-1], given):
        return f"No answer told what an early end costs: it stayed {given:.2g}, as it was given."
    return (
        f"Each step that an early end leaves out cost {given:.2g} standard deviations of the learned reward at "
        f"first, and {costs[-1]:.2g} ({CAUTION:g} times what they say) once answers had been given."
    )


def changes_note(run: Run) -> str:
    """Says what was changed on the way, in sentences."""
    return " ".join(
        f"On the way {note['option']} changed from {note['from']} to {note['to']} before iteration {note['iteration']}."
        for note in run.read_json("manifest.json").get("changed", [])
    )


def commands(run: Run, env_id: str, score: str) -> str:
    """Returns what to type to look further at a run, from the current folder."""
    film = [] if is_dialogue(env_id) else [("record", "--out", f"{run.path.name}.mp4")]
    judge = [("evaluate-reward",)] if score or run.config()[1].oracle not in NO_REWARD else []
    verbs = [("evaluate",), *judge, *film, ("watch",)]
    typed = [command_for(run.path, *words, behaviours="evaluate" in words[0]) for words in verbs]
    return ", ".join(f"`{command}`" for command in typed)


def table_rows(results: dict[str, Any], facts: dict[str, Any], score: str) -> list[tuple[str, ...]]:
    """Returns rows (what, before, after)."""
    rows = []
    if score:
        rows.append(
            (f"score ({BEHAVIOURS[score].unit})", *(spread(results[w]["scores"], 2) for w in ("before", "after")))
        )
    rows.append(
        (
            f"environment return{cut_off(results['after'])}",
            *(spread(results[w]["returns"], 0) for w in ("before", "after")),
        )
    )
    if all("success_rate" in result for result in results.values()):
        rows.append(("success at any step", *(f"{results[w]['success_rate']:.0%}" for w in ("before", "after"))))
    rows.append(("labels", "", str(facts["labels"])))
    rows.append(("environment steps", "", f"{facts['env_steps']:,}"))
    rows.append(("training time", "", seconds_text(facts["wall_seconds"])))
    return rows


def spread(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"
