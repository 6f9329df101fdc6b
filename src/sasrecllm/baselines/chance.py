"""A score that knows nothing: what AUC ½ looks like on these very rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import FloatArray, Histories, IntArray

Bits = npt.NDArray[np.uint64]


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
        bits = _mixed(np.full(1, self.rows.seed, dtype=np.uint64))
        for value in (histories.users[:, None], histories.asked_at[:, None], candidates):
            bits = _mixed(bits ^ value.astype(np.int64).view(np.uint64))
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(bits: Bits) -> Bits:
    """SplitMix64's step and finaliser: every bit of the input moves every bit of the output.

    Source: Steele, Lea & Flood, OOPSLA 2014, figure 17 (variant 13 of Stafford's mixers).
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it should
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
