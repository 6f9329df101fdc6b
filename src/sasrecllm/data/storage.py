"""A prepared data set on disk: two Parquet tables that people can read, and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.former import Former
from sasrecllm.data.log_facts import LogFacts
from sasrecllm.data.long_columns import BLOCK, blocks, empty, let_go
from sasrecllm.data.splits import CONTEXT, NAMES
from sasrecllm.errors import DataError
from sasrecllm.machine.os_errors import as_refusals

FORMAT = 1
CODES = {**NAMES, "context": CONTEXT}
HELD = ("held_items", "held_users")
"""Indices of what is held out; folders that were written without any have no such key."""
FORGOTTEN = "forgotten_users"
"""Indices of users who were forgotten; folders without any have no such key."""
ALLOW_SEEN = "allow_seen"
"""Stands in the file where it is true; older folders have no such key."""
LOG = "log"
"""What the log knew of the rows; older folders have no such key."""
FACTS = ("name", "words", "has_times", "implicit", "negatives", "seed", "notes")


class Digested(Protocol):
    """A data set, as far as this file knows one."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        ...


D = TypeVar("D", bound=Digested)


def save(fields: Mapping[str, Any], digest: str, folder: Path) -> None:
    """Write a data set; the JSON file comes last, so a folder without it is unfinished.

    Args:
        fields: those of a :class:`~sasrecllm.data.dataset.Dataset`, by name.
        digest: of its content.

    Raises:
        ResourceError: the disk is full.
        ConfigError: there can be no such folder, or nothing may be written there.
    """
    catalog: Catalog = fields["catalog"]
    items = {"item_id": catalog.item_ids, "title": catalog.titles, **catalog.attributes}
    meta = {key: fields[key] for key in FACTS}
    meta |= {key: fields[key].tolist() for key in HELD if len(fields[key])}
    meta |= {FORGOTTEN: catalog.forgotten.tolist()} if len(catalog.forgotten) else {}
    meta |= {ALLOW_SEEN: True} if fields["allow_seen"] else {}
    meta |= {LOG: fields["log"].to_dict()} if fields["log"] else {}
    meta |= {"format": FORMAT, "digest": digest}
    with as_refusals(folder):  # polars wraps a full disk in its own error
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset.json").unlink(missing_ok=True)
        _rows(fields).sink_parquet(folder / "interactions.parquet")
        pl.DataFrame(items, schema=dict.fromkeys(items, pl.String)).write_parquet(
            folder / "items.parquet"
        )
        if fields["former"] is not None:
            fields["former"].save(folder)
        text = json.dumps(meta, ensure_ascii=False, indent=2) + "\n"
        (folder / "dataset.json").write_text(text, encoding="utf-8")


def _rows(fields: Mapping[str, Any]) -> pl.LazyFrame:
    """The interactions as people read them; made block by block where they are written."""
    users = pl.Series(fields["catalog"].user_ids, dtype=pl.String)
    items = pl.Series(fields["catalog"].item_ids, dtype=pl.String)
    spelled = {code: name for name, code in CODES.items()}
    moment = "timestamp" if fields["has_times"] else "order"
    names = ("users", "items", "labels", "times", "splits")
    users_N, items_N, labels_N, times_N, splits_N = (fields[name] for name in names)

    def made(*_asked: object) -> Iterator[pl.DataFrame]:
        for part in blocks(users_N, items_N, labels_N, times_N, splits_N):
            splits = pl.Series(splits_N[part])
            yield pl.DataFrame(
                {
                    "user_id": users.gather(users_N[part]),
                    "item_id": items.gather(items_N[part]),
                    "label": labels_N[part],
                    moment: times_N[part],
                    "split": splits.replace_strict(spelled, return_dtype=pl.String),
                }
            )

    kinds = {"user_id": pl.String, "item_id": pl.String, "label": pl.Int8, moment: pl.Int64}
    return register_io_source(made, schema={**kinds, "split": pl.String})


def load(folder: Path, build: Callable[..., D]) -> D:
    """Read what :func:`save` wrote, and check it against its digest.

    Args:
        build: makes the data set of its fields, by name.

    Raises:
        DataError: a file is missing or damaged, or the content is not what was saved.
    """
    again = "prepare the data again"
    try:
        meta: dict[str, Any] = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if meta.get("format") != FORMAT:
            raise DataError(
                f"{folder}: data format {meta.get('format')}; this version reads {FORMAT}", again
            )
        rows = pl.scan_parquet(folder / "interactions.parquet", glob=False)
        items = pl.read_parquet(folder / "items.parquet", glob=False)
        former = Former.load(folder)
        dataset = build(**_arrays(rows, items, meta), **_facts(meta), former=former)
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no prepared data there ({error})", again) from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        pl.exceptions.PolarsError,
    ) as e:
        raise DataError(f"{folder}: the prepared data cannot be read: {e}", again) from None
    if dataset.digest != meta.get("digest"):
        raise DataError(f"{folder}: the content is not what was saved (digest differs)", again)
    return dataset


def _facts(meta: dict[str, Any]) -> dict[str, Any]:
    facts = {key: meta[key] for key in FACTS} | {"notes": tuple(meta["notes"])}
    facts[ALLOW_SEEN] = bool(meta.get(ALLOW_SEEN, False))
    facts[LOG] = LogFacts.from_dict(meta[LOG]) if LOG in meta else None
    return facts | {key: np.array(meta.get(key, []), dtype=np.int64) for key in HELD}


def _arrays(rows: pl.LazyFrame, items: pl.DataFrame, meta: dict[str, Any]) -> dict[str, Any]:
    attributes = {c: items[c].to_list() for c in items.columns if c not in ("item_id", "title")}
    count = int(rows.select(pl.len()).collect().item())
    spans = [rows.slice(start, BLOCK) for start in range(0, count, BLOCK)]
    named = [span.select(pl.col("user_id").unique()).collect()["user_id"] for span in spans]
    users = pl.concat(named).unique().sort().to_list() if named else []
    for index in meta.get(FORGOTTEN, []):  # ascending, so each lands where it was
        users.insert(index, "")
    catalog = Catalog(items["item_id"].to_list(), items["title"].to_list(), users, attributes)
    moment = "timestamp" if meta["has_times"] else "order"
    kinds = {"users": np.int64, "items": np.int64, "labels": np.int8, "times": np.int64}
    arrays = {name: empty(count, kind) for name, kind in (kinds | {"splits": np.int8}).items()}
    start = 0
    for span in spans:
        frame = span.collect()
        found = {
            "users": indices(frame["user_id"], catalog.user_ids),
            "items": indices(frame["item_id"], catalog.item_ids),
            "labels": frame["label"].cast(pl.Int8).to_numpy(),
            "times": frame[moment].cast(pl.Int64).to_numpy(),
            "splits": frame["split"].replace_strict(CODES, return_dtype=pl.Int8).to_numpy(),
        }
        for name, values in found.items():
            arrays[name][start : start + frame.height] = values
        let_go(*arrays.values())
        start += frame.height
    return {**arrays, "catalog": catalog}


def indices(values: pl.Series, ids: list[str]) -> Any:
    """Position in ``ids`` of every id in ``values`` (text or Enum), int64 [N]; all must be there."""
    if isinstance(values.dtype, pl.Enum):
        index = {name: n for n, name in enumerate(ids)}
        places = np.array([index.get(name, -1) for name in values.dtype.categories])
        return places[values.to_physical().to_numpy()]
    named = (
        pl.Series(ids, dtype=pl.String).to_frame("id").with_row_index("n").filter(pl.col("id") != "")
    )
    return values.replace_strict(named["id"], named["n"].cast(pl.Int64)).to_numpy()
