"""The two-table form at the door: what a source hands over, and the one order of every history.

``interactions``: user_id, item_id; label or rating or neither (implicit); timestamp and/or order;
split optional.  ``items``: item_id, title and any attribute columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import polars as pl

from sasrecllm.data.truth import Truth
from sasrecllm.errors import DataError

ROW = "__row"
"""Hidden column: 0-based data row of the file an interaction came from."""
LINE = "__line"
"""Hidden column: 1-based line of a text file."""

Order = Literal["auto", "time", "file"]

FILM_WORDS = {"item": "movie", "items": "movies", "consumed": "watched"}
PLAIN_WORDS = {"item": "item", "items": "items", "consumed": "chosen"}


@dataclass(frozen=True)
class FileColumns:
    """What a file called its columns, so that messages speak the user's words.

    Args:
        named: our column -> its name in the file.
        unused: name in the file of every column that was left out -> what it may be
            (:data:`sasrecllm.data.ingest.columns.LIKELY`), or an empty string.
        first_row: number of the first row as its owner counts: 1 in files, 0 in frames.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    first_row: int = 1

    def name(self, ours: str) -> str:
        """The file's name of our column."""
        return self.named.get(ours, ours)


class Parts(Protocol):
    """A table in many files; see :mod:`sasrecllm.data.ingest.many_files`."""

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        ...

    def where(self, row: int) -> tuple[str, int]:
        """The file of a row of the whole table, and its number in that file from 0."""
        ...

    def chunks(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The named columns of all rows in order, and beside them their numbers."""
        ...


@dataclass(frozen=True)
class Tables:
    """The canonical two tables of a source, before they are checked.

    Args:
        interactions: user_id, item_id and the optional columns named above.
        items: item_id, title and attribute columns.
        name: name of the data set, for reports.
        words: the domain's words for prompts: item, items, consumed.
        order: what orders each user's rows (:func:`order_of`): ``auto``, ``time`` or ``file``.
        split: the rule that ``auto`` stands for with this source; empty where it has none.
        files: names of the two tables' files, for refusals.
        columns: what the two files call their columns, for refusals.
        notes: what a reader of the report must know of how the files were read.
        truth: what a source that makes its rows up knows of them.
        parts: what the two tables are read from where they are folders; the interactions of one are not
            in memory, so that ``interactions`` tells their columns and holds no row.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    name: str
    words: dict[str, str] = field(default_factory=lambda: dict(PLAIN_WORDS))
    order: Order = "auto"
    split: str = ""
    files: tuple[str, str] = ("interactions", "items")
    columns: tuple[FileColumns, FileColumns] = (FileColumns(), FileColumns())
    notes: tuple[str, ...] = ()
    truth: Truth | None = None
    parts: tuple[Parts | None, Parts | None] = (None, None)

    def placed(self, refused: pl.DataFrame, table: int) -> pl.DataFrame:
        """Refused rows with the file that they stand in and their number there.

        Args:
            table: 0 of the interactions, 1 of the items.
        """
        parts = self.parts[table]
        if parts is None or refused.is_empty():
            return refused
        places = [parts.where(row) for row in refused[ROW]]
        return refused.with_columns(
            pl.Series("file", [file for file, _ in places], dtype=pl.String),
            pl.Series(
                "row", [row + self.columns[table].first_row for _, row in places], dtype=pl.Int64
            ),
        )

    def where(self, row: int) -> tuple[str, int]:
        """The file of a row of the interactions, and its number there as its owner counts."""
        parts = self.parts[0]
        file, number = (self.files[0], row) if parts is None else parts.where(row)
        return file, number + self.columns[0].first_row


def order_of(tables: Tables) -> Literal["order", "time", "file"]:
    """What orders each user's rows.

    ``auto`` takes the order column, else time, else the order of the file.  ``order``: the order
    column, ties broken by time.  ``time``: time, ties broken by the order column.  ``file``: the
    order of the file alone, which breaks all other ties too.

    Raises:
        DataError: time is asked for and there is none, or a column that may be one is not used.
    """
    columns = tables.interactions.columns
    if tables.order == "file":
        return "file"
    if tables.order == "auto" and "order" in columns:
        return "order"
    if "timestamp" in columns:
        return "time"
    if tables.order == "time":
        raise DataError(
            f"{tables.files[0]}: data.order is time, but there is no timestamp column",
            "name it (data.columns.timestamp=...) or set data.order=auto",
        )
    times = [c for c, kind in tables.columns[0].unused.items() if kind == "timestamp"]
    if times:
        raise DataError(
            f"{tables.files[0]}: there is neither a timestamp nor an order column, but column"
            f" {times[0]!r}, which is not used, may be the time of a row",
            f"say so: 'data.columns.timestamp={times[0]}'; or take the rows in the order of the file:"
            " data.order=file",
        )
    return "file"


def ordered(tables: Tables) -> pl.DataFrame:
    """Checked interactions sorted by user, then in the order of each user's history.

    Raises:
        DataError: the order contradicts the timestamps.
    """
    frame = in_order(tables)
    wrong = contradictions(frame, tables)
    refuse_contradiction(wrong.head(1), wrong.height, tables)
    return frame


def in_order(tables: Tables) -> pl.DataFrame:
    """Checked interactions, or all those of some users, sorted as :func:`ordered` does."""
    frame, rule = tables.interactions, order_of(tables)
    if rule == "time":
        ties = ["order"] if "order" in frame.columns else []
        return _sorted(frame, "user_id", "timestamp", *ties)
    if rule == "file":
        frame = frame.with_columns(pl.col(ROW).alias("order"))
    ties = ["timestamp"] if "timestamp" in frame.columns and rule == "order" else []
    return _sorted(frame, "user_id", "order", *ties)


def _sorted(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """``frame`` in the order of ``columns``: of one number made of them where 63 bits hold it.

    Rows that are equal in all of ``columns`` keep the order in which they came, that of the file.
    Sorting by one number takes half the time of sorting by several columns.
    """
    coded = {c for c in columns if isinstance(frame.schema[c], pl.Enum)}
    if not all(c in coded or frame.schema[c].is_integer() for c in columns):
        return frame.sort(*columns, maintain_order=True)
    numbers = {c: pl.col(c).to_physical().cast(pl.Int64) for c in columns}
    low = frame.select(value.min() for value in numbers.values()).row(0)
    high = frame.select(value.max() for value in numbers.values()).row(0)
    spans = [top - bottom + 1 for bottom, top in zip(low, high, strict=True)]
    if math.prod(spans) >= 2**63:
        return frame.sort(*columns, maintain_order=True)
    key = pl.lit(0, pl.Int64)
    for value, bottom, span in zip(numbers.values(), low, spans, strict=True):
        key = key * span + (value - bottom)
    return frame.sort(key, maintain_order=True)


def contradictions(frame: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Rows of :func:`in_order` that stand after a row of their user with a later timestamp."""
    if order_of(tables) == "time" or "timestamp" not in frame.columns:
        return frame.clear()
    return frame.filter(pl.col("timestamp") < pl.col("timestamp").shift(1).over("user_id"))


def refuse_contradiction(first: pl.DataFrame, count: int, tables: Tables) -> None:
    """Refuse an order in which ``count`` rows, the ``first`` among them, stand after a later one."""
    if not count:
        return
    row, name = first.row(0, named=True), tables.columns[0].name
    place, or_order = "", ""
    if tables.order != "file":
        place, or_order = f", {name('order')} {row['order']}", "data.columns.order=null or "
    file, number = tables.where(row[ROW])
    raise DataError(
        f"{tables.files[0]}: {count:,} rows stand after a row of the same user with a later"
        f" {name('timestamp')}; the first: row {number}"
        + f" of {file}" * (file != tables.files[0])
        + f", {name('user_id')} {row['user_id']!r}{place}",
        "a history must not contain later rows: set data.order=time, which sorts by time (an order"
        f" column breaks ties only), or leave the column out that is wrong: {or_order}"
        "data.columns.timestamp=null",
    )
