import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_control.data import COMPARISON, RANKING, RATING, REWARD, Answers, Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.export import export_labels, import_labels, import_pairs
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.store import FeedbackStore, in_force
from tests.conftest import random_segments


def read(store: FeedbackStore) -> Answers:
    labels = Labels(store, None, 0)
    labels.adopt()
    answers = labels.answers()
    assert answers is not None
    return answers


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeedbackStore:
    """Several kinds of queries with a history of changes."""
    store, rng = FeedbackStore(tmp_path_factory.mktemp("store") / "labels.sqlite"), np.random.default_rng(0)
    clips = random_segments(rng, 5, 4)
    bare = Segments(clips.obs, clips.action, clips.next_obs, clips.env_reward)
    keys = [a.key for a in store.ask([Query(0, 0, "uniform", clips[:2]), Query(0, 1, "äh", clips[1:4], RANKING)])]
    keys += [a.key for a in store.ask([Query(1, 0, "uniform", bare[3:5]), Query(1, 1, "uniform", bare[:2], repeat=1)],
                                      annotators=2, policy=3, reward="abc")]  # fmt: skip
    keys += [a.key for a in store.ask([Query(2, i, "k", clips[:1], kind) for i, kind in enumerate((RATING, REWARD))])]
    store.vote(keys[0], Feedback((0, 1), "ann", 1 / 3), shown=[1, 0])
    store.vote(keys[1], Feedback((2, 0, 0), "bob", 2.5), shown=[2, 0, 1])
    store.vote(keys[0], Feedback((1, 0), "ann", 0.1))
    store.undo(keys[1], "bob")
    store.vote(keys[2], Feedback(None, "bob"))
    store.vote(keys[2], Feedback((0, 0), "ann", 1.0))
    store.vote(keys[4], Feedback(None, "ann", 3.0, value=4.0))
    store.vote(keys[5], Feedback(None, "oracle:é", value=-1 / 3))
    return store


def test_a_round_trip_is_exact(store: FeedbackStore, tmp_path: Path) -> None:
    export_labels(store, tmp_path / "export")
    again = FeedbackStore(tmp_path / "again.sqlite")
    import_labels(again, tmp_path / "export")
    assert again.asked() == store.asked() and again.votes() == store.votes()
    for asked in store.asked():
        assert again.query(asked.key).segments.digest() == store.query(asked.key).segments.digest()
    a, b = read(store), read(again)
    assert a.clips.digest() == b.clips.digest() and len(a) == 4
    for name in ("items", "ranks", "kind", "value"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_recorded_pictures_go_along(tmp_path: Path) -> None:
    clips = random_segments(np.random.default_rng(0), 2, 3)
    frames = np.array([[b"one", b"", b"three"], [b"", b"a longer one", b""]], "S")
    pair = Segments(clips.obs, clips.action, clips.next_obs, clips.env_reward, frames=frames)
    store, again = FeedbackStore(tmp_path / "labels.sqlite"), FeedbackStore(tmp_path / "again.sqlite")
    (asked,) = store.ask([Query(0, 0, "uniform", pair)])
    export_labels(store, tmp_path / "export")
    import_labels(again, tmp_path / "export")
    found = again.query(asked.key).segments
    assert found.digest() == pair.digest() and found.state is None
    np.testing.assert_array_equal(found.frames, frames)
    with np.load(tmp_path / "export" / "segments.npz") as archive:
        assert archive[f"{asked.clips[0]}/frames"].tolist() == [b"one", b"", b"three"]


def test_an_export_needs_no_program_of_ours(store: FeedbackStore, tmp_path: Path) -> None:
    export_labels(store, tmp_path / "export")
    queries = [json.loads(line) for line in (tmp_path / "export" / "queries.jsonl").read_text().splitlines()]
    answers = [json.loads(line) for line in (tmp_path / "export" / "answers.jsonl").read_text().splitlines()]
    clips = np.load(tmp_path / "export" / "segments.npz", allow_pickle=False)
    assert answers[0]["ranks"] == [0, 1] and answers[0]["shown"] == [1, 0] and answers[3]["undo"]
    first = store.query(answers[0]["query"]).segments
    assert queries[0]["key"] == answers[0]["query"]
    for side, digest in enumerate(queries[0]["clips"]):
        np.testing.assert_array_equal(clips[f"{digest}/obs"], first.obs[side])


Line = dict[str, Any]
DAMAGE: list[tuple[str, int, Callable[[Line], Any], str]] = [
    ("answers.jsonl", 1, lambda a: a | {"ranks": [0, 1, 2]}, "ranks"),
    ("answers.jsonl", 1, lambda a: a | {"ranks": [0, "1"]}, "ranks"),
    ("answers.jsonl", 1, lambda a: a | {"ranks": 3}, "ranks"),
    ("answers.jsonl", 2, lambda a: a | {"value": 3}, "value"),
    ("answers.jsonl", 1, lambda a: a | {"shown": [0, 0]}, "order"),
    ("answers.jsonl", 1, lambda a: a | {"shown": None}, "order"),
    ("answers.jsonl", 1, lambda a: a | {"seconds": -1}, "seconds"),
    ("answers.jsonl", 1, lambda a: a | {"seconds": float("nan")}, "seconds"),
    ("answers.jsonl", 1, lambda a: a | {"time": "noon"}, "time"),
    ("answers.jsonl", 1, lambda a: a | {"annotator": ""}, "answer"),
    ("answers.jsonl", 1, lambda a: a | {"query": "0" * 64}, "query"),
    ("answers.jsonl", 1, lambda a: a | {"undo": 1}, "undo"),
    ("answers.jsonl", 1, lambda a: a | {"undo": True}, "undo"),
    ("answers.jsonl", 4, lambda a: a | {"annotator": "nobody"}, "undo"),
    ("answers.jsonl", 7, lambda a: a | {"value": 4.5}, "rating"),
    ("answers.jsonl", 7, lambda a: a | {"value": 1e8}, "from 1 to 100"),
    ("answers.jsonl", 8, lambda a: a | {"value": 1e200}, "reward"),
    ("answers.jsonl", 1, lambda a: a | {"annotator": "a\nb"}, "printable"),
    ("queries.jsonl", 1, lambda q: q | {"strategy": " "}, "printable"),
    ("answers.jsonl", 7, lambda a: a | {"ranks": [0]}, "ranks"),
    ("answers.jsonl", 1, lambda a: {"query": a["query"]}, "fields"),
    ("answers.jsonl", 1, lambda a: a | {"mood": "good"}, "fields"),
    ("answers.jsonl", 3, lambda a: [], "fields"),
    ("queries.jsonl", 1, lambda q: q | {"clips": q["clips"][::-1]}, "key"),
    ("queries.jsonl", 1, lambda q: q | {"clips": ["0" * 64] * 2}, "clip"),
    ("queries.jsonl", 1, lambda q: q | {"clips": [0, 1]}, "clips"),
    ("queries.jsonl", 1, lambda q: q | {"kind": "wish"}, "wish"),
    ("queries.jsonl", 1, lambda q: q | {"kind": RATING}, "rating"),
    ("queries.jsonl", 4, lambda q: q | {"repeat": 0}, "key"),
    ("queries.jsonl", 1, lambda q: q | {"round": 2**70}, "round"),
    ("queries.jsonl", 1, lambda q: q | {"round": -1}, "round"),
    ("queries.jsonl", 1, lambda q: q | {"annotators": 0}, "annotators"),
    ("queries.jsonl", 1, lambda q: q | {"policy": 0.5}, "policy"),
]


@pytest.mark.parametrize(("name", "line", "change", "words"), DAMAGE)
def test_an_impossible_line_is_named(
    store: FeedbackStore, tmp_path: Path, name: str, line: int, change: Callable[[Line], Any], words: str
) -> None:
    export_labels(store, tmp_path / "export")
    path = tmp_path / "export" / name
    lines = path.read_text().splitlines()
    lines[line - 1] = json.dumps(change(json.loads(lines[line - 1])))
    path.write_text("\n".join(lines))
    again = FeedbackStore(tmp_path / "again.sqlite")
    with pytest.raises(CorruptFileError, match=rf"{name}, line {line}: .*{words}"):
        import_labels(again, tmp_path / "export")
    assert again.asked() == [] and again.votes() == []


@pytest.mark.parametrize("name", ["answers.jsonl", "queries.jsonl", "segments.npz"])
def test_damaged_files_are_refused_or_read_the_same(store: FeedbackStore, tmp_path: Path, name: str) -> None:
    """A byte that is something else, anywhere: our own error, or content that is possible."""
    export_labels(store, tmp_path / "export")
    path, rng = tmp_path / "export" / name, np.random.default_rng(0)
    data = path.read_bytes()
    refused = 0
    for _ in range(25):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        (tmp_path / "again.sqlite").unlink(missing_ok=True)
        again = FeedbackStore(tmp_path / "again.sqlite")
        try:
            import_labels(again, tmp_path / "export")
            assert len(again.votes()) == len(store.votes())
        except UserError as error:
            assert name in str(error) or "again.sqlite" in str(error)
            refused += 1
    assert refused > 3
    path.unlink()
    with pytest.raises(UserError, match=name):
        import_labels(again, tmp_path / "export")


def test_importing_twice_is_importing_once(store: FeedbackStore, tmp_path: Path) -> None:
    export_labels(store, tmp_path / "export")
    again = FeedbackStore(tmp_path / "again.sqlite")
    for _ in range(2):
        import_labels(again, tmp_path / "export")
        assert again.votes() == store.votes() and again.asked() == store.asked()
    changed = Feedback((0, 0), "ann")
    again.vote(store.votes()[0].query, changed)
    import_labels(again, tmp_path / "export")  # and an answer given since stays the one in force
    assert again.votes()[:-1] == store.votes() and again.votes()[-1].feedback == changed


def test_a_longer_history_is_added_to_a_shorter_one(store: FeedbackStore, tmp_path: Path) -> None:
    """Also where an answer was taken back here and there, at different times."""
    again, key = FeedbackStore(tmp_path / "again.sqlite"), store.votes()[1].query
    asked = store.asked(key)
    again.add(asked, store.segments(asked[0].clips), store.votes()[1:2])
    again.undo(key, "bob")
    export_labels(store, tmp_path / "export")
    import_labels(again, tmp_path / "export")
    places = {(vote.query, vote.annotator): vote.feedback for vote in in_force(store.votes()).values()}
    assert {(v.query, v.annotator): v.feedback for v in in_force(again.votes()).values()} == places
    assert len(again.votes()) == len(store.votes())  # all but the other undo, and the own one


@pytest.mark.parametrize("name", ["answers.jsonl", "queries.jsonl"])
def test_lost_lines_and_changed_digits_are_noticed(store: FeedbackStore, tmp_path: Path, name: str) -> None:
    export_labels(store, tmp_path / "export")
    path, again = tmp_path / "export" / name, FeedbackStore(tmp_path / "again.sqlite")
    lines = path.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0])
    other = json.dumps(first | {"time": first["time"] + 1}).encode() + b"\n"
    lost = rf"{name} .*has {{}} of {len(lines)} lines" if name == "answers.jsonl" else "not in queries"
    for damaged, words in (
        ([], lost.format(0)),
        (lines[:-1], lost.format(len(lines) - 1)),
        ([other, *lines[1:]], rf"{name} .*SHA-256.*sums\.json"),
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(CorruptFileError, match=words):
            import_labels(again, tmp_path / "export")
        assert again.asked() == [] and again.votes() == []
    (tmp_path / "export" / "sums.json").unlink()  # altered on purpose, or an export of before
    import_labels(again, tmp_path / "export")
    assert len(again.votes()) == len(store.votes())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"queries.jsonl": 1, "answers.jsonl": 2}', "\xff"])
def test_damaged_sums_are_named(store: FeedbackStore, tmp_path: Path, content: str) -> None:
    export_labels(store, tmp_path / "export")
    (tmp_path / "export" / "sums.json").write_text(content, encoding="latin-1")
    with pytest.raises(CorruptFileError, match=r"sums\.json is damaged"):
        import_labels(FeedbackStore(tmp_path / "again.sqlite"), tmp_path / "export")


@pytest.mark.parametrize("damage", ["cut", "pickled", "objects", "empty"])
def test_files_of_pickles_are_refused_in_our_own_words(store: FeedbackStore, tmp_path: Path, damage: str) -> None:
    export_labels(store, tmp_path / "export")
    path = tmp_path / "export" / "segments.npz"
    if damage == "objects":
        np.savez(path, a=np.array([None]))
    else:
        path.write_bytes({"cut": path.read_bytes()[:-30], "pickled": pickle.dumps([1]), "empty": b""}[damage])
    with pytest.raises(CorruptFileError, match=r"segments\.npz is no \.npz of plain arrays") as refusal:
        import_labels(FeedbackStore(tmp_path / "again.sqlite"), tmp_path / "export")
    assert "allow_pickle" not in str(refusal.value)


def test_clips_that_nothing_could_be_learned_from_are_not_imported(store: FeedbackStore, tmp_path: Path) -> None:
    export_labels(store, tmp_path / "export")
    clip = random_segments(np.random.default_rng(0), 4)
    clip.obs[0] = np.nan
    arrays = {f"{clip.digest()}/{name}": array for name, array in clip.arrays().items()}
    np.savez(tmp_path / "export" / "segments.npz", allow_pickle=False, **arrays)
    with pytest.raises(CorruptFileError, match=r"segments\.npz, clip .*: obs holds NaN"):
        import_labels(FeedbackStore(tmp_path / "again.sqlite"), tmp_path / "export")


# -- pairs as arrays


def make_pairs(n: int = 4, steps: int = 6, successors: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {f"obs_{i}": rng.normal(size=(n, steps + successors, 3)) for i in (1, 2)}
    arrays |= {f"action_{i}": rng.uniform(-1, 1, size=(n, steps, 2)) for i in (1, 2)}
    return arrays | {"label": np.array([1, 0, 0.5, np.nan])[np.arange(n) % 4]}


def test_pairs_with_successors(tmp_path: Path) -> None:
    store, pairs = FeedbackStore(tmp_path / "labels.sqlite"), make_pairs()
    keys = import_pairs(store, pairs | {"reward_1": np.ones((4, 6)), "reward_2": np.zeros((4, 6))}, "them")
    assert [in_force(store.votes())[key, "them"].feedback.ranks for key in keys] == [(0, 1), (1, 0), (0, 0), None]  # type: ignore[union-attr]
    query = store.query(keys[1])
    assert query.kind == COMPARISON and query.segments.state is None
    np.testing.assert_array_equal(query.segments.obs[0], pairs["obs_1"][1, :-1].astype(np.float32))
    np.testing.assert_array_equal(query.segments.next_obs[1], pairs["obs_2"][1, 1:].astype(np.float32))
    np.testing.assert_array_equal(query.segments.action[1], pairs["action_2"][1].astype(np.float32))
    np.testing.assert_array_equal(query.segments.env_reward, [[1] * 6, [0] * 6])
    assert len(read(store)) == 3


def test_pairs_without_successors_from_a_file(tmp_path: Path) -> None:
    store, pairs = FeedbackStore(tmp_path / "labels.sqlite"), make_pairs(successors=False)
    np.savez(tmp_path / "pairs.npz", **pairs)
    keys = import_pairs(store, tmp_path / "pairs.npz")
    segments = store.query(keys[2]).segments
    np.testing.assert_array_equal(segments.next_obs[0], pairs["obs_1"][2, 1:].astype(np.float32))
    assert (
        segments.obs.shape == (2, 5, 3) and segments.action.shape == (2, 5, 2) and np.isnan(segments.env_reward).all()
    )


def test_the_same_pair_twice_is_a_repeat(tmp_path: Path) -> None:
    store, pairs = FeedbackStore(tmp_path / "labels.sqlite"), make_pairs(2)
    import_pairs(store, {name: np.concatenate([a, a]) for name, a in pairs.items()})
    assert [asked.repeat for asked in store.asked()] == [0, 0, 1, 1] and len(read(store)) == 4


def test_the_same_pairs_are_added_once(tmp_path: Path) -> None:
    store, pairs = FeedbackStore(tmp_path / "labels.sqlite"), make_pairs()
    keys = import_pairs(store, pairs)
    assert import_pairs(store, pairs) == keys and len(store.votes()) == 4
    import_pairs(store, pairs, "another")
    import_pairs(store, pairs | {"label": np.array([1, 1, 0.5, np.nan])})  # one changed
    assert [vote.query for vote in store.votes()[4:]] == [*keys, keys[1]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": np.array(["left", "right", "tie", "left"])}, "label is no array of real numbers"),
        ({"label": np.array(["1", "0", "1", "0"])}, "label is no array of real numbers"),
        ({"label": np.array([1, 0, 1, 0]) * 1j}, "label is no array of real numbers"),
        ({"obs_1": np.full((4, 7, 3), 1e39)}, "infinity as float32"),
        ({"action_1": np.full((4, 6, 2), -1e300)}, "infinity as float32"),
        ({"reward_1": np.full((4, 6), 1e39)}, "reward_1 holds infinity"),
        ({"obs_2": np.ones((4, 7, 3), complex)}, "obs_2 is no array of real numbers"),
        ({"reward_2": np.ones((4, 6), complex)}, "reward_2 is no array of real numbers"),
        ({"label": np.array([1, 0, 0.7, 0])}, "label is 0.7"),
        ({"label": np.ones(3)}, "do not match"),
        ({"obs_2": np.zeros((4, 6, 4))}, "do not match"),
        ({"obs_1": np.zeros((4, 9, 3))}, "one more"),
        ({"action_1": np.zeros((4, 6), int)}, "one-hot"),
        ({"obs_1": np.full((4, 7, 3), np.nan)}, "NaN"),
        ({"obs_1": np.full((4, 7, 3), None)}, "NaN"),
        ({"action_2": np.full((4, 6, 2), "left")}, "numbers"),
        ({"reward_1": np.zeros((4, 5))}, "rewards"),
    ],
)
def test_impossible_pairs_are_refused(tmp_path: Path, change: dict[str, np.ndarray], words: str) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    with pytest.raises(UserError, match=words), warnings.catch_warnings():
        warnings.simplefilter("error")
        import_pairs(store, make_pairs() | change)
    assert store.asked() == []


def test_files_that_hold_no_pairs(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "labels.sqlite")
    np.savez(tmp_path / "pairs.npz", obs_1=np.zeros(3))
    with pytest.raises(UserError, match="lack obs_2"):
        import_pairs(store, tmp_path / "pairs.npz")
    (tmp_path / "pairs.npz").write_bytes(b"no zip at all")
    with pytest.raises(CorruptFileError, match=r"pairs\.npz"):
        import_pairs(store, tmp_path / "pairs.npz")
    with pytest.raises(UserError, match=r"gone\.npz"):
        import_pairs(store, tmp_path / "gone.npz")


@settings(max_examples=8)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), min_size=1, max_size=5), st.booleans())
def test_every_import_can_be_exported_and_imported(tmp_path_factory: Any, label: list[float], successors: bool) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    store, again = FeedbackStore(folder / "a.sqlite"), FeedbackStore(folder / "b.sqlite")
    import_pairs(store, make_pairs(len(label), 2, successors) | {"label": np.array(label)})
    export_labels(store, folder / "export")
    import_labels(again, folder / "export")
    assert again.votes() == store.votes() and again.asked() == store.asked()
