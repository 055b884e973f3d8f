import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_control.config import FinetuneConfig, GuardConfig, PPOConfig, ReferenceConfig, RewardConfig
from rlhf_control.config.policy import NetConfig
from rlhf_control.data import KINDS, RANKING, Answers, Segments
from rlhf_control.errors import UserError
from rlhf_control.nets.distributions import Categorical
from rlhf_control.nets.policy import Policy, load_policy
from rlhf_control.queries.segments import SegmentBank
from rlhf_control.reward.known import KnownReward
from rlhf_control.reward.model import RewardModel, comparisons
from rlhf_control.rl.kl_anchor import Anchor
from rlhf_control.rl.ppo import PPO
from rlhf_control.runs.files import load_state, save_state
from rlhf_control.spaces import Spaces
from rlhf_control.training.guard import (
    COLLAPSED,
    Guard,
    as_predicted,
    exploration_left,
    halted,
    jump,
    note,
    nothing_learned,
    rose,
    taught,
)
from tests.conftest import TINY_REWARD, random_rollout, random_segments

GOOD = {"reward/evidence": 9.0, "reward/fair_answers": 20.0, "reward/fair_accuracy": 0.9, "reward/uncertainty": 0.5}
CHANCE = {**GOOD, "reward/evidence": 1.0, "reward/fair_accuracy": 0.55}
ROLLOUT = random_rollout(np.random.default_rng(0), T=8)


class Uncertain(KnownReward):
    """Rewards the first number of the observation, and is as uncertain as it is told."""

    def __init__(self) -> None:
        super().__init__(lambda steps: steps.obs[..., 0], scaled=False)
        self.fitted, self.unsure = True, 0.5

    def uncertainty(self, steps: object) -> np.ndarray:
        return np.full(3, self.unsure)


class Doubting(Uncertain):
    """Knows that bob always says the opposite."""

    def trust_in(self, answers: Answers) -> np.ndarray:
        return np.where(answers.annotator == "bob", -1.0, 1.0)


def watch(guard: Guard, reward: Uncertain, *, kl: float = 2.0, learned: float = 0.0) -> dict[str, float]:
    return guard.watch(reward, ROLLOUT, np.full((8, 3), learned, np.float32), {"kl_start": kl, "kl_reference": kl})


def fitted_guard(**options: object) -> Guard:
    guard = Guard(GuardConfig(**{"kl_jump": 4.0, **options}))  # type: ignore[arg-type]
    guard.fitted(GOOD)
    return guard


def by_the_first_number(n: int) -> Answers:
    """Answers to n comparisons that are all as `Uncertain` rewards."""
    pairs = random_segments(np.random.default_rng(n), n, 2, 5)
    first = pairs.obs[..., 0].mean(-1)
    return comparisons(pairs, (first[:, 0] > first[:, 1]).astype(np.float64))


# -- statistics


def test_statistics_by_hand() -> None:
    assert rose([0, 1]) and rose([0, 5, 1]) and not rose([1, 0]) and not rose([1]) and not rose([])
    assert rose([0, 0, 9, 1, 1]) and not rose([1, 1, 9, 0, 0])  # the odd one in the middle is left out
    assert jump([1, 9, 2, 4, 3], 1.5, window=3) == 2 and jump([4], 2, window=5) == 2


def test_exploration_by_hand(cheetah_policy: Policy) -> None:
    """Six standard deviations halved: 6 log 2 nats less."""
    assert exploration_left(4 - 6 * math.log(2), 4.0, cheetah_policy) == pytest.approx(0.5)
    choosing = Policy(Spaces((4,), "discrete", (3,)), NetConfig(hidden=(8,)), 0, "CartPole-v1", {})
    even = Categorical(choosing.actor(choosing.features(np.zeros((1, 4), np.float32))) * 0, (3,)).entropy().item()
    assert exploration_left(even / 4, even, choosing) == pytest.approx(0.25)


def test_as_predicted_by_hand() -> None:
    """By the first observation, clips 0, 1, 2 are worth 0, 1, 2. A comparison that says so, one that does not, and a
    ranking of all three with one of its three pairs wrong."""
    clips = random_segments(np.random.default_rng(0), 3, 5)
    clips.obs[..., 0] = np.arange(3)[:, None]
    answers = Answers(
        clips,
        items=np.array([[1, 0, -1], [1, 2, -1], [2, 1, 0]]),
        ranks=np.array([[0, 1, -1], [0, 1, -1], [0, 2, 1]]),
        kind=np.array([0, 0, KINDS.index(RANKING)]),
        value=np.full(3, np.nan),
    )
    right, asked = as_predicted(Uncertain(), answers)
    assert asked == 3 and right == pytest.approx(3 * 3 / 5)  # five pairs, of which (1, 0), (2, 1) and (2, 0) are right
    liar = replace(answers, annotator=np.array(["ann", "bob", "ann"]))
    right, asked = as_predicted(Doubting(), liar)
    assert asked == 3 and right == pytest.approx(3 * 4 / 5)  # (1, 2), which bob said the wrong way round, is right too
    ties = comparisons(Segments.stack([clips[:2]]), np.array([0.5]))
    assert as_predicted(Uncertain(), ties) == (0.0, 0.0)


# -- chance


def test_the_policy_is_held_until_the_reward_is_shown_to_be_better_than_chance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guard = Guard(GuardConfig())
    assert not guard.closed
    for _ in range(2):
        guard.fitted(CHANCE)
        assert guard.closed and watch(guard, Uncertain())["guard/holding"] == 1
    guard.fitted(GOOD)  # of answers that are held out only the first look counts
    assert guard.closed
    said = capsys.readouterr().err
    assert said.count("not shown to be better than coin flips") == 1 and "11 of 20" in said and "3.0 needed" in said
    assert guard.newest(Uncertain(), by_the_first_number(8)) == {}
    guard.fitted(CHANCE)
    assert not guard.closed and watch(guard, Uncertain())["guard/holding"] == 0
    assert "goes on" in capsys.readouterr().err
    guard.fitted(CHANCE)
    assert not guard.closed  # what was shown stays shown: the answers are no coin flips
    again = Guard(GuardConfig())
    again.load_state(guard.state())
    again.fitted(CHANCE)
    assert not again.closed
    assert not fitted_guard(chance="off").closed


def test_schedules_begin_with_the_policys_first_update() -> None:
    """Ten iterations: no reward in the first two, held in the third, then held no longer, and later once more."""
    guard, reward = Guard(GuardConfig(alarm="off")), Uncertain()
    seen = []
    for fitted, holding in ((False, False), (False, False), (True, True), *[(True, False)] * 3, (True, True)):
        seen.append(guard.progress(len(seen), 10))
        reward.fitted, guard.holding = fitted, holding
        watch(guard, reward)
    assert seen == [0, 0, 0, 0, 1 / 7, 2 / 7, 3 / 7] and guard.waited == 3
    again = Guard(GuardConfig())
    again.load_state(json.loads(json.dumps({"begun": guard.begun, "waited": guard.waited})))
    assert again.progress(9, 10) == 6 / 7
    of_before = Guard(GuardConfig())
    of_before.load_state({"holding": True})
    watch(of_before, reward)
    assert of_before.progress(3, 10) == 0.3  # older runs did not count


def test_a_reward_that_may_be_chance_does_not_choose_what_is_asked() -> None:
    config, guard = FinetuneConfig("p"), Guard(GuardConfig())
    assert guard.asking(config) is config
    guard.fitted(CHANCE)
    assert guard.asking(config) == replace(config, queries="uniform", learn_end_costs=False)
    guard.newest(Uncertain(), by_the_first_number(8))
    guard.fitted(CHANCE)
    assert guard.asking(config) is config


def test_checkpoints_of_before_it_was_kept_whether_the_reward_was_shown_to_be_good() -> None:
    guard = fitted_guard()
    state = guard.state()
    del state["shown"]
    older = Guard(GuardConfig())
    older.load_state(state)
    assert not older.closed and not older.shown


def test_a_control_of_coin_flips_may_learn() -> None:
    guard = Guard(GuardConfig(chance="off", alarm="off"))
    guard.fitted(CHANCE)
    assert not guard.closed and watch(guard, Uncertain()) == {}


def test_a_known_reward_is_not_judged() -> None:
    guard = Guard(GuardConfig(chance="off", alarm="off"))
    guard.fitted({"reward/fit_seconds": 0.1})
    assert not guard.closed


@pytest.mark.parametrize("options", [{"odds": 0.5}, {"kl_jump": 0.0}, {"surprise": 2.0}, {"window": 0}])
def test_impossible_thresholds(options: dict) -> None:
    with pytest.raises(UserError, match=rf"guard\.{next(iter(options))}"):
        GuardConfig(**options)


def test_without_held_out_answers_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(UserError, match=r"--guard\.chance off"):
        FinetuneConfig("p", reward=RewardConfig(bootstrap=1.0))
    FinetuneConfig("p", reward=RewardConfig(bootstrap=1.0), guard=GuardConfig(chance="off"))


# -- the alarm


def test_kl_that_jumps() -> None:
    """From 2 at the fit; 9 is over four times that, but the median of the window has to be."""
    guard, reward = fitted_guard(window=3), Uncertain()
    watch(guard, reward, kl=2.0)
    for kl, alarmed in ((3.0, False), (9.0, False), (3.0, False), (9.0, True)):
        assert watch(guard, reward, kl=kl)["guard/alarm"] == alarmed
    assert guard.closed and "KL from the pretrained policy jumped to 9 from 2 at the last fit" in guard.alarm
    for kl in (9.0, 20.0, 20.0):  # from now on, against 9
        assert watch(guard, reward, kl=kl)["guard/alarm"] == 0
    assert not guard.closed


def test_by_default_a_policy_may_move_away() -> None:
    guard = fitted_guard(window=1, kl_jump=None)
    for kl in (2.0, 1e6):
        assert watch(guard, Uncertain(), kl=kl)["guard/alarm"] == 0


def test_kl_next_to_nothing_cannot_jump() -> None:
    guard = fitted_guard(window=1)
    for kl in (0.0, 0.001, 0.1, 3.9):
        assert watch(guard, Uncertain(), kl=kl)["guard/alarm"] == 0
    assert watch(guard, Uncertain(), kl=4.1)["guard/alarm"] == 1


def unsure(guard: Guard, reward: Uncertain, uncertainty: float, *, kl: float = 2.0, rises: bool = True) -> float:
    """Whether two iterations, under a window of two, end in an alarm."""
    reward.unsure = uncertainty
    for _ in range(2):
        learned = len(guard.since["reward"]) * (1.0 if rises else -1.0)
        alarm = watch(guard, reward, kl=kl, learned=learned)["guard/alarm"]
    return alarm


def test_uncertainty_that_jumps() -> None:
    """At the fit it is 1; times 1.5."""
    guard, reward = fitted_guard(window=2, uncertainty_jump=1.5), Uncertain()
    guard.fitted(GOOD | {"reward/uncertainty": 1.0})
    assert not unsure(guard, reward, 1.4) and unsure(guard, reward, 1.6)
    assert "the learned reward rose, but it is uncertain of what the policy does: by 1.6" in guard.alarm
    assert "over 2 iterations, 1 at the last fit" in guard.alarm
    assert not unsure(guard, reward, 1.6)  # said once


def test_many_times_very_little_is_no_alarm() -> None:
    guard, reward = fitted_guard(window=2), Uncertain()
    guard.fitted(GOOD | {"reward/uncertainty": 0.1})
    assert not unsure(guard, reward, 0.49) and unsure(guard, reward, 0.51)
    guard = Guard(GuardConfig(window=2).settled(line=True))  # whose members differ less
    guard.fitted(GOOD | {"reward/uncertainty": 0.1})
    assert not unsure(guard, reward, 0.29) and unsure(guard, reward, 0.31)
    assert GuardConfig(unsure=0.8).settled(line=True).unsure == 0.8


def test_what_is_new_to_the_reward_is_no_alarm_unless_the_policy_moved_and_earns_more() -> None:
    """As another part of an episode is, which all environments come to at once."""
    guard, reward = fitted_guard(window=2), Uncertain()
    assert not unsure(guard, reward, 2.0, kl=1.2) and not unsure(guard, reward, 2.0, rises=False)
    guard.fitted(GOOD)
    assert unsure(guard, reward, 2.0, kl=1.3)


def test_a_policy_that_went_far_before_the_last_fit_has_not_moved() -> None:
    guard, reward = fitted_guard(window=1, kl_jump=None), Uncertain()
    reward.unsure = 2.0
    for learned, since_the_fit, alarmed in ((0.0, 0.1, 0), (1.0, 1.2, 0), (2.0, 1.3, 1)):
        kl, seen = {"kl_start": 9.0, "kl_reference": since_the_fit}, np.full((8, 3), learned, np.float32)
        assert guard.watch(reward, ROLLOUT, seen, kl)["guard/alarm"] == alarmed


def test_many_looks_share_the_chance_of_a_false_alarm() -> None:
    """One of four newest answers, where 18 of 20 were as predicted: p = 0.018."""
    for looks, alarmed in ((1, True), (8, False)):
        guard, reward = fitted_guard(), Uncertain()
        guard.looks = looks
        for learned in (0.0, 0.5):
            watch(guard, reward, learned=learned)
        assert guard.newest(reward, newest_of(1, 4))["guard/surprise"] == pytest.approx(0.01835, abs=1e-5)
        guard.fitted(GOOD)
        assert bool(watch(guard, reward)["guard/alarm"]) == alarmed


def newest_of(right: int, asked: int) -> Answers:
    """Answers of which Uncertain predicts so many."""
    pairs = random_segments(np.random.default_rng(1), asked, 2, 5)
    better = pairs.obs[..., 0].mean(-1).argmax(1) == 0
    target = np.where(np.arange(asked) < right, better, ~better)
    return comparisons(pairs, target.astype(np.float32))


@pytest.mark.parametrize(("right", "rises", "alarmed"), [(0, True, True), (0, False, False), (3, True, False)])
def test_the_newest_answers_against_the_learned_reward(right: int, rises: bool, alarmed: bool) -> None:
    """Of twenty held-out answers 18 were as predicted; now of four."""
    guard, reward = fitted_guard(), Uncertain()
    for learned in (0.0, 0.5) if rises else (0.5, 0.0):
        watch(guard, reward, learned=learned)
    log = guard.newest(reward, newest_of(right, 4))
    assert (log["guard/surprise"] < 0.01) == (right == 0)
    guard.fitted(GOOD)
    assert watch(guard, reward)["guard/alarm"] == alarmed
    if alarmed:
        assert "0 of the 4 newest answers, and had predicted 18 of 20" in guard.alarm
    assert watch(guard, reward)["guard/alarm"] == 0


def test_a_held_policy_raises_no_alarm() -> None:
    guard, reward = Guard(GuardConfig(window=1)), Uncertain()
    guard.fitted(CHANCE)
    watch(guard, reward)
    assert guard.newest(reward, newest_of(0, 4)) == {}
    assert watch(guard, reward, kl=1e3)["guard/alarm"] == 0


def test_a_warning_closes_nothing() -> None:
    guard, reward = fitted_guard(alarm="warn", window=1), Uncertain()
    watch(guard, reward)
    assert watch(guard, reward, kl=1e3)["guard/alarm"] == 1 and not guard.closed


@pytest.mark.parametrize(("beta", "tighter"), [(0.1, 0.2), (0.0, 0.02)])
def test_rolling_back(cheetah_policy: Policy, tmp_path: Path, beta: float, tighter: float) -> None:
    """Weights, moments and normaliser as they were; a closer anchor; what went wrong is there to be asked about."""
    learner, anchor = (
        PPO(cheetah_policy, PPOConfig(minibatch_size=8)),
        Anchor(cheetah_policy, ReferenceConfig(beta=beta)),
    )
    rollout = random_rollout(np.random.default_rng(0), T=40)
    bank = SegmentBank(5, 3, 40, clips=4)
    bank.add(rollout)
    guard = fitted_guard(alarm="roll-back")
    learner.update(rollout, np.random.default_rng(0), 0.0)
    guard.keep(learner, tmp_path, cheetah_policy)
    kept = learner.state()
    learner.update(rollout, np.random.default_rng(1), 0.0)
    cheetah_policy.obs_norm.update(rollout.obs)
    guard.roll_back(learner, anchor, bank, np.random.default_rng(0), wait=True)
    save_state(tmp_path / "a.npz", kept)
    save_state(tmp_path / "b.npz", learner.state())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    file = load_policy(tmp_path / "last_good.npz").state()["parameters"]
    assert all(np.array_equal(file[name], value) for name, value in kept["policy"]["parameters"].items())
    assert anchor.beta == tighter and bank.older is not None and guard.waiting
    np.testing.assert_array_equal(
        anchor.reference.policy.state()["parameters"]["log_std"], kept["policy"]["parameters"]["log_std"]
    )
    assert guard.closed
    guard.fitted(GOOD)
    assert not guard.closed


def test_one_line_says_why_and_what_to_do(tmp_path: Path) -> None:
    error = halted("the KL jumped", tmp_path)
    assert error.exit_code == 3 and "\n" not in str(error)
    for words in ("the KL jumped", "rlhf-control evaluate-reward", "last_good.npz", "rlhf-control resume"):
        assert words in str(error)


# -- exploration


@pytest.mark.parametrize("gradients", ["compiled", "autograd"])
def test_a_floor_under_the_noise(cheetah_policy: Policy, gradients: str) -> None:
    """It is there after an update, and the next one goes on from it."""
    learner = PPO(cheetah_policy, PPOConfig(minibatch_size=8, epochs=1, gradients=gradients))  # type: ignore[arg-type]
    rollout = random_rollout(np.random.default_rng(0))
    for floor in (None, -0.2):
        guard = Guard(GuardConfig(min_log_std=floor))
        log = learner.update(rollout, np.random.default_rng(0), 0.0)
        assert guard.keep_exploring(cheetah_policy, log)["guard/exploration"] == 1
        lowest = cheetah_policy.log_std.min().item()
        assert lowest < -0.4 if floor is None else lowest == pytest.approx(floor)
    entropy = learner.update(rollout, np.random.default_rng(0), 0.0)["entropy"]
    assert entropy > 6 * (-0.2 + 0.5 + 0.5 * math.log(2 * math.pi)) - 0.5


def test_a_collapse_is_said_once(cheetah_policy: Policy, capsys: pytest.CaptureFixture[str]) -> None:
    guard = Guard(GuardConfig())
    for entropy in (4.0, 4.0 + 6 * math.log(0.9 * COLLAPSED), -20.0):
        guard.keep_exploring(cheetah_policy, {"entropy": entropy})
    said = capsys.readouterr().err
    assert said.count("the policy explores with 9%") == 1 and "--guard.min-log-std" in said
    assert guard.keep_exploring(cheetah_policy, {}) == {}  # an update that stopped before its first step


# -- checkpoints and the report


def test_a_guard_comes_back_from_its_file(cheetah_policy: Policy, tmp_path: Path) -> None:
    learner = PPO(cheetah_policy, PPOConfig(minibatch_size=8))
    guard, reward = fitted_guard(window=2), Uncertain()
    watch(guard, reward, learned=0.1)
    guard.keep(learner, tmp_path, cheetah_policy)
    guard.keep_exploring(cheetah_policy, {"entropy": 4.0})
    save_state(tmp_path / "guard.npz", guard.state())
    again = Guard(guard.config)
    again.load_state(load_state(tmp_path / "guard.npz"))
    for kl in (3.0, 9.0, 9.0, 9.0):
        assert watch(guard, reward, kl=kl) == watch(again, reward, kl=kl) and guard.closed == again.closed
    save_state(tmp_path / "a.npz", guard.state())
    save_state(tmp_path / "b.npz", again.state())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_note_for_the_report() -> None:
    healthy = [{"env_steps": 10, "guard/holding": 0.0, "guard/exploration": 1.0, **GOOD}, {"env_steps": 20}]
    assert note(healthy) == "" == note([])
    assert not taught(healthy) and taught([*healthy, {"gradient_steps": 1}])
    rows = [{"env_steps": 10, "guard/holding": 1.0, **CHANCE}, {"env_steps": 2000, "guard/event": "the KL jumped"},
            {"env_steps": 2010, "guard/exploration": 0.05}]  # fmt: skip
    text = note(rows)
    assert "In 1 of 3 iterations" in text and "55% of 20 held-out answers" in text
    assert "Alarm at 2,000 steps: the KL jumped." in text and "explored with 5% of the noise" in text


def test_why_nothing_was_learned(tmp_path: Path) -> None:
    held = [{"answers": 20, "guard/holding": 1.0, **CHANCE}, {"answers": 40, "guard/holding": 1.0}]
    for rows, why in (
        (held, "after 40 answers the reward is not shown to be better than coin flips (it predicts 55% of 20"),
        ([{"answers": 0}], "nothing was answered"),
        ([{"answers": 7}], "none of the 7 answers says which clip is better"),
        ([{"answers": 7, "gradient_steps": 3}], "it was rolled back"),
    ):
        text = nothing_learned(rows, tmp_path)
        assert text.startswith("Nothing was learned") and why in text and "What helps: more answers" in text


# -- with real fits


@pytest.mark.parametrize("answers", ["right", "coin flips"])
def test_fits_are_told_from_chance(answers: str) -> None:
    """Five fits each to twenty answers."""
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        pairs = random_segments(rng, 20, 2, 10)
        better = pairs.obs[..., 8].mean(-1).argmax(1) == 0
        target = better if answers == "right" else rng.integers(2, size=20)
        model = RewardModel(
            17, 6, replace(TINY_REWARD, members=5, bootstrap=0.8, steps=150, inputs="state", obs_parts=("8",))
        )
        metrics = model.fit(comparisons(pairs, target.astype(np.float32)), random_segments(rng, 10, 10), rng)
        assert metrics["fair_answers"] == 20
        found.append(metrics["evidence"] > math.log(GuardConfig().odds))
    assert all(found) if answers == "right" else not any(found)
