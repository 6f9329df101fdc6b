"""Users in and recommendation lists out, streamed: neither file is ever whole in memory."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from sasrecllm.data.ingest.columns import nearest
from sasrecllm.data.ingest.readers import bad_json, explained, refuse_repeated, scan_json
from sasrecllm.data.ingest.text import understood
from sasrecllm.data.ingest.values import ids
from sasrecllm.errors import ConfigError, DataError, did_you_mean
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.names import aside

SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "rank": pl.Int32,
    "item_id": pl.String,
    "title": pl.String,
    "probability": pl.Float64,
    "retrieval_rank": pl.Int32,
    "flags": pl.List(pl.String),
}
"""Columns of a file of recommendation lists."""


def user_batches(path: Path, size: int, column: str = "user_id") -> Iterator[list[str]]:
    """Ids of ``column`` in the file's order, ``size`` at a time; spelt as they stand.

    Whole numbers are ids here as they are in the data of a run.

    Raises:
        DataError: no such file or column, another kind of file, an empty id, or ids of a type that has
            lost their spelling (numbers with a fraction).
    """
    frame, rows = _scan(path)
    schema = frame.collect_schema()
    if column not in schema:
        names = schema.names()
        close = names[0] if len(names) == 1 else nearest("user_id", names) or "<name in your file>"
        raise DataError(
            f"{path} has no column {column!r}; it has: {', '.join(names)}"
            + did_you_mean(column, names),
            f"name it: --column {shlex.quote(close)}; or, if the first line is an id already, make"
            f" {column} the first line of a file of ids alone",
        )
    where = f"{path}, column {column}"
    ids(pl.Series([], dtype=schema[column]), where)  # a type that cannot be is refused before any row
    start = blank_row = 0
    left: list[str] = []
    blank = pl.all_horizontal(pl.all().is_null()) if rows is not None else pl.lit(False)
    with _named(path):
        picked = frame.select(pl.col(column).alias("id"), blank.alias("blank"))
        for chunk in picked.collect_batches(chunk_size=size):
            values = ids(chunk["id"], where).to_list()
            for row, (value, is_blank) in enumerate(
                zip(values, chunk["blank"], strict=True), start + 1
            ):
                if is_blank:  # at the end of a text file, blank lines are no rows
                    blank_row = blank_row or row
                elif blank_row or not value:
                    bad = blank_row or row
                    raise DataError(f"{path}: row {bad}: {column} is empty", "give every row an id")
            start += len(values)
            left += [value for value in values if value]
            while len(left) >= size:
                yield left[:size]
                left = left[size:]
    if rows not in (None, start):
        raise _lost(path, start, rows)
    if left:
        yield left


def _lost(path: Path, found: int, rows: int | None) -> DataError:
    return DataError(f"{path}: {found:,} rows were read, but {rows:,} stand there", "write it again")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the frame library finds wrong with a file of users, with its line where that is known."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        if path.suffix in (".csv", ".tsv"):
            raise explained(path, understood(path), error) from None
        if path.suffix in (".jsonl", ".ndjson"):
            raise bad_json(path, error) from None
        raise DataError(f"--users {path} cannot be read: {error}", "write the file again") from None


def users_of(path: Path, number: int, size: int, column: str = "user_id") -> list[str]:
    """The ``number``-th list that :func:`user_batches` yields, read alone (for a worker elsewhere)."""
    with _named(path):
        part = _scan(path)[0].slice(number * size, size).select(column).collect()
    return [*filter(None, ids(part[column], f"{path}, column {column}").to_list())]


def write_lists(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One part of the lists as Parquet."""
    whole = BytesIO()  # polars may say nothing of a disk that is full at the last bytes
    pl.DataFrame(list(rows), schema=SCHEMA).write_parquet(whole)
    with as_refusals(path):
        path.write_bytes(whole.getvalue())


def merge_lists(parts: Sequence[Path], path: Path) -> None:
    """All parts, in the given order, as one file of the kind that ``path`` ends with.

    Raises:
        ConfigError: an ending that is not .parquet, .csv or .jsonl.
    """
    check_ending(path)
    whole = pl.scan_parquet([str(p) for p in parts], glob=False)
    temporary = aside(path)
    try:
        with as_refusals(path):
            if path.suffix == ".parquet":
                whole.sink_parquet(temporary)
            else:
                flat = whole.with_columns(pl.col("flags").list.join("|"))
                flat.sink_csv(temporary) if path.suffix == ".csv" else whole.sink_ndjson(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # nothing once it is in its place


def check_ending(path: Path) -> None:
    """Refuse an output file of an unknown kind before anything is computed."""
    if path.suffix not in (".parquet", ".csv", ".jsonl"):
        raise ConfigError(
            f"--out {path} ends with {path.suffix!r}; allowed: .parquet, .csv, .jsonl",
            "choose one of these endings",
        )


def _scan(path: Path) -> tuple[pl.LazyFrame, int | None]:
    """A file of users, and of a text file the number of its rows."""
    if not path.is_file():
        raise DataError(f"--users {path}: no such file", "give a Parquet, CSV or JSON Lines file")
    rows = None
    with _named(path):
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path, glob=False)
        elif path.suffix in (".csv", ".tsv"):
            text = understood(path)
            refuse_repeated(path, text.names)
            rows, quote = text.rows, '"' if text.quoted else None
            frame = pl.scan_csv(
                text.source, glob=False, infer_schema=False, separator=text.separator, quote_char=quote
            )
        elif path.suffix in (".jsonl", ".ndjson"):
            frame = scan_json(path)
        else:
            raise DataError(
                f"--users {path} ends with {path.suffix!r}; allowed: .parquet, .csv, .tsv, .jsonl",
                "convert it to one of these",
            )
        frame.collect_schema()
    return frame, rows
