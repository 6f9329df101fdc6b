"""Ctrl-C and SIGTERM: raised at once, held where a block ends by itself, passed on to children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from itertools import product

import pytest

from sasrecllm.machine import signals

BOTH = [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, signals.Stopped, 143)]
# A call that hears no signal and lets other threads run, as a frame library's own does.
DEAF = """
import signal
from sasrecllm.machine import signals
signals.GRACE = 0.3
with signals.handled():
    for number in signals.CODES:  # nothing is raised, as while a library computes
        signal.signal(number, lambda *_: None)
    print("deaf", flush=True)
    while True:
        signal.pause()
"""
PARENT = """
import subprocess, sys
from sasrecllm.machine import signals
signals.CHILD_GRACE = {grace}
with signals.handled():
    signals.run_child([sys.executable, "-c", {child!r}])
"""
CHILD = """
import os, signal, time
from sasrecllm.machine import signals
signals.end_with_parent()
{handler}
print("child", os.getpid(), flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize(("number", "kind", "code"), BOTH)
def test_a_stop_is_raised_where_it_is_heard(number, kind, code):
    with pytest.raises(kind) as stop, signals.handled():
        signal.raise_signal(number)
    assert kind is KeyboardInterrupt or stop.value.code == code
    assert not isinstance(stop.value, Exception)
    assert signals.CODES[number] == code


@pytest.mark.parametrize(("number", "kind", "_code"), BOTH)
def test_a_held_block_ends_before_the_stop(number, kind, _code):
    done = []
    with pytest.raises(kind), signals.handled():
        with signals.held():
            with signals.held():
                signal.raise_signal(number)
                signal.raise_signal(signal.SIGTERM)  # sent to the whole group as well
                done.append(signals.requested())
            done.append("outer block")
        done.append("never")
    assert done == [True, "outer block"]


def test_a_second_ctrl_c_is_not_waited_for():
    done = []
    with pytest.raises(KeyboardInterrupt), signals.handled(), signals.held():
        signal.raise_signal(signal.SIGINT)
        done.append("first")
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == ["first"]


def test_a_stop_that_a_library_swallowed_is_raised_at_the_next_word():
    from sasrecllm.machine.progress import Progress

    with pytest.raises(signals.Stopped), signals.handled():
        with contextlib.suppress(BaseException):  # as a destructor does, or a callback of C code
            signal.raise_signal(signal.SIGTERM)
        Progress(quiet=True).step("work", 1, 2)


def test_handlers_are_as_before_and_nothing_is_asked_any_more():
    before = [signal.getsignal(n) for n in signals.CODES]
    for _ in range(2):
        with pytest.raises(signals.Stopped), signals.handled():
            assert not signals.requested()
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(n) for n in signals.CODES] == before
    assert "stops" not in {t.name for t in threading.enumerate()}


@pytest.mark.parametrize("quit_too", [False, True])
def test_ctrl_c_that_is_ignored_on_purpose_stays_so_and_a_background_job_hears_it(quit_too):
    """A shell ignores the signal to quit as well, for the background jobs of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    quit_before = signal.signal(signal.SIGQUIT, signal.SIG_IGN if quit_too else signal.SIG_DFL)
    try:
        ends = pytest.raises(KeyboardInterrupt) if quit_too else contextlib.nullcontext()
        with ends, signals.handled():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGQUIT, quit_before)


def test_a_server_gets_the_signals_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals.handled():
        signals.leave()
        signals.hear_again()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("number", "_kind", "code"), BOTH)
def test_a_call_that_hears_no_signal_is_not_waited_for_long(number, _kind, code):
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True) as deaf:
        assert deaf.stdout.readline() == "deaf\n"
        deaf.send_signal(number)
        assert deaf.wait(timeout=120) == code


def child_of(parent):
    word, pid = parent.stdout.readline().split()
    assert word == "child"
    return int(pid)


def wait_until_gone(pid):
    """A pidfd is readable when its process has ended, whoever's child it is."""
    import select

    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 120)[0], "an orphan"
    finally:
        os.close(handle)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfds to see a process end")
@pytest.mark.parametrize(
    ("number", "stubborn"),  # who ignores SIGTERM and has no parent any more can only be killed by hand
    [*product([signal.SIGINT, signal.SIGTERM], [False, True]), (signal.SIGKILL, False)],
)
def test_no_child_outlives_its_parent(number, stubborn):
    """A stop ends the child too; one that does not listen is killed; a killed parent is noticed."""
    handler = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if stubborn else ""
    program = PARENT.format(child=CHILD.format(handler=handler), grace=0.3 if stubborn else 60)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child = child_of(parent)
        parent.send_signal(number)
        parent.wait(timeout=120)
        wait_until_gone(child)


def test_ctrl_c_while_the_command_line_is_imported_is_told(monkeypatch, capsys):
    from sasrecllm.__main__ import main

    class Interrupted:
        def find_spec(self, name, *_):
            if name == "sasrecllm.cli":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.delitem(sys.modules, "sasrecllm.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["sasrecllm", "--help", "my run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "interrupted; give the same command again:\n  -> sasrecllm --help 'my run'\n"
    )


@pytest.fixture
def pythons_own():
    """As in a program of somebody else, a notebook say: Ctrl-C raises where it comes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_library_call_holds_ctrl_c_and_gives_it_back(pythons_own):
    done = []
    with pytest.raises(KeyboardInterrupt), signals.interruptible():
        with signals.held():
            signal.raise_signal(signal.SIGINT)
            done.append("the block ends")
        done.append("never")
    assert done == ["the block ends"] and not signals.requested()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_library_call_leaves_a_programs_own_ways_to_stop_alone():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("its own"))
    ended = signal.getsignal(signal.SIGTERM)
    try:
        with signals.interruptible():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGTERM) is ended
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == ["its own"]


def test_a_library_call_inside_a_verb_changes_nothing():
    with pytest.raises(KeyboardInterrupt), signals.handled():
        hears = signal.getsignal(signal.SIGINT)
        with signals.interruptible():
            assert signal.getsignal(signal.SIGINT) is hears
        signal.raise_signal(signal.SIGINT)


def test_a_library_call_in_a_thread_changes_nothing(pythons_own):
    seen = []

    def call():
        with signals.interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
