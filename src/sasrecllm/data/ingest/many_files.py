"""A table in many parts: the files of a folder, read a chunk at a time and never whole.

Folders within it are read too; one named ``key=value`` gives its files a column, as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl

from sasrecllm.data.ingest.columns import LOOKED_AT
from sasrecllm.data.ingest.readers import HIDDEN, READERS, kind_of, read_table, unreadable
from sasrecllm.data.interactions import LINE, ROW
from sasrecllm.errors import DataError
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.types import IntArray

CHUNK = 2**20
"""Rows that are read at once."""
HEAD = 10_000
KINDS = tuple(kind for kind in READERS if kind not in (".jsonl", ".ndjson", ".json"))
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""How the name of a folder says that there is no value."""
STILL = "give the folder back its files, let nothing write there while it is read, and start again"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the folder.

    Args:
        path: where it lies.
        first: number of its first row in the whole table, from 0.
        rows: in it.
        keys: columns that the names of its folders give it; None where they say that there is none.
        stamp: size and time of change, by which a file is known again.
    """

    path: Path
    first: int
    rows: int
    keys: dict[str, str | None]
    stamp: tuple[int, int]


@dataclass(frozen=True)
class Parts:
    """All files of a folder, of one kind and with the same columns.

    Args:
        folder: that they lie in.
        files: in the order of their names.
        schema: the columns that all of them have.
        notes: what a reader must know of how they were read.
    """

    folder: Path
    files: Sequence[Part]
    schema: dict[str, pl.DataType]
    notes: tuple[str, ...] = ()
    _firsts: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_firsts", np.array([part.first for part in self.files]))

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return self.files[-1].first + self.files[-1].rows

    def where(self, row: int) -> tuple[str, int]:
        """The file of a row of the whole table, and its number in that file from 0."""
        part = self.files[int(np.searchsorted(self._firsts, row, side="right")) - 1]
        return str(part.path), row - part.first

    def chunks(self, columns: Sequence[str], rows: int = 0) -> Iterator[pl.DataFrame]:
        """The named columns of all rows in order, ``rows`` at a time, and beside them their numbers.

        Raises:
            DataError: a part is not what it was when the folder was looked at, or is damaged.
        """
        for part in self.files:
            if _stamp(part.path) != part.stamp:
                raise DataError(f"{part.path} has been changed since reading began", STILL)
            yield from _chunks(part, columns, self.schema, rows or CHUNK)
        if [path for path, _ in _listed(self.folder)] != [part.path for part in self.files]:
            raise DataError(f"{self.folder}: files have come since reading began", STILL)

    def head(self) -> pl.DataFrame:
        """The first values of every column that are not missing, each column by itself."""
        return pl.DataFrame([self._first_values(name) for name in self.schema])

    def _first_values(self, name: str) -> pl.Series:
        found = pl.Series(name, [], dtype=self.schema[name])
        for rows in (HEAD, CHUNK):  # the first rows do, but for a column that is hardly ever filled
            found = found.clear()
            for chunk in self.chunks([name], rows):
                found = found.append(chunk[name].drop_nulls().head(LOOKED_AT - len(found)))
                if len(found) == LOOKED_AT or rows == HEAD:
                    break
            if len(found) == LOOKED_AT:
                break
        return found.extend_constant(None, LOOKED_AT - len(found))

    def whole(self) -> pl.DataFrame:
        """All columns of all rows, for a table that fits in memory."""
        return pl.concat([self.chunk_of_none(), *self.chunks(list(self.schema))], how="diagonal")

    def chunk_of_none(self) -> pl.DataFrame:
        """No row, with the columns of all."""
        return pl.DataFrame(schema=self.schema)


def parts_of(folder: Path) -> Parts:
    """The parts in ``folder``.

    Files and folders whose names begin with a dot or an underscore are passed over: programs put their
    marks there.

    Raises:
        DataError: it holds no table, other files beside them, a damaged one, or parts whose columns
            or types differ.
    """
    with as_refusals(folder):
        listed = list(_listed(folder))
    kinds = Counter(kind_of(path) for path, _ in listed)
    if not any(kind in KINDS for kind in kinds):
        held = f"; it holds {listed[0][0].relative_to(folder)}" if listed else ""
        raise DataError(
            f"{folder} holds no table{held}",
            f"put the parts of the table there; allowed: {', '.join(KINDS)}",
        )
    most = max((kind for kind in kinds if kind in KINDS), key=lambda kind: kinds[kind])
    for path, _ in listed:
        if kind_of(path) != most:
            raise DataError(
                f"{path} lies among parts of kind {most!r}",
                "move it out of the folder, or convert it: all parts are of one kind",
            )
    files: list[Part] = []
    schema: dict[str, pl.DataType] = {}
    notes: list[str] = []
    first = 0
    for path, keys in listed:
        stamp = _stamp(path)
        kinds_here, rows, note = _looked_at(path)
        schema = _same(schema, {**dict.fromkeys(keys, pl.String()), **kinds_here}, path, files)
        files.append(Part(path, first, rows, keys, stamp))
        notes += [note] if note else []
        first += rows
    notes.append(f"{folder.name}: {len(files):,} parts with {first:,} rows")
    return Parts(folder, files, schema, tuple(notes))


def _listed(folder: Path) -> Iterator[tuple[Path, dict[str, str | None]]]:
    """The files of a folder and of those in it, by name, and the columns that their folders give."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name[0] in "._":
            continue
        if not path.is_dir():
            yield path, {}
            continue
        key, equals, value = path.name.partition("=")
        mine = {unquote(key): None if value == NO_VALUE else unquote(value)} if equals else {}
        for inner, keys in _listed(path):
            yield inner, {**mine, **keys}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path} is gone since reading began", STILL) from None
    return about.st_size, about.st_mtime_ns


def _looked_at(path: Path) -> tuple[dict[str, pl.DataType], int, str]:
    """Columns and number of rows of a part, and a note on how it is read."""
    if kind_of(path) == ".parquet":
        with unreadable(path):
            lazy = _lazy(path)
            schema, rows = lazy.collect_schema(), int(lazy.select(pl.len()).collect().item())
        return {c: _plain(k) for c, k in schema.items() if c not in HIDDEN}, rows, ""
    frame, note = read_table(path)
    return dict(frame.schema), frame.height, note


def _plain(kind: pl.DataType) -> pl.DataType:
    """The type of a column, whose values are the same as text where they are stored by number."""
    return pl.String() if isinstance(kind, (pl.Categorical, pl.Enum)) else kind


def _same(
    before: dict[str, pl.DataType], here: dict[str, pl.DataType], path: Path, files: Sequence[Part]
) -> dict[str, pl.DataType]:
    """The columns so far; one in which a part has no value at all has the type of the others.

    Raises:
        DataError: those of ``path`` are others.
    """
    if not files:
        return here
    other = files[0].path
    for name in [*before, *here]:
        if name not in here or name not in before:
            lacking, having = (path, other) if name not in here else (other, path)
            raise DataError(
                f"{lacking} has no column {name!r}, which {having} has",
                "give all parts the same columns, or move those that are of another table",
            )
        one, two = before[name], here[name]
        if pl.Null() in (one, two):
            before = {**before, name: two if one == pl.Null() else one}
        elif one != two:
            raise DataError(
                f"{path}, column {name}: values are of type {two}; in {other} they are of type {one}",
                f"store the column alike in all parts (polars: cast(pl.{one}))",
            )
    return before


def _lazy(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def _chunks(
    part: Part, columns: Sequence[str], schema: dict[str, pl.DataType], rows: int
) -> Iterator[pl.DataFrame]:
    """Rows of one part, ``rows`` at a time."""
    parquet = kind_of(part.path) == ".parquet"
    table = None if parquet else read_table(part.path)[0]
    own = None if table is None else table.columns
    for start in range(0, part.rows, rows):
        if table is not None:
            frame = table.slice(start, rows)
        else:
            with unreadable(part.path):
                lazy = _lazy(part.path)
                own = own or lazy.collect_schema().names()
                frame = lazy.select(c for c in columns if c in own).slice(start, rows).collect()
        height = min(rows, part.rows - start)
        if frame.height != height and frame.width:
            raise DataError(f"{part.path} has been changed since reading began", STILL)
        given = [pl.lit(part.keys[c], pl.String).alias(c) for c in columns if c not in (own or ())]
        number = pl.int_range(height, dtype=pl.Int64) + (part.first + start)
        line = [pl.col(LINE)] if LINE in frame.columns else []
        numbered = (
            frame.with_columns(number.alias(ROW)) if frame.width else pl.select(number.alias(ROW))
        )
        picked = numbered.with_columns(given).select(
            *(pl.col(c).cast(schema[c]) for c in columns if c != LINE), pl.col(ROW), *line
        )
        yield picked
