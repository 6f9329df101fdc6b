"""One row per baseline; the first three start every results table."""

from __future__ import annotations

from collections.abc import Callable

from sasrecllm.baselines.trivial import (
    ItemMean,
    ItemMeanPlusRunningMean,
    Popularity,
    RunningMean,
    TrainMeans,
    TwoMeans,
)
from sasrecllm.types import Scorer

BASELINES: dict[str, Callable[[TrainMeans], Scorer]] = {
    "item mean": ItemMean,
    "item mean + user mean": TwoMeans,
    "item mean + running mean": ItemMeanPlusRunningMean,
    "running mean": RunningMean,
    "popularity": Popularity,
}

ALWAYS = ("item mean", "item mean + user mean", "item mean + running mean")
"""The rows that every table starts with."""
