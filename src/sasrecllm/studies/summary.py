"""Many rows, each with several seeds, in one table: means, intervals and paired differences.

A row's value is the mean over its seeds.  One set of user resamples serves every row and every seed,
so an interval tells how far the value depends on the test users drawn; the spread over seeds stands
beside it.  Rows of a slice are judged by the same resamples of that slice's users.

Legend: B questions, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sasrecllm.evaluation.comparison import Judge
from sasrecllm.evaluation.intervals import interval
from sasrecllm.types import FloatArray

Draws = dict[str, tuple[float | None, FloatArray]]
"""Metric -> its value and its value in every resample [R]."""


class SeedScores(NamedTuple):
    """One trained model's answers."""

    seed: int
    scores: FloatArray  # [B]
    probabilities: FloatArray  # [B]


def summarise(judge: Judge, rows: Mapping[str, Sequence[SeedScores]]) -> dict[str, dict[str, Any]]:
    """Row -> intervals, spread over seeds, slices, and differences to every other row.

    Returns:
        For each row ``seeds``; ``intervals`` metric -> [value, low, high] (``auc on SLICE`` for the
        judge's slices); ``spread`` metric -> standard deviation over seeds, None for one seed;
        ``differences`` other row -> metric -> [value, low, high], this row minus the other.
    """
    drawn = {name: _mean_draws(judge, seeds) for name, seeds in rows.items()}
    out: dict[str, dict[str, Any]] = {}
    for name, seeds in rows.items():
        draws, spread = drawn[name]
        out[name] = {
            "seeds": [s.seed for s in seeds],
            "intervals": {k: interval(*d).to_list() for k, d in draws.items()},
            "spread": spread,
            "differences": {
                other: _differences(draws, theirs)
                for other, (theirs, _) in drawn.items()
                if other != name
            },
        }
    return out


def _mean_draws(judge: Judge, seeds: Sequence[SeedScores]) -> tuple[Draws, dict[str, float | None]]:
    """Mean over seeds of every metric and of every resample, and the standard deviation over seeds."""
    each = [judge.resampled(s.scores, s.probabilities) for s in seeds]
    draws: Draws = {}
    spread: dict[str, float | None] = {}
    for key in each[0]:
        values = [one[key][0] for one in each]
        defined = [v for v in values if v is not None]
        whole = len(defined) == len(each)
        draws[key] = (
            float(np.mean(defined)) if whole else None,
            np.mean([one[key][1] for one in each], axis=0),
        )
        spread[key] = float(np.std(defined, ddof=1)) if whole and len(each) > 1 else None
    return draws, spread


def _differences(ours: Draws, theirs: Draws) -> dict[str, list[float | None]]:
    out = {}
    for key, (value, draws) in ours.items():
        other, other_draws = theirs[key]
        both = value is not None and other is not None
        difference = value - other if value is not None and other is not None else None
        out[key] = interval(difference, draws - other_draws if both else draws * np.nan).to_list()
    return out
