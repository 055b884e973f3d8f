#!/usr/bin/env bash
# MetaWorld 3.1.1: reset(seed=0) does not say which task begins.
#
# The wrapper that `gymnasium.make("Meta-World/MT1")` puts on top draws the episode's task, one of 50, before it hands the
# seed on, and the environment beneath does not read it. So three resets with one seed begin two or three tasks, and two
# environments made alike differ. The argument `seed` of `make` fixes which 50 there are and in which order they come,
# for all copies alike. An evaluation "on the same seeds" compares policies on other tasks unless it makes anew.
#
# Seen: "metaworld 3.1.1: three resets with seed 0 began 2 tasks; two fresh environments, reset(seed=0): others"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check metaworld==3.1.1 gymnasium==1.4.0 numpy==2.4.6 packaging==26.3
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY' | tail -n 1
from importlib.metadata import version

import gymnasium
import metaworld  # registers


def task(env):
    """Where the object lies and the goal is, at the start of an episode."""
    obs, _ = env.reset(seed=0)
    return tuple(obs[[4, 5, 6, 36, 37, 38]])


one, two = (gymnasium.make("Meta-World/MT1", env_name="push-v3") for _ in range(2))
begun = {task(one) for _ in range(3)}
alike = task(one) == task(two)
print(f"metaworld {version('metaworld')}: three resets with seed 0 began {len(begun)} tasks; two fresh environments, "
      f"reset(seed=0): {'the same' if alike else 'others'}")
assert len(begun) > 1 and not alike, "this has changed"
PY
