"""Scorers that take something away, to show whether a model uses it at all."""

from __future__ import annotations

import numpy as np

from sasrecllm.types import FloatArray, Histories, IntArray, Scorer


class ShuffledHistory:
    """Asks ``scorer`` with the entries of every history in random order.

    The order is a function of the seed and of the row itself, so it does not depend on the batch.
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
        order = np.arange(len(histories.items))
        for row in range(len(histories)):
            start, end = histories.offsets[row], histories.offsets[row + 1]
            content = [self.seed, int(histories.asked_at[row]), int(histories.users[row]) + 1]
            rng = np.random.default_rng([abs(c) for c in content])
            order[start:end] = start + rng.permutation(end - start)
        return Histories(
            histories.users,
            histories.items[order],
            histories.labels[order],
            histories.times[order],
            histories.offsets,
            histories.asked_at,
        )
