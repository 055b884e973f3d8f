#!/usr/bin/env bash
# ale-py 0.12.1: the last observation of a game by its vector environment is that of the step before.
#
# A step lets four frames pass and looks at the last one (or two). Where the game is over before, as in Breakout, whose
# games end in the first frame of a step, it has looked at nothing, and `info["final_obs"]` in the mode SAME_STEP (or
# the observation of the ending step in NEXT_STEP) shows the screen that the step began with: no error, no flag. The
# single environment's screen at that moment is another one. It matters to who bootstraps or records the last one.
#
# Seen: "ale-py 0.12.1: of 8 games, the last observation is the last screen in 4, that of the step before in 8"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ale-py==0.12.1 gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import ale_py
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv

GAMES = 8
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
as_it_is = {"img_height": 210, "img_width": 160, "stack_num": 1, "maxpool": False, "noop_max": 0}
options = {"use_fire_reset": False, "reward_clipping": False, "repeat_action_probability": 0.0}
envs = AtariVectorEnv("breakout", 1, autoreset_mode="SameStep", **as_it_is, **options)
alone = ale_py.ALEInterface()
alone.setFloat("repeat_action_probability", 0.0)
alone.loadROM(roms.get_rom_path("breakout"))
alone.reset_game()
envs.reset(seed=0)
actions, rng = alone.getMinimalActionSet(), np.random.default_rng(0)
right = stale = games = 0
before = None
while games < GAMES:
    action = int(rng.integers(len(actions)))
    for _ in range(4):
        alone.act(actions[action])
        if alone.game_over():
            break
    screen = alone.getScreenGrayscale()
    obs, _, ended, _, info = envs.step(np.array([action]))
    if ended[0]:
        games += 1
        right += (info["final_obs"][0, 0] == screen).all()
        stale += (info["final_obs"][0, 0] == before).all()
        alone.reset_game()
    else:
        assert (obs[0, 0] == screen).all()
    before = screen
print(f"ale-py {ale_py.__version__}: of {GAMES} games, the last observation is the last screen in {right}, "
      f"that of the step before in {stale}")
assert right < GAMES and stale == GAMES, "this has changed"
PY
