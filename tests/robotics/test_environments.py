"""Robots of Gymnasium-Robotics and MetaWorld on our MuJoCo: trained, killed and gone on with, fine-tuned, drawn."""

from pathlib import Path

import numpy as np
import pytest

from experiments.robotics import ROBOTS, Tried, clips, correction, difference, fine_tuned, policy_of, resumed, trained
from rlhf_control.analysis.evaluate import measure
from rlhf_control.analysis.videos import policy_frames


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tried", ROBOTS, ids=str)
def test_all_of_it(tried: Tried, tmp_path: Path) -> None:
    run = trained(tried, tmp_path / "run")
    assert len(run.metrics()) == 6
    assert difference(run, resumed(tried, tmp_path / "again"), tried) == ""
    tuned = fine_tuned(tried, run, tmp_path / "tuned")
    assert tuned.metrics()[-1]["labels"] == 12
    policy = policy_of(tuned, tried)
    found = measure(policy, "", 1, 0)
    tells = "Kitchen" not in tried.env_id
    assert ("success_rate" in found) == tells
    frames, _, _ = policy_frames(policy, seconds=0.3, width=64, height=64)
    assert frames.std() > 0
    differs, clip, _ = clips(tried)
    assert differs == "" and clip.segments.state is not None and clip.segments.frames is None
    assert np.any(clip.frames[0] != clip.frames[-1])
    if "Kitchen" in tried.env_id:  # the noise of its observations is drawn anew
        assert "all other kinds, clips and videos can be had" in correction(tried, clip)
    else:
        assert correction(tried, clip) == ""
