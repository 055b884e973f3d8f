#!/usr/bin/env bash
# Gymnasium-Robotics 1.4.2 beside MuJoCo 3.17.0: Fetch, the hands and the kitchen cannot be made.
#
# From MuJoCo 3.12 on, a number of NumPy's is not found among members of MuJoCo's enumerations, though it equals them
# when it stands on the left: `joint_type in (mjJNT_HINGE, mjJNT_SLIDE)` with a `joint_type` out of `model.jnt_type` is
# False for every hinge. Gymnasium-Robotics asserts just that, without a message, and asks for no older MuJoCo. Whoever
# compares what stands in a model with an enumeration should compare whole numbers: `int(...)` on both sides.
#
# Seen: "mujoco 3.17.0: number == member True, number in (member,) False; FetchReach-v4: AssertionError ''"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    gymnasium-robotics==1.4.2 gymnasium==1.4.0 mujoco==3.17.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>/dev/null | tail -n 1
import gymnasium
import gymnasium_robotics
import mujoco
import numpy as np

gymnasium.register_envs(gymnasium_robotics)
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body><joint/><geom size='.1'/></body></worldbody></mujoco>"
)
number, member = model.jnt_type[0], mujoco.mjtJoint.mjJNT_HINGE
said = "it was made"
try:
    gymnasium.make("FetchReach-v4")
except AssertionError as error:
    said = f"AssertionError '{error}'"
print(f"mujoco {mujoco.__version__}: number == member {number == member}, number in (member,) {number in (member,)}; "
      f"FetchReach-v4: {said}")
assert number == member and number not in (member,) and said == "AssertionError ''", "this has changed"
PY
