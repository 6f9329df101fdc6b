"""What people say to a recommender: ids and titles, liked or not, and items that are new to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sasrecllm.types import Histories, IntArray, LabelArray


@dataclass(frozen=True, slots=True)
class Title:
    """A history entry known by its title alone."""

    text: str


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item that the run's catalogue does not hold."""

    item_id: str
    title: str
    attributes: Mapping[str, str | None] = field(default_factory=dict)


Entry = str | Title | tuple[str | Title, bool]
"""A liked item (its id or its title), or (item, liked)."""


def pairs_of(history: Sequence[Entry]) -> list[tuple[str | Title, bool]]:
    """(item, liked) of every entry."""
    return [(e[0], bool(e[1])) if isinstance(e, tuple) else (e, True) for e in history]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One line of a recommendation list.

    Args:
        score: the system's own score, comparable within one list.
        probability: calibrated P(like).
        retrieval_rank: place in the encoder's order, from 1; None where the item has no vector and
            entered through its words.
        flags: of ``cold_user`` (no training row), ``cold_item`` (no training row), ``fallback``
            (nothing is known of the user, so the items' quality decides).
    """

    rank: int
    item_id: str
    title: str
    score: float
    probability: float
    retrieval_rank: int | None = None
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"flags": list(self.flags)}


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's answer: calibrated P(like), and the flags of :class:`Recommendation`."""

    item_id: str
    probability: float
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"flags": list(self.flags)}


def flags_of(cold_user: bool, fallback: bool, cold_item: bool) -> tuple[str, ...]:
    """Names of the flags that are up."""
    flags = {"cold_user": cold_user, "fallback": fallback, "cold_item": cold_item}
    return tuple(name for name, up in flags.items() if up)


def one_history(
    user: int, items: IntArray, labels: LabelArray, times: IntArray, asked_at: int
) -> Histories:
    """A single history, rows oldest first."""
    return Histories(
        np.array([user], dtype=np.int64),
        items.astype(np.int64),
        labels.astype(np.int8),
        times.astype(np.int64),
        np.array([0, len(items)], dtype=np.int64),
        np.array([asked_at], dtype=np.int64),
    )
