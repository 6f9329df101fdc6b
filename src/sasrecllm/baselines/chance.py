"""A score that knows nothing: what AUC ½ looks like on these very rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.seeds import mixed
from sasrecllm.types import FloatArray, Histories, IntArray


@dataclass(frozen=True)
class Random:
    """Uniform in [0, 1), a function of seed, user, item and time of the question alone.

    The numbers are hashed rather than drawn, so neither the batch nor its order can change one.
    Unknown users share an index and so a score, for one item at one time.
    """

    rows: TrainRows
    name: str = "random"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        bits = mixed(np.full(1, self.rows.seed, dtype=np.uint64))
        for value in (histories.users[:, None], histories.asked_at[:, None], candidates):
            bits = mixed(bits ^ value.astype(np.int64).view(np.uint64))
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
