import tomllib

import pytest

from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.config.search_space import SPACES, Span, check_space, chosen, toml_of
from rlhf_control.errors import UserError


def test_the_configs_take_all_that_is_searched() -> None:
    check_space(SPACES["pretrain"], PretrainConfig("X"))
    check_space(SPACES["finetune"], FinetuneConfig("halfcheetah"))


def test_any_batch_that_is_searched_holds_its_minibatches() -> None:
    space = SPACES["pretrain"]
    envs, steps, sizes = (space[f"ppo.{name}"] for name in ("num_envs", "num_steps", "minibatch_size"))
    assert isinstance(envs, tuple) and isinstance(steps, tuple) and isinstance(sizes, tuple)
    assert min(envs) * min(steps) >= max(sizes)


def test_a_found_preset_is_read_back() -> None:
    options = {"env_id": "X", "ppo.lr": 1e-5, "net.hidden": [8, 8], "ppo.recompute_advantages": True, "env": {"a": "b"}}
    file = tomllib.loads(toml_of("pretrain", options, "one\ntwo"))
    assert file["command"] == "pretrain" and file["options"]["net"] == {"hidden": [8, 8]}
    assert file["options"]["ppo"] == {"lr": 1e-5, "recompute_advantages": True} and file["options"]["env"] == {"a": "b"}
    config = chosen(PretrainConfig("X"), {"ppo.lr": 1e-5, "net.hidden": [8, 8]}, seed=4)
    assert (config.ppo.lr, config.net.hidden, config.seed) == (1e-5, (8, 8), 4)


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(UserError, match="is none"):
        Span(1, 1)
