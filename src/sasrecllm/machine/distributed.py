"""The processes of a torchrun job; an ordinary process is the main one of one."""

from __future__ import annotations

import os
from datetime import timedelta

PATIENCE = timedelta(days=7)
"""How long processes wait for one that still lives: the first may evaluate alone for hours."""


def process_count() -> int:
    """How many processes train together; more than one under torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """True for rank 0 of a torchrun job and for every ordinary process."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Let the processes of a torchrun job meet; nothing in an ordinary process."""
    if process_count() > 1:
        import torch
        from accelerate import PartialState

        # With this of accelerate's, every process but the first would take its model from nowhere.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"

        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE).wait_for_everyone()
