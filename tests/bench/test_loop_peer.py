import subprocess
import sys
from pathlib import Path

from rlhf_control.bench import loop_peer
from rlhf_control.bench.loop import LABELS
from rlhf_control.config import FinetuneConfig, PPOConfig


def test_imitation_gets_as_many_answers_and_rounds() -> None:
    config, ppo = FinetuneConfig("p"), PPOConfig()
    assert (config.labels, config.rounds, config.first_labels) == (LABELS, loop_peer.ROUNDS, loop_peer.FIRST * LABELS)
    source = Path(loop_peer.__file__).read_text()
    assert f"batch_size={ppo.minibatch_size}, n_epochs={ppo.epochs}" in source


def test_it_needs_nothing_of_this_project() -> None:
    """It is run by an interpreter that has imitation, and not us."""
    source = f"import runpy, sys; runpy.run_path({loop_peer.__file__!r}); print('rlhf_control' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "False"
