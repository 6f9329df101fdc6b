"""Lists that do not repeat themselves: maximal marginal relevance over the candidates.

    next item = argmax_i (1 − λ) · relevance_i − λ · max over the chosen j of likeness_ij

The relevance is the candidate's place on the way from the last candidate's list score (0) to the
best one's (1); the likeness is a cosine.  λ = 0 is the order by score.
Carbonell & Goldstein, "The use of MMR, diversity-based reranking" (SIGIR 1998), whose λ is 1 − ours.

Legend: B histories, C candidates, K length of a list, D width of the encoder, V words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.data.catalog import Catalog
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.ops.unit_rows import unit_rows
from sasrecllm.types import UNKNOWN, FloatArray, IntArray

Likeness = Callable[[IntArray], FloatArray]
"""Of items [C] their likeness to each other, [C, C]."""


class ItemLikeness:
    """How like each other items are: the cosine of the encoder's vectors where both have one, else of
    their words and attribute values (tf-idf).

    Args:
        encoder: its vectors as they are now; items behind its last have none.
        catalog: titles and attributes.
    """

    def __init__(self, encoder: SequentialEncoder, catalog: Catalog) -> None:
        self.encoder, self.catalog = encoder, catalog

    @cached_property
    def _words(self) -> WordLikeness:
        return WordLikeness.fit(self.catalog.titles, self.catalog.attributes)

    def __call__(self, items: IntArray) -> FloatArray:
        """Likeness of ``items`` [C] to each other, [C, C]."""
        seen = self.encoder.seen_items.cpu().numpy()
        has = np.zeros(len(items), dtype=bool)
        inside = items < len(seen)
        has[inside] = seen[items[inside]]
        out = np.zeros((len(items), len(items)))
        if has.any():
            with torch.no_grad():
                rows = torch.from_numpy(items[has]).to(self.encoder.device)
                vectors = self.encoder.item_vectors(rows).double().cpu().numpy()
            out[np.ix_(has, has)] = cosines(vectors)
        if not has.all():
            by_words = cosines(self._word_vectors(items))
            both = has[:, None] & has
            out[~both] = by_words[~both]
        return out

    def _word_vectors(self, items: IntArray) -> FloatArray:
        """Their words as rows, [C, W] over the words that any of them has."""
        table = self._words.words
        rows = [slice(table.offsets[i], table.offsets[i + 1]) for i in items]
        used = np.unique(np.concatenate([table.items[row] for row in rows]))
        out = np.zeros((len(items), len(used)))
        for vector, row in zip(out, rows, strict=True):
            vector[np.searchsorted(used, table.items[row])] = table.values[row]
        return out


def cosines(vectors: FloatArray) -> FloatArray:
    """Cosine of each pair of rows of [C, D], [C, C]; 0 for a row of zeros."""
    unit = unit_rows(vectors)
    return np.asarray(unit @ unit.T)


def mixed(
    items_BC: IntArray, worth_BC: FloatArray, k: int, share: float, likeness: Likeness
) -> IntArray:
    """Places of the chosen candidates of each history in the order of choice, [B, K].

    Args:
        items_BC: candidates, best first, UNKNOWN behind the last.
        worth_BC: list scores, falling.
        share: λ, from 0 to 1.

    Equal ones stand in the order of the candidates; places behind the last candidate follow in order.
    """
    keep = min(k, items_BC.shape[1])
    out = np.tile(np.arange(keep), (len(items_BC), 1))
    for row, (items, worth) in enumerate(zip(items_BC, worth_BC, strict=True)):
        count = int((items != UNKNOWN).sum())
        if count > 1:
            chosen = _chosen(worth[:count], likeness(items[:count]), min(keep, count), share)
            out[row, : len(chosen)] = chosen
    return out


def _chosen(worth_C: FloatArray, likeness_CC: FloatArray, k: int, share: float) -> list[int]:
    """Places of ``k`` candidates by maximal marginal relevance."""
    span = float(worth_C[0] - worth_C[-1])
    relevance_C = (worth_C - worth_C[-1]) / span if span > 0 else np.ones(len(worth_C))
    chosen = [0]
    nearest_C = likeness_CC[0].copy()
    while len(chosen) < k:
        gain_C = (1 - share) * relevance_C - share * nearest_C
        gain_C[chosen] = -np.inf
        chosen.append(int(np.argmax(gain_C)))
        nearest_C = np.maximum(nearest_C, likeness_CC[chosen[-1]])
    return chosen
