"""How a delimited text file is to be read: its separator, whether it quotes fields, its rows.

The frame library may take a stray quotation mark for the beginning of a field and lose the rows up to
the next one.  So the marks are looked at before it reads:

- No mark: nothing is quoted.
- Every mark keeps the strict rule (:mod:`.quotes`), and no quoted field runs over lines
  that look like rows: fields are quoted.
- Else, and wherever each of its lines is a row, a tab-separated or RecBole file has no quoting at all,
  and a mark is a character like any other.
  In other files a mark inside an unquoted field (``12" Mix``) is one, as Python's ``csv`` has it; what
  is left is refused with its line.

The rows are counted here too, so that the reader can hold its own count against them.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import mmap
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from sasrecllm.data.ingest.quotes import Marks
from sasrecllm.errors import DataError

RECBOLE = (".inter", ".item", ".user")
OTHERS = (
    (b"PAR1", "a Parquet file", "give it a name that ends with .parquet"),
    (b"\x1f\x8b", "compressed by gzip", "give it a name that ends with .gz: log.csv.gz"),
    (b"PK\x03\x04", "a spreadsheet or a zip archive", "save the sheet as CSV in UTF-8, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet", "save the sheet as CSV in UTF-8"),
    *((sign, "JSON Lines", "give it a name that ends with .jsonl") for sign in (b'{"', b'{ "')),
    *((sign, "JSON", "write one object a line into a .jsonl file") for sign in (b"[{", b"[\n", b"[\r")),
)
"""How files begin that are sometimes named like text."""
WIDE = (  # as iconv spells them
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}
AGAIN = "fetch or write it again"


@dataclass(frozen=True, slots=True)
class Text:
    """How a text file is to be read.

    Args:
        source: the file itself, or its bytes where it had to be unpacked or rewritten.
        separator: between fields.
        quoted: whether quotation marks delimit fields; else they are characters like any other.
        names: of the columns.
        skipped: blank lines before the header.
        rows: rows behind the header, blank lines among them.
        plain: a tab-separated or RecBole file, which has no quoting unless every mark pairs.
        note: what a reader must know of how the quotation marks were read.
    """

    source: Path | bytes
    separator: str
    quoted: bool
    names: tuple[str, ...]
    skipped: int
    rows: int
    plain: bool = False
    note: str = ""


def understood(path: Path) -> Text:
    """How to read the text file at ``path``.

    Raises:
        DataError: it cannot be read, is not UTF-8, or its quotation marks cannot be understood; with
            the line.
    """
    header, skipped = _header(path)
    separator = max(",\t;|", key=re.sub('"[^"]*"', "", header).count)
    names = tuple(next(csv.reader([header], delimiter=separator), []))
    source: Path | bytes = path
    if _packed(path):
        try:
            with raw(path) as unpacked:
                source = unpacked.read()
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read: {error}", AGAIN) from None
    kind = Path(path.stem if _packed(path) else path.name).suffix.lower()
    plain = (separator == "\t" or kind in RECBOLE) and '"' not in header
    marks = Marks(path, _bytes(source), separator, len(names))
    lines = marks.count("\n") + (marks.raw[-1:] != b"\n")
    text = Text(source, separator, False, names, skipped, max(lines - skipped - 1, 0), plain)
    if marks.raw.find(b'"') < 0:
        return text
    try:
        return _decided(text, marks)
    except UnicodeDecodeError:
        raise not_utf8(path) from None


def unquoted(path: Path, text: Text, line: int) -> Text:
    """How to read a plain file after all, because of the quotation mark on ``line``.

    Raises:
        DataError: its lines do not all have the header's number of fields.
    """
    marks = Marks(path, _bytes(text.source), text.separator, len(text.names))
    marks.check_full(line)
    note = f"quotation marks (line {line}) pair with none: they are characters"
    rows = marks.count("\n") + (marks.raw[-1:] != b"\n") - text.skipped - 1
    return replace(text, quoted=False, rows=rows, note=note)


def _decided(text: Text, marks: Marks) -> Text:
    """What the quotation marks mean."""
    fault, breaks = marks.strict()
    if fault < 0 and text.plain and len(breaks) and not marks.short():
        return unquoted(marks.path, text, marks.line(int(breaks[0]) + 1))
    swallowed = marks.swallowed(breaks) if fault < 0 else -1
    if fault < 0 and swallowed < 0:
        note = f"{len(breaks):,} line breaks stand inside quoted fields and begin no rows"
        rows = text.rows - len(breaks)
        return replace(text, quoted=True, rows=rows, note=note * (len(breaks) > 0))
    line = marks.line(max(fault, swallowed))
    if text.plain:
        return unquoted(marks.path, text, line)
    if fault < 0:
        raise marks.swallows(line)
    source, inside = marks.rewritten()
    note = f"quotation marks inside unquoted fields (line {line}) are characters"
    return replace(text, source=source, quoted=True, rows=text.rows - inside, note=note)


def raw(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is compressed."""
    return gzip.open(path, "rb") if _packed(path) else path.open("rb")  # type: ignore[return-value]


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _bytes(source: Path | bytes) -> bytes | mmap.mmap:
    if isinstance(source, bytes):
        return source
    with source.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _header(path: Path) -> tuple[str, int]:
    """The first line that is not blank, which must be UTF-8, and the number of lines before it."""
    _refuse_other_kind(path)
    try:
        with raw(path) as lines:
            for skipped, line in enumerate(lines):
                header = line.decode("utf-8" if skipped else "utf-8-sig").rstrip("\r\n")
                if header:
                    break
            else:
                raise DataError(f"{path} is empty", "give a table with a header and rows")
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}", AGAIN) from None
    if "\x00" in header:
        raise _of_wide(path) or DataError(
            f"{path}, line {skipped + 1}: the header holds a NUL character",
            "write the header again without it",
        )
    if "\r" in header:
        raise DataError(
            f"{path}, line 1: lines end with a carriage return alone",
            "convert the line ends: " + _remade(path, r"tr '\r' '\n'"),
        )
    return header, skipped


def _refuse_other_kind(path: Path) -> None:
    """Refuse a file that is no text, whatever its name says."""
    try:
        with raw(path) as data:
            begins = data.read(4)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}", AGAIN) from None
    for sign, kind, remedy in OTHERS:
        if begins.startswith(sign):
            raise DataError(f"{path} is {kind}, not delimited text", remedy)


def not_utf8(path: Path) -> DataError:
    """Name the encoding, or the line and the byte that are not UTF-8."""
    wide = _of_wide(path)
    if wide is not None:
        return wide
    remedy = _converted(path, "ISO-8859-1")
    with raw(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"byte 0x{line[error.start]:02x} is not UTF-8 (latin-1 perhaps)"
                return DataError(f"{path}, line {number}: {byte}", remedy)
    return DataError(f"{path} is not UTF-8", remedy)


def _of_wide(path: Path) -> DataError | None:
    """The refusal of a file with two or four bytes a character; None for any other."""
    with raw(path) as data:
        wide = _wide(data.read(4))
    if wide is None:
        return None
    return DataError(f"{path} is {wide[:6]}, not UTF-8", _converted(path, wide))


def _converted(path: Path, encoding: str) -> str:
    return "convert it: " + _remade(path, f"iconv -f {encoding} -t UTF-8")


def _remade(path: Path, by: str) -> str:
    """The command of a shell that puts what ``by`` makes of a file's text into a new one beside it."""
    beside = path.with_name("new-" + (path.stem if _packed(path) else path.name))
    old, new = shlex.quote(str(path)), shlex.quote(str(beside))
    return f"gzip -dc {old} | {by} > {new}" if _packed(path) else f"{by} < {old} > {new}"


def _wide(begins: bytes) -> str | None:
    """The encoding of two or four bytes a character that a file has by its first four bytes.

    Without a mark at the beginning, zeros tell: a table begins with a character of ASCII.
    """
    for mark, encoding in WIDE:
        if begins.startswith(mark):
            return encoding
    return ZEROS.get(tuple(byte == 0 for byte in begins))
