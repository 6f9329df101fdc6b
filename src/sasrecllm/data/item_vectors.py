"""Vectors of the items that the user brings: of any encoder of sentences or pictures, one row an item.

They are read once, into the prepared data of a run, in the order of its catalogue.

Legend: N rows of the file, I items of the catalogue, D numbers of a vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.ingest.values import ids
from sasrecllm.errors import DataError, did_you_mean
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.ops.unit_rows import unit_rows
from sasrecllm.types import FloatArray

FILE = "item_vectors.npy"
"""In the prepared data."""
ID = "item_id"
FORMS = (
    "give .parquet with the column item_id and either one column of lists of numbers or one column for"
    " each number, or .npy [items, numbers] with the ids beside it, one a line, in the .txt of its name"
)


def keep_vectors(path: str | None, catalog: Catalog, folder: Path) -> None:
    """Put the vectors of a file into the prepared data in ``folder``; nothing where no file is named.

    Raises:
        DataError: as :func:`read_vectors`.
    """
    if path is not None:
        np.save(folder / FILE, read_vectors(Path(path).expanduser(), catalog), allow_pickle=False)


def kept_vectors(folder: Path) -> FloatArray | None:
    """The vectors [I, D] in the prepared data, if any: about their mean, each of length one.

    What all share says nothing about one, and ridges are chosen among rows of length one.
    """
    if not (folder / FILE).is_file():
        return None
    raw_ID = np.load(folder / FILE, allow_pickle=False).astype(np.float64)
    return unit_rows(raw_ID - raw_ID.mean(0))


def own_vectors(
    read_ID: FloatArray | None, brought: Callable[[], FloatArray | None]
) -> FloatArray | None:
    """The vectors that a run's items have, [I, D]: those read off the titles, else those brought.

    Args:
        brought: gives :func:`kept_vectors`, which is read from the disk only where it is needed.
    """
    return brought() if read_ID is None else read_ID


def read_vectors(path: Path, catalog: Catalog) -> FloatArray:
    """The vector of every item of ``catalog``, [I, D]; further ids in the file are passed over.

    Raises:
        DataError: no such file or another kind of file; vectors of different lengths, numbers that are
            not finite, ids that stand twice, or items without a vector, with their names.
        ResourceError: memory ran out.
    """
    reader = {".parquet": _parquet, ".npy": _npy}.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"item_features.vectors: {path} is neither .parquet nor .npy", FORMS)
    if not path.is_file():
        raise DataError(f"item_features.vectors: there is no file {path}", "correct the path")
    with as_refusals(path):
        names, vectors_ND = reader(path)
    if not vectors_ND.shape[1]:
        raise DataError(f"{path}: its vectors have no numbers", FORMS)
    place: dict[str, int] = {}
    for row, name in enumerate(names):
        if place.setdefault(name, row) != row:
            raise DataError(f"{path}: the item {name!r} occurs twice", "keep one vector of each item")
    lost = [item for item in catalog.item_ids if item not in place]
    if lost:
        near = did_you_mean(lost[0], names)
        raise DataError(
            f"{path} has no vector for {len(lost)} of {catalog.n_items} items: {_some(lost)}{near}",
            "add them; ids are compared as text, exactly as the file of the items spells them",
        )
    found_ID = vectors_ND[[place[item] for item in catalog.item_ids]]
    wrong = np.flatnonzero(~np.isfinite(found_ID).all(1))
    if len(wrong):
        raise DataError(
            f"{path}: the vectors of {len(wrong)} items hold numbers that are missing or not finite:"
            f" {_some([catalog.item_ids[i] for i in wrong])}",
            "make these vectors again",
        )
    return found_ID


def _parquet(path: Path) -> tuple[list[str], FloatArray]:
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no Parquet file: {str(error).splitlines()[0]}", FORMS) from error
    if ID not in frame.columns:
        raise DataError(
            f"{path} has no column {ID!r}; it has: {', '.join(frame.columns)}"
            + did_you_mean(ID, frame.columns),
            f"name the column of the ids {ID}",
        )
    names = ids(frame[ID], f"{path}, column {ID}").to_list()
    others = frame.drop(ID)
    lists = [name for name, kind in others.schema.items() if kind.is_nested()]
    for name, kind in others.schema.items():
        inner = getattr(kind, "inner", None) if kind.is_nested() else kind
        if inner is None or not inner.is_numeric() or (lists and others.width > 1):
            raise DataError(
                f"{path}: column {name!r} ({kind}) is no part of a vector; beside {ID} stand either one"
                " column of lists of numbers or columns of numbers alone",
                f"write the file with {ID} and the vectors alone",
            )
    if not lists:
        return names, _numbers(others.cast(pl.Float32).to_numpy())
    column = others[lists[0]].cast(pl.List(pl.Float32))
    lengths = column.list.len().fill_null(0).to_list()
    usual = Counter(lengths).most_common(1)[0][0] if lengths else 0
    other = [name for name, length in zip(names, lengths, strict=True) if length != usual]
    if other:
        raise DataError(
            f"{path}: {len(other)} of its vectors have other lengths than the {usual} numbers of most:"
            f" {_some(other)}",
            "make all vectors with the same encoder",
        )
    flat = column.explode() if usual else pl.Series([], dtype=pl.Float32)
    return names, _numbers(flat.to_numpy().reshape(len(names), usual))


def _npy(path: Path) -> tuple[list[str], FloatArray]:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        raise DataError(f"{path}: the file of its ids, {beside.name}, is not beside it", FORMS)
    try:
        found = np.load(path, allow_pickle=False)
        names = beside.read_text(encoding="utf-8-sig").splitlines()
    except (ValueError, EOFError) as error:  # damaged, an archive, objects, or no UTF-8
        raise DataError(f"{path} and {beside.name} cannot be read: {error}", FORMS) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        kind = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise DataError(f"{path} holds {kind}, not a table of numbers [items, numbers]", FORMS)
    if len(names) != len(found):
        raise DataError(
            f"{path} has {len(found)} rows, {beside.name} has {len(names)} ids",
            "write one id a line, in the order of the rows",
        )
    return names, _numbers(found)


def _numbers(table: np.ndarray) -> FloatArray:
    with np.errstate(over="ignore"):  # what single precision cannot hold is refused as not finite
        found: FloatArray = table.astype(np.float32)
    return found


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
