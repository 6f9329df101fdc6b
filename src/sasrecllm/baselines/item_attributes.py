"""Taste for attribute values: how often a user's likes have a value, beside how often anybody's have.

    score(i) = Σ_columns mean over i's values v of ln [ (n_v + α p_v) / ((n + α) p_v) ]

n likes of the history have a value in the column, n_v of them v (a like with several values is divided
among them), and p_v is the share of v in all training likes: the log of what the history makes the
value likelier by.  α says how much of everybody's taste each user begins with.  It is fitted for each
column by the likelihood of every training like given those before it, so that a column which says
nothing of taste, a city or a date, has a large one and adds nothing.

The posterior mean of a Dirichlet-multinomial, as in naive Bayes for recommendations: Mooney and Roy,
"Content-based book recommending using learning for text categorization" (2000).

Legend: B histories, I items, A columns, V values of all columns, N values of all training likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from sasrecllm.baselines.catalogue import read_out
from sasrecllm.baselines.pairs import Neighbours
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import FloatArray, Histories, IntArray, values_in

Columns = Mapping[str, Sequence[str | None]]
PRIORS = tuple(float(a) for a in 10.0 ** np.arange(-1.5, 4.25, 0.5))
"""Values of α that are tried, in likes; beyond the last a column is left out."""
MOST_LIKES = 2**20
"""Training likes that α is fitted on, at most."""


@dataclass(frozen=True)
class ItemAttributes:
    """What a history makes an item's attribute values likelier by.

    Args:
        values: from every item to its values, each its share of the column, [I] rows.
        items: the same turned round, [V] rows.
        numbers: column and value -> number of the value.
        columns: of each value, [V].
        base: p_v, [V].
        priors: α of each column, [A]; infinite where the column says nothing.
    """

    values: Neighbours
    items: Neighbours
    numbers: Mapping[tuple[str, str], int]
    columns: IntArray
    base: FloatArray
    priors: FloatArray
    name: str = "item attributes"
    knows_new_items: ClassVar[bool] = True

    @classmethod
    def fit(cls, attributes: Columns, rows: TrainRows) -> ItemAttributes:
        """Of a catalogue's columns, whose values are separated by ``|``, and the training likes."""
        names = sorted({key for keys in map(set, _bags(attributes, rows.n_items)) for key in keys})
        numbers = {key: number for number, key in enumerate(names)}
        order = {name: place for place, name in enumerate(attributes)}
        columns = np.array([order[name] for name, _ in names], dtype=np.int64)
        values = _table(attributes, numbers, rows.n_items)
        users, liked = (part[:MOST_LIKES] for part in rows.likes)
        share_V = 1.0 + values.spread(liked, np.ones(len(liked)))
        base = share_V / np.bincount(columns, share_V)[columns]
        priors = _fitted(values, columns, base, users, liked, len(attributes))
        return cls(values, _turned(values), numbers, columns, base, priors)

    def extended(self, attributes: Columns, count: int) -> ItemAttributes:
        """With ``count`` further items at the end; a value that is new is one that nobody likes yet."""
        column_of = {name: int(self.columns[at]) for (name, _), at in self.numbers.items()}
        found = {key for bag in _bags(attributes, count) for key in bag if key[0] in column_of}
        fresh = sorted(found - self.numbers.keys())
        numbers = {**self.numbers, **{key: len(self.numbers) + at for at, key in enumerate(fresh)}}
        columns = np.array([column_of[name] for name, _ in fresh], dtype=np.int64)
        least = [self.base[self.columns == column].min() for column in columns]
        new, old = _table(attributes, numbers, count), self.values
        both = Neighbours(
            np.concatenate([old.offsets, old.offsets[-1] + new.offsets[1:]]),
            np.concatenate([old.items, new.items]),
            np.concatenate([old.values, new.values]),
            len(numbers),
        )
        return replace(
            self,
            values=both,
            items=_turned(both),
            numbers=numbers,
            columns=np.concatenate([self.columns, columns]),
            base=np.concatenate([self.base, np.array(least, dtype=np.float64)]),
        )

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; 0 where nothing is liked yet."""
        liked = histories.liked()
        telling = np.isfinite(self.priors)
        alpha_V = np.where(telling, self.priors, 1.0)[self.columns] * self.base
        out = np.zeros((len(liked), self.items.width))
        for row, count_V in enumerate(self.values.summed(liked, np.ones(len(liked.items)))):
            count_A = np.bincount(self.columns, count_V, minlength=len(self.priors))
            none_A = np.where(telling, -np.log1p(count_A / np.where(telling, self.priors, 1.0)), 0.0)
            found = np.flatnonzero((count_V > 0) & telling[self.columns])
            rise = np.log1p(count_V[found] / alpha_V[found])
            out[row] = self.items.spread(found, rise) + self._has_IA @ none_A
        return out

    @cached_property
    def _has_IA(self) -> FloatArray:
        """1 where an item has a value in the column."""
        n_items = self.items.width
        cells = np.repeat(np.arange(n_items), np.diff(self.values.offsets)) * len(self.priors)
        cells += self.columns[self.values.items]
        share = np.bincount(cells, self.values.values, minlength=n_items * len(self.priors))
        return share.reshape(n_items, len(self.priors)).astype(np.float64)

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the catalogue."""
        return read_out(self.scores, histories, candidates, self.items.width)


def is_shared(column: Sequence[str | None]) -> bool:
    """Whether two items have one value of a column: else it is but another id."""
    some = [value for values in column for value in set(values_in(values))]
    return len(set(some)) < len(some)


def _bags(attributes: Columns, n_items: int) -> Iterator[list[tuple[str, str]]]:
    """The values of every item, with their columns."""
    for item in range(n_items):
        yield [
            (name, value)
            for name, column in attributes.items()
            for value in sorted(set(values_in(column[item])))
        ]


def _table(attributes: Columns, numbers: Mapping[tuple[str, str], int], n_items: int) -> Neighbours:
    """From every item to its known values, each its share of those in its column."""
    found: list[int] = []
    shares: list[float] = []
    ends = [0]
    for bag in _bags(attributes, n_items):
        many = Counter(name for name, _ in bag)
        known = [key for key in bag if key in numbers]
        found += [numbers[key] for key in known]
        shares += [1.0 / many[name] for name, _ in known]
        ends.append(len(found))
    return Neighbours(
        np.array(ends, dtype=np.int64),
        np.array(found, dtype=np.int64),
        np.array(shares, dtype=np.float64),
        len(numbers),
    )


def _turned(values: Neighbours) -> Neighbours:
    """From every value to its items."""
    n_items = len(values.offsets) - 1
    owners = np.repeat(np.arange(n_items), np.diff(values.offsets))
    return Neighbours.of(values.items, owners, values.values, values.width, n_items)


def _fitted(
    values: Neighbours,
    columns: IntArray,
    base: FloatArray,
    users: IntArray,
    items: IntArray,
    count: int,
) -> FloatArray:
    """α of each of ``count`` columns [A], by the likelihood of every like given those before it.

    Args:
        users, items: of the training likes, user by user, each user's in his order.
    """
    lengths = np.diff(values.offsets)[items]
    like_N = np.repeat(np.arange(len(items)), lengths)
    step_N = np.arange(len(like_N)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at_N = np.repeat(values.offsets[items], lengths) + step_N
    value_N, share_N = values.items[at_N], values.values[at_N]
    own_N = _before(users[like_N] * values.width + value_N, share_N)
    out = np.full(count, np.inf)
    for column in range(count):
        mine = np.flatnonzero(columns[value_N] == column)
        having = np.bincount(like_N[mine], minlength=len(items)) > 0
        n = _before(users, having.astype(np.float64))[like_N[mine]]
        own, share, p = own_N[mine], share_N[mine], base[value_N[mine]]
        gains = [float(share @ np.log((own + a * p) / ((n + a) * p))) for a in PRIORS]
        if max(gains) > 0:
            out[column] = PRIORS[int(np.argmax(gains))]
    return out


def _before(groups: IntArray, worth: FloatArray) -> FloatArray:
    """The worth of all entries of the same group that stand before each entry."""
    order = np.argsort(groups, kind="stable")
    sums = np.cumsum(worth[order]) - worth[order]
    new = np.diff(groups[order], prepend=-1) != 0
    out = np.empty(len(groups))
    out[order] = np.maximum(0.0, sums - sums[new][np.cumsum(new) - 1])
    return out
