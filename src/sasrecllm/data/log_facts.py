"""What only the log itself knows of its rows, kept beside them: their ratings, repeats and ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sasrecllm.types import FloatArray, IntArray

BINS = 10
"""Bars, more or less, of a histogram of more different ratings than :data:`MOST_VALUES`."""
MOST_VALUES = 12

Bar = tuple[float, float, int]
"""Lowest and highest rating of a bar of a histogram, and its rows."""


@dataclass(frozen=True)
class LogFacts:
    """Facts of a log when its data set was made.

    Args:
        feedback: ``labels``, ``ratings`` or ``implicit``.
        split: the rule that divided the rows.
        threshold: a rating of this or more is a like; None where there are no ratings.
        ratings: their histogram.
        repeats: rows that repeat the user, item and moment of another row.
        ties: rows that share user and moment with another row.
        order: what orders a history: ``time``, ``order`` (a column) or ``file`` (its rows).
    """

    feedback: str
    split: str
    threshold: float | None = None
    ratings: tuple[Bar, ...] = ()
    repeats: int = 0
    ties: int = 0
    order: str = "time"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LogFacts:
        """What :meth:`to_dict` wrote."""
        bars = tuple((float(low), float(high), int(rows)) for low, high, rows in values["ratings"])
        return cls(**{**values, "ratings": bars})


def histogram(ratings: FloatArray, rows: IntArray | None = None) -> tuple[Bar, ...]:
    """A bar for every rating, or about ten of equal, round width where there are more than a dozen.

    A bar holds its lowest rating and not its highest, which the next one has, but for the last.

    Args:
        ratings: one for each row; or, with ``rows``, each different one once, ascending.
        rows: how many have each.

    >>> histogram(np.array([1.0, 5.0, 5.0]))
    ((1.0, 1.0, 1), (5.0, 5.0, 2))
    """
    values, counts = (ratings, rows) if rows is not None else np.unique(ratings, return_counts=True)
    if len(values) <= MOST_VALUES:
        return tuple((float(v), float(v), int(n)) for v, n in zip(values, counts, strict=True))
    edges = _round_edges(float(values[0]), float(values[-1]))
    bar = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    of_bars = np.bincount(bar, counts, minlength=len(edges) - 1)
    return tuple(
        (float(low), float(high), int(n))
        for low, high, n in zip(edges[:-1], edges[1:], of_bars, strict=True)
    )


def _round_edges(low: float, high: float) -> FloatArray:
    """Edges of about :data:`BINS` bars from ``low`` to ``high``, multiples of 1, 2 or 5 times 10^n."""
    wide = (high - low) / BINS
    unit = 10.0 ** np.floor(np.log10(wide))
    step = next((n * unit for n in (1, 2, 5) if n * unit >= wide * (1 - 1e-9)), 10 * unit)
    first, last = np.floor(low / step), np.ceil(high / step)
    return np.asarray(np.arange(first, last + 1) * step, dtype=np.float64)
