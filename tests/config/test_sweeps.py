from rlhf_control.config.sweeps import SweepConfig


def test_runs_lie_in_a_folder_named_by_the_file() -> None:
    assert SweepConfig("x/study.toml").folder() == "runs/study"
    assert SweepConfig("study.toml", out="here").folder() == "here"
