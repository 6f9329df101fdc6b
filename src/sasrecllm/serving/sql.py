"""The contract of every store, and the SQL that SQLite and PostgreSQL share.

They differ in how a connection is made, in the sign for a parameter and in what a broken connection
looks like.  Ids and titles are text and come back exactly as they went in; what one of the two could
not hold (a NUL, half a surrogate pair, an id too long for an index) is refused by both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sasrecllm.errors import DataError, ResourceError

LOCK_SECONDS = 5  # that a statement waits for another writer, before it gives up
HISTORY_ROWS = 500
LONGEST_KEY = 1_000
"""Bytes of an id in UTF-8; an index of PostgreSQL takes 2,704 in a row."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item that was added to the catalogue of a running server."""

    item_id: str
    title: str
    attributes: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interaction:
    """One feedback of one user."""

    user_id: str
    item_id: str
    liked: bool


@dataclass(frozen=True, slots=True)
class StoredInteraction:
    """A feedback as a store keeps it.

    Args:
        number: of the row; later rows have higher ones.
        at: Unix second in which the store got it.
    """

    number: int
    user_id: str
    item_id: str
    liked: bool
    at: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run has of a store's feedback (``update.store``, ``.told`` and ``.waiting``).

    Args:
        store: the store's identity; empty where it has nothing of any.
        told: number up to which it has taken rows.
        waiting: numbers up to there that it could not take yet.
    """

    store: str = ""
    told: int = 0
    waiting: frozenset[int] = frozenset()

    def has(self, number: int) -> bool:
        """Whether a row of that number is in the run."""
        return number <= self.told and number not in self.waiting


class Store(Protocol):
    """Keeps added items and feedback; safe to call from several threads.

    Every call raises :class:`~sasrecllm.errors.ResourceError` where the database does not answer, and
    :class:`~sasrecllm.errors.DataError` for a text that no store holds; nothing of that call is then
    kept.
    """

    def add_items(self, items: Sequence[StoredItem]) -> None:
        """Keep items; one that is there already gets the new title and attributes."""
        ...

    def items(self) -> list[StoredItem]:
        """All items, in the order in which they first came."""
        ...

    def add_interactions(self, interactions: Sequence[Interaction]) -> None:
        """Keep feedback, all of it or none, in the order given."""
        ...

    def interactions_of(
        self, user: str, last: int = HISTORY_ROWS, taken: Taken | None = None
    ) -> list[tuple[str, bool]]:
        """The ``last`` (item id, liked) of a user, oldest first; empty for a user never seen.

        Args:
            taken: leaves out what a run has taken already.
        """
        ...

    def identity(self) -> str:
        """What tells this store from every other, made with it."""
        ...

    def interactions(self, after: int = 0) -> list[StoredInteraction]:
        """All feedback with a higher number, in order."""
        ...

    def users_among(self, users: Sequence[str]) -> set[str]:
        """Those of ``users`` of whom there is feedback."""
        ...

    def forget(self, users: Sequence[str]) -> None:
        """Take out all feedback of ``users``, from the file too where the store is one."""
        ...

    def close(self) -> None:
        """Let the database go; the store is not used afterwards."""
        ...


ADD_ITEM = (
    "INSERT INTO items (item_id, title, attributes) VALUES (?, ?, ?) ON CONFLICT (item_id)"
    " DO UPDATE SET title = excluded.title, attributes = excluded.attributes"
)
ALL_ITEMS = "SELECT item_id, title, attributes FROM items ORDER BY number"
ADD_INTERACTION = "INSERT INTO interactions (user_id, item_id, liked, told_at) VALUES (?, ?, ?, ?)"
IDENTITY = "SELECT id FROM about"
INTERACTIONS_AFTER = (
    "SELECT number, user_id, item_id, liked, told_at FROM interactions WHERE number > ?"
    " ORDER BY number LIMIT ?"
)
AT_ONCE = 50_000
KNOWS_USER = "SELECT user_id FROM interactions WHERE user_id = ? LIMIT 1"
FORGET_USER = "DELETE FROM interactions WHERE user_id = ?"
LAST_OF_USER = (
    "SELECT item_id, liked, number FROM interactions WHERE user_id = ? ORDER BY number DESC LIMIT ?"
)


class SqlStore:
    """The SQL that both databases share; subclasses run it."""

    _identity = ""

    def add_items(self, items: Sequence[StoredItem]) -> None:
        """See :class:`Store`."""
        for item in items:
            _check_key("item id", item.item_id)
            _check_text("title", item.title)
            for name, value in item.attributes.items():
                _check_text("attribute", name)
                _check_text(f"attribute {name!r}", value)
        rows = [(i.item_id, i.title, json.dumps(dict(i.attributes))) for i in items]
        self._write(ADD_ITEM, rows)

    def items(self) -> list[StoredItem]:
        """See :class:`Store`."""
        return [StoredItem(i, title, json.loads(a)) for i, title, a in self._read(ALL_ITEMS, ())]

    def add_interactions(self, interactions: Sequence[Interaction]) -> None:
        """See :class:`Store`."""
        for one in interactions:
            _check_key("user id", one.user_id)
            _check_key("item id", one.item_id)
        now = int(time.time())
        self._write(ADD_INTERACTION, [(i.user_id, i.item_id, int(i.liked), now) for i in interactions])

    def interactions_of(
        self, user: str, last: int = HISTORY_ROWS, taken: Taken | None = None
    ) -> list[tuple[str, bool]]:
        """See :class:`Store`."""
        _check_key("user id", user)
        rows = self._read(LAST_OF_USER, (user, last))
        if taken is not None and taken.store and taken.store == self.identity():
            rows = [row for row in rows if not taken.has(row[2])]
        return [(item, bool(liked)) for item, liked, _ in reversed(rows)]

    def identity(self) -> str:
        """See :class:`Store`."""
        if not self._identity:
            ((self._identity,),) = self._read(IDENTITY, ())
        return self._identity

    def interactions(self, after: int = 0) -> list[StoredInteraction]:
        """See :class:`Store`."""
        found: list[StoredInteraction] = []
        while True:
            rows = self._read(INTERACTIONS_AFTER, (after, AT_ONCE))
            found += [
                StoredInteraction(n, user, item, bool(liked), at) for n, user, item, liked, at in rows
            ]
            if len(rows) < AT_ONCE:
                return found
            after = rows[-1][0]

    def users_among(self, users: Sequence[str]) -> set[str]:
        """See :class:`Store`."""
        for user in users:
            _check_key("user id", user)
        return {user for user in users if self._read(KNOWS_USER, (user,))}

    def forget(self, users: Sequence[str]) -> None:
        """See :class:`Store`."""
        for user in users:
            _check_key("user id", user)
        self._write(FORGET_USER, [(user,) for user in users])
        self._erase()

    def _erase(self) -> None:
        """Overwrite what a deletion leaves behind, where that is for us to do."""

    def _write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        raise NotImplementedError

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        raise NotImplementedError


def _check_key(what: str, value: str) -> None:
    _check_text(what, value)
    if isinstance(value, str) and len(value.encode()) > LONGEST_KEY:
        raise DataError(f"{what}: {len(value.encode())} bytes; allowed: {LONGEST_KEY}", "shorten it")


def _check_text(what: str, value: str | None) -> None:
    """Refuse what only one of the databases could hold; a missing value is their own to refuse."""
    if not isinstance(value, str):
        return
    if "\x00" in value:
        raise DataError(f"{what} {value[:40]!r} holds a NUL character", "take it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} {value[:40]!r} holds half of a surrogate pair", "correct it") from None


def unavailable(name: str, error: Exception) -> ResourceError:
    """The refusal of a call that the database did not answer."""
    return ResourceError(
        f"store {name} does not answer: {str(error).strip() or type(error).__name__}",
        "check that the database runs and has room; nothing of this call was kept",
    )
