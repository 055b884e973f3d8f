"""What decides the last bits of a run besides its config: processor, compiler, kernels, versions. Each session of a
run, the first and every resumption, is a record in its manifest; one without the bits of the one before says so.
"""

import hashlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from threadpoolctl import threadpool_info

from rlhf_control.compute.compiler import compiler_command, processor
from rlhf_control.errors import UserError
from rlhf_control.rl.compiled import library
from rlhf_control.runs.machine import environment_facts
from rlhf_control.runs.run import Run

DECIDING = (
    "processor", "processor_features", "compiler", "compiler_flags", "compiled", "torch_kernels", "blas_kernels",
    "python", "versions",
)  # fmt: skip


def session_facts() -> dict[str, Any]:
    """Returns what decides the bits of this process."""
    blas = sorted({str(p.get("architecture")) for p in threadpool_info() if p["user_api"] == "blas"})
    return {
        **environment_facts(),
        "processor_features": hashlib.sha256(processor().encode()).hexdigest()[:12],  # of the list of what it can do
        "compiler_flags": " ".join(compiler_command()[1:]),
        "compiled": library() is not None,
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "blas_kernels": ", ".join(blas),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what decides bits and is not as it was, in words; what the earlier record does not know is passed
    over."""
    found = []
    for name in DECIDING:
        if name not in before or before[name] == now[name]:
            continue
        if name == "versions":
            there, here = before[name], now[name]
            found += [f"{k} {there[k]} -> {here.get(k)}" for k in there if there[k] != here.get(k)]
        else:
            found.append(f"{name.replace('_', ' ')} {before[name] or 'none'} -> {now[name] or 'none'}")
    return found


def record_session(run: Run, iteration: int) -> None:
    """Appends this session to the manifest's; says in one line what a resumed run's bits will differ by."""
    try:
        manifest = run.read_json("manifest.json")
    except UserError:  # a run of which only the rest is left can be gone on with
        return
    now = {"iteration": iteration, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **session_facts()}
    sessions = manifest.get("sessions", [])
    if found := differences(sessions[-1] if sessions else manifest, now):
        print(
            f"rlhf-control: {run.path} goes on where numbers differ in their last bits, so it will not be equal to a "
            f"run that never stopped: {'; '.join(found)}; manifest.json has it",
            file=sys.stderr,
        )
    run.write_json("manifest.json", {**manifest, "sessions": [*sessions, now]})
