"""What an item is, as numbers: attributes, release year and title words.

The vocabulary is fixed once, on the run's catalogue; an item that comes later is read with the same
columns, so that it gets the row that it would have had from the start.

Legend: I items, D features of one group or of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sasrecllm.ops.unit_rows import unit_rows
from sasrecllm.types import FloatArray, IntArray, values_in

YEAR = re.compile(r"\((1[89]\d\d|20\d\d)\)")
WIDTH = 8.0
"""Years that a bump reaches to each side."""
DOUBLINGS = 2.0
"""Doublings of the number of training rows that a bump reaches to each side."""
VALUES = 500
"""Most frequent values of an attribute that get a column."""


@dataclass(frozen=True)
class ItemFeatures:
    """Columns of the feature groups.

    Args:
        attributes: name of each attribute -> its values, one column each.
        years: centres of the overlapping bumps of the release year; none where few titles carry one.
        words: title words, one column each.
    """

    attributes: Mapping[str, tuple[str, ...]]
    years: FloatArray
    words: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        titles: Sequence[str],
        attributes: Mapping[str, Sequence[str | None]],
        *,
        words: int = 256,
    ) -> ItemFeatures:
        """Choose the columns: most frequent values and ``words`` title words that two items share."""
        years = _years(titles)
        dated = len(titles) > 0 and np.isfinite(years).mean() > 0.5
        return cls(
            {name: _frequent(_split(column), VALUES) for name, column in attributes.items()},
            np.arange(np.nanmin(years), np.nanmax(years) + WIDTH, WIDTH / 2) if dated else np.zeros(0),
            _frequent(_words(titles), words),
        )

    def groups(
        self, titles: Sequence[str], attributes: Mapping[str, Sequence[str | None]]
    ) -> list[FloatArray]:
        """Feature groups of items, each [I, D_g] with rows of length one (or zero).

        One group per attribute (values separated by ``|``), the product of the first with the year,
        the year, and the title words; a group without columns is left out.  An attribute that
        ``attributes`` lacks is read as unknown.
        """
        nothing: list[str | None] = [None] * len(titles)
        groups = [
            _bag(_split(attributes.get(name, nothing)), values)
            for name, values in self.attributes.items()
        ]
        years = _bumps(_years(titles), self.years, WIDTH)
        groups += [_crossed(g, years) for g in groups[:1]] + [years]
        groups.append(_bag(_words(titles), self.words))
        return [g for g in groups if g.shape[1]]


def popularity(counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """How often the crowd rated each item, as overlapping bumps of the logarithm, [I, D].

    Also the row [D] of an item that nobody could rate yet, which is the others' mean: an item is not
    unpopular because it is new.

    Args:
        counts: [I] training rows of each item.
    """
    doublings = np.log2(1.0 + counts)
    centres = np.arange(0.0, doublings.max(initial=0.0) + DOUBLINGS, DOUBLINGS / 2)
    table = _bumps(doublings, centres, DOUBLINGS)
    rated = counts > 0
    new: FloatArray = table[rated].mean(0) if rated.any() else np.zeros(len(centres))
    return np.where(rated[:, None], table, new), new


def _years(titles: Sequence[str]) -> FloatArray:
    """Release year of each title, "(1994)" say; NaN without one."""
    found = [YEAR.search(t) for t in titles]
    return np.array([float(f.group(1)) if f else np.nan for f in found], dtype=np.float64)


def _split(column: Sequence[str | None]) -> list[list[str]]:
    return [values_in(cell) for cell in column]


def _words(titles: Sequence[str]) -> list[list[str]]:
    return [re.findall(r"[^\W\d_]{3,}", t.lower()) for t in titles]


def _frequent(values: Sequence[Sequence[str]], most: int) -> tuple[str, ...]:
    """The ``most`` frequent values that at least two items share."""
    counts: dict[str, int] = {}
    for row in values:
        for value in set(row):
            counts[value] = counts.get(value, 0) + 1
    return tuple(sorted((v for v, n in counts.items() if n > 1), key=lambda v: (-counts[v], v))[:most])


def _bumps(values: FloatArray, centres: FloatArray, reach: float) -> FloatArray:
    """Closeness of each value to each centre, rows of length one; zeros for NaN."""
    return unit_rows(np.nan_to_num(np.exp(-(((values[:, None] - centres) / reach) ** 2))))


def _bag(values: Sequence[Sequence[str]], kept: Sequence[str]) -> FloatArray:
    """Multi-hot of the ``kept`` values."""
    column = {v: c for c, v in enumerate(kept)}
    table = np.zeros((len(values), len(kept)))
    for item, row in enumerate(values):
        table[item, [column[v] for v in row if v in column]] = 1.0
    return unit_rows(table)


def _crossed(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray((a[:, :, None] * b[:, None, :]).reshape(len(a), -1))
