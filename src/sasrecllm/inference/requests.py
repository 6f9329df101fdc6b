"""What people say to a recommender: ids and titles, liked or not, and items that are new to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.slices import is_member
from sasrecllm.inference.arguments import id_of, liked_of, listed, shown
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, LabelArray


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


class HasSeen(Protocol):
    """A data set, as far as flags need it."""

    @property
    def seen_users(self) -> BoolArray:
        """Whether the training split shows each user."""
        ...

    @property
    def seen_items(self) -> BoolArray:
        """Whether the training split shows each item."""
        ...


Seen = Literal["exclude", "allow"]

Id = str | int
"""An id as in the data: text, or a whole number, which stands for its digits."""

Entry = Id | Title | tuple[Id | Title, bool]
"""A liked item (its id or its title), or (item, liked)."""


def pairs_of(history: Any) -> list[tuple[str | Title, bool]]:
    """(item, liked) of every entry of a list, an array or a column.

    Raises:
        DataError: an entry is no id, title or pair, or the history is no list.
    """
    found = []
    for entry in listed(history, "history"):
        pair = entry if isinstance(entry, tuple | list) else None
        if getattr(entry, "shape", None) == (2,):  # a row of an array
            pair = list(entry)
        if pair is not None and len(pair) == 2:
            found.append((_item_of(pair[0]), liked_of(pair[1], "history")))
        else:
            found.append((_item_of(entry), True))
    return found


def _item_of(entry: Any) -> str | Title:
    if not isinstance(entry, Title):
        return id_of(entry, "history")
    if not isinstance(entry.text, str) or not entry.text.strip():
        raise DataError(
            f"history: the text of a Title is {shown(entry.text)}", "give the words of a title"
        )
    return entry


def new_items(items: Any) -> list[NewItem]:
    """New items with plain values.

    Raises:
        DataError: an entry is no :class:`NewItem`, or its id, title or an attribute is no text.
    """
    found = []
    for item in listed(items, "items"):
        if not isinstance(item, NewItem):
            raise DataError(
                f"items: {shown(item)} is no NewItem", "write NewItem(id, title) for each of them"
            )
        item_id = id_of(item.item_id, "new item")
        if not isinstance(item.title, str):
            raise DataError(
                f"new item {item_id!r}: its title is {shown(item.title)}", "give its title as text"
            )
        if not isinstance(item.attributes, Mapping):
            raise DataError(
                f"new item {item_id!r}: its attributes are {shown(item.attributes)}",
                "give a dict of names and texts, values joined by | where there are several",
            )
        where = f"attributes of new item {item_id!r}"
        values = {
            name: None if value is None else id_of(value, where)
            for name, value in item.attributes.items()
        }
        found.append(NewItem(item_id, item.title, values))
    return found


def extended(catalog: Catalog, items: Any) -> Catalog:
    """``catalog`` with ``items`` at its end.

    Raises:
        DataError: as :func:`new_items`, or an id is known already.
    """
    new = new_items(items)
    return catalog.extended(
        [i.item_id for i in new], [i.title for i in new], [i.attributes for i in new]
    )


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One line of a recommendation list.

    Args:
        score: the system's own score, comparable within one list.
        probability: calibrated P(like).
        retrieval_rank: place in the encoder's order, from 1; None where the encoder has no vector of
            the item, or has it behind the places that were looked at.
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


@dataclass(frozen=True, slots=True)
class Found:
    """An item of the catalogue that was searched for."""

    item_id: str
    title: str
    attributes: Mapping[str, str | None]
    near: bool = False
    """Its title does not hold the words, but its vector is near to those of titles that do."""

    @classmethod
    def of(cls, catalog: Catalog, index: int, near: bool = False) -> Found:
        """The item of an index."""
        values = {name: column[index] for name, column in catalog.attributes.items()}
        return cls(catalog.item_id(index), catalog.title(index), values, near)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Past:
    """One entry of somebody's history."""

    item_id: str
    title: str
    liked: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def past_of(catalog: Catalog, histories: Histories) -> list[Past]:
    """The entries of the one history in ``histories``, oldest first."""
    return [
        Past(catalog.item_id(item), catalog.title(item), liked == 1)
        for item, liked in zip(histories.items.tolist(), histories.labels.tolist(), strict=True)
    ]


def recommendations(
    catalog: Catalog,
    lists: tuple[IntArray, FloatArray, IntArray],
    probabilities: FloatArray,
    flags: list[list[tuple[str, ...]]],
) -> list[list[Recommendation]]:
    """Lists of B histories, written out.

    Args:
        lists: items, scores and places in the encoder's order [B, K]; UNKNOWN behind the last item.
        probabilities: P(like) of each, [B, K].
        flags: of each.
    """
    items, scores, ranks = lists
    return [
        [
            Recommendation(
                place + 1,
                catalog.item_id(int(items[b, place])),
                catalog.title(int(items[b, place])),
                float(scores[b, place]),
                float(probabilities[b, place]),
                int(ranks[b, place]) or None,
                flags[b][place],
            )
            for place in np.flatnonzero(items[b] != UNKNOWN).tolist()
        ]
        for b in range(len(items))
    ]


def flags_of(histories: Histories, items: IntArray, trained: HasSeen) -> list[list[tuple[str, ...]]]:
    """The flags of items [B, K] for B histories.

    Args:
        trained: says which users and items the training split shows.
    """
    flags = {
        "cold_user": np.broadcast_to(
            ~is_member(histories.users, trained.seen_users)[:, None], items.shape
        ),
        "fallback": np.broadcast_to((np.diff(histories.offsets) == 0)[:, None], items.shape),
        "cold_item": ~is_member(items, trained.seen_items),
    }
    rows, columns = items.shape
    return [
        [tuple(name for name, up in flags.items() if up[b, c]) for c in range(columns)]
        for b in range(rows)
    ]


def may_repeat(seen: Any, default: bool) -> bool:
    """Whether items of the history may be recommended; ``default`` where ``seen`` is None.

    Raises:
        ConfigError: ``seen`` is neither ``exclude`` nor ``allow``.
    """
    if seen is not None and not (isinstance(seen, str) and seen in ("exclude", "allow")):
        raise ConfigError(f"seen is {shown(seen)}; allowed: exclude, allow", "give one, or None")
    return default if seen is None else seen == "allow"


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
