"""From a source's tables to a data set: check, order, label, index, split."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from sasrecllm.data.arranged import Arranged, arranged
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.holdout import HeldOut, check_share, hold_out
from sasrecllm.data.ingest.by_users import validate_by_users
from sasrecllm.data.ingest.feedback import (
    Feedback,
    feedback_of,
    label_warnings,
    threshold_warnings,
)
from sasrecllm.data.ingest.quality import WARNING, set_aside, warnings_of
from sasrecllm.data.ingest.repeated_rows import Repeats, policy_of, repeat_key
from sasrecllm.data.ingest.validation import OnBadRows, validate
from sasrecllm.data.interactions import Tables, order_of
from sasrecllm.data.log_facts import Bar, LogFacts, histogram
from sasrecllm.data.long_columns import scratch
from sasrecllm.data.splits import DROPPED, TRAIN, split_rows
from sasrecllm.errors import ConfigError
from sasrecllm.machine.os_errors import as_refusals

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
    _check_arguments(threshold, negatives, seed, cold_items=cold_items, cold_users=cold_users)
    file, kind = tables.files[0], feedback_of(feedback, tables)
    policy = policy_of(repeats, kind)
    with _checked(tables, on_bad_rows, quarantine_path, policy) as (checked, refused, rows, parts):
        del tables  # the raw columns' memory is free from here, where the caller holds none either
        log = arranged(checked, parts, rows, policy, kind, threshold)
    log.refuse_contradiction(checked)
    said, bars = _of_feedback(log, kind, threshold, file)
    rule = _rule(split, checked)
    codes = split_rows(log.rows, rule, split_args or {})
    dropped = int((codes == DROPPED).sum())
    log, codes = log.without_dropped(codes)
    held = hold_out(
        log.users, log.items, codes, cold_items=cold_items, cold_users=cold_users, seed=seed
    )
    ties, crossed = log.ties(order_of(checked)), log.training_after_questions(held.splits)
    cut = threshold if kind == "ratings" else None
    facts = LogFacts(kind, rule, cut, bars, log.repeated, max(ties), order_of(checked))
    dataset = replace(_dataset(checked, log, held, facts), negatives=negatives, seed=seed)
    dataset, again = _with_seen(dataset, seen)
    notes = [
        *checked.notes,
        *([f"{refused:,} bad rows were set aside in {quarantine_path}"] if refused else []),
        *_repeats_notes(repeats, policy, log.repeated, moments=bool(repeat_key(checked))),
        *_order_notes(rule, dropped, checked, ties, crossed),
        *again,
        *set_aside(dataset),
        *held.notes,
        *(WARNING + text for text in (*said, *warnings_of(dataset, split_args or {}))),
    ]
    return replace(dataset, notes=tuple(notes))


def _dataset(checked: Tables, log: Arranged, held: HeldOut, facts: LogFacts) -> Dataset:
    """The rows of a log with the catalogue, the split and what the log knew of them."""
    return Dataset(
        users=log.users,
        items=log.items,
        labels=log.labels,
        times=log.times,
        splits=held.splits,
        catalog=_catalog(log.user_ids, checked.items),
        name=checked.name,
        words=dict(checked.words),
        has_times=log.has_times,
        implicit=facts.feedback == "implicit",
        held_items=held.items,
        held_users=held.users,
        log=facts,
    )


@contextmanager
def _checked(
    tables: Tables, on_bad_rows: OnBadRows, quarantine_path: Path | None, policy: Repeats
) -> Iterator[tuple[Tables, int, int, Iterable[pl.DataFrame]]]:
    """Checked tables, how many rows were refused and how many are left, and those in parts of users."""
    about: dict[str, Any] = {
        "on_bad_rows": on_bad_rows, "quarantine_path": quarantine_path, "repeats": policy,
    }  # fmt: skip
    if tables.parts[0] is None:
        checked, refused = validate(tables, **about)
        del tables
        frames = [checked.interactions]
        checked = replace(checked, interactions=frames[0].clear())
        yield checked, refused, frames[0].height, (frames.pop() for _ in range(1))
        return
    with as_refusals(scratch()):
        apart = tempfile.TemporaryDirectory(prefix="sasrecllm-", dir=scratch())
    with apart as folder:
        checked, refused, by_users = validate_by_users(tables, tables.parts[0], Path(folder), **about)
        yield checked, refused, by_users.rows, by_users


def _of_feedback(
    log: Arranged, kind: str, threshold: float, file: str
) -> tuple[list[str], tuple[Bar, ...]]:
    """Warnings about ratings or labels, and how often each rating stands in the log."""
    if log.ratings is not None:
        said = threshold_warnings(log.ratings, threshold, file, log.counts)
        return said, histogram(log.ratings, log.counts)
    return (label_warnings(log.labels, file) if kind == "labels" else []), ()


def _repeats_notes(repeats: Repeats, policy: Repeats, repeated: int, *, moments: bool) -> list[str]:
    """What became of ``repeated`` rows of one user, item and moment; ``repeats`` is what was set."""
    notes = []
    if repeated:
        fate = " and count like any" if policy == "keep" else f", whose {policy} alone stays"
        what = "repeat the user, item and moment of another row"
        notes.append(f"{repeated:,} rows {what}{fate} (data.repeats)")
    if repeats not in ("auto", "keep") and not moments:
        notes.append(
            f"data.repeats={repeats} has no effect: without times or an order no rows are of one moment"
        )
    return notes


def _with_seen(dataset: Dataset, seen: Seen) -> tuple[Dataset, list[str]]:
    """The data set that knows whether items met before may be recommended, and what is noted of it."""
    again = dataset.met_before[dataset.splits == TRAIN]
    share = float(again.mean()) if len(again) else 0.0
    allow = seen == "allow" or (seen == "auto" and share >= OFTEN)
    notes = []
    if again.any():
        what = "may be recommended again" if allow else "are not recommended again"
        notes.append(
            f"{again.sum():,} of {len(again):,} training rows are on items that their user had met"
            f" before: such items {what} (recommend.seen={'allow' if allow else 'exclude'})"
        )
    return replace(dataset, allow_seen=allow), notes


def _check_arguments(threshold: float, negatives: int, seed: int, **shares: float) -> None:
    checks = [
        ("threshold", threshold, "a finite number", math.isfinite(threshold)),
        ("negatives", negatives, "1 or more", negatives >= 1),
        ("seed", seed, "0 or more", seed >= 0),
    ]
    for name, value, allowed, fine in checks:
        if not fine:
            raise ConfigError(f"{name} is {value}; allowed: {allowed}", f"correct {name}")
    for name, share in shares.items():
        check_share(name, share)


def _rule(split: str, tables: Tables) -> str:
    if split != "auto":
        return split
    if tables.split:
        return tables.split
    if "split" in tables.interactions.columns:
        return "given"
    return "global-time" if "timestamp" in tables.interactions.columns else "leave-one-out"


def _catalog(users: list[str], items: pl.DataFrame) -> Catalog:
    """All items of the items table, all users that have a row left, sorted by id."""
    items = items.sort("item_id")
    attributes = {c: items[c].to_list() for c in items.columns if c not in ("item_id", "title")}
    return Catalog(items["item_id"].to_list(), items["title"].to_list(), users, attributes)


def _order_notes(
    rule: str, dropped: int, tables: Tables, ties: tuple[int, int], crossed: int
) -> list[str]:
    """What a reader of the report must know of the order and the split."""
    order = order_of(tables)
    has_order = order == "order" or (order == "time" and "order" in tables.interactions.columns)
    tie = "data's own order" if has_order else "order of the file"
    moments, places = ties
    lost = ": no timestamp or order column was found (data.order=file)" * (tables.order != "file")
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
