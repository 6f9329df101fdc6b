"""Ctrl-C and SIGTERM: heard in one place for every verb, and acted on at once.

A stop is an exception that no ``except Exception`` holds up: ``KeyboardInterrupt`` for Ctrl-C and
:class:`Stopped` for SIGTERM.  What is committed to disk is whole in any case, so it may be raised
anywhere.  A block that has to end by itself (a training step and its checkpoint) is :func:`held`: there
the stop waits for the end of the block, which may look at :func:`requested`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
GRACE = 8.0
"""Seconds that a call into a library which hears no signals (reading a large file) may take to end."""

CHILD_GRACE = 5.0
"""Seconds that a child process has to save a checkpoint and to end."""

_asked: int = 0
_held: int = 0
_hearing = False


class Stopped(SystemExit):
    """SIGTERM arrived; the process ends with exit code 143."""

    def __init__(self) -> None:
        super().__init__(CODES[signal.SIGTERM])


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _asked != 0


def check() -> None:
    """Raise the stop that was asked for, if one was and no block holds it."""
    if _asked and not _held:
        raise asked()


def asked() -> BaseException:
    """The stop that this process was asked for; SIGTERM where only another one of its job was."""
    return KeyboardInterrupt() if _asked == signal.SIGINT else Stopped()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A block that a stop does not cut; it is raised at the end.  A second Ctrl-C is not waited for."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    check()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Hear Ctrl-C inside a block of a program that is not ours; its own ways to stop stay as they are.

    Nothing changes where the program hears Ctrl-C in its own way, inside :func:`handled`, and outside
    the main thread.
    """
    global _asked
    own = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if _hearing or own or threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked = 0
    signal.signal(signal.SIGINT, _hear)
    try:
        yield
    finally:
        _asked = 0
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Hear Ctrl-C and SIGTERM inside the block; outside the main thread nothing changes.

    A process that was started with a signal ignored on purpose (``trap '' INT``) goes on ignoring it.
    """
    global _asked, _hearing
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked, _hearing = 0, True
    before = {n: signal.getsignal(n) for n in CODES}
    listening, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    old = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(listening, over), name="stops", daemon=True)
    watch.start()
    hear_again()
    try:
        yield
    finally:
        _asked, _hearing = 0, False
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old)
        over.set()
        os.close(wakeup)  # ends the watch
        watch.join()
        os.close(listening)


def run_child(command: Sequence[str], **options: Any) -> int:
    """Exit code of a child process, negative where a signal ended it; a stop of ours ends it too.

    Args:
        command: of a program that calls :func:`end_with_parent`; its standard input says that we live.
        options: of ``subprocess.Popen``.
    """
    child = None
    try:
        with held():  # a stop between its start and our knowing of it would leave it alone
            child = subprocess.Popen(command, stdin=subprocess.PIPE, **options)
        return child.wait()
    except BaseException:
        if child is not None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(CHILD_GRACE)
        raise
    finally:
        if child is not None:
            child.kill()  # nothing where it has ended
            child.wait()
            if child.stdin is not None:
                child.stdin.close()


def end_with_parent() -> None:
    """End this process by SIGTERM when the one that started it by :func:`run_child` is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def hear_again() -> None:
    """Inside :func:`handled`, take the signals back from a library that took them (Ray does)."""
    for number in CODES if _hearing else ():
        if not _is_refused(number):
            signal.signal(number, _hear)


def leave() -> None:
    """Inside :func:`handled`, give the signals back: a server has its own way to end.

    Until it takes them over, SIGTERM ends the process at once and Ctrl-C raises ``KeyboardInterrupt``.
    """
    global _hearing
    if _hearing:
        _hearing = False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not _is_refused(signal.SIGINT):
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_refused(number: int) -> bool:
    """Whether who started this process wants it to ignore a signal.

    A shell ignores Ctrl-C for a background job of a script, and the signal to quit with it; nobody
    means that: what is sent to such a job by its number is meant for it.
    """
    background = number == signal.SIGINT and signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN
    return signal.getsignal(number) is signal.SIG_IGN and not background


def _hear(number: int, _: FrameType | None) -> None:
    global _asked
    first = not _asked
    _asked = _asked or number
    # A service manager may send SIGTERM to a process and to its parent, which passes it on.
    if _held and (first or number == signal.SIGTERM):
        return
    raise asked()


def _watch(listening: int, over: threading.Event) -> None:
    """End the process where the main thread has not come back to Python ``GRACE`` seconds after."""
    while number := os.read(listening, 1):
        code, waited = CODES.get(number[0]), 0.0
        while code is not None and waited < GRACE:
            if over.wait(0.1):
                return
            waited = 0.0 if _held else waited + 0.1
        if code is not None:
            with contextlib.suppress(OSError):
                os.write(2, b"stopped in the middle of a long call; the same command goes on\n")
            os._exit(code)
