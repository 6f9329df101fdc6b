"""What the values of a time column mean: Unix seconds, dates, and ISO 8601 in all its forms."""

from __future__ import annotations

import datetime as dt

import polars as pl

from sasrecllm.data.ingest.values import Parsed, no_number

COMMON = [
    *[(f, None) for f in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f")],
    ("%Y-%m-%d %H:%M:%S%.f%#z", "UTC"),
]
"""The forms that most files have, read by the frame library's fast parser."""

ISO_8601 = (
    r"^(?:(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"|(?P<basic>\d{8})|(?P<week>\d{4}-?W\d\d(?:-?\d)?)|(?P<ordinal>\d{4}-?\d{3})|(?P<of_month>\d{4}-\d\d))"
    r"(?:[Tt ] *(?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d))?)?(?:[.,](?P<part>\d{1,18}))?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+\-\x{2212}]\d\d(?::?\d\d)?)?)?$"
)
"""Calendar, week and ordinal dates, basic and extended, with a time of any precision and an offset."""

DIGITS = {
    "YYYYMMDD": (19000101, 21001231, "%Y%m%d"),
    "YYYYMMDDHHMM": (190001010000, 210012312359, "%Y%m%d%H%M"),
    "YYYYMMDDHHMMSS": (19000101000000, 21001231235959, "%Y%m%d%H%M%S"),
}
"""Dates written as whole numbers.

As Unix seconds, the first would all lie in August 1970; the others would lie past the year 5138.  A
column is read so only where all of its numbers are in the range.
"""


MIXED_ZONES = "some times say no zone and are read as UTC, others say theirs: is UTC meant in all?"
"""What is said of a column where rows may stand in a wrong order by some hours."""

FEW, EARLY = 10_000, 315_532_800
"""Numbers up to the first may count rows; later than the second (1980) they may be Unix seconds."""


Span = tuple[int, int]
"""The least and the greatest of the numbers in a column."""


def span_of(values: pl.Series) -> Span | None:
    """Of the whole seconds in a column whose values may be numbers; None where none is."""
    kind = values.dtype
    if kind in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        values = _dotted(values.str.strip_chars()).cast(pl.Float64, strict=False)
    elif not kind.is_numeric():
        return None
    whole = values.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
    low, high = whole.min(), whole.max()
    return (low, high) if isinstance(low, int) and isinstance(high, int) else None


def seconds(values: pl.Series, where: str, span: Span | None = None) -> Parsed:
    """Times as whole Unix seconds, rounded down; null where a value is no time.

    Numbers are Unix seconds already, unless all of them are dates as digits.  Dates and ISO 8601 are
    UTC unless they say otherwise.

    Args:
        values: as they came in.
        where: file and column, for a refusal.
        span: :func:`span_of` the whole column where ``values`` are a part of it.

    >>> seconds(pl.Series(["2014-07-14T12:00:00+02:00", "1405332000.5"]), "log.csv").values.to_list()
    [1405332000, 1405332000]
    """
    kind = values.dtype
    if kind in (pl.Date, pl.Datetime):
        moments = values.cast(pl.Datetime("us")).dt.epoch("us")
        return _with_fraction(moments // 1_000_000, (moments % 1_000_000) / 1e6)
    if kind in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        return _text(values, span)
    if kind.is_integer() or kind == pl.Null:
        return _digits(values.cast(pl.Int64, strict=False), span)
    if kind.is_float() or isinstance(kind, pl.Decimal):
        return _fractional(values.cast(pl.Float64), span)
    raise no_number(values, where, "Unix seconds, dates or ISO 8601 text")


def _text(values: pl.Series, span: Span | None) -> Parsed:
    plain = values.cast(pl.Int64, strict=False)
    if plain.null_count() == values.null_count():  # the usual case, at a tenth of the cost
        return _digits(plain, span)
    text = values.str.strip_chars().str.replace_all("/", "-", literal=True)
    spaced = text.str.replace("T", " ", literal=True)
    for form, zone in COMMON:
        if _moments(spaced.drop_nulls().head(100), form, zone).null_count():
            continue
        moments = _moments(spaced, form, zone)
        if moments.null_count() == values.null_count():
            return _with_fraction(moments // 1_000_000, (moments % 1_000_000) / 1e6)
    number = _fractional(_dotted(text).cast(pl.Float64, strict=False), span)
    dates = _iso(text.set(number.values.is_not_null(), None))
    low = pl.lit(0.0)
    frame = pl.DataFrame(
        {
            "number": number.values,
            "date": dates.values,
            "of number": number.fraction,
            "of date": dates.fraction,
        }
    )
    whole = frame.select(pl.coalesce("number", "date")).to_series()
    fraction = frame.select(pl.coalesce("of number", "of date", low).cast(pl.Float64)).to_series()
    note = number.note or dates.note
    return Parsed(whole, note, fraction if (fraction > 0).any() else None)


def _dotted(text: pl.Series) -> pl.Series:
    """Numbers with a decimal comma as with a point."""
    return text.str.replace(r"^(\d+),(\d+)$", "${1}.${2}")


def _moments(text: pl.Series, form: str, zone: str | None) -> pl.Series:
    found = text.str.to_datetime(form, time_unit="us", strict=False, time_zone=zone)
    return found.dt.epoch("us")


def _fractional(values: pl.Series, span: Span | None) -> Parsed:
    """Unix seconds with a fraction; null where a value is not finite."""
    whole = values.floor()
    parsed = _digits(whole.cast(pl.Int64, strict=False), span)
    return _with_fraction(parsed.values, values - whole, parsed.note)


def _with_fraction(whole: pl.Series, fraction: pl.Series, note: str = "") -> Parsed:
    return Parsed(whole, note, fraction if (fraction > 0).any() else None)


def _digits(values: pl.Series, span: Span | None) -> Parsed:
    """Whole numbers: Unix seconds, or dates as digits where all of them are in their range."""
    low, high = span or (values.min(), values.max())
    for name, (first, last, form) in DIGITS.items():
        if isinstance(low, int) and isinstance(high, int) and first <= low and high <= last:
            found = values.cast(pl.String).str.to_datetime(form, time_unit="us", strict=False)
            note = f"numbers such as {high} are read as dates ({name}, UTC), not as Unix seconds"
            return Parsed(found.dt.epoch("s"), note)
    if isinstance(high, int) and FEW <= high < EARLY:
        day = dt.datetime.fromtimestamp(high, dt.UTC).date()
        return Parsed(values, f"read as Unix seconds, which end on {day}: are they of another unit?")
    return Parsed(values)


def _iso(text: pl.Series) -> Parsed:
    """ISO 8601 by its parts: null where a text is none, or names a moment that does not exist."""
    parts = (
        text.alias("text").to_frame().select(pl.col("text").str.extract_groups(ISO_8601)).unnest("text")
    )
    number = {c: pl.col(c).cast(pl.Int64, strict=False) for c in ("hour", "minute", "second")}
    two = {c: pl.col(c).str.zfill(2) for c in ("month", "day")}
    week = pl.col("week").str.replace_all("-", "", literal=True)
    day = pl.coalesce(
        pl.concat_str("year", two["month"], two["day"]).str.to_date("%Y%m%d", strict=False),
        pl.col("basic").str.to_date("%Y%m%d", strict=False),
        pl.concat_str(week, pl.when(week.str.len_bytes() == 7).then(pl.lit("1")).otherwise(pl.lit("")))
        .str.to_date("%GW%V%u", strict=False),
        pl.col("ordinal").str.replace("-", "", literal=True).str.to_date("%Y%j", strict=False),
        pl.concat_str("of_month", pl.lit("-01")).str.to_date("%Y-%m-%d", strict=False),
    )  # fmt: skip
    zone = pl.col("zone").str.replace_all(r"[:Zz]|UTC|GMT", "").str.replace("\u2212", "-")
    ahead = zone.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0) * 60
    ahead += zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    offset = 60 * pl.when(zone.str.starts_with("-")).then(-ahead).otherwise(ahead).fill_null(0)
    hour, minute, second = (number[c].fill_null(0) for c in ("hour", "minute", "second"))
    has_second, has_minute = (pl.col(c).is_not_null() for c in ("second", "minute"))
    unit = pl.when(has_second).then(1).when(has_minute).then(60).otherwise(3600)
    part = unit * pl.concat_str(pl.lit("0."), "part").cast(pl.Float64).fill_null(0.0)
    clock = 3600 * hour + 60 * minute + second
    # 24:00 ends a day, and a leap second is the 60th of its minute.
    exists = (minute < 60) & (second <= 60) & (ahead < 24 * 60)
    exists &= (hour < 24) | ((hour == 24) & (clock == 24 * 3600) & (part == 0))
    whole = day.cast(pl.Int64) * 86400 + clock - offset + part.floor().cast(pl.Int64)
    found = parts.select(
        pl.when(exists).then(whole).alias("whole"), (part - part.floor()).alias("part")
    )
    zoned, clocks = parts["zone"].is_not_null(), parts["hour"].is_not_null()
    mixed = bool(zoned.any()) and bool((clocks & ~zoned).any())
    return Parsed(found["whole"], MIXED_ZONES if mixed else "", found["part"])
