"""Reading a table from CSV, Parquet or JSON Lines so that nothing changes on the way in.

Text files are read as text throughout: guessing types would turn the id ``007`` into 7.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import polars as pl

from sasrecllm.data.ingest.text import AGAIN, Text, not_utf8, raw, understood, unquoted
from sasrecllm.data.interactions import LINE, ROW
from sasrecllm.errors import DataError, did_you_mean

OBJECTS = (
    "write one JSON object a line, in braces (of a list: jq -c '.[]' old.json > new.jsonl; pandas:"
    " to_json(orient='records', lines=True))"
)
BOM_REMEDY = "remove it: tail -c +4 old.jsonl > new.jsonl"
READ_ERRORS = (pl.exceptions.PolarsError, OSError, UnicodeError, ValueError)
HIDDEN = (LINE, ROW)  # ours; a user's columns of these names are left out


def read_table(path: Path) -> tuple[pl.DataFrame, str]:
    """The table in ``path``, and what a reader must know of how it was read (may be empty).

    Text files get a hidden column with their line numbers.

    ``.csv .tsv .txt .inter .item .dat`` (also ``.gz``) are delimited text with a header, the
    delimiter is the commonest of comma, tab, semicolon and bar in it; ``.parquet``; ``.jsonl
    .ndjson .json`` hold one JSON object a line.

    Raises:
        DataError: the file is missing, of an unknown kind, or damaged; with the line where known.
    """
    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        raise DataError(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}"
            + did_you_mean(path.name, near),
            "give the path of a CSV, Parquet or JSON Lines file",
        )
    kind = kind_of(path)
    if kind not in READERS:
        raise DataError(
            f"{path}: files of kind {kind!r} are not read; allowed: {', '.join(READERS)}",
            "convert the file, or rename it after what it holds",
        )
    frame, note = READERS[kind](path)
    return frame, f"{path.name}: {note}" if note else ""


def kind_of(path: Path) -> str:
    """The ending of a file that says what it holds, in lower case.

    >>> kind_of(Path("log.CSV.gz")), kind_of(Path("log"))
    ('.csv', '')
    """
    kind = path.suffix.lower()
    return Path(path.stem).suffix.lower() if kind == ".gz" else kind


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """Refuse a header that has a name twice.

    Raises:
        DataError: with the name.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path}, line 1: two columns are named {repeated[0]!r}",
            "rename one"
            if repeated[0]
            else "name the columns, or remove those without a name from every line",
        )


def _delimited(path: Path) -> tuple[pl.DataFrame, str]:
    text = understood(path)
    refuse_repeated(path, text.names)
    frame = _read(path, text)
    short = _shortened(frame, path, text) if text.quoted else (0, 0)
    if short[0] and text.plain:
        text = unquoted(path, text, short[0])
        frame = _read(path, text)
    elif short[0]:
        raise DataError(
            f"{path}, line {short[0]}: {short[1]} fields; the header has {len(text.names)}, and a"
            f" quoted field holds {text.separator!r}",
            "remove the quotation marks if the field ends there, or add the missing fields",
        )
    return _without_blank_end(frame), text.note


def _read(path: Path, text: Text) -> pl.DataFrame:
    """All rows of a text file as text, with their lines."""
    quote = '"' if text.quoted else None
    try:
        frame = pl.read_csv(
            text.source, glob=False, separator=text.separator, infer_schema=False, quote_char=quote
        )
    except READ_ERRORS as error:
        raise explained(path, text, error) from None
    if frame.height != text.rows:  # the last guard against a reader that loses rows
        raise DataError(
            f"{path}: {frame.height:,} rows were read, but {text.rows:,} stand there",
            "write the file again, or store it as Parquet",
        )
    return _with_lines(frame.drop(HIDDEN, strict=False), text)


def _with_lines(frame: pl.DataFrame, text: Text) -> pl.DataFrame:
    """Add the line on which each row begins; a quoted field may hold line breaks."""
    first = text.skipped + 2 + sum(name.count("\n") for name in text.names)
    row = pl.int_range(pl.len(), dtype=pl.Int64) + first
    if not text.quoted or frame.width == 0:
        return frame.with_columns(row.alias(LINE))
    breaks = pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True).fill_null(0))
    before = breaks.cast(pl.Int64).cum_sum().shift(1).fill_null(0)
    return frame.with_columns((row + before).alias(LINE))


def _shortened(frame: pl.DataFrame, path: Path, text: Text) -> tuple[int, int]:
    """Line and fields of a row that is too short because a quoted field holds the separator, or 0, 0.

    Two stray quotation marks make one field of two, and the fields behind it move.
    """
    names = [c for c in frame.columns if c != LINE]
    holds = [pl.col(c).str.contains(text.separator, literal=True) for c in names]
    asked = frame.filter(pl.col(names[-1:]).is_null() & pl.any_horizontal(False, *holds))[LINE]
    if asked.is_empty():
        return 0, 0
    lines, begin = set(asked.to_list()), 1
    with raw(path) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as whole:
        reader = csv.reader(whole, delimiter=text.separator)
        for fields in reader:
            if begin in lines and len(fields) < len(text.names):
                return begin, len(fields)
            begin = reader.line_num + 1
    return 0, 0


def _without_blank_end(frame: pl.DataFrame) -> pl.DataFrame:
    """Blank lines after the last row are no rows; anywhere else they are refused as such."""
    filled = ~pl.all_horizontal(pl.exclude(LINE).is_null())
    last = frame.select(pl.arg_where(filled).max()).item()
    return frame.head(0 if last is None else int(last) + 1)


def explained(path: Path, text: Text, error: Exception) -> DataError:
    """The line at which a text file goes wrong, found by a slower reader."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if text.quoted else csv.QUOTE_NONE
    try:
        with raw(path) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as lines:
            reader, begin = csv.reader(lines, delimiter=text.separator, quoting=quoting), 1
            for fields in reader:
                if len(fields) > len(text.names):
                    return DataError(
                        f"{path}, line {begin}: {len(fields)} fields; the header has {len(text.names)}",
                        f"quote a field that holds {text.separator!r}, or remove the extra field"
                        + "; or remove line 1, if it is not the header" * (begin == 2),
                    )
                begin = reader.line_num + 1
    except UnicodeDecodeError:
        return not_utf8(path)
    except csv.Error as fault:
        return DataError(f"{path}, line {begin}: {fault}", "correct the line")
    except (OSError, EOFError) as fault:
        return DataError(f"{path} cannot be read: {fault}", AGAIN)
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} cannot be read: {first}", "check the file near the place named")


def _parquet(path: Path) -> tuple[pl.DataFrame, str]:
    with unreadable(path):
        return pl.read_parquet(path, glob=False).drop(HIDDEN, strict=False), ""


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Refuse a Parquet file that cannot be read inside the block."""
    try:
        yield
    except BaseException as error:  # a panic of the reader is no subclass of Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit)):
            raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} is no readable Parquet file: {first}",
            "write it again, or fetch it again; or rename it after what it holds",
        ) from None


def _json_lines(path: Path) -> tuple[pl.DataFrame, str]:
    try:
        with raw(path) as data:
            if data.read(3) == b"\xef\xbb\xbf":
                raise DataError(f"{path} begins with a byte order mark", BOM_REMEDY)
        frame = scan_json(path).collect()
        return frame.drop(HIDDEN, strict=False), ""
    except READ_ERRORS as error:
        raise bad_json(path, error) from None


def scan_json(path: Path) -> pl.LazyFrame:
    """A JSON Lines file with its scalars as text, spelt as they stand, but fractions as numbers."""
    file = glob.escape(str(path))  # the name of one file, whatever signs it holds
    schema = pl.scan_ndjson(file, infer_schema_length=None).collect_schema()
    # Numbers with a fraction stay numbers: as text 1.0 would have become 1, an id of its own.
    types = {n: pl.String for n, k in schema.items() if not k.is_nested() and not k.is_float()}
    return pl.scan_ndjson(file, infer_schema_length=None, schema_overrides=types)


def bad_json(path: Path, error: Exception) -> DataError:
    """The line at which a JSON Lines file goes wrong."""
    try:
        with raw(path) as data, io.TextIOWrapper(data, "utf-8") as text:
            number = 0
            for number, line in enumerate(text, 1):
                fault = _json_fault(line)
                if fault:
                    return DataError(f"{path}, line {number}: {fault}", OBJECTS)
    except UnicodeDecodeError:
        return not_utf8(path)
    except (OSError, EOFError) as fault:
        return DataError(f"{path} cannot be read: {fault}", AGAIN)
    if number == 0:
        return DataError(f"{path} is empty", "give a table with at least one row")
    return DataError(f"{path} cannot be read: {error}", OBJECTS)


def _json_fault(line: str) -> str:
    try:
        found = json.loads(line, parse_constant=_no_constant) if line.strip() else {}
    except (ValueError, RecursionError) as error:
        return str(error)
    return "" if isinstance(found, dict) else f"a {type(found).__name__}, not an object"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; leave the field out, or write null")


READERS: Mapping[str, Callable[[Path], tuple[pl.DataFrame, str]]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".inter", ".item", ".dat"), _delimited),
    ".parquet": _parquet,
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _json_lines),
}
