"""Tables that a Python caller hands over: frames of polars, pandas and others, for the door of files.

The settings of a run name a frame by a digest of what it holds: a run that was stopped goes on with the
same rows alone.  The rows themselves are held here while the run is at work, and never in its folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sasrecllm.data.ingest.readers import HIDDEN
from sasrecllm.errors import ConfigError, DataError

INTERACTIONS, ITEMS = "the interactions frame", "the items frame"
_held: dict[str, list[tuple[pl.DataFrame, str]]] = {}
"""Name in the settings -> once for each block that lends it."""


@contextmanager
def lent(interactions: Any, items: Any) -> Iterator[dict[str, str]]:
    """The ``data`` settings under which the two tables can be read while the block runs.

    Args:
        interactions: a path, or a frame.
        items: likewise; None where the titles stand in the interactions.

    Raises:
        ConfigError: one is neither.
        DataError: a column of one cannot be read.
    """
    settings, mine = {"source": "files"}, []
    try:
        for key, table, name in (("path", interactions, INTERACTIONS), ("items_path", items, ITEMS)):
            if table is None:
                continue
            if isinstance(table, (str, os.PathLike)):
                settings[key] = os.fspath(table)
                continue
            frame = as_polars(table, name)
            settings |= {"source": "frames", key: f"frame-{digest(frame)}"}
            mine.append(settings[key])
            _held.setdefault(settings[key], []).append((frame, name))
        yield settings
    finally:
        for key in mine:
            _held[key].pop()


def table(columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    """A frame of columns of plain values."""
    return pl.DataFrame(columns, infer_schema_length=None)


def held(path: Path) -> tuple[pl.DataFrame, str] | None:
    """The frame that ``path`` names and what to call it in a refusal; None where it names a file.

    Raises:
        DataError: it names a frame that nobody holds now.
    """
    found = _held.get(str(path))
    if not found and str(path).startswith("frame-") and not path.exists():
        raise DataError(
            f"the rows of {path} are not here: they were given to sasrecllm.fit in Python",
            "call sasrecllm.fit with the same frames and settings; or store them as files and set"
            " data.source=files",
        )
    return found[-1] if found else None


def digest(frame: pl.DataFrame) -> str:
    """16 digits that tell frames with other columns, kinds or rows apart."""
    texts = [pl.col(c).cast(pl.String) for c, kind in frame.schema.items() if _has_codes(kind)]
    summed = hashlib.sha256(repr(list(frame.schema.items())).encode())
    summed.update(frame.with_columns(texts).hash_rows(0).to_numpy().tobytes())
    return summed.hexdigest()[:16]


def _has_codes(kind: pl.DataType) -> bool:
    return isinstance(kind, (pl.Categorical, pl.Enum))


def as_polars(table: Any, name: str) -> pl.DataFrame:
    """A frame of polars with the same columns and rows; ours of a hidden name are left out.

    Args:
        table: a frame of polars or pandas, or anything that hands over Arrow.
        name: what to call it in a refusal.

    Raises:
        ConfigError: it is no table.
        DataError: a column of it cannot be read.
    """
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if isinstance(table, pl.DataFrame):
        return table.drop(HIDDEN, strict=False)
    if hasattr(table, "iloc") and hasattr(table, "columns"):
        return _from_pandas(table, name).drop(HIDDEN, strict=False)
    if hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(table).drop(HIDDEN, strict=False)
    raise ConfigError(
        f"{name} is a {type(table).__name__}; allowed: a polars or pandas DataFrame, or a path",
        "make a frame of it, for example polars.DataFrame(...), or give the path of a file",
    )


def _from_pandas(table: Any, name: str) -> pl.DataFrame:
    """Without importing pandas, and without what it needs for Arrow: column by column.

    An index with a name is a column; what pandas has for a missing value is null.
    """
    if any(label is not None for label in table.index.names):
        table = table.reset_index()
    names = [str(c) for c in table.columns]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{name}: two columns are named {twice[0]!r}", "rename one")
    return pl.DataFrame([_series(n, table.iloc[:, at], name) for at, n in enumerate(names)])


def _series(column: str, values: Any, name: str) -> pl.Series:
    kind = values.dtype
    if isinstance(kind, np.dtype) and kind.kind in "iub":
        return pl.Series(column, values.to_numpy())
    if isinstance(kind, np.dtype) and kind.kind == "f":
        return pl.Series(column, values.to_numpy(dtype=np.float64)).fill_nan(None)
    if isinstance(kind, np.dtype) and kind.kind == "M":
        return pl.Series(column, values.to_numpy().astype("datetime64[us]"))
    missing = values.isna().to_numpy()
    plain = [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]
    try:
        made = pl.Series(column, plain)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        made = pl.Series(column, [], dtype=pl.Object)
    if made.dtype == pl.Object:
        kinds = sorted({type(v).__name__ for v in plain if v is not None})
        raise DataError(
            f"{name}, column {column}: values of these kinds cannot be read as one column:"
            f" {', '.join(kinds)}",
            f"make them one kind: frame[{column!r}] = frame[{column!r}].astype(str)",
        )
    return made
