"""Columns of numbers, one for each row of a log: in memory, or, where they are many, in a file.

The file has no name and goes with the last array that reads it.  Who walks over such a column goes
block by block and lets go of each: what is held is what is looked at, however long the log.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.types import IntArray

IN_MEMORY = 2**25
"""Rows of a column that are held in memory; a column of more lies in a file."""
BLOCK = 2**20
"""Rows, more or less, of a block."""


def scratch() -> Path:
    """The folder for what is written while a log is read: ``TMPDIR``, or a disk's own."""
    lasting = Path("/var/tmp")  # /tmp lies in memory on many systems
    if "TMPDIR" not in os.environ and lasting.is_dir() and os.access(lasting, os.W_OK):
        return lasting
    return Path(tempfile.gettempdir())


def empty(rows: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array [rows] to be filled.

    Raises:
        ResourceError: there is no room for it on the disk.
    """
    kind = np.dtype(kind)
    if rows <= IN_MEMORY:
        return np.empty(rows, kind)
    with as_refusals(scratch()), tempfile.TemporaryFile(dir=scratch()) as file:
        size = rows * kind.itemsize
        if hasattr(os, "posix_fallocate"):  # else a full disk would end the process at some write
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)
        return np.ndarray(rows, kind, mmap.mmap(file.fileno(), size))


def let_go(*columns: npt.NDArray[Any] | None) -> None:
    """Hold no page of columns that lie in a file; what was written there stays."""
    for column in columns:
        base: Any = column
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
            base.madvise(mmap.MADV_DONTNEED)


def blocks(users: IntArray, *columns: npt.NDArray[Any] | None, rows: int = 0) -> Iterator[slice]:
    """Slices of about ``rows`` rows that follow each other, each with all rows of its users.

    Args:
        users: ascending.
        columns: what the caller looks at beside them; it is let go of after each block.
        rows: of a block; without, :data:`BLOCK`.
    """
    start, size = 0, rows or BLOCK
    while start < len(users):
        stop = min(start + size, len(users))
        stop = int(np.searchsorted(users, users[stop - 1], side="right"))
        yield slice(start, stop)
        let_go(users, *columns)
        start = stop
