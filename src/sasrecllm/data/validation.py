"""The door: tables are refused with file, row, column and value, or their bad rows set aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from sasrecllm.data import checks
from sasrecllm.data.catalog import clean_titles
from sasrecllm.data.checks import Check, parsed
from sasrecllm.data.interactions import LINE, ROW, Tables
from sasrecllm.data.repeats import Repeats, surplus
from sasrecllm.errors import ConfigError, DataError, ResourceError, did_you_mean

OnBadRows = Literal["refuse", "quarantine"]
NUMBERS = {
    "label": checks.numbers,
    "rating": checks.numbers,
    "timestamp": checks.seconds,
    "order": checks.whole_numbers,
}
KINDS = {"label": pl.Int8, "rating": pl.Float64, "timestamp": pl.Int64, "order": pl.Int64}


def validate(
    tables: Tables,
    *,
    on_bad_rows: OnBadRows = "refuse",
    quarantine_path: Path | None = None,
    repeats: Repeats = "refuse",
) -> tuple[Tables, int]:
    """The tables with clean types and without bad rows, and the number of rows set aside.

    ``refuse`` raises on the first bad row; ``quarantine`` writes every bad row with its reason to
    ``quarantine_path`` (JSON Lines) and goes on without them.  Repeated rows are bad rows where
    ``repeats`` is ``refuse``, and stay otherwise (:mod:`sasrecllm.data.repeats`).

    Raises:
        DataError: columns are missing, or rows are bad (refuse), or no row is left.
        ConfigError: quarantine without a path.
    """
    if on_bad_rows == "quarantine" and quarantine_path is None:
        raise ConfigError("on_bad_rows is quarantine, but no file is named", "give quarantine_path")
    items, bad_items = _items(tables)
    if on_bad_rows == "refuse":
        _raise_first(bad_items)
    rows, bad_rows = _interactions(tables, items, repeats)
    if on_bad_rows == "refuse":
        _raise_first(bad_rows)
    refused = pl.concat([bad_items, bad_rows])
    if on_bad_rows == "quarantine" and quarantine_path is not None:
        _write(refused, quarantine_path)
    for frame, file in ((rows, tables.files[0]), (items, tables.files[1])):
        if frame.is_empty():
            raise DataError(
                f"{file}: no usable row ({refused.height} refused)",
                f"see {quarantine_path} for the reasons" if refused.height else "give data",
            )
    return replace(tables, interactions=rows, items=items), refused.height


def _items(tables: Tables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items with String ids, clean titles and text attributes, and their bad rows."""
    file = tables.files[1]
    frame = _columns(tables.items, ["item_id", "title"], file)
    frame = checks.ids(frame, "item_id", file)
    if _no_text(frame.schema["title"]):
        raise DataError(
            f"{file}, column title: values are of type {frame.schema['title']}; allowed: text",
            "store the titles as text",
        )
    frame = frame.with_columns(clean_titles(frame["title"]).alias(parsed("title")))
    title = pl.col(parsed("title"))
    rows = [
        *checks.every_id_check("item_id"),
        Check("title", title.is_null() | (title == ""), "a title", "give the item a title"),
        # Every copy is refused: keeping one would make the result depend on the file's order.
        Check("item_id", pl.col("item_id").is_duplicated(), "each item once", "keep one of its rows"),
    ]
    bad = checks.refusals(frame, rows, file)
    good = frame.join(bad.select(ROW), on=ROW, how="anti").with_columns(title.alias("title"))
    hidden = [c for c in good.columns if c.startswith("__")]
    good = good.drop(hidden)
    foreign = [c for c, kind in good.schema.items() if _no_text(kind)]
    return good.drop(foreign).cast(pl.String), bad


def _no_text(kind: pl.DataType) -> bool:
    return kind.is_nested() or kind in (pl.Binary, pl.Object)


def _interactions(
    tables: Tables, items: pl.DataFrame, repeats: Repeats
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions with clean types and their row numbers, and the bad rows."""
    file = tables.files[0]
    frame = _columns(tables.interactions, ["user_id", "item_id"], file)
    for column in ("user_id", "item_id"):
        frame = checks.ids(frame, column, file)
    present = [c for c in NUMBERS if c in frame.columns]
    for column in present:
        frame = NUMBERS[column](frame, column, file)
    every = {c: frame[c].unique() for c in ("user_id", "item_id")}
    rows = [check for ids in every.values() for check in checks.id_checks(ids)]
    for column in present:
        rows += checks.number_checks(column)
    rows += [checks.split_check()] if "split" in frame.columns else []
    rows += _unknown_item(every["item_id"], items, tables.files[1])
    bad = checks.refusals(frame, rows, file)
    good = _without(frame, bad)
    keep = ["user_id", "item_id", *present, *(["split"] if "split" in frame.columns else []), ROW]
    shown = good.select(*keep, *([LINE] if LINE in good.columns else []))
    good = shown.with_columns(good[parsed(c)].cast(KINDS[c]).alias(c) for c in present)
    # Codes in the order of the ids: sorted and compared like them at a fraction of the cost.
    good = good.with_columns(
        pl.col(c).cast(pl.Enum(ids.drop_nulls().sort())) for c, ids in every.items()
    )
    if repeats == "refuse":
        again = surplus(replace(tables, interactions=good))
        bad = pl.concat([bad, checks.refusals(again, [_repeat_check(again)], file)])
        good = _without(good, again)
    return good.select(keep), bad


def _unknown_item(every: pl.Series, items: pl.DataFrame, file: str) -> list[Check]:
    """The check that the items table has every item; none where it has."""
    lost = every.filter(~every.is_in(items["item_id"].implode()))
    if lost.is_empty():
        return []
    unknown = pl.col("item_id").is_in(lost.implode())
    return [Check("item_id", unknown, f"items of {file}", f"add the item to {file}, or remove the row")]


def _without(frame: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return frame
    return frame.join(rows.select(ROW), on=ROW, how="anti", maintain_order="left")


def _repeat_check(again: pl.DataFrame) -> Check:
    key = ["user_id", "item_id", *(c for c in ("timestamp", "order") if c in again.columns)]
    remedy = "remove the repeated row, or say what it means: data.repeats=keep, first or last"
    return Check(key[-1], pl.lit(True), f"each ({', '.join(key)}) once", remedy)


def _columns(frame: pl.DataFrame, needed: list[str], file: str) -> pl.DataFrame:
    """Refuse missing columns; number the rows."""
    for column in needed:
        if column not in frame.columns:
            shown = [c for c in frame.columns if not c.startswith("__")]
            raise DataError(
                f"{file} has no column {column}; its columns: {', '.join(shown) or 'none'}"
                + did_you_mean(column, shown),
                f"name it: data.columns.{column}=<name in your file>",
            )
    if frame.is_empty():
        raise DataError(f"{file} has no rows", "give a table with at least one row")
    if ROW not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    return frame


def _raise_first(refused: pl.DataFrame) -> None:
    """Refuse the table because of its first bad row."""
    if refused.is_empty():
        return
    first = refused.sort(ROW).row(0, named=True)
    line = "" if first["line"] is None else f" (line {first['line']})"
    more = f"; {refused.height:,} bad rows in all" if refused.height > 1 else ""
    raise DataError(
        f"{first['file']}, row {first['row']}{line}, column {first['column']}: {first['value']};"
        f" allowed: {first['allowed']}{more}",
        f"{first['remedy']}; or set data.on_bad_rows=quarantine to go on without bad rows",
    )


def _write(refused: pl.DataFrame, path: Path) -> None:
    """Write the refused rows; without any, no file of an earlier run stays to be mistaken for it."""
    try:
        if refused.is_empty():
            return path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        refused.drop(ROW).write_ndjson(path)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error}", "choose another folder") from error
