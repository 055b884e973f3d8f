"""rsl_rl's checkpoints: what `torch.save` writes for the ActorCritic of its versions 2, 3 and later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlhf_control.errors import UserError
from rlhf_control.interop.policies import find_policy
from tests.interop.sb3_models import CreatesAFile
from tests.interop.shown_env import samples


class Normal(nn.Module):
    """As EmpiricalNormalization."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        for name, value in {"_mean": [[mean, 2.0, 3.0]], "_var": [[4.0, 9.0, 1.0]], "_std": [[2.0, 3.0, 1.0]]}.items():
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("count", torch.tensor(640))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self._mean) / (self._std + 1e-2)


class ActorCritic(nn.Module):
    """As in version 3, with a critic whose observations are normalised by other statistics."""

    def __init__(self, critic_inputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.actor = nn.Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 5), nn.ELU(), nn.Linear(5, 2))
        self.critic = nn.Sequential(nn.Linear(critic_inputs, 6), nn.ELU(), nn.Linear(6, 1))
        self.std = nn.Parameter(torch.tensor([0.5, 2.0]))
        self.actor_obs_normalizer, self.critic_obs_normalizer = Normal(1.0), Normal(-4.0)


def checkpoint(model: ActorCritic, version: int) -> dict[str, Any]:
    state = model.state_dict()
    rest = {"optimizer_state_dict": torch.optim.Adam(model.parameters()).state_dict(), "iter": 7, "infos": None}
    if version == 3:
        return {"model_state_dict": state, **rest}
    bare = {name: value for name, value in state.items() if "normalizer" not in name}
    norms = [getattr(model, f"{name}_obs_normalizer").state_dict() for name in ("actor", "critic")]
    if version == 2:
        return {"model_state_dict": bare, "obs_norm_state_dict": norms[0],
                "privileged_obs_norm_state_dict": norms[1], **rest}  # fmt: skip
    nets = [{f"mlp.{n.partition('.')[2]}": v for n, v in bare.items() if n.startswith(own)} for own in ("actor", "cri")]
    nets[0]["distribution.log_std_param"] = state["std"].log()
    nets = [net | {f"obs_normalizer.{n}": v for n, v in norm.items()} for net, norm in zip(nets, norms, strict=True)]
    return {"actor_state_dict": nets[0], "critic_state_dict": nets[1], **rest}


def read(path: Path, **options: Any) -> Any:
    return find_policy(path, "Shown-v0", env={"kind": "box"}, **options)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_it_acts_as_theirs(tmp_path: Path, version: int, capsys: pytest.CaptureFixture[str]) -> None:
    model, (_, obs) = ActorCritic(), samples("box")
    torch.save(checkpoint(model, version), tmp_path / "model_7.pt")
    policy, raw = read(tmp_path / "model_7.pt"), torch.from_numpy(obs)
    with torch.no_grad():
        ours, features = policy.distribution(policy.features(obs)), policy.features(obs)
        mean = model.actor(model.actor_obs_normalizer(raw))
        torch.testing.assert_close(ours.mean, mean, rtol=1e-4, atol=1e-4)
        theirs = torch.distributions.Normal(mean, model.std)
        action = theirs.sample()
        torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action).sum(-1), rtol=1e-4, atol=1e-4)
        values = model.critic(model.critic_obs_normalizer(raw))[:, 0]
        torch.testing.assert_close(policy.value(features), values, rtol=1e-4, atol=1e-4)
    assert "PPO of rsl_rl, elu (its default), observations normalised by its own" in capsys.readouterr().err


def test_a_privileged_critic_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checkpoint(ActorCritic(critic_inputs=9), 3)["model_state_dict"]
    bare = {name: value for name, value in found.items() if "critic_obs_normalizer" not in name}
    torch.save({"model_state_dict": bare}, tmp_path / "model_7.pt")
    assert np.isfinite(read(tmp_path / "model_7.pt").act(samples("box")[1], None)).all()
    assert "its critic sees other observations" in capsys.readouterr().err


def test_others_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    found, path = checkpoint(ActorCritic(), 3), tmp_path / "model_7.pt"
    state = found["model_state_dict"]
    for change, words in (
        ({"memory_a.rnn.weight_ih_l0": torch.ones(2, 2)}, "has memory_a.rnn.weight_ih_l0; of rsl_rl only"),
        ({"std": torch.ones(3)}, "is for 3 inputs and 2 outputs|3 actions"),
        ({"actor.0.weight": torch.full((8, 3), torch.nan)}, "not finite"),
        ({"actor.0.weight": torch.ones(8, 4)}, "4 inputs"),
    ):
        torch.save({**found, "model_state_dict": {**state, **change}}, path)
        with pytest.raises(UserError, match=words):
            read(path)
    for change, words in (
        ({"model_state_dict": 3}, "model_state_dict is no state dict"),
        ({"model_state_dict": {3: torch.ones(1)}}, "is no state dict"),
        (
            {"model_state_dict": {**state, "critic_obs_normalizer._mean": torch.ones(1, 7)}},
            "normaliser of another size",
        ),
    ):
        torch.save({**found, **change}, path)
        with pytest.raises(UserError, match=words):
            read(path)
    torch.save({**found, "infos": CreatesAFile(tmp_path / "ran")}, path)
    with pytest.raises(UserError, match=r"it asks for [\w.]+, which no weights need"):
        read(path)
    assert not (tmp_path / "ran").exists()
