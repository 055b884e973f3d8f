from rlhf_control.config.sweeps import SweepConfig, TuneConfig


def test_runs_lie_in_a_folder_named_by_the_file() -> None:
    assert SweepConfig("x/study.toml").folder() == "runs/study"
    assert SweepConfig("study.toml", out="here").folder() == "here"


def test_a_search_lies_in_a_folder_named_by_what_is_searched() -> None:
    assert TuneConfig("Hopper-v5").folder() == "runs/tune-Hopper-v5"
    assert TuneConfig("x/y.toml").folder() == "runs/tune-y"
