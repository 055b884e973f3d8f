#!/usr/bin/env bash
# Gymnasium 1.4.0: the spec of an environment without its wrappers makes another environment than the one it came from.
#
# `gymnasium.make` gives the bare environment a spec from which the time limit and the other wrappers were taken, for
# the wrappers are described outside. So `env.unwrapped.spec.max_episode_steps` is None where `env.spec` says 200, and
# `gymnasium.make(env.unwrapped.spec)`, by which one would copy an environment one was handed, gives one whose episodes
# of MountainCar never end: no error, no warning. Whoever copies environments, or asks how long an episode is, must ask
# the outermost one.
#
# Seen: "gymnasium 1.4.0: env.spec 200, env.unwrapped.spec None; first truncated after 200 steps, its copy not within
# 1000"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import gymnasium


def truncated_after(env, limit=1000):
    """The step at which an episode of a car that rests is cut off; None if it is not within `limit` steps."""
    env.reset(seed=0)
    for step in range(1, limit + 1):
        if env.step(1)[3]:
            return step
    return None


env = gymnasium.make("MountainCar-v0")
copy = gymnasium.make(env.unwrapped.spec)
limits = env.spec.max_episode_steps, env.unwrapped.spec.max_episode_steps
steps = truncated_after(env), truncated_after(copy)
print(f"gymnasium {gymnasium.__version__}: env.spec {limits[0]}, env.unwrapped.spec {limits[1]}; "
      f"first truncated after {steps[0]} steps, its copy {'not within 1000' if steps[1] is None else steps[1]}")
assert limits == (200, None) and steps == (200, None), "this has changed"
PY
