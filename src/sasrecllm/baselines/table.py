"""One row per baseline; the first three start every results table."""

from __future__ import annotations

from collections.abc import Callable

from sasrecllm.baselines.als import ALS
from sasrecllm.baselines.chance import Random
from sasrecllm.baselines.ease import EASE
from sasrecllm.baselines.knn import ItemKNN
from sasrecllm.baselines.markov import MarkovChain
from sasrecllm.baselines.recent import RecentPopularity
from sasrecllm.baselines.sequence_rules import SequenceRules
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.trivial import (
    ItemMean,
    ItemMeanPlusRunningMean,
    Popularity,
    RunningMean,
    TwoMeans,
)
from sasrecllm.types import Scorer

BASELINES: dict[str, Callable[[TrainRows], Scorer]] = {
    "item mean": lambda rows: ItemMean(rows.means),
    "item mean + user mean": lambda rows: TwoMeans(rows.means),
    "item mean + running mean": lambda rows: ItemMeanPlusRunningMean(rows.means),
    "running mean": lambda rows: RunningMean(rows.means),
    "popularity": lambda rows: Popularity(rows.means),
    "random": Random,
    "ItemKNN": ItemKNN,
    "Markov chain": MarkovChain,
    "recent popularity": RecentPopularity,
    "EASE": EASE,
    "fading EASE": lambda rows: EASE(rows, half_life=10.0, name="fading EASE"),
    "sequence rules": SequenceRules,
    "ALS": ALS,
}

ALWAYS = ("item mean", "item mean + user mean", "item mean + running mean")
"""The rows that every table starts with."""
