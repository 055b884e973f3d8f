import dataclasses

import pytest

from rlhf_control.arguments import EVERYDAY, in_a_line, parse
from rlhf_control.cli import COMMANDS, main
from rlhf_control.config import FinetuneConfig


@pytest.mark.parametrize("command", EVERYDAY)
def test_the_everyday_options_come_first(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for level in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "something", level])
        assert stopped.value.code == 0
        told.append(capsys.readouterr().out)
    short, long = told
    assert len(short.splitlines()) < 110 and "--ppo.gae-lambda" in long and "--ppo.gae-lambda" not in short
    for f in dataclasses.fields(COMMANDS[command][0]):
        option = f"--{f.name.replace('_', '-')}"
        positional = f.default is f.default_factory is dataclasses.MISSING
        assert positional or (option in short and (option in long or f"{option}." in long))
    assert "--ppo.*" in short and "--help-all" in short and "(default: 0)" in short


@pytest.mark.parametrize("words", [["--query.tries", "6"], ["--query.tries=6"], ["--query.attempts", "6"]])
def test_an_option_is_known_by_the_name_it_had_before(words: list[str]) -> None:
    assert parse(FinetuneConfig, "finetune", ["halfcheetah", *words]).query.attempts == 6


@pytest.mark.parametrize(("corners", "side", "rule"), [("╭╮╰╯", "│", "─"), ("    ", " ", "-")])  # and in ASCII
def test_a_box_of_many_lines_becomes_one(corners: str, side: str, rule: str) -> None:
    lines = ["Unrecognized options: --seeed, 1", rule * 9, "Perhaps you meant:", "    --seed INT",
             "        --labels 0, say.", "    --seeds STR", rule * 9, "For full helptext, run it"]  # fmt: skip
    inside = [f"{side} {line} {side}" for line in lines]
    box = [f"{corners[0]} Unrecognized options {corners[1]}", *inside, f"{corners[2]}{corners[3]}"]
    assert in_a_line("\n".join(box), "tune", []) == "Unrecognized options: --seeed, 1; did you mean --seed or --seeds?"
