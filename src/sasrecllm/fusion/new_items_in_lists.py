"""Items without a like in training, in lists: one rule for all of them.

A channel that knows items by their likes has nothing to say of such an item, and says what it says of
those most like it in words:

    score(i) = Σ_j s_ij · score(j) + (1 − Σ_j s_ij) · mean of all liked items
    s_ij = cos²_ij / (Σ_j cos²_ij + ½),  j the 20 liked items with the nearest words and attributes

where cos is that of :mod:`sasrecllm.baselines.title_words`.  The mean over several is never as high
as the best of them, and what is new may be more or less wanted than what is old: one *offset*, the
same for all new items, is fitted on validation likes.  An item that shares no word with a liked one
stands where the mean stands.  One that was liked after training has what its channels make of these
few likes where that is more.

Of what can not be learnt without trying a list shows a little all the same: *exploration* gives every
n-th place to the best new item, if one stands among the first ``reach`` and none has a place before.

Legend: B histories, I items, J new items, K nearest items, M places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sasrecllm.baselines.pairs import Neighbours
from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.fusion.contests import (
    blocks,
    contests_of,
    fit_beside,
    joined,
    mark_best,
)
from sasrecllm.machine.progress import Tell
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Free, Histories, IntArray

NEAREST = 20
"""Liked items that speak for a new one."""
SPARE = 0.5
"""Squared cosine that speaks for the mean of all items."""


@dataclass(frozen=True)
class NewItems:
    """Which items are new, and who speaks for them.

    Args:
        words: of the catalogue.
        items: the new ones, ascending, [J].
        nearest: liked items, [J, K].
        shares: of each in the score, [J, K]; 0 behind the last.
        n_items: size of the catalogue.
        offset: what is added to the score of a new item.
    """

    words: WordLikeness
    items: IntArray
    nearest: IntArray
    shares: FloatArray
    n_items: int
    offset: float = 0.0

    @classmethod
    def of(cls, words: WordLikeness, new_I: BoolArray, liked_I: BoolArray) -> NewItems:
        """The items ``new_I``, for whom those of ``liked_I`` speak."""
        items = np.flatnonzero(new_I)
        return cls(words, items, *_nearest(words, items, liked_I), len(new_I))

    @cached_property
    def known_I(self) -> BoolArray:
        """Whether each item is a new one that somebody speaks for, [I]."""
        out = np.zeros(self.n_items, dtype=np.bool_)
        out[self.items[self.shares.sum(1) > 0]] = True
        return out

    def with_offset(self, offset: float) -> NewItems:
        """The same items with another offset."""
        return replace(self, offset=offset)

    def extended(self, words: WordLikeness, n_items: int) -> NewItems:
        """With the items of ``words`` behind those of the catalogue, all of them new."""
        liked_I = np.zeros(n_items, dtype=np.bool_)
        liked_I[: self.n_items] = True
        liked_I[self.items] = False
        added = np.arange(self.n_items, n_items)
        nearest, shares = _nearest(words, added, liked_I)
        return NewItems(
            words,
            np.concatenate([self.items, added]),
            np.concatenate([self.nearest, nearest]),
            np.concatenate([self.shares, shares]),
            n_items,
            self.offset,
        )

    def filled(self, scores_BI: FloatArray) -> FloatArray:
        """Scores of channels that know items by their likes, with those of the new ones, [B, I].

        Of a new item the higher of what is given and what its nearest say.
        """
        if not len(self.items):
            return scores_BI
        liked = np.setdiff1d(np.arange(self.n_items), self.items)
        mean_B1 = np.zeros((len(scores_BI), 1))
        if len(
            liked
        ):  # taken, not sliced: rows that stand in one piece are added up alike in any batch
            mean_B1 = np.take(scores_BI, liked, axis=1).mean(1, keepdims=True)
        new_BJ = mean_B1 * (1.0 - self.shares.sum(1))
        for place in range(self.nearest.shape[1]):
            new_BJ += np.take(scores_BI, self.nearest[:, place], axis=1) * self.shares[:, place]
        new_BJ = np.maximum(new_BJ, np.take(scores_BI, self.items, axis=1))
        out = scores_BI.copy()
        out[:, self.items] = new_BJ + np.where(self.shares.sum(1) > 0, self.offset, 0.0)
        return out

    def arrays(self) -> dict[str, IntArray | FloatArray]:
        """What is slow to find again."""
        return {"items": self.items, "nearest": self.nearest, "shares": self.shares}

    @classmethod
    def from_arrays(
        cls, words: WordLikeness, arrays: Mapping[str, np.ndarray], n_items: int, offset: float
    ) -> NewItems:
        """What :meth:`arrays` gave, over the words of the same catalogue.

        Raises:
            KeyError: one is missing.
            ValueError: one is not what it should be.
        """
        items, nearest, shares = (arrays[name] for name in ("items", "nearest", "shares"))
        for name, found in (("items", items), ("nearest items", nearest)):
            if found.size and not 0 <= found.min() <= found.max() < n_items:
                raise ValueError(f"{name} of the new items are not in the catalogue")
        shapes = nearest.shape == shares.shape == (len(items), nearest.shape[1])
        if not shapes or not np.isfinite(shares).all() or not np.isfinite(offset):
            raise ValueError("shares of the new items are not what they should be")
        return cls(words, items, nearest, shares, n_items, offset)


def fit_offset(
    fused: Callable[[Histories], FloatArray],
    new_I: BoolArray,
    histories: Histories,
    targets: IntArray,
    *,
    free: Free,
    best: int = 50,
    ridge: float = 1.0,
    progress: Tell | None = None,
) -> float:
    """What makes likes of new items as likely as they are, among the best of each kind.

    Args:
        fused: scores [B, I] without an offset.
        free: what competes.
        best: new items, and others, that compete for a like.
        progress: called with (done, all) as it goes on.
    """
    parts = []
    for rows in blocks(len(targets), len(new_I), progress):
        part = histories.take(rows)
        free_BI, fused_BI = free(part), fused(part)
        among_BI = np.zeros_like(free_BI)
        for kind_I in (new_I, ~new_I):
            mark_best(among_BI, fused_BI, free_BI & kind_I, best)
        is_new_BI = np.broadcast_to(new_I.astype(np.float64), fused_BI.shape)
        parts.append(contests_of(among_BI, [fused_BI, is_new_BI], targets[rows]))
    return fit_beside(joined(parts), ridge) if parts else 0.0


def _nearest(words: WordLikeness, items: IntArray, liked_I: BoolArray) -> tuple[IntArray, FloatArray]:
    """The liked items nearest to each of ``items``, and their shares, [J, K] both."""
    nearest = np.zeros((len(items), NEAREST), dtype=np.int64)
    shares = np.zeros((len(items), NEAREST))
    rows, having = words.words, _of_liked(words.items, liked_I)
    for number, item in enumerate(items):
        own = slice(rows.offsets[item], rows.offsets[item + 1])
        like_I = having.spread(rows.items[own], rows.values[own])
        near = np.flatnonzero(like_I)
        if len(near) > NEAREST:
            near = near[like_I[near] >= np.partition(like_I[near], -NEAREST)[-NEAREST]]
        near = near[np.argsort(-like_I[near], kind="stable")[:NEAREST]]
        squares = like_I[near] ** 2
        nearest[number, : len(near)] = near
        shares[number, : len(near)] = squares / (squares.sum() + SPARE)
    return nearest, shares


def _of_liked(table: Neighbours, liked_I: BoolArray) -> Neighbours:
    """From words to the liked items alone."""
    kept = liked_I[table.items]
    owners = np.repeat(np.arange(len(table.offsets) - 1), np.diff(table.offsets))[kept]
    offsets = np.searchsorted(owners, np.arange(len(table.offsets)))
    return replace(table, offsets=offsets, items=table.items[kept], values=table.values[kept])


def explored(items_BM: IntArray, new_I: BoolArray, every: int, reach: int) -> IntArray:
    """The order of the places of each list, [B, M], with a new item in every ``every`` of them.

    A list that has no new item in ``every`` places in a row gives the last of them to the best new
    item behind, if that stands among the first ``reach``.  The first k of a list do not depend on its
    length.

    Args:
        items_BM: best first, UNKNOWN behind the last.
        new_I: whether each item is new.
        every: 0 for no exploration.
    """
    places_BM = np.tile(np.arange(items_BM.shape[1]), (len(items_BM), 1))
    if not every or not new_I.any():
        return places_BM
    is_new_BM = new_I[np.where(items_BM == UNKNOWN, 0, items_BM)] & (items_BM != UNKNOWN)
    is_new_BM[:, reach:] = False
    for row in np.flatnonzero(is_new_BM.any(1)):
        places = list(places_BM[row])
        for end in range(every, min(reach, len(places)), every):
            if is_new_BM[row, places[end - every : end]].any():
                continue
            behind = [at for at in range(end, min(reach, len(places))) if is_new_BM[row, places[at]]]
            if not behind:
                break
            places.insert(end - 1, places.pop(behind[0]))
        places_BM[row] = places
    return places_BM
