"""Alternating pairs in process CPU seconds and wall seconds; the arithmetic floor of this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

Work = Callable[[], Any]


class Took(NamedTuple):
    """Seconds of one call: of this process and all its threads, and by the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Args:
        ours, theirs: median CPU seconds of the two sides.
        ratio: theirs / ours, the median over the pairs; None where the equality check failed.
        low, high: smallest and largest ratio of a pair.
        equal: largest difference that the equality check saw, and what it allows.
        goal: ratio to reach.
        wall: theirs / ours by the clock, the median over the pairs; a busy machine disturbs it.
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
    ours(), theirs()
    times = []
    for number in range(pairs):
        order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        took = {id(side): measured(side) for side in order}
        times.append((took[id(ours)], took[id(theirs)]))
    ratios = [b.cpu / a.cpu for a, b in times]
    return Finding(
        work,
        rival,
        statistics.median(a.cpu for a, _ in times),
        statistics.median(b.cpu for _, b in times),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        checked,
        goal,
        note,
        statistics.median(b.wall / a.wall for a, b in times),
    )


def measured(work: Work) -> Took:
    """What one call takes."""
    started, wall = time.process_time(), time.perf_counter()
    work()
    return Took(max(1e-9, time.process_time() - started), max(1e-9, time.perf_counter() - wall))


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
