"""Named sources of interactions; each is one function and its row in ``SOURCES``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from sasrecllm.data.catalog import whole_titles
from sasrecllm.data.ingest import archives, columns, frames
from sasrecllm.data.ingest.download import Report
from sasrecllm.data.ingest.many_files import Parts, parts_of
from sasrecllm.data.ingest.readers import read_table
from sasrecllm.data.interactions import FILM_WORDS, LINE, PLAIN_WORDS, ROW, FileColumns, Order, Tables
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.data.truth import Truth
from sasrecllm.errors import ConfigError, DataError, did_you_mean
from sasrecllm.plugins import called, resolve


@dataclass(frozen=True, slots=True)
class Request:
    """What a user said about the source."""

    path: Path | None = None
    items_path: Path | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    cache: Path | None = None
    report: Report | None = None
    world: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of a source that makes its rows up, and below their seed."""
    seed: int = 0
    untitled: bool = False
    """Whether the items may be left out, since they are known."""


class Source(Protocol):
    """A source of tables: what a row of ``SOURCES`` is."""

    def __call__(self, request: Request) -> Tables:
        """The tables behind the request, not yet checked."""
        ...


def load_tables(
    source: str,
    *,
    path: str | Path | None = None,
    items_path: str | Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    order: Order = "auto",
    words: Mapping[str, str] | None = None,
    name: str | None = None,
    cache: Path | None = None,
    report: Report | None = None,
    world: Mapping[str, Any] | None = None,
    seed: int = 0,
    untitled: bool = False,
) -> Tables:
    """The tables of a source.

    Args:
        source: ``known-world``, ``files``, ``frames`` (of :func:`sasrecllm.fit`), ``two-table``,
            ``ml-1m``, ``ml-100k``, ``ml-latest-small``, ``amazon-books``, or
            ``package.module:function`` that takes a :class:`Request`.
        path: file, folder or archive; named archives are downloaded where it is None.
        items_path: file with item ids and titles, for ``files``.
        columns: our column name -> name in the file; None leaves out a column that is named like
            one of ours.
        order: see :class:`Tables`; ``file`` where the rows stand in order.
        words: domain words that replace the source's own.
        name: name of the data set for reports; the source's own by default.
        cache: folder for downloaded archives.
        report: is told how a download goes: what, megabytes done, megabytes in all.
        world: parameters of ``known-world`` (:class:`~sasrecllm.data.synthetic.world.WorldSettings`).
        seed: of the rows that a source makes up.
        untitled: the items may be left out (``files`` and ``frames``), since they are known; a folder
            of parts is then read whole.

    Raises:
        ConfigError: an argument is wrong.
        DataError: a file is missing or damaged, or cannot be downloaded.
    """
    if order not in ("auto", "time", "file"):
        raise ConfigError(f"data.order is {order!r}; allowed: auto, time, file", "use one of these")
    for word in words or {}:
        if word not in PLAIN_WORDS:
            raise ConfigError(
                f"data.words has {word!r}; allowed: {', '.join(PLAIN_WORDS)}"
                + did_you_mean(word, PLAIN_WORDS),
                "rename or remove it",
            )
    reader = resolve(source, SOURCES, "data.source")
    named = dict(columns or {})
    request = Request(
        _path(path), _path(items_path), named, cache, report, dict(world or {}), seed, untitled
    )
    if not callable(reader):
        raise ConfigError(
            f"data.source is {source!r}, which is no function", "name a function of a Request"
        )
    with called(source):
        tables = reader(request)
    if not isinstance(tables, Tables):
        raise ConfigError(
            f"data.source is {source!r}, which gave a {type(tables).__name__}",
            "return Tables (sasrecllm.data.ingest.sources)",
        )
    return replace(
        tables,
        name=name or tables.name,
        words={**tables.words, **(words or {})},
        order=tables.order if order == "auto" else order,
    )


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


@dataclass(frozen=True, slots=True)
class _Table:
    """A table as it was read.

    Args:
        file: what to call it in a refusal.
        name: of the data set, for reports.
        note: what a reader must know of how it was read.
        first_row: the number of its first row, as its owner counts.
        parts: of a folder.
    """

    frame: pl.DataFrame
    file: str
    name: str
    notes: tuple[str, ...] = ()
    first_row: int = 1
    parts: Parts | None = None


def _read(path: Path, *, whole: bool = True) -> _Table:
    """A file, a folder of parts, or a frame that a Python caller lends.

    Args:
        whole: all rows of a folder; else the first values of its columns.
    """
    if found := frames.held(path):
        frame, name = found
        return _Table(frame, name, "frame", first_row=0)
    if path.is_dir():
        parts = parts_of(path)
        frame = parts.whole() if whole else parts.head()
        name = path.resolve().name.removesuffix(".parquet")  # as Spark names its folders
        return _Table(frame, str(path), name, parts.notes, parts=parts)
    frame, note = read_table(path)
    return _Table(frame, str(path), path.stem, (note,) if note else ())


def files(request: Request) -> Tables:
    """Own files, folders of parts, or frames; titles in a table of their own or in the same one.

    A log in a folder is not read whole, here or later.
    """
    columns.check_map(request.columns)
    if request.path is None:
        raise ConfigError("source files needs a file", "set data.path=<your interactions file>")
    table, named = _read(request.path, whole=request.untitled), request.columns
    if request.untitled:
        table = replace(table, parts=None)
    if request.items_path is None:
        if request.untitled:  # names of titles and items speak of files that the run began with
            kept = {*columns.INTERACTION_COLUMNS}
            named = {k: v for k, v in named.items() if k in kept or v in table.frame.columns}
        titled, shelf = columns.items(table.frame, named, table.file, own_file=False)
        if "title" not in titled.columns and request.untitled:
            titled = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})
        elif "title" not in titled.columns:
            raise DataError(
                f"{table.file}: no file with item titles was named, and no title column is here; its"
                f" columns: {', '.join(c for c in table.frame.columns if c != LINE)}",
                "set data.items_path=<file with item_id and title>, or data.columns.title=..."
                + _ids_as_titles(titled, shelf),
            )
        items, items_table = _titles(titled, shelf, table), table
        if request.untitled:  # of a known item the title need not be said
            items = items.filter(pl.col("title").is_not_null())
    else:
        items_table = _read(request.items_path)
        columns.refuse_swapped(table.frame, items_table.frame, named)
        items, shelf = columns.items(items_table.frame, request.columns, items_table.file)
    one = request.items_path is None
    log, seen = columns.interactions(table.frame, named, table.file, titled=one)
    notes = (*table.notes, *(() if one else items_table.notes))
    return Tables(
        interactions=log if table.parts is None else log.clear(),
        items=items,
        name=table.name,
        files=(table.file, items_table.file),
        columns=(
            replace(seen, first_row=table.first_row),
            replace(shelf, first_row=items_table.first_row),
        ),
        notes=(*notes, *columns.notes(seen, Path(table.file).name)),
        parts=(table.parts, items_table.parts),
    )


def _ids_as_titles(titled: pl.DataFrame, shelf: FileColumns) -> str:
    """How to go on where the items of a log have no titles at all."""
    if "item_id" not in titled.columns:
        return ""
    name = shelf.name("item_id")
    both = f"'data.columns.item_id={name}' 'data.columns.title={name}'"
    return f"; where items have none, {both} takes their ids"


def _titles(titled: pl.DataFrame, shelf: FileColumns, table: _Table) -> pl.DataFrame:
    """The items of a log that has their titles, which is read chunk by chunk where it has parts."""
    if table.parts is None:
        return _each_title_once(titled)
    named = {ours: shelf.name(ours) for ours in titled.columns if ours != LINE}
    found: list[pl.DataFrame] = []
    for chunk in table.parts.chunks(list(named.values())):
        found.append(_each_title_once(chunk.rename({theirs: ours for ours, theirs in named.items()})))
        if sum(frame.height for frame in found[1:]) >= found[0].height:
            found = [_each_title_once(pl.concat(found))]
    return _each_title_once(pl.concat(found)) if found else titled.clear()


def _each_title_once(titled: pl.DataFrame) -> pl.DataFrame:
    """The items of a log that has their titles: each title of an item once, as it is kept.

    A refusal still names the row of the file it came from.  A row without the title that another row
    of the item has says nothing.
    """
    numbered = titled
    if ROW not in titled.columns:
        numbered = titled.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    keys = [c for c in ("item_id", "title") if c in titled.columns]
    numbered = numbered.unique(keys, keep="first", maintain_order=True)  # few are left to clean
    if len(keys) == 2 and titled.schema["title"] == pl.String:
        kept = whole_titles(numbered["title"])
        numbered = numbered.with_columns(kept.set(kept == "", None).alias("title"))
        titles = pl.col("title").is_not_null()
        numbered = numbered.filter(titles | ~titles.any().over("item_id"))
    return numbered.unique(keys, keep="first", maintain_order=True)


def two_table(request: Request) -> Tables:
    """A folder with interactions.parquet and items.parquet in our own column names."""
    columns.check_map(request.columns)
    if request.path is None or not request.path.is_dir():
        raise DataError(
            f"source two-table needs a folder, got {request.path}",
            "set data.path=<folder with interactions.parquet and items.parquet>",
        )
    files = request.path / "interactions.parquet", request.path / "items.parquet"
    log, seen = columns.interactions(read_table(files[0])[0], request.columns, str(files[0]))
    items, shelf = columns.items(read_table(files[1])[0], request.columns, str(files[1]))
    return Tables(
        interactions=log,
        items=items,
        name=request.path.resolve().name,
        files=(str(files[0]), str(files[1])),
        columns=(seen, shelf),
        notes=tuple(columns.notes(seen, files[0].name)),
    )


def made_up(request: Request) -> Tables:
    """The known world: films that nobody made, rated by nobody, and the truth behind every rating."""
    world = known_world(**{"seed": request.seed, **request.world})
    log = world.interactions
    pairs = zip(log["user_id"], log["item_id"], strict=True)
    return Tables(
        interactions=log,
        items=world.items,
        name="known-world",
        words=dict(FILM_WORDS),
        truth=Truth(world.truth, dict(zip(pairs, world.probability.tolist(), strict=True))),
    )


def _archive(name: str) -> Source:
    def read(request: Request) -> Tables:
        return archives.read(name, path=request.path, cache=request.cache, report=request.report)

    return read


SOURCES: Mapping[str, Source] = {
    "known-world": made_up,
    "files": files,
    "frames": files,  # of a Python caller, named by their digests
    "two-table": two_table,
    **{name: _archive(name) for name in archives.ARCHIVES},
}
