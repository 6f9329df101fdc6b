"""Likeness of what items are called: the words of titles and the values of attributes.

Each item is a vector over its title words and attribute values, weighted by ln(I / items that have
it) and of length one.  A candidate's score is the mean cosine to the likes of the history, the latest
counting more.  No training row is needed, so an item that is new has a score like all others.
Content-based filtering by tf-idf: Pazzani & Billsus, "Content-based recommendation systems" (2007).

Legend: B histories, I items, V words and values that at least two items share.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sasrecllm.baselines.catalogue import read_out
from sasrecllm.baselines.pairs import Neighbours, fading
from sasrecllm.types import FloatArray, Histories, IntArray, values_in

WORD = re.compile(r"[^\W_]{2,}")


@dataclass(frozen=True)
class WordLikeness:
    """Mean cosine of an item's words and attribute values to those of the likes.

    Args:
        words: from every item to its words and values, [I] rows.
        items: the same turned round, [V] rows.
        weights: word or value -> its number and its weight.
        half_life: of a like of the history, in newer likes.
    """

    words: Neighbours
    items: Neighbours
    weights: Mapping[str, tuple[int, float]]
    half_life: float = 10.0
    name: str = "title words"
    knows_new_items: ClassVar[bool] = True

    @classmethod
    def fit(
        cls,
        titles: Sequence[str],
        attributes: Mapping[str, Sequence[str | None]] | None = None,
    ) -> WordLikeness:
        """Of a catalogue; attribute values are separated by ``|``."""
        bags = _bags(titles, attributes or {})
        counts = Counter(word for bag in bags for word in bag)
        shared = sorted(word for word, n in counts.items() if n > 1)
        weights = {w: (k, math.log(len(bags) / counts[w])) for k, w in enumerate(shared)}
        rows = [_vector(bag, weights) for bag in bags]
        return cls(*_tables(_row_table(rows, len(weights)), len(weights)), weights)

    def extended(
        self, titles: Sequence[str], attributes: Mapping[str, Sequence[str | None]] | None = None
    ) -> WordLikeness:
        """With further items at the end; the words that count, and their weights, stay."""
        new = _row_table(
            [_vector(bag, self.weights) for bag in _bags(titles, attributes or {})], len(self.weights)
        )
        old = self.words
        both = Neighbours(
            np.concatenate([old.offsets, old.offsets[-1] + new.offsets[1:]]),
            np.concatenate([old.items, new.items]),
            np.concatenate([old.values, new.values]),
            old.width,
        )
        words, items = _tables(both, len(self.weights))
        return replace(self, words=words, items=items)

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
            bag |= {f"{name}={value}" for value in values_in(values)}
    return bags


def _vector(bag: set[str], weights: Mapping[str, tuple[int, float]]) -> tuple[list[int], FloatArray]:
    """Numbers of the words of an item that count, ascending, and their weights, of length one."""
    found = sorted(weights[word] for word in bag if word in weights)
    values = np.array([weight for _, weight in found])
    length = float(np.sqrt(values @ values)) if len(values) else 0.0
    return [number for number, _ in found], values / (length or 1.0)


def _row_table(rows: list[tuple[list[int], FloatArray]], n_words: int) -> Neighbours:
    offsets = np.concatenate([[0], np.cumsum([len(numbers) for numbers, _ in rows])]).astype(np.int64)
    numbers = np.array([n for row, _ in rows for n in row], dtype=np.int64)
    values = np.concatenate([np.zeros(0), *(values for _, values in rows)])
    return Neighbours(offsets, numbers, values, n_words)


def _tables(words: Neighbours, n_words: int) -> tuple[Neighbours, Neighbours]:
    """From items to words, and from words to items."""
    n_items = len(words.offsets) - 1
    owners = np.repeat(np.arange(n_items), np.diff(words.offsets))
    return words, Neighbours.of(words.items, owners, words.values, n_words, n_items)
