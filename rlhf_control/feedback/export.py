"""The store's content as files that need no program of ours to read, and other people's comparisons as arrays.

An export is a folder of four files:

segments.npz    every clip once: the arrays "DIGEST/obs" (L, O), "DIGEST/action" (L, A), "DIGEST/next_obs" (L, O),
                "DIGEST/env_reward" (L,) and, where there are any, "DIGEST/state" (L, D) and "DIGEST/frames" (L,), which
                are pictures (PNG, or empty); no pickles
queries.jsonl   a query a line, in the order of asking: key ("DIGEST OF ITS CLIPS/kind/repeat"), kind, repeat, round,
                index, strategy, annotators (who have to answer), policy, reward (versions or null), time (Unix), clips
                (digests, in order)
answers.jsonl   a vote a line, the whole history: query (its key), annotator, undo (true: takes the annotator's answer
                back; the next four are null), ranks (a number a clip, 0 best, equal numbers tie) or value (rating,
                reward, success 1 or 0) or neither ("cannot tell"), shown (the clips' places in the query, in the order
                shown), seconds (to answer, or null), time (Unix). The last line of an annotator on a query is the
                answer.
sums.json       {"queries.jsonl": {"lines": how many, "sha256": of the file}, "answers.jsonl": the same}, by which an
                import notices that a line was lost or a digit changed. Older exports lack this file and are read
                without; so is one that was altered on purpose, once its sums.json is deleted

Where clips are text, a fifth file is for reading: replies.jsonl, a clip a line: digest, prompt, reply.

A DIGEST is `Segments.digest`, a SHA-256. Importing an export gives the same queries, clips and history. What of it the
store holds already is left as it is, so importing it twice is importing it once.
"""

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.behaviours.dialogue import dialogue_of, is_text
from rlhf_control.data import Array, Feedback, Query, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.feedback.schema import Asked, Version, Vote, check_clips, check_query, check_vote, new_vote, query_key
from rlhf_control.feedback.store import FeedbackStore, in_force
from rlhf_control.runs.files import write_atomic
from rlhf_control.runs.npz import read_npz

CLIPS, QUERIES, ANSWERS, SUMS = "segments.npz", "queries.jsonl", "answers.jsonl", "sums.json"
REPLIES = "replies.jsonl"
QUERY_FIELDS: dict[str, Any] = {
    "key": str, "kind": str, "repeat": int, "round": int, "index": int, "strategy": str, "annotators": int,
    "policy": Version, "reward": Version, "time": float | int, "clips": list,
}  # fmt: skip
ANSWER_FIELDS: dict[str, Any] = {
    "query": str, "annotator": str, "undo": bool, "ranks": list | None, "value": float | int | None,
    "shown": list | None, "seconds": float | int | None, "time": float | int,
}  # fmt: skip
LABELS = {1.0: (0, 1), 0.5: (0, 0), 0.0: (1, 0)}  # of a pair -> ranks


def export_labels(store: FeedbackStore, folder: str | Path) -> None:
    """Writes the store's content into a folder, which is made when it is missing."""
    asked, lines = tables(store)
    clips = store.segments({digest: None for query in asked for digest in query.clips})
    arrays = {f"{digest}/{name}": a for digest, clip in clips.items() for name, a in clip.arrays().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(Path(folder) / CLIPS, buffer.getvalue())
    texts = [(digest, *dialogue_of(clip)) for digest, clip in clips.items() if is_text(clip)]
    if texts:
        lines_read = _jsonl({"digest": digest, "prompt": prompt, "reply": reply} for digest, prompt, reply in texts)
        write_atomic(Path(folder) / REPLIES, lines_read)
    for name, content in lines.items():
        write_atomic(Path(folder) / name, content)
    sums = json.dumps({name: _sum(content) for name, content in lines.items()}, indent=1)
    write_atomic(Path(folder) / SUMS, sums.encode() + b"\n")


def tables(store: FeedbackStore) -> tuple[list[Asked], dict[str, bytes]]:
    """Returns the store's queries, and the content of queries.jsonl and answers.jsonl."""
    asked = store.asked()
    queries, answers = _jsonl(asdict(query) for query in asked), _jsonl(_line(vote) for vote in store.votes())
    return asked, {QUERIES: queries, ANSWERS: answers}


def import_labels(store: FeedbackStore, folder: str | Path) -> None:
    """Adds an export to a store: all of it or, if a line is damaged or impossible, nothing; the error names file and
    line."""
    folder = Path(folder)
    clips = _read_clips(folder / CLIPS)
    asked: dict[str, Asked] = {}
    for where, line in _read_lines(folder / QUERIES, QUERY_FIELDS):
        with _naming(where):
            query = Asked(**line | {"clips": tuple(line["clips"])})
            check_query(query)
            if not clips.keys() >= set(query.clips):
                raise UserError(f"a clip of this query is not in {CLIPS}")
            if query_key(query.query(clips)) != query.key:
                raise UserError("the key does not belong to these clips, kind and repeat")
            asked[query.key] = query
    votes: list[Vote] = []
    for where, line in _read_lines(folder / ANSWERS, ANSWER_FIELDS):
        with _naming(where):
            if line["query"] not in asked:
                raise UserError(f"its query is not in {QUERIES}; use a whole copy of both")
            vote = _vote(line)
            check_vote(vote, asked[vote.query].kind, len(asked[vote.query].clips))
            if vote.feedback is None and (vote.query, vote.annotator) not in in_force(votes):
                raise UserError("there is no answer to undo")
            votes.append(vote)
    _check_sums(folder)  # after the lines, whose own errors say more
    store.add(asked.values(), clips, _unknown(votes, store.votes()))


def import_pairs(
    store: FeedbackStore, source: str | Path | Mapping[str, Array], annotator: str = "imported"
) -> list[str]:
    """Adds comparisons that were made elsewhere, from arrays or an .npz that holds them; returns the queries' keys. An
    answer that stands already (the same arrays came before) is not added again.

    obs_1, obs_2        (Q, L, O) or, with the successor of the last step, (Q, L + 1, O); raw
    action_1, action_2  (Q, L, A) as carried out; discrete ones one-hot
    label               (Q,): 1 where clip 1 is preferred, 0 where clip 2 is, 1/2 for a tie, NaN for "cannot tell"
    reward_1, reward_2  (Q, L), optional: the environment's rewards, for oracles and plots only

    Without the last successor the last step is left out: a step needs its next_obs. These are CleanRLHF's conventions;
    `imitation` keeps fragment pairs and preferences, the same numbers, of which
    `{"obs_1": np.stack([a.obs for a, _ in fragments]), "action_1": np.stack([a.acts for a, _ in fragments]), ...,
    "label": preferences}` makes these arrays. Where 1 means that clip 2 is preferred, pass 1 - label.
    """
    arrays = _load_arrays(source) if isinstance(source, str | Path) else source
    missing = [name for name in ("obs_1", "obs_2", "action_1", "action_2", "label") if name not in arrays]
    if missing:
        raise UserError(f"the pairs lack {', '.join(missing)}; they have {', '.join(sorted(arrays)) or 'nothing'}")
    label = _numbers(arrays, "label", np.float64)
    clips = [_clips(arrays, side) for side in ("1", "2")]
    if label.ndim != 1 or {len(clip) for clip in clips} != {len(label)} or clips[0].obs.shape != clips[1].obs.shape:
        raise UserError(
            f"the pairs do not match: label is {label.shape}, clips 1 are {clips[0].obs.shape}, clips 2 "
            f"{clips[1].obs.shape} (pairs, steps, observation)"
        )
    unknown = label[~np.isnan(label) & ~np.isin(label, list(LABELS))]
    if len(unknown):
        raise UserError(f"a label is {unknown[0]}; it must be 1, 0, 1/2 or NaN (draw an answer from a probability)")
    queries, seen = [], Counter[str]()
    for i in range(len(label)):
        pair = Segments.stack([clips[0][i], clips[1][i]])
        digest = pair.digest()
        queries.append(Query(0, i, "imported", pair, repeat=seen[digest]))
        seen[digest] += 1
    keys = [asked.key for asked in store.ask(queries)]
    answers = {key: Feedback(LABELS.get(float(y)), annotator) for key, y in zip(keys, label, strict=True)}
    standing = {key: vote.feedback for (key, who), vote in in_force(store.votes()).items() if who == annotator}
    store.add(votes=[new_vote(key, answer) for key, answer in answers.items() if standing.get(key) != answer])
    return keys


def _unknown(votes: Sequence[Vote], history: Sequence[Vote]) -> list[Vote]:
    """Those that are not in the history yet, without undos of what has been taken back there in another way."""
    known, answered = set(history), set(in_force(history))
    new: list[Vote] = []
    for vote in votes:
        place = (vote.query, vote.annotator)
        if vote in known or (vote.feedback is None and place not in answered):
            continue
        (answered.discard if vote.feedback is None else answered.add)(place)
        new.append(vote)
    return new


def _clips(arrays: Mapping[str, Array], side: str) -> Segments:
    """The clips (Q, L, ...) of one side of the pairs."""
    obs, action = (_numbers(arrays, f"{name}_{side}") for name in ("obs", "action"))
    name = f"reward_{side}"
    reward = _numbers(arrays, name) if name in arrays else np.full(action.shape[:2], np.nan, np.float32)
    shapes = f"obs_{side} is {obs.shape}, action_{side} {action.shape}, reward_{side} {reward.shape}"
    if obs.ndim != 3 or action.ndim != 3 or len(obs) != len(action) or reward.shape != action.shape[:2]:
        raise UserError(f"{shapes}; give (pairs, steps, size), discrete actions one-hot, and rewards (pairs, steps)")
    if obs.shape[1] - action.shape[1] not in (0, 1) or obs.shape[1] < 2:
        raise UserError(f"{shapes}; there must be as many observations as actions, or one more, and two at least")
    if not (np.isfinite(obs).all() and np.isfinite(action).all()):
        raise UserError(f"obs_{side} or action_{side} holds NaN or infinity as float32; leave such pairs out")
    if np.isinf(reward).any():
        raise UserError(f"reward_{side} holds infinity as float32; leave such pairs out, or write NaN: not known")
    steps = obs.shape[1] - 1
    return Segments(obs[:, :-1], action[:, :steps], obs[:, 1:], reward[:, :steps])


def _numbers(arrays: Mapping[str, Array], name: str, dtype: type = np.float32) -> Array:
    """One of the arrays as real numbers; what is too large becomes infinity."""
    try:
        array = np.asarray(arrays[name])
        if array.dtype.kind not in "biufO":  # NumPy would read texts as numbers, and drop an imaginary part
            raise TypeError
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{name} is no array of real numbers; write it as floats") from None


def _vote(line: dict[str, Any]) -> Vote:
    feedback = Feedback(_tuple(line["ranks"]), line["annotator"], line["seconds"], line["value"])
    if line["undo"] and feedback != Feedback(None, line["annotator"]):
        raise UserError("an undo has no answer")
    if not line["undo"] and line["shown"] is None:
        raise UserError("an answer needs the order shown")
    return Vote(
        line["query"], line["annotator"], None if line["undo"] else feedback, _tuple(line["shown"]), line["time"]
    )


def _line(vote: Vote) -> dict[str, Any]:
    answer = vote.feedback or Feedback(None, vote.annotator)
    return {
        "query": vote.query, "annotator": vote.annotator, "undo": vote.feedback is None, "ranks": answer.ranks,
        "value": answer.value, "shown": vote.shown, "seconds": answer.seconds, "time": vote.time,
    }  # fmt: skip


def _tuple(numbers: list[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(numbers)


def _jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _sum(content: bytes) -> dict[str, Any]:
    return {"lines": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}


def _check_sums(folder: Path) -> None:
    """Raises CorruptFileError unless both tables are as they were exported; exports of before have no sums."""
    path = folder / SUMS
    if not path.exists():
        return
    try:
        sums = json.loads(path.read_bytes())
        written = {name: (sums[name]["lines"], sums[name]["sha256"]) for name in (QUERIES, ANSWERS)}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise CorruptFileError(f"{path} is damaged; use another copy of the export, or delete this file") from None
    for name, (lines, sha256) in written.items():
        found = _sum((folder / name).read_bytes())
        if (lines, sha256) != (found["lines"], found["sha256"]):
            cut = f"has {found['lines']} of {lines} lines" if found["lines"] != lines else "has another SHA-256"
            raise CorruptFileError(
                f"{folder / name} is not as it was exported ({cut}); use another copy, or delete {SUMS} if it was "
                "altered on purpose"
            )


def _read_lines(path: Path, types: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """("FILE, line N", fields) for each line, which has these fields of these types and no others."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; an export has {CLIPS}, {QUERIES}, {ANSWERS}") from None
    for number, text in enumerate(lines, 1):
        where = f"{path}, line {number}"
        with _naming(where):
            line = json.loads(text, parse_constant=float)
            if not isinstance(line, dict) or line.keys() != types.keys():
                raise UserError(f"not an object with the fields {', '.join(types)}")
            for name, value in line.items():
                _check_type(name, value, types[name])
        yield where, line


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Whole numbers as SQLite can hold them, others finite, lists of whole numbers or texts."""
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if isinstance(value, int):
        fits = fits and abs(value) < 2**63
    if isinstance(value, float):
        fits = fits and math.isfinite(value)
    if isinstance(value, list):
        fits = fits and all(type(entry) is (str if name == "clips" else int) for entry in value)
    if not fits:
        raise UserError(f"{name} cannot be {value!r}")


def _load_arrays(path: str | Path) -> dict[str, Array]:
    try:
        return read_npz(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _read_clips(path: Path) -> dict[str, Segments]:
    parts: dict[str, dict[str, Array]] = {}
    for entry, array in _load_arrays(path).items():
        digest, _, name = entry.partition("/")
        parts.setdefault(digest, {})[name] = array
    known = {field.name for field in fields(Segments)}
    needed = {field.name for field in fields(Segments) if field.default is MISSING}
    for digest, arrays in parts.items():
        with _naming(f"{path}, clip {digest[:12]}"):
            if not needed <= arrays.keys() <= known:
                raise UserError("damaged or misnamed; use another copy")
            check_clips(Segments(**arrays), "its arrays")
            if Segments(**arrays).digest() != digest:
                raise UserError("damaged or misnamed; use another copy")
    return {digest: Segments(**arrays) for digest, arrays in parts.items()}


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Says in which file and line an error was."""
    try:
        yield
    except (UserError, ValueError, KeyError, RecursionError) as error:
        raise CorruptFileError(f"{where}: {error}") from None
