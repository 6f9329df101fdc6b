"""What the values of a column mean: ids as text, labels, ratings and places as numbers.

Each function takes a column as it came in, and where it stands (file and column) for refusals.
A value that means nothing becomes null and is refused by the checks; a type that can mean nothing
is refused at once.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

import polars as pl

from sasrecllm.errors import DataError

YES_NO = {
    **dict.fromkeys(("true", "t", "yes", "y"), 1.0),
    **dict.fromkeys(("false", "f", "no", "n"), 0.0),
}
"""Truth values as pandas, R, PostgreSQL and people write them, in lower case."""


EXPLODED = (
    "write a row for each value of a list, and each field of a structure as a column of its own"
    " (polars: explode, unnest)"
)
LONGEST_TYPE = 80
BYTES = "store them as text: these are bytes (polars: cast(pl.String); Spark: cast('string'))"


@dataclass(frozen=True, slots=True)
class Parsed:
    """Checked values of a column.

    Args:
        values: null where a value means nothing.
        note: what a reader must know of how they were read.
        fraction: of times, the part below a second, 0 to 1; None where all are whole.
    """

    values: pl.Series
    note: str = ""
    fraction: pl.Series | None = None


def ids(values: pl.Series, where: str) -> pl.Series:
    """The ids as String, spelled as they came in.

    Raises:
        DataError: the column is of a type whose spelling is lost already, or of none.
    """
    kind = values.dtype
    if kind == pl.String:
        return values
    if kind.is_integer() or kind in (pl.Null, pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    remedy = EXPLODED if kind.is_nested() else "store them as text or integers"
    if isinstance(kind, pl.Decimal):
        whole = values.cast(pl.Int128, strict=False)
        if (whole.cast(kind, strict=False) == values).all():
            return whole.cast(pl.String)
    elif kind.is_float():
        # 2^53 and 2^53 + 1 are one number here; pandas makes such a column of integers with gaps.
        remedy = (
            "store them as text or integers (pandas: astype('Int64')): as numbers with a fraction 7 and"
            " 007 have become the same"
        )
    elif kind == pl.Binary:
        remedy = BYTES
    raise DataError(f"{where}: ids are of type {_named(kind)}; allowed: text or integers", remedy)


def numbers(values: pl.Series, where: str) -> Parsed:
    """Labels or ratings as Float64; yes and no are 1 and 0, and text may have a decimal comma.

    >>> numbers(pl.Series(["4.5", "3,5", "True", "no", "good"]), "log.csv").values.to_list()
    [4.5, 3.5, 1.0, 0.0, None]
    """
    values = _spelled(values)
    kind = values.dtype
    if kind == pl.String:
        found = _stripped_float(values)
        if found.null_count() > values.null_count():
            text = values.str.strip_chars().str.to_lowercase()
            words = text.replace_strict(YES_NO, default=None, return_dtype=pl.Float64)
            comma = text.str.extract(r"^([+-]?\d+,\d{1,2})$").str.replace(",", ".", literal=True)
            found = found.fill_null(words).fill_null(comma.cast(pl.Float64))
        return Parsed(found)
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return Parsed(values.cast(pl.Float64))
    raise no_number(values, where)


def whole_numbers(values: pl.Series, where: str) -> Parsed:
    """Places as Int64; text may be written as ``978300760`` or ``978300760.0``."""
    values = _spelled(values)
    kind = values.dtype
    if kind == pl.String:
        plain = values.cast(pl.Int64, strict=False)
        if plain.null_count() == values.null_count():  # the usual case, at a tenth of the cost
            return Parsed(plain)
        text = values.str.strip_chars()
        return Parsed(text.cast(pl.Int64, strict=False).fill_null(_whole(_stripped_float(values))))
    if kind.is_float() or isinstance(kind, pl.Decimal):
        return Parsed(_whole(values))
    if kind.is_integer() or kind == pl.Null:
        return Parsed(values.cast(pl.Int64, strict=False))
    raise no_number(values, where)


def text(values: pl.Series, where: str) -> pl.Series:
    """Titles or splits as String."""
    found = None if values.dtype.is_nested() else attribute(values, lists=False)
    if found is None:
        raise no_number(values, where, "text")
    return found


def attribute(values: pl.Series, *, lists: bool = True) -> pl.Series | None:
    """A further column of the items as text; lists are joined with ``|``; None where it is no text.

    Args:
        lists: join lists that were written as text too, ``['War', 'Drama']`` as pandas does.

    >>> attribute(pl.Series([["War", "Drama"], [], None])).to_list()
    ['War|Drama', None, None]
    """
    kind = values.dtype
    if isinstance(kind, (pl.List, pl.Array)):
        inner = kind.inner
        if not _is_text(inner):
            return None
        words = values.cast(pl.List(inner)).cast(pl.List(pl.String)).list
        return words.join("|", ignore_nulls=True).set(words.len() == 0, None)
    if not _is_text(kind):
        return None
    text = values.cast(pl.String)
    return _joined(text) if lists and kind == pl.String else text


def _joined(text: pl.Series) -> pl.Series:
    """Lists written as text, joined; the text itself where a single one of them is no list."""
    every = text.drop_nulls()
    if every.is_empty() or not every.str.contains(r"^\s*\[.*\]\s*$").all():
        return text
    joined: dict[str, str | None] = {}
    for written in every.unique():
        try:  # NumPy puts no commas between the words
            found = ast.literal_eval(re.sub(r"(['\"])\s+(?=['\"])", r"\1, ", written.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if not isinstance(found, list) or not all(isinstance(v, (str, int, float)) for v in found):
            return text
        joined[written] = "|".join(map(str, found)) or None
    return text.replace_strict(joined, default=None, return_dtype=pl.String)


def no_number(values: pl.Series, where: str, allowed: str = "numbers") -> DataError:
    """The refusal of a column whose type is not one of ``allowed``."""
    remedy = "convert the column, or name another one in data.columns"
    return DataError(
        f"{where}: values are of type {_named(values.dtype)}; allowed: {allowed}",
        BYTES if values.dtype == pl.Binary else EXPLODED if values.dtype.is_nested() else remedy,
    )


def _named(kind: pl.DataType) -> str:
    """A type as it is told; that of a structure of many fields in short."""
    text = str(kind)
    return text if len(text) <= LONGEST_TYPE else f"{text[:LONGEST_TYPE]}…"


def _is_text(kind: object) -> bool:
    """Whether values of this type can be written as one text each."""
    foreign = (pl.Binary, pl.Object, pl.Duration, pl.List, pl.Array, pl.Struct)
    return not any(kind == f for f in foreign)


def _spelled(values: pl.Series) -> pl.Series:
    return values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Enum) else values


def _stripped_float(values: pl.Series) -> pl.Series:
    return values.str.strip_chars().cast(pl.Float64, strict=False)


def _whole(values: pl.Series) -> pl.Series:
    number = values.cast(pl.Float64, strict=False)
    return number.cast(pl.Int64, strict=False).set(number != number.round(), None)
