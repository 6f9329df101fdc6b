"""What a source that makes its rows up knows of them, and no real data set does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sasrecllm.types import FloatArray


@dataclass(frozen=True)
class Truth:
    """The truth behind made-up rows.

    Args:
        parameters: what they were made with, as plain values for the report.
        probability: (user id, item id) of every row, as the tables spell them -> true P(like).
    """

    parameters: Mapping[str, Any]
    probability: Mapping[tuple[str, str], float]

    def of(self, users: Sequence[str], items: Sequence[str]) -> FloatArray:
        """True P(like) of rows, [N]."""
        pairs = zip(users, items, strict=True)
        return np.array([self.probability[pair] for pair in pairs], dtype=np.float64)
