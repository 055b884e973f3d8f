from pathlib import Path

import pytest

from rlhf_control.bench.peers import Peer
from rlhf_control.bench.ppo import bench_ppo
from rlhf_control.config.comparing import BenchConfig
from rlhf_control.errors import UserError


def test_a_peer_that_does_not_start_is_named(tmp_path: Path) -> None:
    config = BenchConfig("ppo", tasks=("Nowhere-v0",), out=str(tmp_path / "b.json"))
    with pytest.raises(UserError, match=r"ours could not be timed: .*Nowhere"):
        bench_ppo(config)
    with pytest.raises(UserError, match="rllib could not be timed: /nowhere/python"):
        Peer("rllib", "/nowhere/python", "CartPole-v1", 32)
    with pytest.raises(UserError, match="no tasks"):
        BenchConfig("ppo", tasks=())
