"""From a source's tables to a data set: check, order, label, index, split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.holdout import check_share, hold_out
from sasrecllm.data.ingest.feedback import (
    Feedback,
    feedback_of,
    label_warnings,
    labels_of,
    threshold_warnings,
)
from sasrecllm.data.ingest.quality import WARNING, set_aside, warnings_of
from sasrecllm.data.ingest.repeated_rows import Repeats, policy_of, repeat_key, settle
from sasrecllm.data.ingest.validation import OnBadRows, validate
from sasrecllm.data.interactions import ROW, Tables, order_of, ordered, shared_places
from sasrecllm.data.log_facts import Bar, LogFacts, histogram
from sasrecllm.data.splits import DROPPED, NAMES, TRAIN, OrderedRows, split_rows
from sasrecllm.data.storage import indices
from sasrecllm.errors import ConfigError
from sasrecllm.types import LabelArray

Seen = Literal["auto", "exclude", "allow"]

OFTEN = 0.2
"""Share of the training rows on items met before from which on ``auto`` allows such items."""


def prepare(
    tables: Tables,
    *,
    feedback: Feedback = "auto",
    threshold: float = 4.0,
    split: str = "auto",
    split_args: Mapping[str, Any] | None = None,
    repeats: Repeats = "auto",
    negatives: int = 4,
    seen: Seen = "auto",
    cold_items: float = 0.0,
    cold_users: float = 0.0,
    seed: int = 0,
    on_bad_rows: OnBadRows = "refuse",
    quarantine_path: Path | None = None,
) -> Dataset:
    """The data set of a source.

    The order of the files' rows matters where it is the order of the histories: without times and an
    order column, and among rows of one user and second.

    Args:
        tables: what a source handed over.
        feedback: which column says liked; ``auto`` takes label, else rating, else implicit.
        threshold: a rating of this or more is a like.
        split: rule of :mod:`sasrecllm.data.splits`; ``auto`` takes the source's own rule, else the
            split column, else global time, else leave-one-out.
        split_args: arguments of the rule.
        repeats: what rows of one user, item and moment are: ``keep`` all, ``first`` or ``last`` of the
            file stays, or ``refuse``; ``auto`` keeps events and labels, and the last of ratings.
        negatives: sampled negatives per positive, for implicit feedback.
        seen: whether what a user has met may be recommended again, ``exclude`` or ``allow``; ``auto``
            allows it where a fifth of the training rows are on items met before.
        cold_items: share of the items that training and validation never see, 0 to 0.5
            (:mod:`sasrecllm.data.holdout`).
        cold_users: share of the users whose rows are only asked about in the test, 0 to 0.5.
        seed: of the sampled negatives and of the held-out items and users.
        on_bad_rows: ``refuse`` them, or ``quarantine`` them in ``quarantine_path``.
        quarantine_path: JSON Lines file for refused rows and their reasons.

    Raises:
        DataError: the data is invalid, unordered, or leaves a split empty.
        ConfigError: an argument is wrong.
        ResourceError: the refused rows cannot be written.
    """
    _check_arguments(threshold, negatives, seed)
    check_share("cold_items", cold_items)
    check_share("cold_users", cold_users)
    file, columns = tables.files[0], tables.interactions.columns
    kind = feedback_of(feedback, columns, file)
    policy = policy_of(repeats, kind)
    checked, refused = validate(
        tables, on_bad_rows=on_bad_rows, quarantine_path=quarantine_path, repeats=policy
    )
    del tables  # the raw columns' memory is free from here, where the caller holds none either
    moments = bool(repeat_key(checked))
    checked, repeated = settle(checked, policy)
    said: list[str] = []
    bars: tuple[Bar, ...] = ()
    if kind == "ratings":
        ratings = checked.interactions["rating"].to_numpy()
        said, bars = threshold_warnings(ratings, threshold, file), histogram(ratings)
    frame = ordered(checked).with_columns(labels_of(kind, threshold))
    if kind == "labels":
        said = label_warnings(frame["label"].to_numpy(), file)
    rule = _rule(split, checked, frame)
    codes = split_rows(_ordered_rows(frame), rule, split_args or {})
    kept = frame.with_columns(pl.Series("__code", codes)).filter(pl.col("__code") != DROPPED)
    catalog = _catalog(kept, checked.items)
    users = indices(kept["user_id"], catalog.user_ids)
    items = indices(kept["item_id"], catalog.item_ids)
    held = hold_out(
        users, items, kept["__code"].cast(pl.Int8).to_numpy(),
        cold_items=cold_items, cold_users=cold_users, seed=seed,
    )  # fmt: skip
    kept = kept.with_columns(pl.Series("__code", held.splits))
    remarks = [f"{refused:,} bad rows were set aside in {quarantine_path}"] if refused else []
    remarks += [f"{repeated:,} rows {_repeats_note(policy)} (data.repeats)"] if repeated else []
    if repeats not in ("auto", "keep") and not moments:
        remarks.append(
            f"data.repeats={repeats} has no effect: without times or an order no rows are of one moment"
        )
    ties = _ties(kept, order_of(checked))
    remarks += _notes(kept, rule, frame.height - kept.height, checked, ties)
    cut = threshold if kind == "ratings" else None
    dataset = Dataset(
        users=users,
        items=items,
        labels=kept["label"].to_numpy(),
        times=_times(kept).to_numpy(),
        splits=held.splits,
        catalog=catalog,
        name=checked.name,
        words=dict(checked.words),
        has_times="timestamp" in kept.columns,
        implicit=kind == "implicit",
        negatives=negatives,
        seed=seed,
        held_items=held.items,
        held_users=held.users,
        log=LogFacts(kind, rule, cut, bars, repeated, max(ties), order_of(checked)),
    )
    dataset = _with_seen(dataset, seen, remarks)
    remarks += set_aside(dataset)
    said += warnings_of(dataset, split_args or {})
    notes = (*checked.notes, *remarks, *held.notes, *(WARNING + text for text in said))
    return replace(dataset, notes=notes)


def _repeats_note(policy: Repeats) -> str:
    what = "repeat the user, item and moment of another row"
    return f"{what} and count like any" if policy == "keep" else f"{what}, whose {policy} alone stays"


def _with_seen(dataset: Dataset, seen: Seen, remarks: list[str]) -> Dataset:
    """The data set told whether items met before may be recommended; adds a note to ``remarks``."""
    again = dataset.met_before[dataset.splits == TRAIN]
    share = float(again.mean()) if len(again) else 0.0
    allow = seen == "allow" or (seen == "auto" and share >= OFTEN)
    if again.any():
        what = "may be recommended again" if allow else "are not recommended again"
        remarks.append(
            f"{again.sum():,} of {len(again):,} training rows are on items that their user had met"
            f" before: such items {what} (recommend.seen={'allow' if allow else 'exclude'})"
        )
    return replace(dataset, allow_seen=allow)


def _check_arguments(threshold: float, negatives: int, seed: int) -> None:
    checks = [
        ("threshold", threshold, "a finite number", math.isfinite(threshold)),
        ("negatives", negatives, "1 or more", negatives >= 1),
        ("seed", seed, "0 or more", seed >= 0),
    ]
    for name, value, allowed, fine in checks:
        if not fine:
            raise ConfigError(f"{name} is {value}; allowed: {allowed}", f"correct {name}")


def _rule(split: str, tables: Tables, frame: pl.DataFrame) -> str:
    if split != "auto":
        return split
    if tables.split:
        return tables.split
    if "split" in frame.columns:
        return "given"
    return "global-time" if "timestamp" in frame.columns else "leave-one-out"


def _times(frame: pl.DataFrame) -> pl.Series:
    """Unix seconds, or the position within the user where the data has only an order."""
    if "timestamp" in frame.columns:
        return frame["timestamp"]
    position = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id")
    return frame.select(position.alias("times"))["times"]


def _ordered_rows(frame: pl.DataFrame) -> OrderedRows:
    given: LabelArray | None = None
    if "split" in frame.columns:
        given = frame["split"].replace_strict(NAMES, return_dtype=pl.Int8).to_numpy()
    return OrderedRows(
        users=frame["user_id"].rle_id().cast(pl.Int64).to_numpy(),
        labels=frame["label"].to_numpy(),
        times=_times(frame).to_numpy(),
        has_times="timestamp" in frame.columns,
        given=given,
        lines=frame["order" if "order" in frame.columns else ROW].to_numpy(),
    )


def _catalog(frame: pl.DataFrame, items: pl.DataFrame) -> Catalog:
    """All items of the items table, all users that have a row left, sorted by id."""
    items = items.sort("item_id")
    attributes = {c: items[c].to_list() for c in items.columns if c not in ("item_id", "title")}
    users = frame["user_id"].unique().sort().to_list()
    return Catalog(items["item_id"].to_list(), items["title"].to_list(), users, attributes)


def _ties(frame: pl.DataFrame, order: str) -> tuple[int, int]:
    """Rows that share their user and time, or their place in an order column, with another row."""
    places = shared_places(frame, "order") if order == "order" else 0
    return shared_places(frame, "timestamp"), places


def _notes(
    frame: pl.DataFrame, rule: str, dropped: int, tables: Tables, ties: tuple[int, int]
) -> list[str]:
    """What a reader of the report must know of the order and the split."""
    order = order_of(tables)
    has_order = order == "order" or (order == "time" and "order" in tables.interactions.columns)
    tie = "data's own order" if has_order else "order of the file"
    moments, places = ties
    lost = ": no timestamp or order column was found (data.order=file)" * (tables.order != "file")
    crossed = _training_after_questions(frame)
    remarks = {
        f"split {rule} leaves out {dropped:,} rows": dropped,
        f"{moments:,} rows share user and time with another row; the {tie} breaks the tie"
        " (data.order)": moments,
        f"{places:,} rows share user and order with another row; time, then the order of the file,"
        " breaks the tie (data.order)": places,
        f"{crossed:,} training rows stand after a validation or test row of their user": crossed,
        f"rows follow the order of the file{lost}": order == "file",
    }
    return [text for text, applies in remarks.items() if applies]


def _training_after_questions(frame: pl.DataFrame) -> int:
    """Training rows behind a row of the same user that is asked about (a given split may do so)."""
    asked = (pl.col("__code") > TRAIN).cast(pl.Int32).cum_max().over("user_id")
    late = frame.select(((asked == 1) & (pl.col("__code") == TRAIN)).sum())
    return int(np.asarray(late.item()))
