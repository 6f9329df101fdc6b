"""The vocabulary of the house: what flows between the rooms.

One thing flows: a user's history.  Below stand its one representation (:class:`Histories`), the
labelled questions that training and evaluation ask (:class:`Questions`), and the two protocols that
every model obeys (:class:`SequenceEncoder`, :class:`Scorer`).

Shape legend: B questions or users, N history rows of all B together, L positions, C candidates,
D encoder width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

IntArray = npt.NDArray[np.int64]
LabelArray = npt.NDArray[np.int8]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

UNKNOWN = -1
"""Index of a user that no training row ever showed, or of an item outside the catalogue."""


def values_in(cell: str | None) -> list[str]:
    """The values of an attribute's cell, which stand between bars; none in an empty one.

    >>> values_in("Comedy|Drama"), values_in("|Drama"), values_in(None)
    (['Comedy', 'Drama'], ['Drama'], [])
    """
    return [value for value in (cell or "").split("|") if value]


def spans(first: IntArray, lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Spans of rows put end to end: where each lies, offsets [B + 1], and all their row numbers, [N].

    Args:
        first, lengths: first row of each span, and its number of rows, [B].
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1])


def each_once(*columns: npt.NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Rows that differ from the row before them, [R], and which of those every row is like, [B].

    Args:
        columns: [B, ...] each, of the same B > 0 rows.
    """
    differs = [(c[1:] != c[:-1]).any(axis=tuple(range(1, c.ndim))) for c in columns]
    new = np.concatenate([[True], np.any(differs, axis=0)])
    return np.flatnonzero(new), np.cumsum(new) - 1


@dataclass(frozen=True, slots=True)
class Histories:
    """What B users had done before they were asked about, as ragged rows in flat arrays.

    Row ``b`` owns ``items[offsets[b]:offsets[b + 1]]``, oldest first.  The order of the rows is data:
    nothing may sort them again.  Every row of a history stands before its question.
    """

    users: IntArray  # [B] user index, UNKNOWN for a user without an index
    items: IntArray  # [N] item index into the catalogue
    labels: LabelArray  # [N] 1 liked, 0 not
    times: IntArray  # [N] seconds, or the position where the data has only an order
    offsets: IntArray  # [B + 1]
    asked_at: IntArray  # [B] time of the question, same clock as ``times``

    def __len__(self) -> int:
        return len(self.users)

    @property
    def owners(self) -> IntArray:
        """Row b of every history entry, shape [N]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def keep(self, mask: BoolArray) -> Histories:
        """The same questions with only the entries where ``mask`` [N] is true."""
        counts = np.bincount(self.owners[mask], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(
            self.users,
            self.items[mask],
            self.labels[mask],
            self.times[mask],
            offsets,
            self.asked_at,
        )

    def strictly_earlier(self) -> Histories:
        """The rows older than their question: rows of the same second tell nothing (a sitting)."""
        return self.keep(self.times < self.asked_at[self.owners])

    def liked(self) -> Histories:
        """Only the liked entries, in the same order."""
        return self.keep(self.labels == 1)

    def met(self, n_items: int) -> BoolArray:
        """Whether each of ``n_items`` items stands in each history, [B, I]; others are passed over."""
        met_BI = np.zeros((len(self), n_items), dtype=np.bool_)
        inside = (self.items >= 0) & (self.items < n_items)
        met_BI[self.owners[inside], self.items[inside]] = True
        return met_BI

    def last(self, length: int) -> Histories:
        """At most the ``length`` newest entries of every row."""
        ends = np.repeat(self.offsets[1:], np.diff(self.offsets))
        return self.keep(np.arange(len(self.items)) >= ends - length)

    def padded(self, values: npt.NDArray[np.generic], fill: int) -> npt.NDArray[np.generic]:
        """``values`` [N] laid out as [B, L], filled on the right; L is the longest row (at least 1)."""
        lengths = np.diff(self.offsets)
        grid = np.full((len(self), max(1, int(lengths.max(initial=0)))), fill, dtype=values.dtype)
        columns = np.arange(len(values)) - np.repeat(self.offsets[:-1], lengths)
        grid[self.owners, columns] = values
        return grid

    def take(self, rows: IntArray) -> Histories:
        """The questions ``rows`` [R], in that order (a row may be asked for twice)."""
        offsets, source = spans(self.offsets[:-1][rows], np.diff(self.offsets)[rows])
        return Histories(
            self.users[rows],
            self.items[source],
            self.labels[source],
            self.times[source],
            offsets,
            self.asked_at[rows],
        )


Free = Callable[[Histories], BoolArray]
"""Whether each item of the catalogue may be served to each history, [B, I]."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Labelled rows: would this user, with this history, like this target?"""

    histories: Histories
    targets: IntArray  # [B] item index
    labels: LabelArray  # [B] 1 liked, 0 not
    rows: IntArray  # [B] row numbers in the interactions table, for tracing an answer back

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: IntArray) -> Questions:
        """The questions at positions ``rows`` [R], in that order."""
        return Questions(
            self.histories.take(rows), self.targets[rows], self.labels[rows], self.rows[rows]
        )


@runtime_checkable
class Scorer(Protocol):
    """Anything that can be judged by ``evaluate`` and served: histories and candidates to scores.

    One that costs much, or can do more, may say so by further attributes, which nobody must have:
    ``asks_language_model`` (each candidate is a prompt: it is asked about few at once, and not about
    whole catalogues), ``prompts`` (how many one list of the whole catalogue costs), ``reranked`` (how
    many items of a list its order is by), and ``with_new_titles(titles)``, itself over a longer
    catalogue.
    """

    @property
    def name(self) -> str:
        """Of its row in a results table."""
        ...

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Score ``candidates`` [B, C] (item indices); higher is better, shape [B, C].

        A score depends on its own row alone: never on the batch, its order or its padding.
        """
        ...


def asks_by_prompts(scorer: Scorer) -> bool:
    """Whether a language model reads a prompt for each candidate of ``scorer``."""
    return bool(getattr(scorer, "asks_language_model", False))


def prompts_of_list(scorer: Scorer) -> int:
    """Prompts that one list of the whole catalogue by ``scorer`` costs."""
    return int(getattr(scorer, "prompts", 0))


@runtime_checkable
class SequenceEncoder(Protocol):
    """A collaborative encoder: a history to a vector, and a table of item vectors."""

    width: int
    n_items: int

    def encode(self, histories: Histories) -> torch.Tensor:
        """User vectors, shape [B, D]."""
        ...

    def item_vectors(self, items: torch.Tensor) -> torch.Tensor:
        """Vectors of ``items`` [...], shape [..., D]; an unseen item gets the mean vector."""
        ...

    def logits(self, histories: Histories, candidates: IntArray) -> torch.Tensor:
        """Logits of ``candidates`` [B, C], shape [B, C]."""
        ...
