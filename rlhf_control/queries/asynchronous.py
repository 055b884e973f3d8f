"""Asynchronous labelling (Christiano et al., arXiv 1706.03741): training goes on while people vote, learns from what
has come, and keeps a few questions open about what the policy does now."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_control.config import FinetuneConfig
from rlhf_control.data import SUCCESS
from rlhf_control.errors import CorruptFileError
from rlhf_control.feedback.labels import Labels
from rlhf_control.nets.policy import Policy
from rlhf_control.queries.choose import round_half_up
from rlhf_control.queries.ends import asks_about_ends
from rlhf_control.queries.questions import questions
from rlhf_control.queries.rounds import LabelRound, asked_sooner, iterations
from rlhf_control.queries.segments import SegmentBank
from rlhf_control.reward.protocol import Reward
from rlhf_control.rng import stream
from rlhf_control.runs.resuming import check_rows
from rlhf_control.runs.run import Run


class Asynchronous:
    """Says, iteration by iteration, when to ask and to learn: in the rounds that are planned and, under asynchronous
    labelling, whenever there is enough to learn from.

    What it does under asynchronous labelling depends on nothing but how many votes were read before each iteration.
    That goes into the metrics, so that such a run, too, can be replayed.
    """

    def __init__(
        self, config: FinetuneConfig, rounds: Mapping[int, LabelRound], labels: Labels, bank: SegmentBank,
        reward: Reward, policy: Policy,
    ) -> None:  # fmt: skip
        """`rounds`: those that are planned, by iteration. The first is waited for: before it there is nothing to learn
        from."""
        self.config, self.labels, self.bank, self.reward = config, labels, bank, reward
        self.rounds = dict(rounds)  # plans change in place: others go by them too
        self.first = first = min(rounds)
        self.policy = policy
        self.asking: Callable[[FinetuneConfig], FinetuneConfig] = lambda config: config  # by which clips are chosen
        self.span = max(1.0, config.label_until * (iterations(config) - first))  # iterations in which to ask
        self.batches, self.fits = 0, 1
        self.learned: dict[str, int] = {}  # question's key -> so many of its answers the reward was fitted on
        self.readings: Mapping[int, int] | None = None  # of the run that is replayed; read when they are needed

    def due(self, iteration: int) -> LabelRound | None:
        """Returns the round of this iteration, if there is one. Under asynchronous labelling, after the first: reads
        the votes, asks more, and returns a round without questions when the reward is to be fitted anew."""
        if iteration in self.rounds:
            return self.rounds[iteration]
        if self.config.labelling != "async" or iteration <= self.first:
            return None
        self.learned = self.learned or self.answers()
        self._read(iteration)
        self._top_up(self.needed(iteration + 1))
        answers = self.answers()
        news = {key: n - self.learned.get(key, 0) for key, n in answers.items() if n > self.learned.get(key, 0)}
        everything = len(self.labels.questions()) >= self.config.labels and not self.labels.pending()
        enough = max(self.config.human.refit_answers, self.config.human.refit_share * sum(answers.values()))
        if not news or (sum(news.values()) < enough and not everything):
            return None
        self.learned = answers
        self.batches, self.fits = self.batches + 1, self.fits + 1
        return LabelRound(self.batches, 0, tuple(news))

    def ask_sooner(self, iteration: int) -> None:
        """Has the next round come as soon after this iteration as a clip takes, and spreads the others over the time
        that is left: while the policy is held it does what it did before, and nothing is gained by waiting. Where
        clips are whole episodes, as soon as all of them are new, for they would be the same ones again. Not where
        episodes are asked about: so soon too few have ended."""
        if SUCCESS in self.config.feedback:
            return
        gap = self.bank.keep if self.bank.whole else self.bank.of_a_clip
        planned = asked_sooner(self.rounds, iteration, gap, self.first + self.span)
        self.rounds.clear()
        self.rounds.update(planned)

    def more_to_come(self, iteration: int) -> bool:
        """Tells whether there will be answers after this iteration."""
        if iteration < max(self.rounds):
            return True
        asked = len(self.labels.questions())
        return self.config.labelling == "async" and (asked < self.config.labels or bool(self.labels.pending()))

    def answers(self) -> dict[str, int]:
        """Returns by question's key how many answers to it have come, if any."""
        given = {asked.key: len(self.labels.votes.get(asked.key, ())) for asked in self.labels.questions()}
        return {key: n for key, n in given.items() if n}

    def needed(self, iteration: int) -> int:
        """Returns how many questions must have been answered before this iteration, so that training is not too far
        ahead."""
        config = self.config
        first = min(config.first_labels, config.labels)
        if config.human.lead >= 1:
            return 0
        ahead = (iteration - self.first) / self.span - config.human.lead
        return first + int((config.labels - first) * min(1.0, max(0.0, ahead)))

    def metrics(self) -> dict[str, int]:
        """Returns, for the log, how much of the votes' history was read."""
        return {"votes_read": self.labels.read} if self.config.labelling == "async" else {}

    def state(self) -> dict[str, Any]:
        learned = {"keys": list(self.learned), "answers": list(self.learned.values())}
        rounds = {"at": list(self.rounds), "index": [label_round.index for label_round in self.rounds.values()]}
        state: dict[str, Any] = {"batches": self.batches, "fits": self.fits, "learned": learned, "rounds": rounds}
        if self._replays():  # under the seal of this run from now on
            readings = self._readings()
            state["readings"] = {"iterations": list(readings), "read": list(readings.values())}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.batches, self.fits = state["batches"], state["fits"]
        self.learned = dict(zip(state["learned"]["keys"], state["learned"]["answers"], strict=True))
        if "rounds" in state:  # older checkpoints are of runs that kept to the first plan
            by_index = {label_round.index: label_round for label_round in self.rounds.values()}
            self.rounds.clear()
            self.rounds.update(
                {at: by_index[i] for at, i in zip(state["rounds"]["at"], state["rounds"]["index"], strict=True)}
            )
        if "readings" in state:
            self.readings = dict(zip(state["readings"]["iterations"], state["readings"]["read"], strict=True))

    def _replays(self) -> bool:
        return bool(self.config.replay) and self.config.labelling == "async"

    def _readings(self) -> Mapping[int, int]:
        if self.readings is None:
            self.readings = votes_read(self.config.replay)
        return self.readings

    def _read(self, iteration: int) -> None:
        if self._replays():
            self.labels.collect(self._readings().get(iteration, self.labels.read))
            return
        self.labels.collect()
        asked = len(self.labels.questions())
        while pending := self.labels.pending():
            if asked - len(pending) >= min(asked, self.needed(iteration)):
                return
            self.labels.wait(self.labels.missing())
            self.labels.collect()

    def _top_up(self, needed: int) -> None:
        """Asks in small batches rather than one by one: the clips of a batch differ from each other."""
        config, questions_asked, pending = self.config, self.labels.questions(), len(self.labels.pending())
        asked = len(questions_asked)
        lacking = needed - asked
        if pending <= config.human.open_queries // 2:
            lacking = max(lacking, config.human.open_queries - pending)
        lacking = min(lacking, config.labels - asked)
        if lacking <= 0:
            return
        self.batches += 1
        so_far = Counter(question.kind for question in questions_asked)
        kind = min(config.feedback, key=lambda kind: so_far[kind])
        pool, recent = self.bank.pool(stream(config.seed, "pool", self.batches), config.clips_by_kind()[kind])
        n = max(1, min(lacking, recent // config.clips_by_kind()[kind]))
        share = config.query.random_share  # holds over all batches, however small they are
        uniform = round_half_up(share * (asked + n)) - round_half_up(share * asked)
        query = replace(config.query, random_share=min(1.0, uniform / n))
        narrowed = replace(self.asking(config), feedback=(kind,), query=query)
        asking = (narrowed, LabelRound(self.batches, n), (pool, recent), self.reward, self.labels, self.policy)
        episodes = self.bank.early_ends() if asks_about_ends(self.reward) else self.bank.episodes
        batch = questions(*asking, episodes)
        self.labels.issue(batch, reward=self.fits)


def votes_read(path: str | Path) -> Mapping[int, int]:
    """Returns how much of the votes' history a run had read by each iteration. Raises CorruptFileError if the rows that
    say so are not those that its last checkpoint sealed, or (of an older run) cannot be right."""
    run = Run.open(path)
    check_rows(run, run.load_checkpoint()[1])
    found, before = {}, 0
    for row in run.metrics():
        read = row.get("votes_read", before)
        if type(read) is not int or read < before:
            raise CorruptFileError(
                f"{run.metrics_path} says that iteration {row['iteration']} had read {read!r} votes, {before} before; "
                "restore it from a copy"
            )
        found[row["iteration"]] = before = read
    return found
