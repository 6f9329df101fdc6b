"""Reading a table from CSV, Parquet or JSON Lines so that nothing changes on the way in.

Text files are read as text throughout: guessing types would turn the id ``007`` into 7.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import polars as pl

from sasrecllm.data.interactions import LINE, ROW
from sasrecllm.errors import DataError, did_you_mean

BOM_REMEDY = "remove it: tail -c +4 old.jsonl > new.jsonl"
UTF8_REMEDY = "convert it: iconv -f ISO-8859-1 -t UTF-8 old.csv > new.csv"
READ_ERRORS = (pl.exceptions.PolarsError, OSError, UnicodeError, ValueError)
HIDDEN = (LINE, ROW)  # ours; a user's columns of these names are left out


def read_table(path: Path) -> pl.DataFrame:
    """The table in ``path``; text files get a hidden column with their line numbers.

    ``.csv .tsv .txt .inter .item .dat`` (also ``.gz``) are delimited text with a header, the
    delimiter is the commonest of comma, tab, semicolon and bar in it; ``.parquet``; ``.jsonl
    .ndjson .json`` hold one JSON object a line.

    Raises:
        DataError: the file is missing, of an unknown kind, or damaged; with the line where known.
    """
    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}"
            + did_you_mean(path.name, near),
            "give the path of a CSV, Parquet or JSON Lines file",
        )
    kind = path.suffix.lower()
    if kind == ".gz":
        kind = Path(path.stem).suffix.lower()
    if kind not in READERS:
        raise DataError(
            f"{path}: files of kind {kind!r} are not read; allowed: {', '.join(READERS)}",
            "convert the file, or rename it after what it holds",
        )
    return READERS[kind](path)


def _delimited(path: Path) -> pl.DataFrame:
    header = _header(path)
    separator = max(",\t;|", key=header.count)
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty", "give a table with a header and rows") from None
    except READ_ERRORS as error:
        raise _explained(path, separator, error) from None
    names = next(csv.reader([header], delimiter=separator), [])
    frame = frame.drop(HIDDEN, strict=False)
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise DataError(f"{path}, line 1: two columns are named {repeated[0]!r}", "rename one")
    return _without_blank_end(_with_lines(frame, path))


def _header(path: Path) -> str:
    """The first line of a text file, which must be UTF-8."""
    try:
        with _raw(path) as raw:
            header = raw.readline().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}", "fetch or write it again") from None
    if "\r" in header:
        raise DataError(
            f"{path}, line 1: lines end with a carriage return alone",
            "convert the line ends: tr '\\r' '\\n' < old.csv > new.csv",
        )
    return header


def _raw(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is compressed."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _with_lines(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Add the line on which each row begins; a quoted field may hold line breaks."""
    if not _may_quote(path):
        return frame.with_columns(pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(LINE))
    breaks = pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True).fill_null(0)).cast(
        pl.Int64
    )
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    return frame.with_columns((row + 2 + breaks.cum_sum().shift(1).fill_null(0)).alias(LINE))


def _may_quote(path: Path) -> bool:
    """Whether a quotation mark may stand in the file: its bytes tell, if they are not packed."""
    if path.suffix.lower() == ".gz":
        return True
    with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(b'"') >= 0


def _without_blank_end(frame: pl.DataFrame) -> pl.DataFrame:
    """Blank lines after the last row are no rows; anywhere else they are refused as such."""
    filled = ~pl.all_horizontal(pl.exclude(LINE).is_null())
    last = frame.select(pl.arg_where(filled).max()).item()
    return frame.head(0 if last is None else int(last) + 1)


def _explained(path: Path, separator: str, error: Exception) -> DataError:
    """The line at which a damaged text file goes wrong, found by a slower reader."""
    try:
        with _raw(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=separator, strict=True)
            width = len(next(reader))
            begin = reader.line_num + 1
            for fields in reader:
                if len(fields) > width:
                    return DataError(
                        f"{path}, line {begin}: {len(fields)} fields; the header has {width}",
                        f"quote a field that holds {separator!r}, or remove the extra field",
                    )
                begin = reader.line_num + 1
    except UnicodeDecodeError:
        return _not_utf8(path)
    except csv.Error as fault:
        return DataError(
            f"{path}, line {begin}: {fault} (a quotation mark is not closed, or stands inside a field)",
            'close the quoted field; a quotation mark inside one is written twice: ""',
        )
    except (OSError, EOFError) as fault:
        return DataError(f"{path} cannot be read: {fault}", "fetch or write it again")
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} cannot be read: {first}", "check the file near the place named")


def _not_utf8(path: Path) -> DataError:
    """Name the line and the byte that are not UTF-8."""
    with _raw(path) as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    remedy = "convert it: iconv -f UTF-16 -t UTF-8 old.csv > new.csv"
                    return DataError(f"{path} is UTF-16, not UTF-8", remedy)
                return DataError(
                    f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8 (latin-1 perhaps)",
                    UTF8_REMEDY,
                )
    return DataError(f"{path} is not UTF-8", UTF8_REMEDY)


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path).drop(HIDDEN, strict=False)
    except BaseException as error:  # a panic of the reader is no subclass of Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} is no readable Parquet file: {first}", "write it again, or fetch it again"
        ) from None


def _json_lines(path: Path) -> pl.DataFrame:
    try:
        with _raw(path) as raw:
            if raw.read(3) == b"\xef\xbb\xbf":
                raise DataError(f"{path} begins with a byte order mark", BOM_REMEDY)
        schema = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
        # Numbers with a fraction stay numbers: as text 1.0 would have become 1, an id of its own.
        plain = {n: pl.String for n, k in schema.items() if not k.is_nested() and not k.is_float()}
        frame = pl.read_ndjson(path, infer_schema_length=None, schema_overrides=plain)
        return frame.drop(HIDDEN, strict=False)
    except READ_ERRORS as error:
        raise _bad_json(path, error) from None


def _bad_json(path: Path, error: Exception) -> DataError:
    """The line at which a JSON Lines file goes wrong."""
    remedy = "write one JSON object a line, in braces"
    try:
        with _raw(path) as raw, io.TextIOWrapper(raw, "utf-8") as text:
            number = 0
            for number, line in enumerate(text, 1):
                fault = _json_fault(line)
                if fault:
                    return DataError(f"{path}, line {number}: {fault}", remedy)
    except UnicodeDecodeError:
        return _not_utf8(path)
    except (OSError, EOFError) as fault:
        return DataError(f"{path} cannot be read: {fault}", "fetch or write it again")
    if number == 0:
        return DataError(f"{path} is empty", "give a table with at least one row")
    return DataError(f"{path} cannot be read: {error}", remedy)


def _json_fault(line: str) -> str:
    try:
        found = json.loads(line, parse_constant=_no_constant) if line.strip() else {}
    except (ValueError, RecursionError) as error:
        return str(error)
    return "" if isinstance(found, dict) else f"a {type(found).__name__}, not an object"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; leave the field out, or write null")


READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".inter", ".item", ".dat"), _delimited),
    ".parquet": _parquet,
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _json_lines),
}
