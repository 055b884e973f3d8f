"""Reinforcement learning from human feedback for control.

    from rlhf_control import FinetuneConfig, finetune
    run = finetune(FinetuneConfig("halfcheetah", oracle="backward", labels=100))
"""

import importlib
from typing import Any

__version__ = "0.1.0"
