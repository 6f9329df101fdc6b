"""What a running server is told: new items and feedback, in SQLite or PostgreSQL.

Both speak the same SQL; they differ in how a connection is made, in the sign for a parameter and in
what a broken connection looks like.  Ids and titles are text and come back exactly as they went in.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from sasrecllm.errors import ConfigError, MissingExtraError, ResourceError

VERSION = 1
HISTORY_ROWS = 500


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


class Store(Protocol):
    """Keeps added items and feedback; safe to call from several threads.

    Every call raises :class:`~sasrecllm.errors.ResourceError` where the database does not answer;
    nothing of that call is then kept.
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

    def interactions_of(self, user: str, last: int = HISTORY_ROWS) -> list[tuple[str, bool]]:
        """The ``last`` (item id, liked) of a user, oldest first; empty for a user never seen."""
        ...

    def close(self) -> None:
        """Let the database go; the store is not used afterwards."""
        ...


ADD_ITEM = (
    "INSERT INTO items (item_id, title, attributes) VALUES (?, ?, ?) ON CONFLICT (item_id)"
    " DO UPDATE SET title = excluded.title, attributes = excluded.attributes"
)
ALL_ITEMS = "SELECT item_id, title, attributes FROM items ORDER BY number"
ADD_INTERACTION = "INSERT INTO interactions (user_id, item_id, liked) VALUES (?, ?, ?)"
LAST_OF_USER = "SELECT item_id, liked FROM interactions WHERE user_id = ? ORDER BY number DESC LIMIT ?"


class SqlStore:
    """The SQL that both databases share; subclasses run it."""

    def add_items(self, items: Sequence[StoredItem]) -> None:
        """See :class:`Store`."""
        rows = [(i.item_id, i.title, json.dumps(dict(i.attributes))) for i in items]
        self._write(ADD_ITEM, rows)

    def items(self) -> list[StoredItem]:
        """See :class:`Store`."""
        return [StoredItem(i, title, json.loads(a)) for i, title, a in self._read(ALL_ITEMS, ())]

    def add_interactions(self, interactions: Sequence[Interaction]) -> None:
        """See :class:`Store`."""
        self._write(ADD_INTERACTION, [(i.user_id, i.item_id, int(i.liked)) for i in interactions])

    def interactions_of(self, user: str, last: int = HISTORY_ROWS) -> list[tuple[str, bool]]:
        """See :class:`Store`."""
        rows = self._read(LAST_OF_USER, (user, last))
        return [(item, bool(liked)) for item, liked in reversed(rows)]

    def _write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        raise NotImplementedError

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        raise NotImplementedError


SQLITE_TABLES = """
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL, attributes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS interactions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, liked INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS interactions_by_user ON interactions (user_id, number);
"""


class SqliteStore(SqlStore):
    """One SQLite file in write-ahead mode: what was answered with 2xx outlives SIGKILL and power loss.

    Args:
        path: the file, made where it is missing; ``:memory:`` keeps everything in memory.
    Raises:
        ConfigError: the file is no database, or was written by a newer version.
        ResourceError: it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(self.path, timeout=5, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            written = self._connection.execute("PRAGMA user_version").fetchone()[0]
            self._connection.executescript(SQLITE_TABLES)
        except sqlite3.OperationalError as error:
            raise ResourceError(
                f"store {self.path} cannot be opened: {error}",
                "check the folder and its rights, or name another file with --store",
            ) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"store {self.path} is not a SQLite database: {error}", "name another file with --store"
            ) from error
        if written > VERSION:
            self._connection.close()
            raise ConfigError(
                f"store {self.path} has format {written}; this version reads up to {VERSION}",
                "update sasrecllm or name another file with --store",
            )
        self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Write the log back into the file and let it go."""
        with self._lock:
            self._connection.close()

    def _write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._lock:
            try:
                with self._connection:
                    self._connection.executemany(sql, rows)
            except sqlite3.Error as error:
                raise _unavailable(self.path, error) from error

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _unavailable(self.path, error) from error


POSTGRES_TABLES = (
    "CREATE TABLE IF NOT EXISTS items (number BIGINT GENERATED BY DEFAULT AS IDENTITY,"
    ' item_id TEXT COLLATE "C" PRIMARY KEY, title TEXT NOT NULL, attributes TEXT NOT NULL)',
    "CREATE TABLE IF NOT EXISTS interactions (number BIGINT GENERATED BY DEFAULT AS IDENTITY"
    ' PRIMARY KEY, user_id TEXT COLLATE "C" NOT NULL, item_id TEXT COLLATE "C" NOT NULL,'
    " liked SMALLINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS interactions_by_user ON interactions (user_id, number)",
)


class PostgresStore(SqlStore):
    """A PostgreSQL database, for servers that share what they are told.

    A connection that broke is made anew once per call.

    Args:
        url: ``postgresql://user@host:port/database``, as libpq reads it.
    Raises:
        MissingExtraError: psycopg is not installed.
        ConfigError: the database does not speak UTF-8.
        ResourceError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtraError("--store postgresql://... needs psycopg", "postgres") from None
        self._psycopg = psycopg
        self._url = url
        self.name = _without_password(url)
        self._lock = threading.Lock()
        self._connection = self._connect()
        encoding = self._connection.execute("SHOW server_encoding").fetchone()
        if encoding != ("UTF8",):
            self._connection.close()
            raise ConfigError(
                f"store {self.name} has the encoding {(encoding or ['?'])[0]}; needed: UTF8",
                "create the database WITH ENCODING 'UTF8'",
            )
        self._run(lambda connection: [connection.execute(sql) for sql in POSTGRES_TABLES])

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._connection.close()

    def _connect(self) -> Any:
        try:
            # autocommit: else the first SELECT opens a transaction that no later block would commit
            return self._psycopg.connect(
                self._url, connect_timeout=5, autocommit=True, options="-c statement_timeout=5000"
            )
        except self._psycopg.Error as error:
            raise _unavailable(self.name, error) from error

    def _run(self, work: Callable[[Any], Any]) -> Any:
        """``work`` in one transaction, once more on a fresh connection if the old one was broken."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    if self._connection.closed:
                        self._connection = self._connect()
                    with self._connection.transaction():
                        return work(self._connection)
                except self._psycopg.Error as error:
                    broken = self._connection.closed or self._connection.broken
                    if attempt == 2 or not broken:
                        raise _unavailable(self.name, error) from error
                    self._connection.close()
        raise AssertionError("not reached")

    def _write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def work(connection: Any) -> None:
            with connection.cursor() as cursor:
                cursor.executemany(sql.replace("?", "%s"), rows)

        self._run(work)

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        def work(connection: Any) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = connection.execute(sql.replace("?", "%s"), values).fetchall()
            return found

        rows: list[tuple[Any, ...]] = self._run(work)
        return rows


def open_store(url: str) -> Store:
    """The store that ``url`` names.

    Args:
        url: ``postgresql://...``, ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or just a path.
    Raises:
        ConfigError: another scheme, or a file that is no store.
        ResourceError: the database cannot be opened.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return SqliteStore(url)
    if scheme in ("postgresql", "postgres"):
        return PostgresStore(url)
    if scheme == "sqlite" and rest.startswith("/"):
        return SqliteStore(unquote(rest[1:]))
    raise ConfigError(
        f"store {_without_password(url)!r} is of no known kind;"
        " allowed: a path, sqlite:///PATH, postgresql://...",
        "correct --store",
    )


def _without_password(url: str) -> str:
    """A URL that can stand in a message."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _unavailable(name: str, error: Exception) -> ResourceError:
    return ResourceError(
        f"store {name} does not answer: {str(error).strip() or type(error).__name__}",
        "check that the database runs and has room; nothing of this call was kept",
    )
