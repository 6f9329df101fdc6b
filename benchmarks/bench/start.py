"""What a person waits for before anything is computed: help, and a first answer."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench.measure import Finding, Took, absent, within
from sasrecllm.data.batch_files import users_of


def bench(run: Path | None, times: int) -> list[Finding]:
    """``--help`` and the first recommendation of a new process, in its CPU seconds.

    On an idle machine that is what the clock says too: a start is one thread's work.

    Args:
        run: a finished run; without one only the help is timed.
    """
    found = [_finding("sasrecllm --help", 0.4, ["--help"], times)]
    work = "first recommendation after start"
    rows = None if run is None else run / "data" / "interactions.parquet"
    if run is None or rows is None or not rows.is_file():
        return [*found, absent(work, "what is allowed", "no run: make demo, then --run runs/demo", 1.0)]
    (user,) = users_of(rows, 0, 1)
    return [*found, _finding(work, 5.0, ["recommend", str(run), "--user", user, "-k", "10"], times)]


def _finding(work: str, limit: float, arguments: list[str], times: int) -> Finding:
    took = [_process([sys.executable, "-P", "-m", "sasrecllm", *arguments]) for _ in range(times)]
    clock = statistics.median(t.wall for t in took)
    return within(
        work, limit, statistics.median(t.cpu for t in took), "s", f"{clock:.1f} s by the clock"
    )


def _process(command: list[str]) -> Took:
    """What a process takes from its start to its end."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    user = after.children_user - before.children_user
    return Took(user + after.children_system - before.children_system, wall)
