"""How right the learned reward is, as text."""

from typing import Any

from rlhf_control.analysis.tables import table

ENOUGH_ROWS = 20  # of metrics, for a peak to be more than noise
HEAVIEST = 12
SOURCE_COLUMNS = (
    "accuracy", "ece", "step_pearson", "step_spearman", "segment_pearson", "segment_spearman", "learned_mean",
    "true_mean", "uncertainty_mean",
)  # fmt: skip
ROUND_COLUMNS = ("labels", "fresh_accuracy", "heldout_accuracy", "heldout_ece", "uncertainty")


def report_text(result: dict[str, Any]) -> str:
    """Returns Markdown tables of what `evaluate_reward` found."""
    truth = f"the reward of `{result['truth']}`" if result["truth"] else "unknown: people answered"
    sources = {name: [row.get(c) for c in SOURCE_COLUMNS] for name, row in result["sources"].items()}
    rounds = {f"{row['env_steps']:,}": [row[c] for c in ROUND_COLUMNS] for row in result["rounds"]}
    lines = [
        f"# The reward of {result['run']}",
        "",
        f"True reward: {truth}.",
        "",
        *what_it_goes_by(result.get("line")),
        "## By where the clips come from",
        "",
    ]
    lines += table("clips of", SOURCE_COLUMNS, sources)
    lines += [
        "",
        "Rounds: clips that were asked about, in new pairs; it has learned from the answers. It has seen none of the "
        "others; earlier: clips of all rounds that nobody was asked about. ECE: expected calibration error.",
        "",
    ]
    lines += ["## Fit by fit", "", *table("env steps", ROUND_COLUMNS, rounds), ""]
    if "distances" in result:
        rows = {name.upper(): [value] for name, value in result["distances"].items()}
        lines += [
            "## Distance to the true reward",
            "",
            *table("0 same, 0.71 unrelated, 1 opposite", ("distance",), rows),
        ]
        lines += [""]
    columns = list(result["baselines"]["learned"])
    rows = {name: [row[c] for c in columns] for name, row in result["baselines"].items()}
    if columns:
        lines += ["## Accuracy beside trivial rewards", "", *table("reward", columns, rows), ""]
    lost = result["over-optimisation"]["lost"]
    peak = result["over-optimisation"]["peak_step"]
    rows_measured = sum(value is not None for value in result["curves"]["true"])
    if lost is not None and rows_measured >= ENOUGH_ROWS:
        lines += [f"The true reward was highest at step {peak:,.0f}; of its gain {lost:.0%} was gone at the end.", ""]
    return "\n".join(lines)


def what_it_goes_by(line: dict[str, Any] | None) -> list[str]:
    """Says what a reward is made of, if there is a straight line below its networks."""
    if line is None:
        return []
    adds = "networks add to it" if line["networks_add"] else "networks add nothing to it"
    rows = {name: [weight] for name, weight in list(line["weights"].items())[:HEAVIEST]}
    more = len(line["weights"]) - len(rows)
    return [
        "## What it goes by",
        "",
        *(table("number", ("weight",), rows) if rows else ["No number has a weight."]),
        "",
        "Standard deviations of the reward by one of the number, from its mean in the clips learned from, of that "
        f"squared, or of effort, the sum of the actions' squares; {adds}"
        f"{f'; {more} lighter ones are left out' if more else ''}.",
        "",
    ]
