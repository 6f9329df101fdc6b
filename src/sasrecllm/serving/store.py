"""What a running server is told: new items and feedback, in SQLite or PostgreSQL.

Readers have a connection of their own, so that they never wait for a writer.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sasrecllm.errors import ConfigError, ResourceError
from sasrecllm.machine.command import without_password
from sasrecllm.serving import sql
from sasrecllm.serving.postgres import PostgresStore
from sasrecllm.serving.security import readable_by_others
from sasrecllm.serving.sql import (
    HISTORY_ROWS,
    Interaction,
    SqlStore,
    Store,
    StoredInteraction,
    StoredItem,
    Taken,
    unavailable,
)

__all__ = [
    "HISTORY_ROWS",
    "Interaction",
    "PostgresStore",
    "SqliteStore",
    "Store",
    "StoredInteraction",
    "StoredItem",
    "Taken",
    "open_store",
]

VERSION = 2
log = logging.getLogger("sasrecllm.serving")
MEMORY = ":memory:"
SQLITE_TABLES = """
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL, attributes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS interactions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, liked INTEGER NOT NULL, told_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS interactions_by_user ON interactions (user_id, number);
"""


class SqliteStore(SqlStore):
    """One SQLite file in write-ahead mode: what was answered with 2xx outlives SIGKILL and power loss.

    A file that is made here can be read and written by its owner alone, whatever the umask; so can
    SQLite's ``-wal`` and ``-shm`` beside it, which take over its rights.

    Args:
        path: the file, made where it is missing; ``:memory:`` keeps everything in memory.
    Raises:
        ConfigError: the file is no database, or was written by a newer version.
        ResourceError: it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._writing = self._reading = threading.Lock()
        try:
            _make_private(self.path)
            self._writer = self._reader = self._open()
            self._prepare()
            if self.path != MEMORY:  # there a second connection would see a database of its own
                self._reading, self._reader = threading.Lock(), self._open()
                self._reader.execute("PRAGMA query_only = ON")
        except (sqlite3.OperationalError, OSError) as error:
            raise ResourceError(
                f"store {self.path} cannot be opened: {error}",
                "check the folder and its rights, or name another file with --store",
            ) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"store {self.path} is not a SQLite database: {error}", "name another file with --store"
            ) from error

    def close(self) -> None:
        """Write the log back into the file and let it go."""
        with self._writing:
            self._reader.close()
            self._writer.close()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=sql.LOCK_SECONDS, check_same_thread=False)

    def _prepare(self) -> None:
        """Tables and mode; where all is there nothing is written, so nobody's write is waited for."""
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        written = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if written > VERSION:
            self._writer.close()
            raise ConfigError(
                f"store {self.path} has format {written}; this version reads up to {VERSION}",
                "update sasrecllm or name another file with --store",
            )
        if written < VERSION:
            with self._writer:
                self._writer.execute("BEGIN IMMEDIATE")  # whoever waited here finds it done
                if self._writer.execute("PRAGMA user_version").fetchone()[0] < VERSION:
                    self._make_tables()

    def _make_tables(self) -> None:
        """The tables of a new store, or what those of the first version lack."""
        run = self._writer.execute
        for statement in SQLITE_TABLES.split(";"):
            run(statement)
        columns = {row[1] for row in run("PRAGMA table_info(interactions)")}
        if "told_at" not in columns:  # what it was told before has the time of this moment
            now = int(time.time())
            run(f"ALTER TABLE interactions ADD COLUMN told_at INTEGER NOT NULL DEFAULT {now}")
        run("CREATE TABLE about (id TEXT NOT NULL)")
        run("INSERT INTO about VALUES (?)", (secrets.token_hex(8),))
        run(f"PRAGMA user_version = {VERSION}")

    def _write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._writing:
            try:
                with self._writer:
                    self._writer.executemany(sql, rows)
            except sqlite3.Error as error:
                raise unavailable(self.path, error) from error

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._reading:
            try:
                return self._reader.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise unavailable(self.path, error) from error

    def _erase(self) -> None:
        """Write the file anew, as deleted rows stay readable in its pages, and empty the log."""
        with self._writing:
            try:
                self._writer.execute("VACUUM")
                ((busy, *_),) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise unavailable(self.path, error) from error
        if busy:
            log.warning("store %s is being read: deleted rows stay in its -wal for a while", self.path)


def _make_private(path: str) -> None:
    if path == MEMORY:
        return
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if readable_by_others(Path(path)):
        log.warning("store %s can be read by others: chmod 600 %s", path, path)


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
        f"store {without_password(url)!r} is of an unknown kind;"
        " allowed: a path, sqlite:///PATH, postgresql://...",
        "correct --store",
    )
