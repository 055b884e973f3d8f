import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_control import train
from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.runs.checkpoints import checkpoint_path
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.resuming import MAY_CHANGE, MAY_DIFFER, amend
from rlhf_control.runs.run import Run
from tests.runs.counter import Counter

PPO = PPOConfig(num_envs=10, num_steps=10)
CONFIG = FinetuneConfig("no-policy", total_steps=1000, checkpoint_seconds=0, ppo=PPO, env={"gravity": 1.0})


def go(run: Run, config: Any = CONFIG, until: int = 0) -> None:
    """A run that counts, to its end or into iteration `until`."""
    with Loop(run, {"counter": Counter()}, config) as loop:
        for iteration, log in loop:
            log["n"] = iteration
            if iteration == until - 1:
                break


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Stopped after four of ten iterations; the fourth is not in a checkpoint."""
    run = Run.create(tmp_path / "run", "finetune", CONFIG)
    (run.path / "pretrained.npz").write_bytes(b"what it was started from")
    go(run, until=5)
    assert run.load_checkpoint()[0] == 4
    return Run.open(run.path)


def rewrite(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    saved = json.loads((run.path / "config.json").read_text())
    change(saved)
    (run.path / "config.json").write_text(json.dumps(saved))


def test_a_run_that_was_left_alone_goes_on(run: Run) -> None:
    go(run)
    assert [row["iteration"] for row in run.metrics()] == list(range(10)) and run.finished()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seed", 1, "seed is 1, not 0"),
        ("oracle", "forward", "oracle is 'forward', not 'backward'"),
        ("labels", 50, "labels is 50, not 100"),
        ("total_steps", 900, "total_steps is 900"),
        ("env", {}, "env is {}"),
    ],
)
def test_an_edited_option_is_named(run: Run, name: str, value: Any, words: str) -> None:
    rewrite(run, lambda saved: saved["config"].update({name: value}))
    with pytest.raises(UserError, match=f"config.json is not what .*{words}.*put it back"):
        train.resume(run.path)
    with pytest.raises(UserError, match=words):
        go(run, run.config()[1])
    rewrite(run, lambda saved: saved["config"].update({name: asdict(CONFIG)[name]}))
    go(run, run.config()[1])


def test_an_edited_option_of_a_part_is_named(run: Run) -> None:
    rewrite(run, lambda saved: saved["config"]["ppo"].update(gamma=0.5))
    with pytest.raises(UserError, match=r"ppo\.gamma is 0\.5, not 0\.99"):
        train.resume(run.path)


def test_what_changes_no_number_may_differ(run: Run) -> None:
    rewrite(
        run, lambda saved: saved["config"].update(checkpoint_seconds=1e9, video=False, window=False, out="elsewhere")
    )
    go(run, run.config()[1])
    assert run.finished()


def fields(config: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in config.items():
        yield (name,)
        if isinstance(value, dict) and name != "env":
            yield from ((name, key) for key in value)


WRONG = (None, True, -1, 1.5, "x", ["x"], {"x": {}}, float("nan"), 10**400)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("config", [CONFIG, PretrainConfig("NoSuchEnv-v0", total_steps=1000, ppo=PPO)])
def test_no_edit_of_the_config_is_a_traceback(tmp_path: Path, config: Any, sealed: bool) -> None:
    """Every field: each wrong value, and missing. What is no fault of the config is one of what it names: there is no
    such policy, no such environment."""
    run = Run.create(tmp_path / "run", "finetune" if isinstance(config, FinetuneConfig) else "pretrain", config)
    if sealed:
        go(run, config, until=5)
    run.unlock()
    saved = json.loads((run.path / "config.json").read_text())
    for place in (("verb",), ("config",), ("extra",), *(("config", *path) for path in fields(saved["config"]))):
        for value in (*WRONG[: 4 if sealed else None], ...):
            edited = json.loads(json.dumps(saved))
            part = edited
            for key in place[:-1]:
                part = part[key]
            if value is ...:
                part.pop(place[-1], None)
            else:
                part[place[-1]] = value
            (run.path / "config.json").write_text(json.dumps(edited))
            with pytest.raises(UserError) as refusal:
                train.resume(run.path)
            text = str(refusal.value)
            assert "\n" not in text and len(text) < 1000
            if sealed and "config.json" not in text:  # the same as before, or one of those that may differ
                assert run.config()[1] == config or place[1] in MAY_DIFFER


def test_a_renamed_checkpoint_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint_path(run.path, 4).rename(checkpoint_path(run.path, 7))
    assert run.load_checkpoint()[0] == 3
    assert "is the checkpoint of iteration 4, under another name" in capsys.readouterr().err


def rows(run: Run) -> list[str]:
    return run.metrics_path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: [r[0], *r[2:]], "iteration 2 where 1 is due"),
        (lambda r: [r[0], r[1], *r[1:]], "iteration 1 where 2 is due"),
        (lambda r: r[2:], "it lacks iteration 0"),
        (lambda r: r[:2], "it lacks iteration 2"),
        (lambda r: [r[0], r[1].replace('"n": 1', '"n": 7'), *r[2:]], "a row was altered"),
        (lambda r: [r[0], "rubbish\n", *r[2:]], "line 2 is no row"),
        (lambda r: [], "it lacks iteration 0"),
    ],
)
def test_rows_that_are_missing_doubled_or_altered_are_noticed(
    run: Run, change: Callable[[list[str]], list[str]], words: str
) -> None:
    run.metrics_path.write_text("".join(change(rows(run))))
    with pytest.raises(CorruptFileError, match=words):
        train.resume(run.path)


def test_rows_that_are_gone_are_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.metrics_path.unlink()
    go(run)
    assert "the rows of the iterations before 4 are lost" in capsys.readouterr().err
    assert [row["iteration"] for row in run.metrics()] == list(range(4, 10))
    go(Run.open(run.path))


def test_a_replaced_input_is_noticed(run: Run) -> None:
    (run.path / "pretrained.npz").write_bytes(b"another policy")
    with pytest.raises(CorruptFileError, match=r"pretrained\.npz is missing or not what"):
        train.resume(run.path)
    (run.path / "pretrained.npz").unlink()
    with pytest.raises(CorruptFileError, match=r"pretrained\.npz is missing or not what"):
        train.resume(run.path)


def test_an_older_checkpoint_is_gone_on_from(run: Run) -> None:
    state = run.load_checkpoint()[1]
    run.save_checkpoint(4, {"counter": state["counter"]})
    (run.path / "pretrained.npz").unlink()
    go(run)
    assert run.finished() and "left" in run.load_checkpoint()[1]


def test_an_option_that_may_change_is_noted(run: Run) -> None:
    amended = amend(run, run.config()[1], {"termination": "truncate"})
    assert amended == replace(CONFIG, termination="truncate") == Run.open(run.path).config()[1]
    (note,) = run.read_json("manifest.json")["changed"]
    assert {k: note[k] for k in ("iteration", "option", "from", "to")} == {
        "iteration": 4, "option": "termination", "from": "refuse", "to": "truncate",
    }  # fmt: skip
    with pytest.raises(UserError, match="termination is 'truncate', not 'refuse'"):  # not gone on with: not sealed yet
        train.resume(run.path)
    again = Run.open(run.path)
    go(again, amend(again, again.config()[1], {"termination": "truncate"}))
    assert len(run.read_json("manifest.json")["changed"]) == 1
    go(Run.open(run.path), amended)


def test_other_options_cannot_change(run: Run) -> None:
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(UserError, match="seed cannot change"):
        amend(run, CONFIG, {"seed": 3})
    rewrite(run, lambda saved: saved["config"].update(seed=3))
    with pytest.raises(UserError, match="seed is 3, not 0"):
        amend(run, run.config()[1], {"termination": "truncate"})
    assert "changed" not in run.read_json("manifest.json") and before != (run.path / "config.json").read_bytes()
    assert set(MAY_DIFFER) < set(MAY_CHANGE)
