#!/usr/bin/env bash
# Weights & Biases, offline: run.finish() may return before the run's file has its rows; they are there a moment later.
# Who copies or reads RUN/wandb/offline-run-*/run-*.wandb right after finish() may get the 7 bytes of its header alone.
# Exits non-zero if that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --disable-pip-version-check -q wandb==0.31.0
cat > "$folder/seen.py" <<'PYTHON'
import sys
import time
from pathlib import Path

import wandb

print("wandb", wandb.__version__)
for attempt in range(40):
    settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
    run = wandb.init(project="p", dir=sys.argv[1], mode="offline", settings=settings)
    folder = Path(run.dir).parent
    for i in range(10):
        run.log({"x": i}, step=i)
    run.finish()
    (file,) = folder.glob("*.wandb")
    at_once = file.stat().st_size
    time.sleep(2 if at_once < 100 else 0)
    if at_once < 100 < (later := file.stat().st_size):
        print(f"attempt {attempt + 1}: {at_once} bytes when finish() returned, {later} two seconds later")
        sys.exit(0)
print("40 times the file was whole when finish() returned")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/seen.py" "$folder"
