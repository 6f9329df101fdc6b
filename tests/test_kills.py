"""A kill at every system call that changes the disk leaves the last whole state, and work goes on.

The work runs in a forked child that the test follows with ptrace, so no write is left out: libraries
in Rust write as Python does.  Where a child cannot be followed, tests/test_checkpoint.py still kills at
every function that writes.
"""

import ctypes
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sasrecllm.checkpoint import (
    CheckpointFolder,
    commit_folder,
    load_part,
    read_json,
    save_part,
    write_json,
    write_text,
)
from sasrecllm.errors import CheckpointError
from sasrecllm.manifest import verify_folder
from sasrecllm.names import aside
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import choose_run, resealed, seal

TINY = Path(__file__).parent / "tiny.yaml"
CALLS = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "msync": 26, "sendfile": 40, "fsync": 74,
        "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84,
        "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "mkdirat": 258, "unlinkat": 263,
        "renameat": 264, "linkat": 265, "symlinkat": 266, "fallocate": 285, "pwritev": 296,
        "renameat2": 316, "copy_file_range": 326,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45,
        "ftruncate": 46, "fallocate": 47, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70,
        "sendfile": 71, "fsync": 82, "fdatasync": 83, "msync": 227, "renameat2": 276,
        "copy_file_range": 285,
    },
}  # fmt: skip
OPENS = {"x86_64": {2: 1, 257: 2}, "aarch64": {56: 2}}
"""Number of a call that opens -> which argument says whether for writing."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

TRACEME, CONT_TO_CALL, SETOPTIONS, CALL_INFO, GETEVENTMSG = 0, 24, 0x4200, 0x420E, 0x4201
KILLED_WITH_US, MARK_CALLS, THREADS = 0x100000, 1, 2 | 4 | 8
ENTRY, ALL_THREADS = 1, 0x40000000


class Info(ctypes.Structure):
    """``struct ptrace_syscall_info``, as far as the beginning of a call goes."""

    _fields_ = [
        ("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64), ("sp", ctypes.c_uint64), ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6), ("rest", ctypes.c_uint64 * 2),
    ]  # fmt: skip


def possible():
    """Why a child cannot be followed here, or an empty string."""
    if sys.platform != "linux" or platform.machine() not in CALLS:
        return f"system calls are followed on Linux, x86-64 and ARM only, not on {platform.platform()}"
    try:
        ended, count = killed_at(0, lambda: os.mkdir("/"))
    except OSError as error:
        return f"this machine lets no process follow another one: {error}"
    return "" if not ended and count == 1 else "system calls are not seen here"


def killed_at(n, work):
    """Run ``work()`` in a child and kill it as it begins its ``n``-th change of the disk.

    Args:
        n: counted from 1; 0 lets it end.

    Returns:
        Whether it ended well by itself, and how many changes it had begun.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setpgid(0, 0)
            libc.ptrace(TRACEME, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, 0)
    try:
        return _followed(libc, child, n)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        _reaped(child)
        raise


def _reaped(child):
    """Wait for a killed child, which ends after all of its followed threads were waited for."""
    while os.waitpid(-1 * child, ALL_THREADS)[0] != child:
        pass


def _followed(libc, child, n):
    machine, count, info = platform.machine(), 0, Info()
    changing = set(CALLS[machine].values())
    _ask(libc, SETOPTIONS, child, 0, KILLED_WITH_US | MARK_CALLS | THREADS)
    going, passed = child, 0
    while True:
        libc.ptrace(CONT_TO_CALL, going, 0, passed)  # fails only for a thread that has just ended
        passed = 0
        going, status = os.waitpid(-1 * child, ALL_THREADS)
        if not os.WIFSTOPPED(status):
            if going == child:
                return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, count
            going = child  # a thread ended; the others go on
            continue
        stopped = os.WSTOPSIG(status)
        if stopped == signal.SIGTRAP | 0x80:
            try:
                _ask(libc, CALL_INFO, going, ctypes.sizeof(info), ctypes.byref(info))
            except ProcessLookupError:
                continue  # the whole process ends: a thread that stood at a call is gone as well
            flags = OPENS[machine].get(info.number)
            opens = flags is not None and info.arguments[flags] & WRITING
            if info.op == ENTRY and (info.number in changing or opens):
                count += 1
                if count == n:
                    os.kill(child, signal.SIGKILL)
                    _reaped(child)
                    return False, count
        elif stopped not in (signal.SIGTRAP, signal.SIGSTOP):
            passed = stopped


def _ask(libc, request, pid, address, data):
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if isinstance(data, int):
        data = ctypes.c_void_p(data)
    if libc.ptrace(request, pid, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# ------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module", autouse=True)
def followed():
    """Skips, saying why, where no process may follow another one."""
    if why := possible():
        pytest.skip(why)


OLD, NEW = {"a": torch.zeros(2, 3)}, {"a": torch.ones(2, 3), "b": torch.arange(4.0)}


def every_kill(tmp_path, prepare, work, check, least, again=None):
    """Prepare, work, and kill at the first change, the second ... until the work ends by itself.

    Args:
        prepare, work: take a folder.
        check: takes a folder after a kill, and whether the work had ended.
        least: points that there must be, so that a test which sees none fails.
        again: ``work`` once more, by another way.
    """
    points, ended = 0, False
    while not ended:
        folder = tmp_path / str(points)
        folder.mkdir()
        prepare(folder)
        ended, _ = killed_at(points + 1, lambda folder=folder: work(folder))
        check(folder, ended)
        prepared = sorted(p.name for p in folder.rglob("*.tmp"))
        (again or work)(folder)  # as a resumed run would
        check(folder, True)
        assert not sorted(p.name for p in folder.rglob("*.tmp")), prepared
        points += 1
    assert points > least
    print(f"{points - 1} kills")


def test_a_checkpoint_killed_at_every_write(tmp_path):
    def prepare(folder):
        CheckpointFolder(folder / "checkpoints").save(1, OLD, {"step": 1})
        CheckpointFolder(folder / "checkpoints").save(2, OLD, {"step": 2})
        CheckpointFolder(folder / "checkpoints").log({"step": 2})

    def work(folder):
        store = CheckpointFolder(folder / "checkpoints")
        store.log({"step": 3})
        store.save(3, NEW, {"step": 3})

    def check(folder, ended):
        tensors, state = CheckpointFolder(folder / "checkpoints").latest()
        assert state["step"] in ((3,) if ended else (2, 3))
        wanted = NEW if state["step"] == 3 else OLD
        assert all(torch.equal(tensors[k], v) for k, v in wanted.items())

    every_kill(tmp_path, prepare, work, check, 15)


def test_a_part_killed_at_every_write_is_whole_or_absent(tmp_path):
    def check(folder, ended):
        assert ended or not (folder / "part").exists() or load_part(folder / "part", {})
        if ended:
            assert load_part(folder / "part", {})[1] == {"new": 1}

    every_kill(
        tmp_path,
        lambda folder: None,
        lambda folder: save_part(folder / "part", NEW, {"new": 1}, {}),
        check,
        10,
    )


def test_a_part_that_takes_the_place_of_another_is_the_old_or_the_new_one(tmp_path):
    def check(folder, ended):
        if not (folder / "part").exists():
            assert not ended and load_part(aside(folder / "part", "old"), {})[1] == {"old": 1}
            return
        assert load_part(folder / "part", {})[1] == {"new": 1} or not ended

    every_kill(
        tmp_path,
        lambda folder: save_part(folder / "part", OLD, {"old": 1}, {}),
        lambda folder: save_part(folder / "part", NEW, {"new": 1}, {}),
        check,
        12,
    )


def test_a_file_killed_at_every_write_is_the_old_or_the_new_one(tmp_path):
    def check(folder, ended):
        assert read_json(folder / "x.json") in ([{"new": 1}] if ended else [{"old": 1}, {"new": 1}])

    every_kill(
        tmp_path,
        lambda folder: write_json(folder / "x.json", {"old": 1}),
        lambda folder: write_json(folder / "x.json", {"new": 1}),
        check,
        3,
    )


def test_a_finished_run_that_is_changed_and_killed_at_every_write(tmp_path):
    """Old or new it opens; in between it says that it is not finished; the same command mends it."""

    def prepare(folder):
        for name in ("results.json", "run.json"):
            write_json(folder / name, {"old": 1})
        write_text(folder / "config.yaml", "seed: 0")
        save_part(folder / "baselines/00-item-mean", OLD, {"old": 1}, {})
        seal(RunFolder(folder))

    def work(folder):
        with resealed(RunFolder(folder)):
            save_part(folder / "baselines/00-item-mean", NEW, {"new": 1}, {})
            write_json(folder / "results.json", {"new": 1})

    def check(folder, ended):
        if RunFolder(folder).is_sealed():
            choose_run(folder)
            new = read_json(folder / "results.json") == {"new": 1}
            assert load_part(folder / "baselines/00-item-mean", {})[1] == {"new" if new else "old": 1}
            assert new or not ended
        else:
            assert not ended
            with pytest.raises(CheckpointError, match="not a finished run folder"):
                choose_run(folder)

    every_kill(tmp_path, prepare, work, check, 25)


# A forked child of a process that has used polars waits for threads which did not come along.  So what
# uses polars is done in a new process, which begins it in its children only.


def in_a_new_process(name, *arguments):
    command = [sys.executable, __file__, name, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=6000, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_prepared_data_killed_at_every_write_is_whole_or_absent(tmp_path, run):
    in_a_new_process("prepared", tmp_path, run)


def prepared(tmp_path, run):
    def work(folder):
        from sasrecllm import Dataset

        data = Dataset.load(run / "data")
        shutil.rmtree(folder / "data", ignore_errors=True)
        commit_folder(folder / "data", data.save)

    def check(folder, ended):
        if (folder / "data").exists():
            verify_folder(folder / "data")
            wanted = read_json(run / "data/dataset.json")["digest"]
            assert read_json(folder / "data/dataset.json")["digest"] == wanted
        else:
            assert not ended

    def again(folder):
        assert killed_at(0, lambda: work(folder))[0]

    every_kill(tmp_path, lambda folder: None, work, check, 10, again)


@pytest.mark.soak
def test_a_whole_run_killed_at_30_writes_ends_as_if_it_had_not_been(run, tmp_path):
    print(in_a_new_process("whole_run", tmp_path, run))


def whole_run(tmp_path, run):
    """From nothing to the manifest: the kills lie anywhere among all writes, in threads as well."""
    from sasrecllm.cli import main

    def work(folder):
        sys.argv = ["sasrecllm", "run", "--config", str(TINY), "--out", str(folder), "--quiet"]
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, ended.code

    ended, writes = killed_at(0, lambda: work(tmp_path / "whole"))
    assert ended
    print(f"{writes} writes in a whole run")
    for n in np.sort(np.random.default_rng(0).choice(np.arange(1, writes), 30, replace=False)):
        folder = tmp_path / f"killed-{n}"
        assert killed_at(int(n), lambda folder=folder: work(folder)) == (False, n)
        assert killed_at(0, lambda folder=folder: work(folder))[0], n
        choose_run(folder)
        for part in run.rglob("weights.safetensors"):
            assert part.read_bytes() == (folder / part.relative_to(run)).read_bytes(), (n, part)
        for name in ("results.json", "showcase.json"):
            assert read_json(folder / name) == read_json(run / name), n
        shutil.rmtree(folder)
        print(f"killed at {n}: the same run", flush=True)


if __name__ == "__main__":
    {"prepared": prepared, "whole_run": whole_run}[sys.argv[1]](*map(Path, sys.argv[2:]))
