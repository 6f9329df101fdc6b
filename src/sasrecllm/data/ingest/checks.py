"""What is checked at the door, as data: one row per way in which a table can be wrong.

Behind the door everything is trusted.  A check is a column, an expression that is true for bad
rows, what is allowed, and the next step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from sasrecllm.data.ingest.columns import OPTIONAL
from sasrecllm.data.interactions import LINE, ROW, FileColumns

ID_BYTES = 128
LATEST = 100_000_000_000
"""Seconds beyond this (the year 5138) are milliseconds, and a thousand times as many of less."""
FINER = {"nanoseconds": 10**9, "microseconds": 10**6, "milliseconds": 1000}
"""Units in which times are kept that are no seconds: how many make one."""

SPLIT_NAMES = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Check:
    """Rows where ``bad`` is true are refused; ``column`` is shown with the value as it came in.

    Braces in the remedy stand for the file's name of the column.
    """

    column: str
    bad: pl.Expr
    allowed: str
    remedy: str


def parsed(column: str) -> str:
    """Name of the hidden column with the checked values of ``column``."""
    return f"__{column}"


def id_checks(every: pl.Series) -> list[Check]:
    """:func:`every_id_check`, or none where all of a column's distinct ids pass it."""
    rows = every_id_check(every.name)
    wrong = every.to_frame().select(pl.any_horizontal(c.bad for c in rows).any())
    return rows if every.null_count() or wrong.item() else []


def every_id_check(column: str) -> list[Check]:
    """An id is present, printable and short enough for every door it passes."""
    value = pl.col(column)
    give = "give the id, or remove the row"
    signs = "take line breaks and the like out of the id, in both files, or remove the row"
    long = "give shorter ids, the same in both files: numbers, or a digest of each"
    return [
        Check(column, value.is_null() | (value.str.strip_chars() == ""), "an id", give),
        Check(column, value.str.contains(r"\p{Cc}"), "an id without control characters", signs),
        Check(column, value.str.len_bytes() > ID_BYTES, f"ids up to {ID_BYTES} bytes", long),
    ]


def number_checks(column: str) -> list[Check]:
    """Checks of one of the columns label, rating, timestamp and order, after parsing."""
    value = pl.col(parsed(column))
    finite = pl.col(column).is_null() | value.is_null()
    if column in ("label", "rating"):
        finite |= ~value.is_finite()
    rows = {
        "label": [Check("label", ~value.is_in([0.0, 1.0]), "0 or 1, true or false, yes or no",
                        "write 1 for a like and 0 for none; or, if these are ratings, set"
                        " data.feedback=ratings 'data.columns.rating={}' and a data.threshold")],
        "timestamp": [
            Check("timestamp", value < 0, "Unix seconds, 0 or more", "correct the time"),
            *(
                Check("timestamp", value >= LATEST * parts // 1000,
                      f"Unix seconds; this looks like {unit}",
                      f"divide the column by {parts}; or, if this is a date that stands for none,"
                      " remove the row")
                for unit, parts in FINER.items()
            ),
        ],
    }  # fmt: skip
    allowed = {
        "label": "0 or 1, true or false, yes or no",
        "rating": "a finite number",
        "timestamp": "Unix seconds or an ISO 8601 date, for example 2014-07-31 or 2014-07-31T12:30:00Z",
        "order": "whole numbers",
    }
    remedy = "correct the value, or remove the row"
    if column == "label":
        remedy = "write 1 for a like and 0 for none, or remove the row"
    if column == "rating":
        remedy = "write a plain number (3 for '3/5' or '3 stars'), or remove the row"
    if column == "timestamp":
        remedy = "write every time in one of these forms, or remove the row"
    return [
        Check(column, finite, allowed[column], remedy),
        *rows.get(column, []),
    ]


def split_check() -> Check:
    """The split column speaks of train, valid and test."""
    valid = pl.col("split").cast(pl.String).is_in(SPLIT_NAMES)
    allowed = ", ".join(SPLIT_NAMES)
    return Check("split", ~valid.fill_null(False), allowed, "rename the value in the split column")


NONE_REFUSED = pl.DataFrame(
    schema={
        ROW: pl.Int64, "file": pl.String, "row": pl.Int64, "line": pl.Int64, "column": pl.String,
        "value": pl.String, "allowed": pl.String, "remedy": pl.String,
    }
)  # fmt: skip


def refusals(
    frame: pl.DataFrame, checks: Iterable[Check], file: str, columns: FileColumns
) -> pl.DataFrame:
    """The bad rows: __row, file, row (as its owner counts), line, column, value, allowed, remedy.

    A row is listed once, with the first check that it fails; column and value as the file has them.
    """
    rows = list(checks)
    failed: pl.Expr = pl.lit(None, pl.Int32)
    for n, check in reversed(list(enumerate(rows))):
        failed = pl.when(check.bad).then(pl.lit(n, pl.Int32)).otherwise(failed)
    bad = frame.with_columns(failed.alias("__check")).filter(pl.col("__check").is_not_null())
    if LINE not in bad.columns:
        bad = bad.with_columns(pl.lit(None, pl.Int64).alias(LINE))
    described = [
        _described(bad.filter(pl.col("__check") == n), c, file, columns) for n, c in enumerate(rows)
    ]
    return pl.concat([NONE_REFUSED, *described]).sort(ROW)


def _described(bad: pl.DataFrame, check: Check, file: str, columns: FileColumns) -> pl.DataFrame:
    """What a refusal says of the rows that fail ``check``."""
    theirs = columns.name(check.column)
    remedy = check.remedy.replace("{}", theirs)
    if check.column in OPTIONAL:
        remedy += f"; or leave the column out, if it is no {check.column}: {leave_out(check.column)}"
    return bad.select(
        pl.col(ROW).cast(pl.Int64),
        pl.lit(file).alias("file"),
        (pl.col(ROW) + columns.first_row).cast(pl.Int64).alias("row"),
        pl.col(LINE).cast(pl.Int64).alias("line"),
        pl.lit(theirs).alias("column"),
        pl.Series("value", [_spelt(v)[:80] for v in bad[check.column]], dtype=pl.String),
        pl.lit(check.allowed).alias("allowed"),
        pl.lit(remedy).alias("remedy"),
    )


def leave_out(column: str) -> str:
    """The setting that leaves out a column which was taken for ``column`` by its name."""
    return f"data.columns.{column}=null"


def _spelt(value: object) -> str:
    """A value as the file has it: text in quotation marks, dates and numbers as they are written."""
    if value is None:
        return "no value"
    return repr(value) if isinstance(value, (str, bytes, bytearray)) else str(value)
