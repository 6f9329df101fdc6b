"""What a server's store was told since the last update, as the new rows of the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.extend import NothingNew, kind_of
from sasrecllm.data.ingest.frames import table
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data

OVERLAP = 1000
"""Numbers before the mark that are looked at again: a row of PostgreSQL may show after a later one."""


class StoreRow(Protocol):
    """A feedback: :class:`sasrecllm.serving.sql.StoredInteraction`."""

    @property
    def number(self) -> int:
        """Later rows have higher ones."""
        ...

    @property
    def user_id(self) -> str:
        """Raw id of the user, as the caller spelt it."""
        ...

    @property
    def item_id(self) -> str:
        """Raw id of the item, as the caller spelt it."""
        ...

    @property
    def liked(self) -> bool:
        """Whether the user liked the item."""
        ...

    @property
    def at(self) -> int:
        """Unix second in which the store got it."""
        ...


class StoreItem(Protocol):
    """An item: :class:`sasrecllm.serving.sql.StoredItem`."""

    @property
    def item_id(self) -> str:
        """Raw id of the item, as the caller spelt it."""
        ...

    @property
    def title(self) -> str:
        """Its title."""
        ...

    @property
    def attributes(self) -> Mapping[str, str | None]:
        """Name of an attribute -> its value; None where the item has none."""
        ...


@dataclass(frozen=True)
class StoreRows:
    """What a store has.

    Args:
        name: of the store, for people.
        identity: tells it from every other.
        rows, items: all that it was told.
    """

    name: str
    identity: str
    rows: Sequence[StoreRow]
    items: Sequence[StoreItem]


@dataclass(frozen=True)
class FromStore:
    """What an update takes of a store.

    Args:
        interactions, items: frames under the names of the run's own columns; no items: None.
        mark: settings ``store``, ``told`` and ``waiting`` of ``update``.
        left: rows that wait for their item.
        dislikes: rows that a run of likes alone has no place for.
    """

    interactions: Any
    items: Any
    mark: dict[str, Any]
    left: int
    dislikes: int


def taken_from(run: RunFolder, store: StoreRows) -> FromStore:
    """What a store has and the run has not yet.

    Raises:
        NothingNew: it has all.
    """
    config, old = stored_config(run), stored_data(run)
    same = config.update.store == store.identity
    mark, waited = (config.update.told, set(config.update.waiting)) if same else (0, set())
    begin = mark - OVERLAP if old.has_times else mark  # what is seen twice is known by its time
    fresh = [row for row in store.rows if row.number > begin or row.number in waited]
    ours = set(old.catalog.item_ids)
    items = [item for item in store.items if item.item_id not in ours]
    known = ours | {item.item_id for item in items}
    waiting = [row.number for row in fresh if row.item_id not in known]
    there = [row for row in fresh if row.item_id in known]
    takes = [row for row in there if row.liked or kind_of(old) != "implicit"]
    if not any(row.number > mark or row.number in waited for row in takes):
        raise NothingNew(f"store {store.name}", len(store.rows))
    last = max((row.number for row in store.rows), default=0)
    return FromStore(
        _rows_frame(takes, old, config.data.columns),
        _items_frame(items, config.data.columns) if items else None,
        {"store": store.identity, "told": max(mark, last), "waiting": waiting},
        len(waiting),
        len(there) - len(takes),
    )


def _rows_frame(takes: Sequence[StoreRow], old: Dataset, names: Mapping[str, str | None]) -> Any:
    """The rows as a table with the columns that the run was trained on, under its names for them."""
    threshold = old.log.threshold if old.log and old.log.threshold is not None else 1.0
    found: dict[str, list[Any]] = {
        "user_id": [row.user_id for row in takes],
        "item_id": [row.item_id for row in takes],
        "label": [int(row.liked) for row in takes],
        "rating": [threshold if row.liked else threshold - 1 for row in takes],
        "timestamp": [row.at for row in takes],
        "order": [row.number for row in takes],
    }
    needed = {"labels": "label", "ratings": "rating"}.get(kind_of(old), "")
    wanted = {"user_id", "item_id", needed, *names} | ({"timestamp"} if old.has_times else set())
    columns = {names.get(c) or c: found[c] for c in found if c in wanted and names.get(c, c)}
    return table(columns)


def _items_frame(items: Sequence[StoreItem], names: Mapping[str, str | None]) -> Any:
    """The items as a table, under the run's names for its columns."""
    item = names.get("items.item_id") or names.get("item_id") or "item_id"
    title = names.get("items.title") or names.get("title") or "title"
    attributes = dict.fromkeys(name for one in items for name in one.attributes)
    columns = {name: [one.attributes.get(name) for one in items] for name in attributes}
    return table(columns | {item: [one.item_id for one in items], title: [one.title for one in items]})
