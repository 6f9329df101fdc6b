"""What is odd about a data set, and what cannot be trained on: with the numbers and a way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.splits import NAMES, OrderedRows, setting_of, working_splits
from sasrecllm.data.tally import Tally
from sasrecllm.errors import ConfigError, DataError, did_you_mean
from sasrecllm.types import IntArray

WARNING = "warning: "
"""Begins a note that asks the reader to do something."""
PARTS = ("valid", "test")
FEW_USERS = 10
FEW_ROWS = 10
"""Liked rows, or others, below which AUC goes by a few of many rows."""


def warnings_of(dataset: Dataset, split_args: Mapping[str, Any]) -> list[str]:
    """What is odd about the validation and test rows, and a split under which it is not, if any."""
    found = []
    for name in PARTS:
        for odd in (_new, _few_users, *([_few_of_a_label] if name == "test" else [])):
            said, otherwise = odd(dataset, name) or ("", "")
            if said:
                remedy = split_remedy(dataset, partial(_any_part, odd), split_args)
                found.append(f"the {name} {said}: {remedy or otherwise}")
    return found


def _any_part(odd: Callable[[Dataset, str], object], dataset: Dataset) -> bool:
    return any(odd(dataset, name) for name in PARTS)


def _new(dataset: Dataset, name: str) -> tuple[str, str] | None:
    """Rows that ask about users or items which training does not show, unless on purpose."""
    if len(dataset.held_users) or len(dataset.held_items):
        return None
    counts, at = dataset.tally, Tally.at(NAMES[name])
    rows, likes = counts.rows(NAMES[name]), counts.liked(NAMES[name])
    users = int(counts.users[at][~dataset.seen_users].sum())
    items = int(counts.items[at][~dataset.seen_items].sum())
    new = int(counts.likes[at][~dataset.seen_items].sum())
    if rows and users == rows:
        what = "rows are all of users"
    elif rows and items == rows:
        what = "rows are all on items"
    elif 2 * new > likes:
        what = "likes are for more than half on items"
    else:
        return None
    return (
        f"{what} without a training row ({users:,} of {rows:,} rows are of such users,"
        f" {new:,} of {likes:,} likes are on such items)",
        "a model knows them by their histories and titles alone",
    )


def _few_users(dataset: Dataset, name: str) -> tuple[str, str] | None:
    """Rows of so few users that intervals, for which users are drawn, mean little."""
    users = dataset.tally.n_users(NAMES[name])
    if users >= FEW_USERS:
        return None
    many = "user" if users == 1 else "users"
    return f"rows are of {users} {many}, too few to tell two rows of a table apart", "give more users"


def _few_of_a_label(dataset: Dataset, name: str) -> tuple[str, str] | None:
    """Rows with none or few of one label; training and validation without one are refused."""
    counts = dataset.tally
    rows, likes = counts.rows(NAMES[name]), counts.liked(NAMES[name])
    fewer, label = min(likes, rows - likes), int(likes < rows - likes)
    if dataset.implicit or not rows or fewer >= min(FEW_ROWS, rows / FEW_ROWS):
        return None
    said = f"rows all have the label {1 - label}: AUC is undefined there"
    if fewer:
        said = f"rows have the label {label} {fewer} times of {rows:,}, too few for an AUC to go by"
    return said, "give more rows, or a later or longer test"


def set_aside(dataset: Dataset) -> list[str]:
    """How many rows of implicit feedback are no questions, since their users met too many items."""
    if not dataset.implicit:
        return []
    lost = {name: _without_negatives(dataset, name) for name in NAMES}
    users = np.unique(dataset.users[np.concatenate(list(lost.values()))])
    if not len(users):
        return []
    listed = ", ".join(f"{name} {len(rows):,}" for name, rows in lost.items())
    return [
        f"{len(users):,} users met so many items that fewer than data.negatives={dataset.negatives} are"
        f" left to draw (for example user {dataset.catalog.user_id(int(users[0]))!r}): these rows of"
        f" theirs are not asked about: {listed}"
    ]


def _without_negatives(dataset: Dataset, name: str) -> IntArray:
    """Rows of a split that leave too few items to draw."""
    longest = 1 if dataset.allow_seen else int(np.diff(dataset.starts).max(initial=0))
    if len(dataset.pool(name)) - longest >= dataset.negatives:  # the usual case, at no cost
        return np.empty(0, dtype=np.int64)
    rows = dataset.rows(name)
    unmet, owners = dataset.others(name, rows)
    return rows[unmet.free[owners] < dataset.negatives]


def refuse_untrainable(dataset: Dataset, split_args: Mapping[str, Any]) -> None:
    """Refuse before anything is built what training would refuse after it.

    Raises:
        DataError: training or validation rows have one label only, or no negatives can be drawn.
    """
    for name in NAMES:
        if dataset.implicit:
            _refuse_no_negatives(dataset, name)
        elif name != "test" and (label := _one_label(dataset, name)) is not None:
            _refuse_one_label(dataset, name, label, split_args)


def _refuse_no_negatives(dataset: Dataset, name: str) -> None:
    if len(_without_negatives(dataset, name)) < dataset.tally.rows(NAMES[name]):
        return
    rows = dataset.rows(name)
    unmet, owners = dataset.others(name, rows)
    most = int(unmet.free[owners].max(initial=0))
    what = (
        f"the {name} rows of implicit feedback need {dataset.negatives} other items each, to draw as"
        f" negatives, but of {len(unmet.pool)} items no user leaves more than {most}"
    )
    enough = min(int(u.free[o].max(initial=0)) for u, o in (
        dataset.others(n, dataset.rows(n)) for n in NAMES))  # fmt: skip
    if enough:
        raise DataError(what, f"set data.negatives={enough}")
    allowed = min(len(dataset.pool(n)) for n in NAMES) - 1
    if allowed >= 1 and not dataset.allow_seen:
        fewer = f" and data.negatives={allowed}" if allowed < dataset.negatives else ""
        raise DataError(
            what,
            f"where users choose the same items again set recommend.seen=allow{fewer}; else give"
            " the log of more users or the items that nobody chose",
        )
    raise DataError(what, "add the items that the users did not choose to the items table and the log")


def _one_label(dataset: Dataset, name: str) -> int | None:
    rows, likes = dataset.tally.rows(NAMES[name]), dataset.tally.liked(NAMES[name])
    return None if 0 < likes < rows or not rows else int(likes > 0)


def _refuse_one_label(dataset: Dataset, name: str, label: int, args: Mapping[str, Any]) -> None:
    asked = sum(map(dataset.tally.rows, NAMES.values()))
    likes = sum(map(dataset.tally.liked, NAMES.values()))
    remedy = split_remedy(
        dataset, lambda d: any(_one_label(d, n) is not None for n in ("train", "valid")), args
    )
    cuts = [n.partition("; set data.threshold=")[2] for n in dataset.notes if n.startswith(WARNING)]
    if not remedy and any(cuts):
        remedy = f"set data.threshold={''.join(cuts)}"
    elif not remedy and likes == asked:
        remedy = "set data.feedback=implicit, which takes every row for a like and draws others"
    elif not remedy and likes == 0:
        remedy = "name the column that tells likes: data.columns.label=... or data.columns.rating=..."
    raise DataError(
        f"all {dataset.tally.rows(NAMES[name]):,} {name} rows have the label {label} (of {asked:,} rows"
        f" {likes:,} are likes): "
        + ("nothing can be learnt" if name == "train" else "no AUC can choose the best state"),
        remedy
        or "give more rows, or a split column of your own (data.columns.split=...) in which"
        " training and validation have likes and others",
    )


def split_remedy(
    dataset: Dataset, wrong: Callable[[Dataset], bool], split_args: Mapping[str, Any]
) -> str:
    """The setting of a split under which the same rows are not ``wrong``; empty where there is none."""
    rows = OrderedRows(dataset.users, dataset.labels, dataset.times, dataset.has_times, None)
    for rule, codes in working_splits(rows):
        if not wrong(replace(dataset, splits=codes)):
            return f"set {setting_of(rule, split_args)}"
    return ""


def refuse_unknown_attributes(names: Sequence[str], dataset: Dataset) -> None:
    """Refuse names of attributes (``item_features.attributes``) that the items do not have.

    Raises:
        ConfigError: with those that they have.
    """
    allowed = dataset.catalog.attributes
    for name in names:
        if name not in allowed:
            left_out = [n for n in dataset.notes if "left out" in n and f" {name} (" in n]
            raise ConfigError(
                f"item_features.attributes has {name!r}; the items table has:"
                f" {', '.join(allowed) or 'no further columns'}"
                + ("; ".join(["", *left_out]) or did_you_mean(name, allowed)),
                "correct the name or leave it out; such columns stand in the file of the items"
                " (data.items_path), as text or lists of words",
            )
