"""What the user liked before: for data in which likes come back.

Music is played again and groceries are bought again; where items of the history may be served, the
likeliest next like is often one of the last (``repeats``) or one that comes back all the time
(``personal frequency``, which hardly fades: the last likes of a history of baskets are those of the
last basket, and what is in it is not needed at once).  Li, Jullien, Ariannezhad and de Rijke, "A next
basket recommendation reality check" (2023).

Legend: B histories, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sasrecllm.baselines.catalogue import CatalogueScorer
from sasrecllm.baselines.pairs import fading
from sasrecllm.types import FloatArray, Histories


@dataclass(frozen=True)
class Repeats(CatalogueScorer):
    """Likes of the item in the history, each worth half as much after every ``half_life`` newer ones.

    Args:
        half_life: in likes of the history.
    """

    half_life: float = 3.0
    name: str = "repeats"
    HABIT: ClassVar[float] = 100.0
    """Half-life of ``personal frequency``."""
    knows_new_items: ClassVar[bool] = True

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; 0 for an item that the history does not like."""
        liked = histories.liked()
        worth, n = fading(liked, self.half_life), self.rows.n_items
        inside = (liked.items >= 0) & (liked.items < n)
        cells = liked.owners[inside] * n + liked.items[inside]
        flat = np.bincount(cells, worth[inside], minlength=len(histories) * n)
        return flat.astype(np.float64).reshape(len(histories), n)
