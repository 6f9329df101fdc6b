"""A log in many parts, checked a chunk at a time and laid out again by parts of users.

Read twice: first the ids and what a column of times holds, then every row, which is checked and goes to
the part of its user.  A history lies in one part, so each is ordered and labelled by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from sasrecllm.data.ingest import checks, values
from sasrecllm.data.ingest.missing_columns import refuse_missing
from sasrecllm.data.ingest.repeated_rows import Repeats, surplus
from sasrecllm.data.ingest.times import Span, span_of
from sasrecllm.data.ingest.validation import (
    OnBadRows,
    checked_items,
    kinds_of,
    odd_users,
    parsed_rows,
    raise_first,
    refuse_empty,
    refuse_no_quarantine,
    repeat_check,
    row_checks,
    set_aside,
    typed,
    without,
)
from sasrecllm.data.interactions import LINE, ROW, Parts, Tables
from sasrecllm.errors import DataError
from sasrecllm.machine.os_errors import as_refusals

PART = 2**21
"""Rows, more or less, of a part of users."""
MOST_PARTS = 256
CODES = ("user_id", "item_id")


@dataclass
class ByUsers:
    """Checked rows on the disk, in parts of users; iterating reads one part after another.

    Args:
        folder: where they lie, a folder of files for each part.
        kinds: the types of the codes of users and of items.
        part_of: the part of each user.
        rows: in all parts.
        left_out: numbers of rows that were refused since.
    """

    folder: Path
    kinds: Mapping[str, pl.Enum]
    part_of: pl.Series
    rows: int = 0
    left_out: pl.DataFrame | None = None

    def add(self, good: pl.DataFrame) -> None:
        """Write the checked rows of a chunk; chunks come in the order of the log."""
        self.rows += good.height
        codes = good.with_columns(pl.col(c).to_physical() for c in CODES)
        at = codes.with_columns(self.part_of.gather(codes["user_id"]).alias("__of"))
        for (part,), rows in at.partition_by("__of", as_dict=True, include_key=False).items():
            folder = self.folder / str(part)
            folder.mkdir(exist_ok=True)
            rows.write_ipc(folder / f"{good[ROW][0]:020}")

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for part in range(int(self.part_of[-1]) + 1 if len(self.part_of) else 0):
            files = sorted((self.folder / str(part)).glob("*"))
            if not files:
                continue
            read = [pl.read_ipc(file) for file in files]
            frame = pl.concat(read, how="diagonal")
            frame = frame.with_columns(pl.col(c).cat.to(kind) for c, kind in self.kinds.items())
            if "__part" in frame.columns:  # of rows without a fraction none was written
                frame = frame.with_columns(pl.col("__part").fill_null(0.0))
                frame = frame.sort("__part", maintain_order=True).drop("__part")
            if self.left_out is not None:
                frame = without(frame, self.left_out)
            yield frame


def validate_by_users(
    tables: Tables,
    log: Parts,
    folder: Path,
    *,
    on_bad_rows: OnBadRows = "refuse",
    quarantine_path: Path | None = None,
    repeats: Repeats = "refuse",
) -> tuple[Tables, int, ByUsers]:
    """As :func:`~sasrecllm.data.ingest.validation.validate`, of a log that is not in memory.

    Args:
        log: the parts of the interactions.
        folder: an empty one, for the parts of users; it is the caller's to delete.

    Raises:
        DataError: columns are missing, or rows are bad (refuse), no row is left, or the parts change.
        ConfigError: quarantine without a path.
        ResourceError: the disk is full.
    """
    refuse_no_quarantine(on_bad_rows, quarantine_path)
    refuse_missing(tables)
    items, bad_items, notes = checked_items(tables)
    if on_bad_rows == "refuse":
        raise_first(bad_items, tables.items.height, tables)
    if not log.rows:
        raise DataError(f"{tables.files[0]} has no rows", "give a table with at least one row")
    every, part_of, span = _surveyed(tables, log)
    where = f"{Path(tables.files[0]).name}, column {tables.columns[0].name('user_id')}"
    said = dict.fromkeys(odd_users(every["user_id"], where))
    by_users = ByUsers(folder, kinds_of(every), part_of)
    rows = row_checks(every, tables.interactions.columns, items, tables)
    refused = [bad_items]
    with as_refusals(folder):
        for chunk in _canonical(tables, log):
            frame, read = parsed_rows(chunk, tables.files[0], tables.columns[0], span)
            said |= dict.fromkeys(read)
            bad = checks.refusals(frame, rows, tables.files[0], tables.columns[0])
            refused.append(tables.placed(bad, 0))
            by_users.add(typed(without(frame, bad), by_users.kinds).drop(LINE, strict=False))
        if repeats == "refuse":
            again = _repeated(tables, log, by_users, span)
            refused.append(again)
            by_users.left_out = again.select(ROW)
    bad_rows = pl.concat(refused[1:])
    if on_bad_rows == "refuse":
        raise_first(bad_rows, log.rows, tables)
    whole = pl.concat(refused)
    set_aside(whole, on_bad_rows, quarantine_path)
    left = log.rows - bad_rows.height
    refuse_empty(tables, left, items.height, whole.height, quarantine_path)
    notes = [*tables.notes, *notes, *said]
    return replace(tables, items=items, notes=tuple(notes)), whole.height, by_users


def _canonical(tables: Tables, log: Parts) -> Iterator[pl.DataFrame]:
    """The chunks of the log with our names of columns."""
    named = {ours: tables.columns[0].name(ours) for ours in tables.interactions.columns if ours != LINE}
    for chunk in log.chunks(list(named.values())):
        beside = [c for c in (ROW, LINE) if c in chunk.columns]
        yield chunk.select(*(pl.col(theirs).alias(ours) for ours, theirs in named.items()), *beside)


def _surveyed(tables: Tables, log: Parts) -> tuple[dict[str, pl.Series], pl.Series, Span | None]:
    """The distinct ids, ascending, the part of each user, and the span of the numbers among times."""
    found: dict[str, list[pl.DataFrame]] = {c: [] for c in CODES}
    spans: list[Span] = []
    for chunk in _canonical(tables, log):
        for column, counted in found.items():
            place = f"{tables.files[0]}, column {tables.columns[0].name(column)}"
            ids = values.ids(chunk[column], place)
            counted.append(ids.alias("id").to_frame().group_by("id").len())
            if sum(frame.height for frame in counted[1:]) >= counted[0].height:
                counted[:] = [_summed(counted)]  # ids of many chunks are held once
        if "timestamp" in chunk.columns and (span := span_of(chunk["timestamp"])):
            spans.append(span)
    counts = {c: _summed(counted).sort("id") for c, counted in found.items()}
    every = {c: frame["id"].alias(c) for c, frame in counts.items()}
    users = counts["user_id"].drop_nulls("id")
    size = max(PART, -(-log.rows // MOST_PARTS))
    part_of = ((users["len"].cum_sum() - users["len"]) // size).cast(pl.UInt32)
    part_of = part_of.rle_id() if len(part_of) else part_of
    span = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
    return every, part_of, span


def _summed(counted: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counted).group_by("id").agg(pl.col("len").sum())


def _repeated(tables: Tables, log: Parts, by_users: ByUsers, span: Span | None) -> pl.DataFrame:
    """The refusals of rows that repeat the user, item and moment of another row, as they are spelt."""
    found = [surplus(replace(tables, interactions=part)).select(ROW) for part in by_users]
    again = pl.concat(found)
    if again.is_empty():
        return checks.NONE_REFUSED
    check, refused = repeat_check(tables), []
    for chunk in _canonical(tables, log):
        spelt = chunk.join(again, on=ROW, how="semi", maintain_order="left")
        if len(spelt):
            frame, _ = parsed_rows(spelt, tables.files[0], tables.columns[0], span)
            bad = checks.refusals(frame, [check], tables.files[0], tables.columns[0])
            refused.append(tables.placed(bad, 0))
    return pl.concat(refused)
