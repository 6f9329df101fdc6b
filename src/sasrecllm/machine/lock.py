"""One process at a time in a folder: a lock of the kernel, which its holder's death releases.

The file ``.lock`` inside the folder says who holds it; a file that nobody holds means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from sasrecllm.errors import ConfigError
from sasrecllm.machine.command import own_command
from sasrecllm.machine.distributed import is_main_process

NAME = ".lock"
CANNOT = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""A file system without locks: nothing is refused there."""

TRIES = 4
"""Attempts before a lock counts as held: :func:`is_held` takes it for a moment to find out."""


class InUseError(ConfigError):
    """Another process works in the folder."""


@contextlib.contextmanager
def in_use(folder: Path, name: str = NAME, *, wait: bool = False, each: bool = False) -> Iterator[None]:
    """Hold ``folder`` for this process while the block runs; it is made where it is missing.

    Of several processes that train together the first one holds it for all.  A folder that this made
    and in which nothing was written goes again.  An ``OSError`` in the block that names no file is told
    of this folder.

    Args:
        name: of the lock, for several that share a folder (the shards of a batch job).
        wait: until its holder lets it go, where that takes a moment only.
        each: of processes that train together every one holds it for itself, one after another.

    Raises:
        InUseError: another process holds it; the message says which, where and since when.
    """
    if not each and not is_main_process():
        yield
        return
    made = _make(folder)
    try:
        handle = _take(folder, name, wait)
        try:
            yield
        finally:
            _release(handle, folder / name)
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()  # only while it is empty


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file ``path``."""
    try:
        import fcntl

        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (ImportError, FileNotFoundError):
        return False
    except OSError as error:
        return error.errno not in CANNOT
    return False


def _make(folder: Path) -> list[Path]:
    """Make ``folder``; the folders that were missing, deepest first."""
    try:
        os.fspath(folder).encode("utf-8")
    except UnicodeEncodeError:  # which the libraries that write tables and weights do not take
        raise ConfigError(f"the name {str(folder)!r} is no UTF-8", "give another --out") from None
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _take(folder: Path, name: str, wait: bool) -> int | None:
    """The open, locked file; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    path, tries = folder / name, 0
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # its holder removed the folder as it ended
            folder.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            holder = os.pread(handle, 10_000, 0)
            os.close(handle)
            if error.errno in CANNOT:
                return None
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if tries := (tries + 1) % TRIES:
                time.sleep(0.05)
                continue
            raise InUseError(
                f"{folder} is in use by {_readable(holder)}",
                "wait for that process or stop it, or give another --out",
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        os.close(handle)  # its holder removed it as it ended: what was locked is no longer there
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": own_command(),
    }
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(about).encode(), 0)
    return handle


def _release(handle: int | None, path: Path) -> None:
    if handle is None:
        return
    with contextlib.suppress(OSError):  # a deleted folder, a disk that has become read-only
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            path.unlink()
    os.close(handle)


def _readable(about: bytes) -> str:
    try:
        said = json.loads(about)
        return f"process {said['pid']} on {said['host']} since {said['since']} ({said['command']})"
    except (ValueError, KeyError, TypeError):  # it has not written yet who it is
        return "another process"
