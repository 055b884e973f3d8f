"""The numeric tests under other kernels than this machine would choose: `make test-kernels`.

A processor decides which branch of OpenBLAS, torch, MKL and oneDNN multiplies, and what the C compiler makes of our
code; each has other last bits. Here a setting of the environment decides. What the processor cannot do is left out, and
said; `jitter.py` plays kernels that no setting reaches. Files named on the command line are run instead of all.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NUMERIC = (  # folders and files
    "analysis/test_reward_distances.py", "analysis/test_reward_evaluation.py", "behaviours", "feedback/test_oracles.py",
    "interop", "nets", "queries", "reward", "rl", "simulation/test_double_buffer.py", "simulation/test_rollouts.py",
    "test_train.py", "training/test_guard.py", "viewer/watch/test_predicted_rewards.py",
)  # fmt: skip


def setting(openblas: str, torch: str, mkl: str, onednn: str, flags: str) -> dict[str, str]:
    """MKL heeds its first variable on Intel's processors only; its second one has a branch for all."""
    return {
        "OPENBLAS_CORETYPE": openblas, "ATEN_CPU_CAPABILITY": torch, "MKL_ENABLE_INSTRUCTIONS": mkl,
        "MKL_CBWR": "COMPATIBLE" if mkl == "SSE4_2" else "AUTO", "ONEDNN_MAX_CPU_ISA": onednn,
        "CC": f"{os.environ.get('CC', 'cc')} {flags}".strip(),
    }  # fmt: skip


SETTINGS: dict[str, tuple[str, dict[str, str]]] = {  # name -> (what the processor must have, the environment)
    "sse": ("", setting("Nehalem", "default", "SSE4_2", "SSE41", "-mno-avx")),
    "avx": ("avx", setting("Sandybridge", "default", "AVX", "AVX", "-mno-avx2 -mno-fma")),
    "avx2": ("avx2", setting("Haswell", "avx2", "AVX2", "AVX2", "-mno-avx512f")),
    "zen": ("avx2", setting("Zen", "avx2", "AVX2", "AVX2", "-mno-fma -mno-avx512f")),
    "avx512": ("avx512bw", setting("SkylakeX", "avx512", "AVX512", "AVX512_CORE", "-mprefer-vector-width=512")),
    "amx": ("amx_tile", setting("SapphireRapids", "avx512", "AVX512_E4", "AVX512_CORE_AMX", "")),
    "jitter 1": ("", {"RLHF_CONTROL_JITTER": "1"}),
    "jitter 2": ("", {"RLHF_CONTROL_JITTER": "2"}),
}


def main(files: list[str]) -> int:
    """0 if the tests pass under every setting that this processor can follow."""
    files = files or [str(HERE / name) for name in NUMERIC]
    flags, failed = processor_flags(), []
    for name, (needed, environment) in SETTINGS.items():
        if needed and needed not in flags:
            print(f"{name:<9} left out: this processor has no {needed}", flush=True)
            continue
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--no-header", *files]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
        print(f"{name:<9} {lines[-1].strip('= ')} ({time.monotonic() - started:.0f} s)", flush=True)
        if done.returncode:
            failed.append(name)
            print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))), flush=True)
    return int(bool(failed))


def processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
