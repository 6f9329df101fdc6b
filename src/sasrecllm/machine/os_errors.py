"""What the machine refuses (disk, memory, paths, a lost process), as refusals: one table for all.

Libraries say the same thing in several ways: an ``OSError`` with its number, a message that ends with
``(os error 28)`` (everything written in Rust), a sentence of an allocator or of SQLite.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from sasrecllm.errors import ConfigError, ResourceError, SasrecllmError
from sasrecllm.machine.distributed import process_count
from sasrecllm.names import without_aside

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MEMORY = {errno.ENOMEM}
HANDLES = {errno.EMFILE, errno.ENFILE, errno.EAGAIN}
PATH = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENOTEMPTY, errno.EXDEV, errno.EBUSY,
    errno.ETXTBSY, errno.ENXIO, errno.ENODEV, errno.ENOTSUP,
}  # fmt: skip
"""A path that cannot be what it was named for."""

NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|cannot allocate memory|unable to allocate"
    r"|memory allocation|CUBLAS_STATUS_ALLOC_FAILED|can't start new thread",
    re.IGNORECASE,
)
NO_PEER = re.compile(
    r"gloo/transport|ncclRemoteError|NCCL.*(remote process|connection|socket)", re.IGNORECASE
)
"""What the libraries that carry a job's tensors say when another of its processes has gone."""
PARQUET_FOOTER = "Invalid thrift: transport error"
"""What polars says where the last bytes of a file cannot be written; it hides the system's number."""
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "unable to open database file": errno.ENOENT,
    "disk I/O error": errno.EIO,
}


def refusal(error: BaseException, place: Path | None = None) -> SasrecllmError | None:
    """The refusal that stands for ``error``, or None where the machine is not to blame for it.

    A refusal stands for itself, unless it was raised about a lack of disk or memory: a file that
    cannot be read for want of memory is no bad file.

    Args:
        place: the folder or file at work, for an error that names none.
    """
    if isinstance(error, ResourceError):
        return error  # which names the place that only who raised it knew
    if isinstance(error, SasrecllmError):
        about = error.__cause__ or error.__context__
        return refusal(about, place) if about is not None and _is_want(about) else error
    if _is_lost_process(error):
        return ResourceError(
            "another process of this job has ended or does not answer, so this one cannot go on",
            "see what that process said last; the same torchrun command goes on from the last"
            " checkpoint, with as many processes or others",
        )
    number = _number(error)
    if _is_memory(error, number):
        return ResourceError(
            f"memory ran out: {_first_line(error)}",
            "close other programs or take a machine with more memory; in training a smaller"
            " loop.batch_size or a larger loop.accumulate needs less, in scoring llm.score_batch",
        )
    if number is None and not isinstance(error, OSError):
        return None
    return _of_number(error, number, place)


def lacks_room(error: BaseException) -> bool:
    """Whether memory or disk ran out, whatever a library was doing then."""
    number = _number(error)
    short = number in FULL or number in MEMORY or number in HANDLES
    return isinstance(error, MemoryError) or short or (number is None and _no_memory(error))


def _of_number(error: BaseException, number: int | None, place: Path | None) -> SasrecllmError:
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    path = os.fsdecode(named) if isinstance(named, (str, bytes, os.PathLike)) else str(place or "")
    path = without_aside(path)  # what people named, not where it is made meanwhile
    said = os.strerror(number) if number is not None else _first_line(error)
    if number in FULL:
        free = f" ({_free_megabytes(Path(path or '.'))} MB free)" if number != errno.EFBIG else ""
        return ResourceError(
            f"{path or 'a file'} cannot be written: {said}{free}",
            "free some space or choose another --out; what was finished is kept, and the same command"
            " goes on",
        )
    if number in HANDLES:
        return ResourceError(
            f"the system refuses more files or processes: {said}", "raise the limit (ulimit -n, -u)"
        )
    if number in PATH and path:
        return ConfigError(
            f"{path} cannot be used: {said}",
            "give another path (--out for what is written), or correct this one: its folders must exist"
            " and the user who runs this must be allowed to read and write there",
        )
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)):
        return ResourceError(f"a connection failed: {error}", "check the network and try again")
    return ResourceError(
        f"{path or 'a file'} cannot be read or written: {said}",
        "check the disk that it lies on; what was finished is kept",
    )


@contextlib.contextmanager
def as_refusals(place: Path) -> Iterator[None]:
    """Raise what the machine refuses inside the block as a refusal that names ``place``.

    Raises:
        ResourceError: disk or memory ran out.
        ConfigError: a path cannot be what it was named for.
    """
    try:
        yield
    except Exception as error:
        found = refusal(error, place)
        if found is None or found is error:
            raise
        raise found from error


def _number(error: BaseException) -> int | None:
    """The system's number of an error, out of its attribute or its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if found := NUMBER.search(text):
        return int(found[1] or found[2])
    if PARQUET_FOOTER in text:
        return errno.EIO
    if type(error).__module__.startswith("sqlite3"):
        return next((number for said, number in SQLITE.items() if said in text), None)
    return None


def _is_lost_process(error: BaseException) -> bool:
    """Whether one of several processes that train together has lost another."""
    if process_count() == 1 or not isinstance(error, RuntimeError):
        return False
    named = type(error).__name__ in ("DistNetworkError", "DistStoreError")
    return named or NO_PEER.search(str(error)) is not None


def _is_want(error: BaseException) -> bool:
    number = _number(error)
    return number in FULL | MEMORY | HANDLES - {errno.EAGAIN} | {errno.EIO} or _is_memory(error, number)


def _is_memory(error: BaseException, number: int | None) -> bool:
    return isinstance(error, MemoryError) or number in MEMORY or (number is None and _no_memory(error))


def _no_memory(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, (RuntimeError, OSError)) and NO_MEMORY.search(str(error)) is not None
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _free_megabytes(path: Path) -> int:
    while True:
        try:
            return int(shutil.disk_usage(path).free / 1e6)
        except OSError:
            if path == path.parent:
                return 0
            path = path.parent
