"""Where the quotation marks of a text file stand, and what they would swallow.

The strict rule (RFC 4180): a field is quoted as a whole or not at all, and a mark inside a quoted one
is written twice.  By it every other mark opens a field; whether a file keeps it is seen from the bytes
beside the marks, piece by piece, without reading the fields.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from mmap import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sasrecllm.errors import DataError

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

MARK, FEED, RETURN = ord('"'), ord("\n"), ord("\r")
BOM = b"\xef\xbb\xbf"
PIECE = 1 << 26  # bytes looked at in one go
LOOKED_THROUGH, SAMPLE = 100_000, 1000  # lines, and rows among them that show what a row looks like
SOME = 2  # rows of numbers that make a column of numbers; one may be chance, and a row be lost
MANY = 20  # so many rows without a blank in a column make a blank there a sign of something else
NUMBER = re.compile(r"\s*([+-]?\d+([.,]\d+)?)?\s*")
MENDING = (
    'close the quoted field, and write a quotation mark inside one twice (""); or store the table as'
    " Parquet or JSON Lines"
)


@dataclass(frozen=True)
class Marks:
    """The quotation marks of one file.

    Args:
        path: for refusals.
        raw: its bytes.
        separator: between fields, one byte.
        width: fields of its header.
    """

    path: Path
    raw: bytes | mmap
    separator: str
    width: int

    def count(self, sign: str, end: int | None = None) -> int:
        """How often a sign of one byte stands before the place ``end``, or in the whole file."""
        return sum(
            int(np.count_nonzero(p[: None if end is None else max(end - start, 0)] == ord(sign)))
            for start, p in self._pieces()
        )

    def line(self, place: int) -> int:
        """The line, from 1, in which the byte at ``place`` stands."""
        return self.count("\n", place) + 1

    def strict(self) -> tuple[int, Places]:
        """Where the first mark breaks the strict rule, or -1; and the line feeds in quoted fields."""
        breaks, opened = [np.empty(0, np.int64)], -1
        for start, piece in self._pieces():
            marks = np.flatnonzero(piece == MARK) + start
            first = 0 if opened < 0 else 1
            wrong = self._wrong(marks[first::2], marks[1 - first :: 2])
            if wrong >= 0:
                return wrong, np.empty(0, np.int64)
            if len(marks) or opened >= 0:
                feeds = np.flatnonzero(piece == FEED) + start
                breaks.append(feeds[(np.searchsorted(marks, feeds) + first) % 2 == 1])
            if (first + len(marks)) % 2 == 0:
                opened = -1
            elif len(marks):
                opened = int(marks[-1])
        return opened, np.concatenate(breaks)

    def swallowed(self, breaks: Places) -> int:
        """Where a row begins that a quoted field runs over, or -1.

        Two stray marks make a quoted field out of whole rows: the lines on both sides of a line feed
        in it look like rows.  A text of several lines does not: its first line lacks the fields behind
        it, its last one those before it.

        Args:
            breaks: the line feeds inside quoted fields.
        """
        if not len(breaks):
            return -1
        row = self._row_shape(set(breaks[:LOOKED_THROUGH].tolist()))
        for place in map(int, breaks):
            before = self.raw.rfind(b"\n", 0, place) + 1 or self._begin()
            if row.fits(self._text(before)) and row.fits(self._text(place + 1)):
                return place + 1
        return -1

    def short(self) -> tuple[int, int] | None:
        """The first line that does not have the header's number of fields, and its number of them."""
        for number, start in enumerate(self._starts(), 1):
            line = self._text(start)
            fields = line.count(self.separator) + 1
            if line and fields != self.width:
                return number, fields
        return None

    def check_full(self, fault: int) -> None:
        """Refuse a file without quoting in which a line does not have all fields.

        Raises:
            DataError: with that line, and the line ``fault`` of the mark that pairs with none.
        """
        if short := self.short():
            raise DataError(
                f"{self.path}, line {short[0]}: {short[1]} fields; the header has {self.width}, and"
                f" the quotation mark on line {fault} pairs with none",
                MENDING,
            )

    def rewritten(self) -> tuple[bytes, int]:
        """The file with every mark written by the strict rule, and its line feeds in quoted fields.

        A mark inside a field that does not begin with one is a character.  Only lines that hold a mark
        are taken apart.

        Raises:
            DataError: a quoted field is not closed, or goes on behind its end, or runs over rows, or a
                row has too many fields; with the line on which the row begins.
            UnicodeDecodeError: the file is not UTF-8.
        """
        out, breaks, row = io.BytesIO(), 0, self._row_shape(set())
        at = self._begin()
        out.write(self.raw[:at])
        while (mark := self.raw.find(b'"', at)) >= 0:
            start = self.raw.rfind(b"\n", at, mark) + 1 or at
            out.write(self.raw[at:start])
            fields, lines = self._record(start)
            for number, pair in enumerate(pairwise(lines), 1):
                if all(map(row.fits, pair)):
                    raise self.swallows(self.line(start) + number)
            end = "\r\n" if lines[-1].endswith("\r\n") else "\n"
            out.write((self.separator.join(map(self._strictly, fields)) + end).encode())
            at = start + sum(len(line.encode()) for line in lines)
            breaks += len(lines) - 1
        out.write(self.raw[at:])
        return out.getvalue(), breaks

    def swallows(self, line: int) -> DataError:
        """The refusal of a quoted field that would swallow the row on ``line``."""
        return DataError(
            f"{self.path}, line {line}: it looks like a row, but stands inside a field that a quotation"
            " mark opened on a line before it",
            MENDING,
        )

    def _record(self, start: int) -> tuple[list[str], list[str]]:
        """The fields of the row that begins at ``start``, and its lines."""
        lines: list[str] = []

        def more() -> Iterator[str]:
            place = start
            while place < len(self.raw):
                end = self._end(place)
                lines.append(self.raw[place:end].decode("utf-8"))
                place = end
                yield lines[-1]

        try:
            fields = next(csv.reader(more(), delimiter=self.separator, strict=True))
        except csv.Error as fault:
            raise DataError(
                f"{self.path}, line {self.line(start)}: {fault} (a quotation mark is not closed, or"
                " stands inside a field)",
                MENDING,
            ) from None
        if len(fields) > self.width:
            found = f"{len(fields)} fields; the header has {self.width}"
            raise DataError(
                f"{self.path}, line {self.line(start)}: {found}",
                f"quote a field that holds {self.separator!r}, or remove the extra field",
            )
        return fields, lines

    def _strictly(self, field: str) -> str:
        if not any(sign in field for sign in (self.separator, '"', "\n", "\r")):
            return field
        return '"' + field.replace('"', '""') + '"'

    def _wrong(self, opens: Places, closes: Places) -> int:
        """The first mark that stands neither at an edge of a field nor beside another, or -1."""
        data, last = self._data(), len(self.raw) - 1
        before, after = data[opens - 1], data[np.minimum(closes + 1, last)]
        line_end = (after == RETURN) & (data[np.minimum(closes + 2, last)] == FEED)
        good = self._edge(before) | (opens == self._begin())
        ended = self._edge(after) | line_end | (closes == last)
        wrong = np.concatenate([opens[~good], closes[~ended]])
        return int(wrong.min()) if len(wrong) else -1

    def _edge(self, signs: Bytes) -> npt.NDArray[np.bool_]:
        edges = (signs == ord(self.separator)) | (signs == MARK) | (signs == FEED)
        return np.asarray(edges, np.bool_)

    def _row_shape(self, breaks: set[int]) -> RowShape:
        """What rows look like, seen from the first lines that stand in no quoted field."""
        rows: list[list[str]] = []
        for number, start in enumerate(self._starts()):
            if number > LOOKED_THROUGH or len(rows) == SAMPLE:
                break
            inside = start - 1 in breaks or self._end(start) - 1 in breaks
            fields = [] if inside or not number else self._fields(self._text(start))
            rows += [fields] * (len(fields) == self.width)
        return RowShape.of(rows, self.width, self.separator)

    def _fields(self, line: str) -> list[str]:
        """The fields of a line; none where it is no row."""
        if '"' not in line:
            return line.split(self.separator)
        try:
            return next(csv.reader([line], delimiter=self.separator, strict=True))
        except csv.Error:
            return []

    def _data(self) -> Bytes:
        return np.frombuffer(self.raw, np.uint8)

    def _pieces(self) -> Iterator[tuple[int, Bytes]]:
        data = self._data()
        for start in range(0, len(data), PIECE):
            yield start, data[start : start + PIECE]

    def _begin(self) -> int:
        return len(BOM) if self.raw[: len(BOM)] == BOM else 0

    def _starts(self) -> Iterator[int]:
        start = self._begin()
        while start < len(self.raw):
            yield start
            start = self._end(start)

    def _end(self, start: int) -> int:
        """Where the line after the one that begins at ``start`` begins."""
        return self.raw.find(b"\n", start) + 1 or len(self.raw)

    def _text(self, start: int) -> str:
        line = self.raw[start : self._end(start)]
        return line.decode("utf-8", errors="replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class RowShape:
    """What rows of a file look like: their fields, and the columns of numbers and of single words."""

    separator: str
    width: int
    numbers: tuple[bool, ...]
    words: tuple[bool, ...]

    @classmethod
    def of(cls, rows: list[list[str]], width: int, separator: str) -> RowShape:
        """The shape of ``rows``, each of ``width`` fields; without any, the width alone tells."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * width
        return cls(
            separator,
            width,
            tuple(
                sum(bool(v.strip()) for v in c) >= SOME and all(NUMBER.fullmatch(v) for v in c)
                for c in columns
            ),
            tuple(len(c) >= MANY and not any(" " in v for v in c) for c in columns),
        )

    def fits(self, line: str) -> bool:
        """Whether ``line``, its quotation marks aside, looks like a row."""
        fields = line.rstrip("\r\n").replace('"', "").split(self.separator)
        return len(fields) == self.width and all(
            not (number and not NUMBER.fullmatch(value)) and not (word and " " in value)
            for value, number, word in zip(fields, self.numbers, self.words, strict=True)
        )
