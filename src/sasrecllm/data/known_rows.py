"""Which rows of a table a prepared data set has already, and which contradict it."""

from __future__ import annotations

import polars as pl

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.interactions import ROW, FileColumns, Tables
from sasrecllm.errors import DataError


def row_in(row: int, columns: FileColumns) -> str:
    """The number of a row as its owner counts."""
    return f"row {row + columns.first_row}" + " (counted from 0)" * (columns.first_row == 0)


def known_rows(old: Dataset, frame: pl.DataFrame, tables: Tables) -> pl.Series:
    """Which rows of ``frame`` the data set has already.

    A row is known by user, item, moment and label, as often as it stands there.  Without times it is
    known by user and item, where no user has met an item twice; else every row is new.

    Raises:
        DataError: a row of a known user, item and moment says otherwise than the known one.
    """
    users, items = old.catalog.user_index, old.catalog.item_index
    asked = pl.DataFrame(
        {
            "user": users(frame["user_id"].cast(pl.String).to_list()),
            "item": items(frame["item_id"].cast(pl.String).to_list()),
            "label": frame["label"],
            "row": frame[ROW],
        }
    )
    there = pl.DataFrame({"user": old.users, "item": old.items, "label": old.labels})
    key = ["user", "item"]
    if old.has_times:
        asked = asked.with_columns(frame["timestamp"].cast(pl.Int64).alias("time"))
        there = there.with_columns(pl.Series("time", old.times))
        key.append("time")
    elif there.select(key).is_duplicated().any():
        return pl.Series([False] * frame.height, dtype=pl.Boolean)
    again = pl.int_range(pl.len()).over(*key, "label").alias("nth")
    asked, there = asked.with_columns(again), there.with_columns(again)
    exact = [*key, "label", "nth"]
    marked = asked.join(
        there.with_columns(pl.lit(True).alias("known")), on=exact, how="left", maintain_order="left"
    )
    known = marked["known"].fill_null(False)
    other = asked.filter(~known).join(there.select(key).unique(), on=key, how="semi")
    wrong = other.join(there, on=[*key, "label"], how="anti").sort("row")
    if wrong.height:
        raise _contradiction(old, wrong, frame, tables)
    return known


def _contradiction(old: Dataset, wrong: pl.DataFrame, frame: pl.DataFrame, tables: Tables) -> DataError:
    first = wrong.row(0, named=True)
    columns = tables.columns[0]
    said = next((c for c in ("label", "rating") if c in tables.interactions.columns), "label")
    value = frame.filter(pl.col(ROW) == first["row"])[said][0]
    user, item = old.catalog.user_id(first["user"]), old.catalog.item_id(first["item"])
    more = f"; {wrong.height:,} rows contradict the run" if wrong.height > 1 else ""
    moment = f" at {columns.name('timestamp')} {first['time']}" if "time" in first else ""
    liked = ("liked", "not liked")
    return DataError(
        f"{tables.files[0]}, {row_in(first['row'], columns)}, column {columns.name(said)}:"
        f" {value} of {columns.name('user_id')} {user!r} on {columns.name('item_id')} {item!r}{moment}"
        f" means {liked[first['label'] == 0]}; the run has it as {liked[first['label'] == 1]}{more}",
        "remove the row; a user who changed his mind did so at a later moment",
    )
