"""Guards: what keeps the policy from a reward that is not to be trusted, and how it is told.

Chance. The policy and its normaliser stay as they are until the answers are shown to be no coin flips. At the first
fit those it did not train on have to be `guard.odds` times likelier under it than under coin flips, with two thirds of
their evidence counted (`calibration.evidence`): held-out answers vouch for each other, for of two about like clips
either both are predicted or neither is. From then on each reward bets on the answers that are given before it is fitted
to them, and what it wins counts: on coin flips that is a martingale, which ever reaches `guard.odds` with a chance of
1 / odds at most, however often one looks (`calibration.log_wealth`). The evidence of held-out answers does not hold
that over nine fits: it was above log(20) in 5 of 40 runs of coin flips, the wealth in 1; 19 of 20 runs with 20 % of
mistakes passed (experiments/chance_guard.py). While the policy is held, questions are random, for a reward that may
be chance has no say in them, and the next ones come as soon as there are new clips: steps in which nothing can be
learned are lost.

Alarm. The reward looks hacked if, since its last fit,
- it rose on what the policy does, yet it predicts the newest answers (to random queries, before it learns from them)
  worse than those it was held to at its fit: Fisher's exact test, one-sided, below `guard.surprise` over all the looks
  of a run, so below its even share (Bonferroni) at one of them;
- it rose, and the median of its uncertainty about what the policy does, over `guard.window` iterations, is
  `guard.uncertainty_jump` times the mean over the clips it was fitted on (or `guard.unsure`, if that is more: many
  times very little is still little), of a policy that has `guard.moved` away from the one that the anchor is at, which
  by default is that of the last fit: another part of an episode is new as well, and no hack; or
- if `guard.kl_jump` is given, the median KL from the pretrained policy over as many iterations is so many times that
  at the fit. It is not by default: a healthy Walker2d run reached 4.3 times, while a HalfCheetah that exploited a
  reward blind to most of its observation had lost a third of the true reward at 3.2. Of dialogue it is
  (`presets.FINETUNING`), for a nat a token is one everywhere: see experiments/dialogue.py.
After an alarm, the KL and the uncertainty of then are what further ones are measured against.

What the thresholds go by (experiments/alarm.py): of 24 healthy runs of HalfCheetah, Hopper, Walker2d, Ant and Swimmer
and 24 under a reward that sees two thirds of the observation, the uncertainty stays below 0.15 where the other
conditions hold. In 17 of 17 runs in which, under a reward of 80 answers about the first policy, 30 % of them wrong,
what was wanted got lost while the learned reward rose, it comes to more than 0.3, and in 16 of 18 under a reward that
sees a third of the observation. Since it is found out how many answers are lapses, and effort is one number, of 59
healthy ones none is stopped, and of 37 hacks 30. Of 64 healthy runs that learn other behaviours
(experiments/behaviours.py) it goes off in 8, all five of hind-legs and three of jump, late and long after the last
answers; at 0.5 in 3, but then of the hacks in 16 of 17 and 12 of 18. Without a straight line below the networks
(`reward/linear.py`) members differ more: healthy runs then came to 0.47, and at 0.5 it was 17 of 19 and 15 of 20.

Exploration. The share that is left of the noise the policy began with; said when a tenth or less is.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_control.config import FinetuneConfig, GuardConfig
from rlhf_control.data import Answers, Array, Rollout
from rlhf_control.errors import Halted, UserError, tell
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.segments import SegmentBank
from rlhf_control.reward.answers import Targets, independent, stated_preferences
from rlhf_control.reward.calibration import LAPSES, log_odds, log_wealth, surprise
from rlhf_control.reward.protocol import Reward
from rlhf_control.rl.kl_anchor import Anchor
from rlhf_control.rl.protocol import Learner
from rlhf_control.runs.run import command_for
from rlhf_control.wording import counted

KL_FLOOR = 1.0  # nats a step; many times less than this is still nothing
HELD_OUT = 2 / 3  # so much of the evidence of held-out answers counts
COLLAPSED = 0.1  # share of the exploration at the start
LAST_GOOD = "last_good.npz"
EVERY = 16  # steps: uncertainty is measured on every sixteenth
HELP = (
    'what helps: more answers, always by the same rule, "cannot tell" only where it is so, and clips that show the '
    "difference (another --clip-seconds, another --question)"
)
STATE = (
    "holding", "shown", "bets", "waiting", "begun", "waited", "fair", "usual", "since", "entropy_at_start", "good",
    "said",
)  # fmt: skip


# -- statistics


def predicted(reward: Reward, answers: Answers) -> tuple[Array, float]:
    """Returns the probabilities (P,) that the reward gives to the preferences that these answers state, and how many
    independent answers there are behind them."""
    targets = Targets.of(answers)
    clips, stated_by = stated_preferences(targets)
    if not len(clips):
        return np.zeros(0), 0.0
    logits = reward.clip_logits(answers.clips)
    trust = reward.trust_in(answers)[stated_by].mean(1, dtype=np.float32)
    margin = (logits[:, clips[:, 0]] - logits[:, clips[:, 1]]) * trust
    return (1 / (1 + np.exp(np.clip(-margin, -50, 50)))).mean(0), independent(stated_by, targets)


def as_predicted(reward: Reward, answers: Answers) -> tuple[float, float]:
    """Returns (right, asked): of the preferences that these answers state, counted as independent answers, how many are
    as the reward predicts."""
    p, asked = predicted(reward, answers)
    return (float((p > 0.5).mean()) * asked if len(p) else 0.0), asked


def rose(values: Sequence[float]) -> bool:
    """Tells whether the second half of a series is higher on the mean than the first."""
    half = len(values) // 2
    return half > 0 and float(np.mean(values[-half:])) > float(np.mean(values[:half]))


def jump(values: Sequence[float], usual: float, window: int) -> float:
    """Returns how many times `usual` the median of the last `window` values is."""
    return float(np.median(values[-window:])) / max(usual, 1e-9)


def exploration_left(entropy: float, start: float, policy: Policy) -> float:
    """Returns the share of the noise at the start that is left: of Gaussian actions the ratio of the standard
    deviations (their geometric mean), of choices that of the entropies."""
    if policy.spaces.choices:
        return entropy / max(start, 1e-9)
    return math.exp((entropy - start) / policy.spaces.action_size)


# -- the guard


class Guard:
    """Says of every iteration whether the policy may learn from the reward (`closed`: it may not) and whether the
    reward looks hacked (`alarm`: why). Nothing of it changes a number of a run in which neither happens."""

    def __init__(self, config: GuardConfig, looks: int = 1) -> None:
        """`looks`: how often the newest answers are compared with what was predicted."""
        self.config, self.looks = config.settled(line=False), max(1, looks)
        self.alarm = ""  # of this iteration
        self.suspicion = ""  # of this label round, before the fit
        self.holding = False  # no fit has been shown to be better than coin flips
        self.shown = False  # one has
        self.bets: Array | None = None  # (50,) on answers before they were given, see `log_wealth`; None: no fit yet
        self.waiting = False  # rolled back, and new answers are to come
        self.begun, self.waited = False, 0  # the policy has begun to learn; so many iterations before it had
        self.fair = [0.0, 0.0]  # right and asked: held-out answers at the last fit
        self.usual = {"kl": KL_FLOOR, "uncertainty": 0.0}  # at the last fit or alarm
        self.since: dict[str, list[float]] = {"reward": [], "kl": [], "uncertainty": []}  # the last fit or alarm
        self.entropy_at_start: float | None = None
        self.good: dict[str, Any] | None = None  # the learner's state
        self.said: list[str] = []

    @property
    def closed(self) -> bool:
        return self.holding or self.waiting or (bool(self.alarm) and self.config.alarm != "warn")

    @property
    def impatient(self) -> bool:
        """Tells whether the next answers are worth having sooner: until then nothing is learned."""
        return self.holding and self.config.sooner

    def newest(self, reward: Reward, answers: Answers | None) -> dict[str, float]:
        """Before a fit: bets on the newest answers to random queries, while there is a need to, or compares them with
        what was held out at the last fit."""
        if not reward.fitted or answers is None:
            return {}
        if self.holding and self.bets is not None:
            self.bets = self.bets + log_odds(*predicted(reward, answers))
        if self.config.alarm == "off" or self.holding or not self.fair[1]:
            return {}
        right, asked = as_predicted(reward, answers)
        p = surprise(round(right), round(asked), round(self.fair[0]), round(self.fair[1]))
        if p < self.config.surprise / self.looks and rose(self.since["reward"]):
            self.suspicion = (
                f"the learned reward rose, but it predicts {right:.0f} of the {asked:.0f} newest answers, and had "
                f"predicted {self.fair[0]:.0f} of {self.fair[1]:.0f} when it was fitted (p = {p:.2g})"
            )
        return {"guard/surprise": p}

    def fitted(self, metrics: Mapping[str, float]) -> None:
        """Judges a fit by its metrics."""
        self.waiting = False
        self.since = {name: [] for name in self.since}
        self.usual = self.usual | {"uncertainty": metrics.get("reward/uncertainty", 0.0)}
        if "reward/evidence" not in metrics:  # a known reward
            return
        asked, found = metrics["reward/fair_answers"], metrics["reward/evidence"]
        self.fair = [metrics["reward/fair_accuracy"] * asked, asked]
        if self.bets is None:  # nothing was predicted before it was answered
            self.bets, found = np.zeros(len(LAPSES)), HELD_OUT * found
        else:
            found = log_wealth(self.bets)
        needed, before = math.log(self.config.odds), self.holding
        self.shown |= found >= needed
        self.holding = self.config.chance == "hold" and not self.shown
        if self.holding:
            self._say_once(
                "held",
                f"the reward is not shown to be better than coin flips ({self.fair[0]:.0f} of {asked:.0f} held-out "
                f"answers as predicted; {found:.1f} nats of evidence, {needed:.1f} needed), so the policy stays as it "
                "is until more answers show it; --guard.chance off lets it learn all the same",
            )
        elif before:
            tell("the reward is now shown to be better than coin flips; the policy goes on learning")

    def progress(self, iteration: int, iterations: int) -> float:
        """Returns which share of the time there is to learn in is over, in [0, 1): what the learning rate goes by does
        not move while the policy waits for its first reward, or there would be less of it to learn with."""
        return (iteration - self.waited) / (iterations - self.waited)

    def asking(self, config: FinetuneConfig) -> FinetuneConfig:
        """Returns the config by which clips are chosen: a reward that may be no better than coin flips has no say in
        it, not in what is asked about ends either, and all answers to random questions count as evidence."""
        return replace(config, queries="uniform", learn_end_costs=False) if self.holding else config

    def silent(self, answers: int) -> None:
        """Holds the policy in a label round in which none of so many answers says anything: there is no reward yet."""
        self.holding = self.config.chance == "hold" and not self.shown
        self._say_once(
            "silent",
            f"none of the {answers} answers says which clip is better, so there is nothing to learn from, and the "
            "policy stays as it is; " + HELP,
        )

    def watch(self, reward: Reward, rollout: Rollout, learned: Array, kl: Mapping[str, float]) -> dict[str, Any]:
        """Watches an iteration, with what the reward says of the rollout (T, N) and `Anchor.penalty` of the KL."""
        self.alarm, self.suspicion, suspicion = "", "", self.suspicion
        self.begun = self.begun or (reward.fitted and not self.holding)
        self.waited += not self.begun
        if not reward.fitted:
            return {}
        log: dict[str, Any] = {} if self.config.chance == "off" else {"guard/holding": float(self.holding)}
        if self.config.alarm == "off":
            return log
        uncertainty = float(reward.uncertainty(rollout.as_segments()[::EVERY]).mean())
        now = {"reward": float(learned.mean()), "kl": kl["kl_start"], "uncertainty": uncertainty}
        if not self.since["kl"]:
            self.usual = self.usual | {"kl": kl["kl_start"]}
        self.since = {name: [*values, now[name]] for name, values in self.since.items()}
        if not (self.holding or self.waiting):
            self.alarm = suspicion or self._jumped(kl["kl_reference"])
        if self.alarm:
            self.since = {name: [] for name in self.since}
            self.usual = self.usual | {"uncertainty": max(uncertainty, self.usual["uncertainty"])}
            log["guard/event"] = self.alarm
        return log | {"guard/uncertainty": uncertainty, "guard/alarm": float(bool(self.alarm))}

    def _jumped(self, moved: float) -> str:
        window, since, usual = self.config.window, self.since, self.usual
        if len(since["kl"]) < window:
            return ""
        kl, unsure = (float(np.median(since[name][-window:])) for name in ("kl", "uncertainty"))
        if jump(since["kl"], max(usual["kl"], KL_FLOOR), window) > (self.config.kl_jump or math.inf):
            return f"the KL from the pretrained policy jumped to {kl:.3g} from {usual['kl']:.3g} at the last fit"
        known = usual["uncertainty"] == 0  # a reward that is known is never uncertain
        threshold = self.config.uncertainty_jump * max(usual["uncertainty"], self.config.unsure or 0.0)
        if known or unsure <= threshold or moved < self.config.moved or not rose(since["reward"]):
            return ""
        return (
            f"the learned reward rose, but it is uncertain of what the policy does: by {unsure:.3g} of its standard "
            f"deviations over {counted(window, 'iteration')}, {usual['uncertainty']:.3g} at the last fit"
        )

    def keep(self, learner: Learner, run: Path, policy: Policy) -> None:
        """Keeps the learner's state to roll back to, if that is what an alarm does, in a label round in which nothing
        is amiss, and its `policy`, as a run hands it back, as RUN/last_good.npz."""
        if self.closed or self.alarm:
            return
        self.good = learner.state() if self.config.alarm == "roll-back" else None
        policy.save(run / LAST_GOOD)

    def react(
        self, run: Path, learner: Learner, anchor: Anchor, bank: SegmentBank, rng: np.random.Generator, *, wait: bool
    ) -> Halted | None:
        """Does what the config says about an alarm, and returns what ends the run, if that is it. `wait`: there will be
        new answers, which a policy that is rolled back waits for."""
        if self.config.alarm == "stop":
            return halted(self.alarm, run)
        tell(f"the reward looks hacked: {self.alarm}")
        if self.config.alarm == "roll-back":
            self.roll_back(learner, anchor, bank, rng, wait)
        return None

    def roll_back(
        self, learner: Learner, anchor: Anchor, bank: SegmentBank, rng: np.random.Generator, wait: bool
    ) -> None:
        """Brings the last good policy back, holds it closer, and lets the next round ask about what went wrong."""
        if self.good is not None:
            learner.load_state(self.good)
        else:
            tell("there is no earlier policy to go back to until the next label round; this one is held closer")
        anchor.tighten(learner.policy)
        if wait:
            with contextlib.suppress(UserError):  # no whole clip to ask about
                bank.archive(rng)
        self.waiting = wait

    @torch.no_grad()
    def keep_exploring(self, policy: Policy, log: Mapping[str, Any]) -> dict[str, float]:
        """Puts a floor under the noise after an update, if one is asked for, and returns the share of exploration
        left."""
        if self.config.min_log_std is not None and not policy.spaces.choices:
            policy.log_std.clamp_(min=self.config.min_log_std)
        if "entropy" not in log:
            return {}
        if self.entropy_at_start is None:
            self.entropy_at_start = log["entropy"]
        left = exploration_left(log["entropy"], self.entropy_at_start, policy)
        if left < COLLAPSED:
            self._say_once(
                "collapsed",
                f"the policy explores with {left:.0%} of the noise it began with: its clips will look alike and "
                "answers teach little; --guard.min-log-std keeps a floor under it, --ppo.entropy-coef pays for it",
            )
        return {"guard/exploration": left}

    def _say_once(self, what: str, text: str) -> None:
        if what not in self.said:
            self.said = [*self.said, what]
            tell(text)

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state.get(name, getattr(self, name)))  # older checkpoints have fewer
        self.begun = state.get("begun", True)  # and their runs' schedules did not wait


def halted(alarm: str, run: Path) -> Halted:
    """Returns the end of a run on an alarm, in one line."""
    return Halted(
        f"stopped, for the reward looks hacked: {alarm}. Look at it with `{command_for(run, 'evaluate-reward')}`; "
        f"{run / LAST_GOOD} is the last good policy; `{command_for(run, 'resume')}` goes on from here all the same"
    )


# -- the report


def taught(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tells whether the policy has learned in any iteration, by the rows of its metrics."""
    return any(row.get("gradient_steps") for row in rows)


def nothing_learned(rows: Sequence[Mapping[str, Any]], run: Path) -> str:
    """Says of a run whose policy is, after all its iterations, the one that came in: why, and what to do."""
    last, answers = fits(rows)[-1:], rows[-1]["answers"] if rows else 0
    if taught(rows):
        why = "it was rolled back to that when the reward looked hacked"
    elif last:
        right, asked = last[0]["reward/fair_accuracy"], last[0]["reward/fair_answers"]
        why = (
            f"after {answers} answers the reward is not shown to be better than coin flips (it predicts {right:.0%} of "
            f"{asked:.0f} held-out answers)"
        )
    elif answers == 0:
        why = "nothing was answered"
    else:
        why = f"none of the {answers} answers says which clip is better"
    return (
        f"Nothing was learned, and the policy is the one that came in: {why}. W{HELP[1:]}. `rlhf-control labels {run}` "
        "tells how consistent the answers are."
    )


def fits(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows of iterations in which a reward was fitted and judged."""
    return [row for row in rows if "reward/evidence" in row]


def note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Says what the guards did in a run, by the rows of its metrics, as a paragraph; empty if nothing."""
    sentences = []
    held = sum(bool(row.get("guard/holding")) for row in rows)
    if held:
        last = fits(rows)[-1]
        sentences.append(
            f"In {held} of {len(rows)} iterations the policy was kept as it was, because the reward was not shown to "
            f"be better than coin flips (at the last fit {last['reward/fair_accuracy']:.0%} of "
            f"{last['reward/fair_answers']:.0f} held-out answers were as predicted)."
        )
    for row in rows:
        if row.get("guard/event"):
            sentences.append(f"Alarm at {row['env_steps']:,} steps: {row['guard/event']}.")
    left = [row["guard/exploration"] for row in rows if row.get("guard/exploration") is not None]
    if left and left[-1] < COLLAPSED:
        sentences.append(f"At the end the policy explored with {left[-1]:.0%} of the noise it began with.")
    return " ".join(sentences)
