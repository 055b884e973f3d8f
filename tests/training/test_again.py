from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_control import train
from rlhf_control.cli import main
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.data import Feedback, Query, Rollout
from rlhf_control.errors import UserError
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.runs.run import FAILED, Run
from rlhf_control.simulation.double_buffer import DoubleBufferedEnvs
from rlhf_control.training.again import make_way, nothing_to_lose


def broken(*_: object) -> Feedback:
    raise UserError("the oracle is out of order")


def tie(*_: object) -> Feedback:
    return Feedback((0, 0), "me")


def test_a_run_that_failed_without_votes_blocks_no_name(
    tiny_config: FinetuneConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is put aside, whole, and so is the next one."""
    path = Path(tiny_config.out)
    for aside in ("run-failed", "run-failed-2"):
        with pytest.raises(UserError, match="out of order"):
            train.finetune(tiny_config, oracle=broken)
        assert (path / FAILED).exists()
        assert (path / "labels.sqlite").exists() and not path.with_name(aside).exists()
        questions = len(FeedbackStore(path / "labels.sqlite").asked())
        make_way(path)
        assert not path.exists() and str(path.with_name(aside)) in capsys.readouterr().err
        assert len(FeedbackStore(path.with_name(aside) / "labels.sqlite").asked()) == questions > 0
    train.finetune(tiny_config)
    with pytest.raises(UserError, match="exists"):
        train.finetune(tiny_config)


def test_what_people_answered_is_never_put_aside(tiny_config: FinetuneConfig) -> None:
    answered: list[Query] = []

    def tiring(query: Query, *_: object) -> Feedback:
        answered.append(query)
        return broken() if len(answered) > 3 else Feedback((0, 1), "me")

    with pytest.raises(UserError, match="out of order"):
        train.finetune(tiny_config, oracle=tiring)
    run = Run.open(tiny_config.out)
    assert nothing_to_lose(run)  # an oracle can be asked again
    saved = run.read_json("config.json")
    run.write_json("config.json", {**saved, "config": {**saved["config"], "oracle": "human"}})
    assert not nothing_to_lose(run)
    with pytest.raises(UserError, match="exists"):
        train.finetune(tiny_config)
    assert len(FeedbackStore(run.path / "labels.sqlite").votes()) == 3


def test_an_interrupted_run_is_not_put_aside(tmp_path: Path) -> None:
    config = PretrainConfig("Pendulum-v1", out=str(tmp_path / "run"))
    run = Run.create(config.out, "pretrain", config)
    assert nothing_to_lose(run)
    run.log({"iteration": 0, "env_steps": 1})
    assert not nothing_to_lose(run)
    run.unlock()


def test_a_run_at_work_is_not_put_aside(tiny_config: FinetuneConfig) -> None:
    run = Run.create(tiny_config.out, "finetune", tiny_config)
    with pytest.raises(UserError, match="another process"):
        make_way(run.path)
    run.unlock()


def test_a_run_that_died_of_an_early_end_goes_on(
    tiny_config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command that it names; what it had learned and asked before is as it was."""
    collect = DoubleBufferedEnvs.collect

    def succeeding(self: DoubleBufferedEnvs, *args: object) -> Rollout:
        rollout = collect(self, *args)  # type: ignore[arg-type]
        if Run.open(tiny_config.out).load_checkpoint()[0] >= 3:
            terminated = rollout.terminated.copy()
            terminated[7, 0] = True
            columns = {**vars(rollout), "terminated": terminated, "next_obs": rollout.next_obs}
            return Rollout.of(**{name: column for name, column in columns.items() if name != "successors"})
        return rollout

    monkeypatch.setattr(DoubleBufferedEnvs, "collect", succeeding)
    with pytest.raises(UserError, match=r"HalfCheetah-v5 ended early .* `rlhf-control resume") as died:
        train.finetune(tiny_config)
    command = str(died.value).split("`")[1].split()
    rows = Run.open(tiny_config.out).metrics()
    assert len(rows) == 3 and main(command[1:]) == 0
    assert "environment return" in capsys.readouterr().out
    run = Run.open(tiny_config.out)
    assert run.finished() and run.metrics()[:3] == rows
    assert "termination changed from refuse to truncate before iteration 3" in (run.path / "report.md").read_text()


def test_resuming_with_other_options(tiny_config: FinetuneConfig) -> None:
    """What was changed, and when, is noted; the run goes on to its end, and cannot be replayed."""
    with pytest.raises(UserError, match="out of order"):
        train.finetune(tiny_config, oracle=broken)
    with pytest.raises(UserError, match=r"labels cannot change .* termination, learn_end_costs, guard"):
        train.resume(tiny_config.out, oracle=tie, changes={"labels": 5})
    changes = {"termination": "truncate", "guard.alarm": "warn", "checkpoint_seconds": 1.0}
    run = train.resume(tiny_config.out, oracle=tie, changes=changes)
    _, config = run.config()
    assert config.termination == "truncate" and config.guard == replace(tiny_config.guard, alarm="warn")
    notes = [(note["iteration"], note["option"], note["to"]) for note in run.read_json("manifest.json")["changed"]]
    assert sorted(notes) == [
        (0, "checkpoint_seconds", 1.0), (0, "guard.alarm", "warn"), (0, "termination", "truncate"),
    ]  # fmt: skip
    assert run.finished() and not (run.path / FAILED).exists()
    with pytest.raises(UserError, match="another termination on its way"):
        train.finetune(replace(config, replay=str(run.path), out=tiny_config.out + "-again"))
