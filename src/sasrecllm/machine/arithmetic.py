"""In which number format this machine multiplies matrices faster."""

from __future__ import annotations

import time
from functools import cache

from sasrecllm.machine.memory import keep_few_kernels

ROWS, WIDEST = 256, 1024
"""Size of the product that is tried: a few tens of milliseconds."""
TIMES = 3
FASTER = 1.5
"""How much faster half precision must be: what stands between the products is slower in it."""


@cache
def bf16_is_faster(width: int, device: str = "cpu") -> bool:
    """Whether products of a language model of this width are faster in bf16; tried once a process."""
    import torch

    keep_few_kernels()
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    width = min(width, WIDEST)
    took = {}
    for dtype in (torch.float32, torch.bfloat16):
        rows, weight = torch.ones(ROWS, width, dtype=dtype), torch.ones(4 * width, width, dtype=dtype)
        rows @ weight.T  # whatever is made once
        found = []
        for _ in range(TIMES):
            started = time.perf_counter()
            rows @ weight.T
            found.append(time.perf_counter() - started)
        took[dtype] = min(found)
    return took[torch.float32] > FASTER * took[torch.bfloat16]
