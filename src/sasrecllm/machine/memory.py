"""Memory of the process: what it frees it keeps, and what lasts is not looked through again."""

from __future__ import annotations

import gc
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager


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
