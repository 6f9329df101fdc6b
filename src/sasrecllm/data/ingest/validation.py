"""The door: tables are refused with file, row, column and value, or their bad rows set aside."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import polars as pl

from sasrecllm.data.catalog import LONGEST_TITLE, clean_titles, too_long
from sasrecllm.data.ingest import checks, values
from sasrecllm.data.ingest.checks import Check, parsed
from sasrecllm.data.ingest.missing_columns import refuse_missing
from sasrecllm.data.ingest.repeated_rows import Repeats, repeat_key, surplus
from sasrecllm.data.ingest.times import Span, seconds
from sasrecllm.data.interactions import LINE, ROW, FileColumns, Tables
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.machine.os_errors import as_refusals

OnBadRows = Literal["refuse", "quarantine"]
NUMBERS = {
    "label": values.numbers,
    "rating": values.numbers,
    "timestamp": seconds,
    "order": values.whole_numbers,
}
HTML = r"(?i)</?(a|b|br|div|em|font|h[1-6]|i|li|p|span|strong|su[bp]|u|ul)\b[^<>]*>|&(#?\w{2,8});"
"""Marks and entities of HTML in a title."""
NO_USER = ("nan", "null", "none", "na", "n/a", "\\n", "<na>", "undefined", "unknown", "anonymous")
"""What programs and people write where nobody is known, in lower case."""
KINDS = {"label": pl.Int8, "rating": pl.Float64, "timestamp": pl.Int64, "order": pl.Int64}


def validate(
    tables: Tables,
    *,
    on_bad_rows: OnBadRows = "refuse",
    quarantine_path: Path | None = None,
    repeats: Repeats = "refuse",
    known: Collection[str] = (),
) -> tuple[Tables, int]:
    """The tables with clean types and without bad rows, and the number of rows set aside.

    ``refuse`` raises on the first bad row; ``quarantine`` writes every bad row with its reason to
    ``quarantine_path`` (JSON Lines) and goes on without them.  Repeated rows are bad rows where
    ``repeats`` is ``refuse``, and stay otherwise (:mod:`sasrecllm.data.ingest.repeated_rows`).

    Args:
        known: ids of items that rows may name beside those of the table, which may then be empty.

    Raises:
        DataError: columns are missing, or rows are bad (refuse), or no row is left.
        ConfigError: quarantine without a path.
    """
    refuse_no_quarantine(on_bad_rows, quarantine_path)
    none = bool(known) and tables.items.is_empty()
    refuse_missing(tables, items=not none)
    items, bad_items, item_notes = _no_items() if none else checked_items(tables)
    if on_bad_rows == "refuse":
        raise_first(bad_items, tables.items.height, tables)
    rows, bad_rows, row_notes = _interactions(tables, items, repeats, known)
    if on_bad_rows == "refuse":
        raise_first(bad_rows, tables.interactions.height, tables)
    refused = pl.concat([bad_items, bad_rows])
    set_aside(refused, on_bad_rows, quarantine_path)
    refuse_empty(tables, rows.height, items.height or len(known), refused.height, quarantine_path)
    notes = (*tables.notes, *item_notes, *row_notes)
    return replace(tables, interactions=rows, items=items, notes=notes), refused.height


def refuse_no_quarantine(on_bad_rows: OnBadRows, quarantine_path: Path | None) -> None:
    """Refuse to set rows aside nowhere."""
    if on_bad_rows == "quarantine" and quarantine_path is None:
        raise ConfigError("on_bad_rows is quarantine, but no file is named", "give quarantine_path")


def refuse_empty(tables: Tables, rows: int, items: int, refused: int, path: Path | None) -> None:
    """Refuse tables of which nothing is left."""
    for height, file in ((rows, tables.files[0]), (items, tables.files[1])):
        if not height:
            raise DataError(
                f"{file}: no usable row ({refused} refused)",
                f"see {path} for the reasons" if refused else "give data",
            )


def _no_items() -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """What :func:`checked_items` gives where no table of items was given."""
    items = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})
    return items, checks.NONE_REFUSED, []


def checked_items(tables: Tables) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Items with String ids, clean titles and text attributes, their bad rows, and notes."""
    file, columns = tables.files[1], tables.columns[1]
    frame = _numbered(tables.items, file)
    where = {c: f"{file}, column {columns.name(c)}" for c in ("item_id", "title")}
    titles = values.text(frame["title"], where["title"])
    frame = frame.with_columns(
        values.ids(frame["item_id"], where["item_id"]).alias("item_id"),
        clean_titles(titles).alias(parsed("title")),
    )
    title = pl.col(parsed("title"))
    rows = [
        *checks.every_id_check("item_id"),
        Check("title", title.is_null() | (title == ""), "a title", "give the item a title"),
        # Every copy is refused: keeping one would make the result depend on the file's order.
        Check("item_id", pl.col("item_id").is_duplicated(), *_once(tables)),
    ]
    bad = tables.placed(checks.refusals(frame, rows, file, columns), 1)
    good = frame.join(bad.select(ROW), on=ROW, how="anti").with_columns(title.alias("title"))
    clean, notes = _attributes(good, Path(file).name)
    marked = frame["item_id"].filter(titles.str.contains(HTML).fill_null(False))
    if len(marked):
        notes.append(
            f"{Path(file).name}, column {columns.name('title')}: {len(marked):,} titles hold HTML"
            f" such as <b> or &amp; (the first is that of item {marked.first()!r}): they are read and"
            " shown as they stand; plain text would be better"
        )
    long = frame["item_id"].filter(too_long(titles))
    if len(long):
        notes.append(
            f"{Path(file).name}, column {columns.name('title')}: {len(long):,} titles of more than"
            f" {LONGEST_TITLE} characters were cut (the first is that of item {long.first()!r})"
        )
    return clean, bad, notes


def _once(tables: Tables) -> tuple[str, str]:
    """What is allowed where an item comes twice, and the next step."""
    if tables.files[0] != tables.files[1]:
        return "each item once", "keep one of its rows"
    return (
        "one title for each item",
        "write the same title in every row of the item, or give the titles in a file of their own:"
        " data.items_path=<file with item_id and title>",
    )


def _attributes(items: pl.DataFrame, file: str) -> tuple[pl.DataFrame, list[str]]:
    """The columns of the items as text, and a note of those that are none."""
    texts = {c: values.attribute(items[c], lists=c != "title") for c in items.columns if c[:2] != "__"}
    no_text = [f"{c} ({items.schema[c]})" for c, text in texts.items() if text is None]
    note = f"{file}: these columns are no text and are left out: {', '.join(no_text)}"
    clean = pl.DataFrame({c: text for c, text in texts.items() if text is not None})
    return clean, [note] * bool(no_text)


def _interactions(
    tables: Tables, items: pl.DataFrame, repeats: Repeats, known: Collection[str] = ()
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Interactions with clean types and their row numbers, the bad rows, and notes."""
    file, columns = tables.files[0], tables.columns[0]
    frame = _numbered(tables.interactions, file)
    frame, notes = parsed_rows(frame, file, columns)
    if "__part" in frame.columns:  # rows of one second keep the order in which they stand from here on
        frame = frame.sort("__part", maintain_order=True)
    every = {c: frame[c].unique() for c in ("user_id", "item_id")}
    notes += odd_users(every["user_id"], f"{Path(file).name}, column {columns.name('user_id')}")
    asked = row_checks(every, frame.columns, items, tables, known)
    bad = checks.refusals(frame, asked, file, columns)
    good = typed(without(frame, bad), kinds_of(every))
    if repeats == "refuse":
        good_tables = replace(tables, interactions=good)
        again = surplus(good_tables)
        spelt = frame.join(again.select(ROW), on=ROW, how="semi")
        bad = pl.concat([bad, checks.refusals(spelt, [repeat_check(good_tables)], file, columns)])
        good = without(good, again)
    return good.drop(LINE, "__part", strict=False), bad, notes


def row_checks(
    every: Mapping[str, pl.Series],
    present: list[str],
    items: pl.DataFrame,
    tables: Tables,
    known: Collection[str] = (),
) -> list[Check]:
    """What is checked of each row.

    Args:
        every: the distinct ids of users and of items.
        present: columns that there are.
        items: checked.
        known: ids of further items.
    """
    rows = [check for ids in every.values() for check in checks.id_checks(ids)]
    for column in NUMBERS:
        rows += checks.number_checks(column) if column in present else []
    rows += [checks.split_check()] if "split" in present else []
    return rows + _unknown_item(every["item_id"], items, tables.files[1], known)


def kinds_of(every: Mapping[str, pl.Series]) -> dict[str, pl.Enum]:
    """The types of ids as codes, which are sorted and compared like them at a fraction of the cost."""
    return {c: pl.Enum(ids.drop_nulls().sort()) for c, ids in every.items()}


def typed(good: pl.DataFrame, kinds: Mapping[str, pl.Enum]) -> pl.DataFrame:
    """Good rows in their final types, with their number, line and fraction of a second."""
    present = [c for c in NUMBERS if c in good.columns]
    keep = ["user_id", "item_id", *present, "split", ROW, LINE, "__part"]
    shown = good.select(c for c in keep if c in good.columns)
    return shown.with_columns(
        *(good[parsed(c)].cast(KINDS[c]).alias(c) for c in present),
        *(pl.col(c).cast(kind) for c, kind in kinds.items()),
    )


def parsed_rows(
    frame: pl.DataFrame, file: str, columns: FileColumns, span: Span | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Ids and splits as text, the other columns parsed beside them, and notes.

    Args:
        span: of the numbers in the whole column of times where these rows are a part of them.
    """
    place = {c: f"{file}, column {columns.name(c)}" for c in frame.columns}
    frame = frame.with_columns(values.ids(frame[c], place[c]).alias(c) for c in ("user_id", "item_id"))
    if "split" in frame.columns:
        frame = frame.with_columns(values.text(frame["split"], place["split"]))
    reading = NUMBERS | {"timestamp": partial(seconds, span=span)}
    read = {c: reading[c](frame[c], place[c]) for c in NUMBERS if c in frame.columns}
    frame = frame.with_columns(found.values.alias(parsed(c)) for c, found in read.items())
    fraction = read["timestamp"].fraction if "timestamp" in read else None
    if fraction is not None:
        frame = frame.with_columns(fraction.alias("__part"))
    notes = {f"{Path(file).name}, column {columns.name(c)}": found.note for c, found in read.items()}
    return frame, [f"{column}: {note}" for column, note in notes.items() if note]


def _unknown_item(
    every: pl.Series, items: pl.DataFrame, file: str, known: Collection[str]
) -> list[Check]:
    """The check that the items table has every item, or a run does; none where they have."""
    there = pl.concat([items["item_id"], pl.Series("item_id", list(known), dtype=pl.String)])
    lost = every.filter(~every.is_in(there.implode()))
    if lost.is_empty():
        return []
    unknown = pl.col("item_id").is_in(lost.implode())
    remedy = f"add the item to {file}, or remove the row"
    if len(lost) > 1:
        remedy = f"add the {len(lost):,} items that {file} lacks to it, or remove their rows"
    if known and items.is_empty():
        file = "the run"
        remedy = "give the titles of new items (--items FILE, in Python items=), or remove the row"
    spelt = {_bare(name): name for name in there.to_list()}
    for name in lost.drop_nulls().sort().head(1000):
        if _bare(name) in spelt:
            alike = f"{name!r} is {spelt[_bare(name)]!r} in {file}: spell the ids alike in both files"
            remedy = f"{alike}; or {remedy}"
            break
    return [Check("item_id", unknown, f"items of {file}", remedy)]


def _bare(name: str) -> str:
    """An id without what programs change in one: spaces around it, case, zeros before it, ``.0``."""
    return re.sub(r"\.0+$", "", name.strip().casefold()).lstrip("0")


def odd_users(every: pl.Series, where: str) -> list[str]:
    """Notes of ids that are taken as they stand, but may be meant otherwise."""
    spaced = every.filter(every != every.str.strip_chars()).sort()
    none = every.filter(every.str.to_lowercase().is_in(NO_USER)).sort()
    twins = every.filter(every.str.to_lowercase().is_duplicated()).drop_nulls().sort()
    twins = twins.to_frame("id").sort(pl.col("id").str.to_lowercase(), maintain_order=True)["id"]
    said = (
        f"{where}: {len(spaced):,} ids begin or end with a space (for example {spaced.first()!r}): they"
        " are others than those without",
        f"{where}: the rows of {', '.join(map(repr, none))} are taken for those of a user of that name",
        f"{where}: {len(twins):,} ids differ from another one in case alone"
        f" (for example {' and '.join(map(repr, twins.head(2)))}): they are different users",
    )
    return [text for text, odd in zip(said, (spaced, none, twins), strict=True) if len(odd)]


def without(frame: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Without the rows of these numbers."""
    if rows.is_empty():
        return frame
    return frame.join(rows.select(ROW), on=ROW, how="anti", maintain_order="left")


def repeat_check(tables: Tables) -> Check:
    """The check that rows of one user, item and moment fail where they are refused."""
    key = repeat_key(tables) or ["user_id"]
    names = ", ".join(tables.columns[0].name(c) for c in key)
    remedy = "remove the repeated row, or say what it means: data.repeats=keep, first or last"
    return Check(key[-1], pl.lit(True), f"each ({names}) once", remedy)


def _numbered(frame: pl.DataFrame, file: str) -> pl.DataFrame:
    """With the numbers of its rows; refused without any."""
    if frame.is_empty():
        raise DataError(f"{file} has no rows", "give a table with at least one row")
    if ROW not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    return frame


def raise_first(refused: pl.DataFrame, height: int, tables: Tables) -> None:
    """Refuse a table of ``height`` rows because of its first bad row."""
    if refused.is_empty():
        return
    first = refused.sort(ROW).row(0, named=True)
    line = "" if first["line"] is None else f" (line {first['line']})"
    at = int(first["file"] == tables.files[1])
    line = line if tables.columns[at].first_row else " (counted from 0)"
    many = f"{refused.height:,} of {height:,} rows"
    more = f"; {many} are bad" if refused.height > 1 else ""
    go_on = f"; or set data.on_bad_rows=quarantine to go on without {many}"
    raise DataError(
        f"{first['file']}, row {first['row']}{line}, column {first['column']}: {first['value']};"
        f" allowed: {first['allowed']}{more}",
        # Where most rows are bad, the column is what is wrong.
        first["remedy"] + go_on * (2 * refused.height <= height),
    )


def set_aside(refused: pl.DataFrame, on_bad_rows: OnBadRows, path: Path | None) -> None:
    """Write the refused rows; without any, no file of an earlier run stays to be mistaken for it."""
    if on_bad_rows != "quarantine" or path is None:
        return
    with as_refusals(path):
        if refused.is_empty():
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        refused.drop(ROW).write_ndjson(path)
