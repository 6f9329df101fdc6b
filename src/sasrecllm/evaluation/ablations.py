"""Scorers that take something away, to show whether a model uses it at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sasrecllm.types import FloatArray, Histories, IntArray, Scorer


class ShuffledHistory:
    """Asks ``scorer`` with the entries of every history in random order.

    Labels and times move with their items, so only the order is lost.  The order is a function of
    the seed, the user, the time of the question and the length of the history, so it depends
    neither on the batch nor on the row's place in it.
    """

    def __init__(self, scorer: Scorer, seed: int = 0) -> None:
        self.name = f"{scorer.name}, history shuffled"
        self.scorer = scorer
        self.seed = seed

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C] after shuffled histories."""
        return self.scorer.score(self.shuffled(histories), candidates)

    def shuffled(self, histories: Histories) -> Histories:
        """The same entries, each row in an order of its own."""
        lengths = np.diff(histories.offsets)
        row = np.full(len(histories), self.seed, dtype=np.int64)
        for part in (histories.users, histories.asked_at, lengths):
            row = _mix(row ^ part)
        owners = histories.owners
        place = np.arange(len(histories.items)) - histories.offsets[:-1][owners]
        order = np.lexsort((_mix(row[owners] + place), owners))
        return Histories(
            histories.users,
            histories.items[order],
            histories.labels[order],
            histories.times[order],
            histories.offsets,
            histories.asked_at,
        )


def _mix(values: IntArray) -> IntArray:
    """A well-mixed number for each number: the finaliser of SplitMix64 (Steele et al., 2014)."""
    x: npt.NDArray[np.uint64] = values.astype(np.int64).view(np.uint64)
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).view(np.int64)
