"""Clips of unequal length: what fills the shorter ones up changes nothing, whatever it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_control.config import AnnotatorConfig, RewardConfig
from rlhf_control.data import COMPARISON, RANKING, RATING, REWARD, Feedback, Query, Segments
from rlhf_control.feedback.export import export_labels, import_labels
from rlhf_control.feedback.oracles import RewardOracle
from rlhf_control.feedback.schema import query_key
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.queries.choose import Form, Pool, choose
from rlhf_control.queries.strategies import STRATEGIES
from rlhf_control.rendering.clips import ClipRenderer
from rlhf_control.reward import compiled, fit
from rlhf_control.reward.model import RewardModel
from tests.conftest import random_segments
from tests.reward.given_answers import answers_of, planted


def masked(n: int, seed: int, length: int = 8) -> Segments:
    """Clips (n, length, ...) of noise, every other one of which has three steps less."""
    clips = random_segments(np.random.default_rng(seed), n, length)
    return Segments.stack([clips[i][: length - 3 * (i % 2)] for i in range(n)])


def refilled(clips: Segments, seed: int) -> Segments:
    """The same with other numbers where there is no step."""
    assert clips.mask is not None
    rng, arrays = np.random.default_rng(seed), clips.arrays()
    for name, array in arrays.items():
        if name != "mask":
            arrays[name] = np.where(
                clips.mask.reshape(*clips.mask.shape, *[1] * (array.ndim - clips.mask.ndim)), array,
                1e3 * rng.normal(size=array.shape).astype(array.dtype),
            )  # fmt: skip
    found = Segments(**arrays)
    assert not np.array_equal(found.obs, clips.obs)
    return found


@settings(max_examples=25)
@given(
    st.integers(0, 999), st.sampled_from([COMPARISON, RANKING, RATING, REWARD]), st.sampled_from([0.0, 1.0]),
    st.builds(
        AnnotatorConfig, discount=st.sampled_from([1.0, 0.8]), skip=st.sampled_from([0.0, 0.5]),
        equal=st.sampled_from([0.0, 0.5]), mistake=st.sampled_from([0.0, 0.3]),
    ),
)  # fmt: skip
def test_oracles_judge_the_steps_there_are(seed: int, kind: str, temperature: float, config: AnnotatorConfig) -> None:
    pool = masked(12, seed)
    shown = pool[np.arange({COMPARISON: 2, RANKING: 4}.get(kind, 1))]

    def answer(clips: Segments, pool: Segments) -> Feedback:
        oracle = RewardOracle(planted, "planted", temperature, config)
        return oracle(Query(0, 0, "uniform", clips, kind), pool, np.random.default_rng(seed))

    again = refilled(pool, seed)
    assert answer(again[np.arange(len(shown))], again) == answer(shown, pool)


def test_a_return_is_that_of_the_steps_there_are() -> None:
    clips, oracle = masked(6, 0), RewardOracle(lambda s: s.env_reward, "env")
    expected = [clips[i].present().env_reward.sum() for i in range(6)]
    np.testing.assert_allclose(oracle.returns(Query(0, 0, "uniform", clips), clips)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("kinds", [{"comparison": 20}, {"ranking": 6, "rating": 12, "reward": 12}])
def test_a_reward_learns_from_the_steps_there_are(kinds: dict[str, int]) -> None:
    answers, config = answers_of(kinds, length=8), RewardConfig(steps=30, hidden=(8,), members=2)
    clips = masked(len(answers.clips), 0)
    states = []
    for filled in (clips, refilled(clips, 1)):
        model, pool = RewardModel(17, 6, config), filled[np.arange(10)]
        metrics = model.fit(replace(answers, clips=filled), pool, np.random.default_rng(0))
        states.append((model.state()["layers"], model.state()["normaliser"], metrics, model.clip_logits(clips)))
    for first, second in zip(*states, strict=True):
        np.testing.assert_equal(first, second)


def test_the_compiled_fit_and_its_twin_agree_where_no_step_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of ones takes the reference's way, no mask the compiled one's."""
    answers, config = answers_of({"comparison": 20}, length=8), RewardConfig(steps=30, hidden=(8,), members=2)
    whole = replace(answers.clips, mask=np.ones(answers.clips.env_reward.shape, bool))
    used: list[str] = []
    for name in ("CompiledSteps", "AutogradSteps"):
        kind = getattr(fit, name)
        monkeypatch.setattr(fit, name, lambda *a, kind=kind: used.append(kind.__name__) or kind(*a))
    logits = []
    for clips in (answers.clips, whole):
        model = RewardModel(17, 6, config)
        model.fit(replace(answers, clips=clips), clips, np.random.default_rng(0))
        logits.append(model.clip_logits(answers.clips))
    assert used == ["CompiledSteps" if compiled.library() else "AutogradSteps", "AutogradSteps"]
    np.testing.assert_allclose(*logits, rtol=1e-2, atol=1e-3)


class Model:
    """Prefers by the mean of the steps that there are."""

    fitted = True

    def clip_logits(self, clips: Segments) -> np.ndarray:
        means = np.stack([clips[i].present().obs.mean(0) for i in range(len(clips))])
        return np.random.default_rng(0).normal(size=(5, 17)) @ means.T


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("form", [Form(COMPARISON, 2), Form(RANKING, 3), Form(RATING, 1)])
def test_queries_are_chosen_by_the_steps_there_are(strategy: str, form: Form) -> None:
    clips = masked(30, 0)
    chosen = [
        choose(strategy, Pool.of(pool, 15), 6, 0, Model(), np.random.default_rng(0), form=form)
        for pool in (clips, refilled(clips, 1))
    ]
    first, second = ([query_key(query) for query in queries] for queries in chosen)
    assert first == second and len(set(first)) == 6


def test_what_is_stored_exported_and_drawn_are_the_steps_there_are(tmp_path: Path) -> None:
    clips = masked(2, 0)
    stores = []
    for i, pair in enumerate((clips, refilled(clips, 1))):
        store = FeedbackStore(tmp_path / f"{i}.sqlite")
        query = Query(0, 0, "uniform", pair)
        store.ask([query])
        store.vote(query_key(query), Feedback((0, 1), "me"))
        export_labels(store, tmp_path / f"export {i}")
        stores.append(store)
    keys = [[asked.key for asked in store.asked()] for store in stores]
    assert keys[0] == keys[1]
    imported = FeedbackStore(tmp_path / "imported.sqlite")
    import_labels(imported, tmp_path / "export 1")
    found = imported.segments(stores[0].asked()[0].clips)
    assert sorted(len(clip.obs) for clip in found.values()) == [5, 8] and all(c.mask is None for c in found.values())
    draw: Callable[..., np.ndarray] = ClipRenderer("HalfCheetah-v5", {}).draw
    pictures = [draw(pair[1], 32, 32) for pair in (clips, refilled(clips, 1))]
    assert len(pictures[0]) == 5 and np.array_equal(*pictures)
