"""Memory of the process: what it frees it keeps, and what lasts is not looked through again."""

from __future__ import annotations

import gc
import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager

KERNELS = 256
"""Compiled products that oneDNN keeps, in each of two caches: three times what a micro-batch uses."""
CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""The variables that say how many, read before the first product in half precision."""


def keep_few_kernels() -> None:
    """Let oneDNN keep :data:`KERNELS` compiled products, not 1,024, unless the user says how many.

    It compiles one for every shape, of .6 MB, among the tensors; batches of prompts hardly ever have a
    shape again, so a thousand of them save no time and break up the memory between them.
    """
    for name in CAPACITIES:
        os.environ.setdefault(name, str(KERNELS))


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MB, instead of handing it back at once.

    A training step on a CPU asks for the same megabytes again and again; given back and fetched again
    they cost a sixth of the time in page faults.  Where the C library is another, nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    library = ctypes.CDLL(None)
    largest_block, trimmed_from = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
    library.mallopt(largest_block, 32 * 2**20)
    library.mallopt(trimmed_from, 256 * 2**20)


def hand_back_freed_memory(parts: bool = False) -> None:
    """Hand what is free back to the system: what comes next needs memory of other sizes.

    Args:
        parts: a run's parts were let go, which refer to each other and are free once that is noticed.
    """
    if parts:
        gc.collect()
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def lasting() -> Iterator[None]:
    """A block whose objects stay as long as the process: imports, a loaded run.

    The cyclic collector would look through the million objects of the libraries again and again while
    they are made, and once more at the end of the process: a third of the time to a first answer.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
