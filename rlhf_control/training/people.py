"""People in the loop: waiting for them, and telling their windows what the run does. With an oracle nothing of this
happens."""

import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from rlhf_control.behaviours.catalogue import BEHAVIOURS
from rlhf_control.config import FinetuneConfig
from rlhf_control.data import COMPARISON, Query, Segments
from rlhf_control.errors import Stopped
from rlhf_control.feedback.labels import POLL_SECONDS, Labels
from rlhf_control.feedback.schema import EARLY_END, GOLD, query_key
from rlhf_control.labelling.window_process import WindowProcess, command
from rlhf_control.nets.policy import Policy
from rlhf_control.reward.protocol import Reward
from rlhf_control.runs.files import open_own
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.status import State, Status, write_status
from rlhf_control.simulation.double_buffer import DoubleBufferedEnvs
from rlhf_control.training.guard import Guard, taught
from rlhf_control.wording import QUESTION, counted

SAY_SECONDS = 1.0  # between two words to the windows while the run waits
PREDICTIONS = "predictions.jsonl"
NOTHING_LEARNED = (
    "nothing was learned: the answers do not show what is better, so the policy is the one that came in; report.md "
    "says what helps"
)


@contextmanager
def attended(
    config: FinetuneConfig, loop: Loop, envs: DoubleBufferedEnvs, labels: Labels, reward: Reward, policy: Policy,
    rounds: Collection[int], guard: Guard,
) -> Iterator[None]:  # fmt: skip
    """Gives a run people beside it, if they are to answer. Within, a window is open, and all windows are told what the
    run does. `rounds`: the iterations in which it will wait for them."""
    if not config.asks_people() or loop.first == loop.iterations:
        yield
        return
    host = Host(config, loop, labels, reward, first_status(config, policy, envs.step_seconds), rounds, guard)
    labels.wait, labels.before_issue = host.wait, host.predict
    loop.before_iteration.append(host.training)
    if config.labelling == "async" and loop.first > min(rounds):  # people still see what was asked after the checkpoint
        labels.take_in_all()
    host.say("starting")
    host.open_window()
    try:
        yield
    except Stopped as stopped:
        host.say("stopped", str(stopped))
        raise
    except BaseException as error:
        host.say("failed", str(error) or type(error).__name__)
        raise
    host.say("finished", "" if taught(loop.run.metrics()) else NOTHING_LEARNED)
    host.count_up()


def film(loop: Loop, envs: DoubleBufferedEnvs, keep: int, rounds: Collection[int]) -> None:
    """Has pictures taken only in the `keep` iterations up to a round: they cost time where clips consist of them. The
    rounds are looked at anew each time, for plans change."""
    loop.before_iteration.append(
        lambda iteration: setattr(envs, "frames", any(at - keep < iteration <= at for at in rounds))
    )


def first_status(config: FinetuneConfig, policy: Policy, step_seconds: float) -> Status:
    """Returns what does not change during the run."""
    about = BEHAVIOURS[config.score].question if config.score else QUESTION
    kinds = dict.fromkeys([*config.feedback, *([COMPARISON] if config.query.gold else [])])
    return Status(
        "starting", os.getpid(), 0.0, policy.env_id, policy.env, step_seconds, config.question or about,
        tuple(kinds), wanted=config.labels * config.annotators, labelling=config.labelling,
    )  # fmt: skip


class Host:
    """Is the run's side of people's windows."""

    def __init__(
        self, config: FinetuneConfig, loop: Loop, labels: Labels, reward: Reward, status: Status,
        rounds: Collection[int], guard: Guard,
    ) -> None:  # fmt: skip
        self.config, self.loop, self.labels, self.reward, self.status = config, loop, labels, reward, status
        self.rounds, self.guard = rounds, guard
        self.path = loop.run.path
        self.window, self.command = WindowProcess(self.path, status.env_id), command(self.path, status.env_id)
        self.why_no_window = ""
        self.begun, self.seconds = 0.0, 0.0  # the last iteration: when, and how long such take
        self.said, self.waiting, self.told = 0.0, False, False

    def open_window(self) -> None:
        self.why_no_window = self.window.open() if self.config.window else "no window was opened"

    def say(self, state: State, message: str = "", next_question: float | None = None) -> None:
        """Tells all windows. A disk that refuses this does not stop the run."""
        answers = sum(len(self.labels.votes.get(asked.key, ())) for asked in self.labels.questions())
        self.said = time.time()
        with suppress(OSError):
            write_status(self.path, replace(
                self.status, state=state, updated=self.said, answers=answers, message=message,
                next_question=next_question, more=len(self.labels.questions()) < self.config.labels,
                holding=self.guard.holding,
            ))  # fmt: skip

    def training(self, iteration: int) -> None:
        """Tells the windows, before every iteration, that the run trains."""
        now, self.waiting = time.time(), False
        if self.begun:
            self.seconds = 0.7 * self.seconds + 0.3 * (now - self.begun) if self.seconds else now - self.begun
        self.begun = now
        later = [at for at in self.rounds if at > iteration]
        expected = now + (min(later) - iteration) * self.seconds if later and self.seconds else None
        self.say("training", next_question=expected)
        if self.labels.pending():
            self.mention_closed_window("goes on")

    def wait(self, missing: int) -> None:
        """Waits, again and again while so many answers are missing. Raises Stopped."""
        answers = counted(missing, "answer")
        self.loop.stop_if_asked()
        if not self.waiting and self.why_no_window and (self.config.labelling == "blocking" or not self.told):
            self.told = True
            self.tell(f"{self.why_no_window}; the run waits for {answers}: {self.command}")
        if not self.waiting or time.time() - self.said > SAY_SECONDS:
            self.say("waiting")
            self.loop.note(f"waiting for {answers}: {self.command}")
            self.mention_closed_window(f"waits for {answers}")
        self.waiting, self.begun = True, 0.0
        time.sleep(POLL_SECONDS)

    def predict(self, queries: Sequence[Query]) -> None:
        """Notes what the reward model expects of comparisons, before anybody sees them."""
        pairs = [query for query in queries if query.kind == COMPARISON and query.strategy not in (GOLD, EARLY_END)]
        if not self.reward.fitted or not pairs:
            return
        probability = self.reward.probability(Segments.stack([query.segments for query in pairs])).mean(0)
        lines = [
            json.dumps({"key": query_key(query), "probability_first": round(float(p), 4)}) + "\n"
            for query, p in zip(pairs, probability, strict=True)
        ]
        with suppress(OSError), open_own(self.path / PREDICTIONS, "ab") as file:
            file.write("".join(lines).encode())

    def mention_closed_window(self, meanwhile: str) -> None:
        if how := self.window.closed():
            self.tell(f"{how}; the run {meanwhile}. To vote, open it again: {self.command}")

    def count_up(self) -> None:
        """Says at the end how much was not answered."""
        unanswered = self.config.labels - (len(self.labels.questions()) - len(self.labels.pending()))
        if unanswered:
            self.tell(
                f"training ended with {unanswered} of {self.config.labels} questions unanswered; next time give it "
                "more --total-steps, or let it wait for people by a lower --human.lead"
            )

    def tell(self, text: str) -> None:
        """Tells the person at the terminal."""
        print(f"rlhf-control: {text}", file=sys.stderr, flush=True)
