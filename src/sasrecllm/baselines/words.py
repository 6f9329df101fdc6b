"""Likeness of what items are called: the words of titles and the values of attributes.

Each item is a vector over its title words and attribute values, weighted by ln(I / items that have
it) and of length one.  A candidate's score is the mean cosine to the likes of the history, the latest
counting more.  No training row is needed, so an item that is new has a score like all others.
Content-based filtering by tf-idf: Pazzani & Billsus, "Content-based recommendation systems" (2007).

Legend: B histories, I items, V words and values that at least two items share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sasrecllm.baselines.catalogue import read_out
from sasrecllm.baselines.pairs import Neighbours, fading
from sasrecllm.types import FloatArray, Histories, IntArray

WORD = re.compile(r"[^\W_]{2,}")


@dataclass(frozen=True)
class WordLikeness:
    """Mean cosine of an item's words and attribute values to those of the likes.

    Args:
        words: from every item to its words and values, [I] rows.
        items: the same turned round, [V] rows.
        half_life: of a like of the history, in newer likes.
    """

    words: Neighbours
    items: Neighbours
    half_life: float = 10.0
    name: str = "title words"

    @classmethod
    def fit(
        cls,
        titles: Sequence[str],
        attributes: Mapping[str, Sequence[str | None]] | None = None,
    ) -> WordLikeness:
        """Of a catalogue; attribute values are separated by ``|``."""
        bags = _bags(titles, attributes or {})
        counts = Counter(word for bag in bags for word in bag)
        number = {w: k for k, w in enumerate(sorted(w for w, n in counts.items() if n > 1))}
        rows = [sorted(number[w] for w in bag if w in number) for bag in bags]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        item = np.repeat(np.arange(len(rows)), lengths)
        word = np.array([w for row in rows for w in row], dtype=np.int64)
        having = np.bincount(word, minlength=len(number))
        weight = np.log(len(rows) / np.maximum(having, 1))[word]
        length = np.sqrt(np.bincount(item, weight**2, minlength=len(rows)))
        weight = weight / np.where(length > 0, length, 1.0)[item]
        return cls(
            Neighbours.of(item, word, weight, len(rows), len(number)),
            Neighbours.of(word, item, weight, len(number), len(rows)),
        )

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I], in [0, 1]; 0 where nothing is liked yet."""
        liked = histories.liked()
        worth = fading(liked, self.half_life)
        total = np.bincount(liked.owners, worth, minlength=len(liked))
        wish_BV = self.words.summed(liked, worth)
        out = np.empty((len(liked), self.items.width))
        for row, wish_V in enumerate(wish_BV):
            out[row] = self.items.spread(np.flatnonzero(wish_V), wish_V[wish_V != 0])
        return out / np.where(total > 0, total, 1.0)[:, None]

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the catalogue."""
        return read_out(self.scores, histories, candidates, self.items.width)


def _bags(titles: Sequence[str], attributes: Mapping[str, Sequence[str | None]]) -> list[set[str]]:
    """Lower-case title words and ``attribute=value`` of every item."""
    bags = [set(WORD.findall(title.lower())) for title in titles]
    for name, column in attributes.items():
        for bag, values in zip(bags, column, strict=True):
            bag |= {f"{name}={value}" for value in (values or "").split("|") if value}
    return bags
