"""Alternating pairs in process CPU seconds and wall seconds; the arithmetic floor of this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

Work = Callable[[], Any]
ENOUGH = 0.05
"""CPU seconds that one measurement takes at least: shorter calls are repeated."""


class Took(NamedTuple):
    """Seconds of one call: of this process and all its threads, and by the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Args:
        ours, theirs: medians of the two sides, in ``unit``: CPU seconds of a call unless told.
        ratio: theirs / ours, the median over the pairs; None where the equality check failed.
        low, high: smallest and largest ratio of a pair.
        equal: largest difference that the equality check saw, and what it allows.
        goal: ratio to reach.
        wall: theirs / ours by the clock, the median over the pairs; a busy machine disturbs it.
        threads: how many torch had; 0 for what runs in processes of its own.
        points: CPU seconds at each size, where growth is measured.
    """

    work: str
    rival: str
    ours: float
    theirs: float
    ratio: float | None
    low: float | None
    high: float | None
    equal: Mapping[str, float] = field(default_factory=dict)
    goal: float | None = None
    note: str = ""
    wall: float | None = None
    unit: str = "s"
    threads: int = 0
    points: Mapping[int, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        if self.ratio is None:
            return "not equal: no ratio"
        if self.goal is None:
            return ""
        return "reached" if self.ratio >= self.goal else "missed"


def compare(
    work: str,
    rival: str,
    ours: Work,
    theirs: Work,
    *,
    pairs: int,
    difference: float = 0.0,
    allowed: float = 0.0,
    goal: float | None = None,
    note: str = "",
) -> Finding:
    """Time two ways in alternating pairs after one warm-up each.

    Args:
        difference: what the equality check found; above ``allowed`` nothing is timed.
    """
    checked = {"difference": float(difference), "allowed": float(allowed)}
    if not difference <= allowed:
        return Finding(work, rival, 0.0, 0.0, None, None, None, checked, goal, note)
    repeats = 1 + int(ENOUGH / max(measured(ours).cpu, measured(theirs).cpu))
    times = []
    for number in range(pairs):
        order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        took = {id(side): measured(side, repeats) for side in order}
        times.append((took[id(ours)], took[id(theirs)]))
    return paired(work, rival, times, equal=checked, goal=goal, note=note)


def paired(
    work: str,
    rival: str,
    times: Sequence[tuple[Took, Took]],
    *,
    equal: Mapping[str, float] | None = None,
    goal: float | None = None,
    note: str = "",
) -> Finding:
    """The finding of pairs that were measured: ours and theirs."""
    ratios = [b.cpu / a.cpu for a, b in times]
    return Finding(
        work,
        rival,
        statistics.median(a.cpu for a, _ in times),
        statistics.median(b.cpu for _, b in times),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        equal or {},
        goal,
        note,
        statistics.median(b.wall / a.wall for a, b in times),
    )


def within(work: str, limit: float, found: float, unit: str, note: str = "") -> Finding:
    """A figure beside what it may be at most: the ratio is limit / figure, the goal 1."""
    return Finding(
        work, "what is allowed", found, limit, limit / found, None, None, {}, 1.0, note, unit=unit
    )


def floor(work: str, took: float, operations: float, goal: float | None = None) -> Finding:
    """What ``took`` CPU seconds beside the least that ``operations`` could take here."""
    least = operations / matrix_rate()
    return Finding(
        work, "floor (operations over matrix rate)", took, least, least / took, None, None, {}, goal,
        "share of the floor that is reached",
    )  # fmt: skip


def absent(work: str, rival: str, why: str, goal: float | None = None) -> Finding:
    """A row without a ratio, and why there is none."""
    return Finding(work, rival, 0.0, 0.0, None, None, None, {}, goal, why)


def measured(work: Work, repeats: int = 1) -> Took:
    """What one call takes, the mean of ``repeats``."""
    started, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        work()
    cpu, wall = time.process_time() - started, time.perf_counter() - wall
    return Took(max(1e-9, cpu / repeats), max(1e-9, wall / repeats))


def cpu_seconds(work: Work) -> float:
    """CPU seconds of this process and all its threads for one call."""
    return measured(work).cpu


def matrix_rate(size: int = 768, seconds: float = 0.5) -> float:
    """fp32 matrix products on this machine: operations a CPU second, the best of a few."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        best = max(best, 2 * size**3 * 4 / cpu_seconds(lambda: [a @ b for _ in range(4)]))
    return best


def largest_gap(ours: Any, theirs: Any) -> float:
    """Largest absolute difference of two arrays or tensors."""
    a, b = (np.asarray(torch.as_tensor(v).detach(), dtype=np.float64) for v in (ours, theirs))
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else float("inf")
