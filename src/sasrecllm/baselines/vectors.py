"""Likeness of what items are: the vectors that were brought, or read off their titles.

A candidate's score is the mean cosine to the likes of the history, the latest counting more.  No
training row is needed, so an item that is new has a score like all others.

Legend: B histories, I items, D numbers of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sasrecllm.baselines.catalogue import read_out
from sasrecllm.baselines.pairs import fading
from sasrecllm.types import FloatArray, Histories, IntArray


@dataclass(frozen=True)
class VectorLikeness:
    """Mean cosine of an item's vector to those of the likes.

    Args:
        vectors: of every item, of length one or zero, [I, D].
        half_life: of a like of the history, in newer likes.
    """

    vectors: FloatArray
    half_life: float = 10.0
    name: str = "item vectors"
    knows_new_items: ClassVar[bool] = True

    def over(self, vectors_ID: FloatArray) -> VectorLikeness:
        """The same over a catalogue with further items at its end."""
        return replace(self, vectors=vectors_ID)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I], in [-1, 1]; 0 where nothing is liked yet."""
        liked = histories.liked()
        liked = liked.keep((liked.items >= 0) & (liked.items < len(self.vectors)))
        worth = fading(liked, self.half_life)
        out = np.zeros((len(liked), len(self.vectors)))
        for row in range(len(liked)):  # one by one, so that no bit depends on the batch
            entries = slice(liked.offsets[row], liked.offsets[row + 1])
            if entries.start < entries.stop:
                wish_D = worth[entries] @ self.vectors[liked.items[entries]]
                out[row] = self.vectors @ wish_D / worth[entries].sum()
        return out

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the catalogue."""
        return read_out(self.scores, histories, candidates, len(self.vectors))
