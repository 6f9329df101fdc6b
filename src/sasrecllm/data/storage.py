"""A prepared data set on disk: two Parquet tables that people can read, and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.former import Former
from sasrecllm.data.log_facts import LogFacts
from sasrecllm.data.splits import CONTEXT, NAMES
from sasrecllm.errors import DataError
from sasrecllm.machine.os_errors import as_refusals

if TYPE_CHECKING:
    from sasrecllm.data.dataset import Dataset

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


def save(dataset: Dataset, folder: Path) -> None:
    """Write ``dataset``; the JSON file comes last, so a folder without it is unfinished.

    Raises:
        ResourceError: the disk is full.
        ConfigError: there can be no such folder, or nothing may be written there.
    """
    catalog = dataset.catalog
    spelled = {code: name for name, code in CODES.items()}
    rows = pl.DataFrame(
        {
            "user_id": pl.Series(catalog.user_ids, dtype=pl.String).gather(dataset.users),
            "item_id": pl.Series(catalog.item_ids, dtype=pl.String).gather(dataset.items),
            "label": dataset.labels,
            "timestamp" if dataset.has_times else "order": dataset.times,
            "split": pl.Series(dataset.splits).replace_strict(spelled, return_dtype=pl.String),
        }
    )
    items = {"item_id": catalog.item_ids, "title": catalog.titles, **catalog.attributes}
    meta = {key: getattr(dataset, key) for key in FACTS}
    meta |= {key: getattr(dataset, key).tolist() for key in HELD if len(getattr(dataset, key))}
    meta |= {FORGOTTEN: catalog.forgotten.tolist()} if len(catalog.forgotten) else {}
    meta |= {ALLOW_SEEN: True} if dataset.allow_seen else {}
    meta |= {LOG: dataset.log.to_dict()} if dataset.log else {}
    meta |= {"format": FORMAT, "digest": dataset.digest}
    with as_refusals(folder):  # polars wraps a full disk in its own error
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset.json").unlink(missing_ok=True)
        rows.write_parquet(folder / "interactions.parquet")
        pl.DataFrame(items, schema=dict.fromkeys(items, pl.String)).write_parquet(
            folder / "items.parquet"
        )
        if dataset.former is not None:
            dataset.former.save(folder)
        text = json.dumps(meta, ensure_ascii=False, indent=2) + "\n"
        (folder / "dataset.json").write_text(text, encoding="utf-8")


def load(folder: Path, build: Callable[..., Dataset]) -> Dataset:
    """Read what :func:`save` wrote, and check it against its digest.

    Args:
        build: makes the data set of its fields.

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
        rows = pl.read_parquet(folder / "interactions.parquet", glob=False)
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


def _arrays(rows: pl.DataFrame, items: pl.DataFrame, meta: dict[str, Any]) -> dict[str, Any]:
    attributes = {c: items[c].to_list() for c in items.columns if c not in ("item_id", "title")}
    users = rows["user_id"].unique().sort().to_list()
    for index in meta.get(FORGOTTEN, []):  # ascending, so each lands where it was
        users.insert(index, "")
    catalog = Catalog(items["item_id"].to_list(), items["title"].to_list(), users, attributes)
    times = rows["timestamp" if meta["has_times"] else "order"]
    return {
        "users": indices(rows["user_id"], catalog.user_ids),
        "items": indices(rows["item_id"], catalog.item_ids),
        "labels": rows["label"].cast(pl.Int8).to_numpy(),
        "times": times.cast(pl.Int64).to_numpy(),
        "splits": rows["split"].replace_strict(CODES, return_dtype=pl.Int8).to_numpy(),
        "catalog": catalog,
    }


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
