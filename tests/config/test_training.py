import dataclasses
import json
from typing import Any, get_type_hints

import numpy as np
import pytest

from rlhf_control.config import (
    FinetuneConfig,
    PPOConfig,
    PretrainConfig,
    QueryConfig,
    RewardConfig,
    commands,
)
from rlhf_control.config import training as config
from rlhf_control.config.checks import field_texts, fits, from_dict
from rlhf_control.errors import UserError


def test_configs_survive_json() -> None:
    config = FinetuneConfig("p.npz", env={"a": False}, ppo=PPOConfig(lr=1e-4), reward=RewardConfig(hidden=(8,)))
    assert from_dict(FinetuneConfig, json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(UserError, match="another version"):
        from_dict(PretrainConfig, {"env_id": "x", "nonsense": 1})


def test_configs_of_older_runs_are_read() -> None:
    values = dataclasses.asdict(FinetuneConfig("halfcheetah"))
    values["query"]["tries"] = values["query"].pop("attempts") + 1
    assert from_dict(FinetuneConfig, values).query.attempts == 5


def test_labels_by_round_add_up() -> None:
    assert FinetuneConfig("p").labels_by_round() == [20] + [10] * 8
    for labels in range(20, 60):
        counts = FinetuneConfig("p", labels=labels, rounds=7).labels_by_round()
        assert sum(counts) == labels and len(counts) == 7 and max(counts[1:]) - min(counts[1:]) <= 1
    assert sum(FinetuneConfig("p", labels=3).labels_by_round()) == 3
    assert FinetuneConfig("p", labels=20, rounds=1).labels_by_round() == [20]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: FinetuneConfig("p", rounds=1), "first_labels"),
        (lambda: FinetuneConfig("p", seed=-1), "seed"),
        (lambda: FinetuneConfig("p", learn_from="vote"), "did you mean votes"),  # type: ignore[arg-type]
        (lambda: PretrainConfig("x", seed=-1), "seed"),
        (lambda: FinetuneConfig("p", oracle_temperature=-1), "oracle_temperature"),
    ],
)
def test_impossible_values_are_refused_by_name(make: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        make()  # type: ignore[operator]


def test_people_are_asked_otherwise_than_oracles() -> None:
    people, oracle = FinetuneConfig("p", oracle="human"), FinetuneConfig("p")
    replayed = dataclasses.replace(people, replay="r")
    assert people.asks_people() and not oracle.asks_people() and not replayed.asks_people()
    assert (people.repeat_share(), oracle.repeat_share()) == (0.05, 0.0)
    assert dataclasses.replace(oracle, query=QueryConfig(repeat_share=0.1)).repeat_share() == 0.1
    assert people.judge() == "" and dataclasses.replace(people, score="prowl").judge() == "prowl"
    assert oracle.judge() == "backward" == dataclasses.replace(oracle, score="prowl").judge()


CONFIGS = [kind for module in (config, commands) for name, kind in vars(module).items() if name.endswith("Config")]
REQUIRED = {
    "policy": "p",
    "env_id": "CartPole-v1",
    "path": "p",
    "run": "r",
    "runs": ("r",),
    "paths": ("p",),
    "what": "ppo",
    "name": "CartPole-v1",
}


def required(kind: Any) -> dict[str, Any]:
    missing = dataclasses.MISSING
    return {f.name: REQUIRED[f.name] for f in dataclasses.fields(kind) if f.default is f.default_factory is missing}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_field_of_every_config_is_explained_and_checked(kind: Any) -> None:
    hints, texts = get_type_hints(kind), field_texts(kind)
    for f in dataclasses.fields(kind):
        assert texts.get(f.name) or dataclasses.is_dataclass(hints[f.name]), f.name
        assert f"    {f.name} (" in kind.__doc__
        for wrong in ("20", 1e5, None, np.int64(3), True, [1], np.ones(2), object()):
            if not fits(wrong, hints[f.name]):
                with pytest.raises(UserError, match=rf"\b{f.name}\b") as said:
                    kind(**{**required(kind), f.name: wrong})
                assert "\n" not in str(said.value)
