"""What is checked at the door, as data: one row per way in which a table can be wrong.

Behind the door everything is trusted.  A check is a column, an expression that is true for bad
rows, what is allowed, and the next step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from sasrecllm.data.interactions import LINE, ROW
from sasrecllm.errors import DataError

ID_BYTES = 128
LATEST = 100_000_000_000
"""Seconds beyond this (the year 5138) are milliseconds."""

ISO_8601 = [
    *[(f, None) for f in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f")],
    ("%Y-%m-%d %H:%M:%S%.f%#z", "UTC"),
]

SPLIT_NAMES = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Check:
    """Rows where ``bad`` is true are refused; ``column`` is shown with the value as it came in."""

    column: str
    bad: pl.Expr
    allowed: str
    remedy: str


def parsed(column: str) -> str:
    """Name of the hidden column with the checked values of ``column``."""
    return f"__{column}"


def ids(frame: pl.DataFrame, column: str, file: str) -> pl.DataFrame:
    """Column ``column`` as String, spelled as it came in.

    Raises:
        DataError: the column is of a type whose spelling is lost already.
    """
    kind = frame.schema[column]
    if kind.is_integer() or kind in (pl.Null, pl.Categorical, pl.Enum):
        return frame.with_columns(pl.col(column).cast(pl.String))
    if kind != pl.String:
        raise DataError(
            f"{file}, column {column}: ids are of type {kind}; allowed: text or integers",
            "store the ids as text: as numbers with a fraction 7 and 007 have become the same",
        )
    return frame


def numbers(frame: pl.DataFrame, column: str, file: str) -> pl.DataFrame:
    """Add the values of a number column as Float64; null where they are no numbers."""
    kind = frame.schema[column]
    if kind == pl.String:
        value = pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)
    elif kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        value = pl.col(column).cast(pl.Float64)
    else:
        raise _no_number(frame, column, file)
    return frame.with_columns(value.alias(parsed(column)))


def seconds(frame: pl.DataFrame, column: str, file: str) -> pl.DataFrame:
    """Add the values of a time column as Unix seconds; null where they are none.

    Numbers are Unix seconds already.  Dates, also as ISO 8601 text, are UTC unless they say
    otherwise.
    """
    kind, name = frame.schema[column], parsed(column)
    if kind in (pl.Date, pl.Datetime):
        value = pl.col(column).cast(pl.Datetime("us")).dt.epoch("s")
        return frame.with_columns(value.alias(name))
    frame = whole_numbers(frame, column, file)
    if kind != pl.String or frame[name].null_count() == 0:
        return frame
    text = pl.col(column).str.strip_chars().str.replace("T", " ", literal=True)
    dates = [
        text.str.to_datetime(form, time_unit="us", strict=False, time_zone=zone).dt.epoch("s")
        for form, zone in ISO_8601
    ]
    return frame.with_columns(pl.coalesce(name, *dates).alias(name))


def whole_numbers(frame: pl.DataFrame, column: str, file: str) -> pl.DataFrame:
    """Add the values of a column of whole numbers as Int64; null where they are none.

    Text may be written as ``978300760`` or ``978300760.0``.
    """
    kind = frame.schema[column]
    if kind == pl.String:
        plain = frame[column].cast(pl.Int64, strict=False)
        if plain.null_count() == frame[column].null_count():  # the usual case, at a tenth of the cost
            return frame.with_columns(plain.alias(parsed(column)))
        text = pl.col(column).str.strip_chars()
        value = text.cast(pl.Int64, strict=False).fill_null(_whole(text))
    elif kind.is_float():
        value = _whole(pl.col(column))
    elif kind.is_integer() or kind == pl.Null:
        value = pl.col(column).cast(pl.Int64, strict=False)
    else:
        raise _no_number(frame, column, file)
    return frame.with_columns(value.alias(parsed(column)))


def _whole(value: pl.Expr) -> pl.Expr:
    number = value.cast(pl.Float64, strict=False)
    return pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))


def _no_number(frame: pl.DataFrame, column: str, file: str) -> DataError:
    return DataError(
        f"{file}, column {column}: values are of type {frame.schema[column]}; allowed: numbers",
        f"convert the column, or name another one: data.columns.{column}=...",
    )


def id_checks(every: pl.Series) -> list[Check]:
    """:func:`every_id_check`, or none where all of a column's distinct ids pass it."""
    rows = every_id_check(every.name)
    wrong = every.to_frame().select(pl.any_horizontal(c.bad for c in rows).any())
    return rows if every.null_count() or wrong.item() else []


def every_id_check(column: str) -> list[Check]:
    """An id is present, printable and short enough for every door it passes."""
    value = pl.col(column)
    remedy = "give the id, or remove the row"
    return [
        Check(column, value.is_null() | (value.str.strip_chars() == ""), "an id", remedy),
        Check(column, value.str.contains(r"\p{Cc}"), "an id without control characters", remedy),
        Check(column, value.str.len_bytes() > ID_BYTES, f"ids up to {ID_BYTES} bytes", remedy),
    ]


def number_checks(column: str) -> list[Check]:
    """Checks of one of the columns label, rating, timestamp and order, after parsing."""
    value = pl.col(parsed(column))
    finite = pl.col(column).is_null() | value.is_null()
    if column in ("label", "rating"):
        finite |= ~value.is_finite()
    rows = {
        "label": [Check("label", ~value.is_in([0.0, 1.0]), "0 or 1",
                        "give ratings as data.columns.rating=... and a data.threshold")],
        "timestamp": [
            Check("timestamp", value < 0, "Unix seconds, 0 or more", "correct the time"),
            Check("timestamp", value >= LATEST, "Unix seconds; this looks like milliseconds",
                  "divide the column by 1000 (or 1000000 for microseconds)"),
        ],
    }  # fmt: skip
    kinds = {"timestamp": "whole Unix seconds or an ISO 8601 date", "order": "whole numbers"}
    allowed = {"label": "0 or 1", "rating": "a finite number"} | kinds
    return [
        Check(column, finite, allowed[column], "correct the value, or remove the row"),
        *rows.get(column, []),
    ]


def split_check() -> Check:
    """The split column speaks of train, valid and test."""
    known = pl.col("split").cast(pl.String).is_in(SPLIT_NAMES)
    allowed = ", ".join(SPLIT_NAMES)
    return Check("split", ~known.fill_null(False), allowed, "rename the value in the split column")


NONE_REFUSED = pl.DataFrame(
    schema={
        ROW: pl.Int64, "file": pl.String, "row": pl.Int64, "line": pl.Int64, "column": pl.String,
        "value": pl.String, "allowed": pl.String, "remedy": pl.String,
    }
)  # fmt: skip


def refusals(frame: pl.DataFrame, checks: Iterable[Check], file: str) -> pl.DataFrame:
    """The bad rows: __row, file, row (1-based), line, column, value, allowed, remedy.

    A row is listed once, with the first check that it fails.
    """
    rows = list(checks)
    failed: pl.Expr = pl.lit(None, pl.Int32)
    for n, check in reversed(list(enumerate(rows))):
        failed = pl.when(check.bad).then(pl.lit(n, pl.Int32)).otherwise(failed)
    bad = frame.with_columns(failed.alias("__check")).filter(pl.col("__check").is_not_null())
    if LINE not in bad.columns:
        bad = bad.with_columns(pl.lit(None, pl.Int64).alias(LINE))
    told = [_told(bad.filter(pl.col("__check") == n), c, file) for n, c in enumerate(rows)]
    return pl.concat([NONE_REFUSED, *told]).sort(ROW)


def _told(bad: pl.DataFrame, check: Check, file: str) -> pl.DataFrame:
    """What a refusal says of the rows that fail ``check``."""
    return bad.select(
        pl.col(ROW).cast(pl.Int64),
        pl.lit(file).alias("file"),
        (pl.col(ROW) + 1).cast(pl.Int64).alias("row"),
        pl.col(LINE).cast(pl.Int64).alias("line"),
        pl.lit(check.column).alias("column"),
        pl.Series("value", [repr(v)[:80] for v in bad[check.column]], dtype=pl.String),
        pl.lit(check.allowed).alias("allowed"),
        pl.lit(check.remedy).alias("remedy"),
    )
