"""True cold start: a seeded share of the items, and of the users, held out of training for good.

A held-out item is a new one: it is in no training or validation question, in no history shown to
one, and no count of training rows knows it.  Only test questions ask about it, and only their
histories may show it, as they would of an item that has just come into the catalogue.  A held-out
user is a new one: no row of theirs is learnt from or validated on.  Their earlier rows still stand
before their own test rows, because that is what a new user has shown by then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sasrecllm.data.splits import CONTEXT, NAMES, TEST, TRAIN, VALID
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.seeds import COLD_ITEMS, COLD_USERS
from sasrecllm.types import BoolArray, IntArray, LabelArray

MOST = 0.5
"""Largest share that can be held out."""


class HeldOut(NamedTuple):
    """The split with the chosen items and users taken out, and what happened to the rows."""

    splits: LabelArray  # [N]
    items: IntArray  # sorted item indices
    users: IntArray  # sorted user indices
    notes: list[str]


def check_share(name: str, share: float) -> None:
    """Refuse a share outside [0, 0.5]; NaN is outside."""
    if not 0 <= share <= MOST:
        raise ConfigError(
            f"data.{name} is {share}; allowed: a share between 0 and {MOST}", f"set data.{name}=0.1"
        )


def hold_out(
    users: IntArray,
    items: IntArray,
    splits: LabelArray,
    *,
    cold_items: float,
    cold_users: float,
    seed: int,
) -> HeldOut:
    """Choose ``round(share * n)`` of the n items (users) that have a row and retire their rows.

    Training and validation rows on a held-out item or of a held-out user become CONTEXT; test rows
    stay.  A larger share holds out the same items and more.  The draws depend on seed, number of
    items and number of users alone.

    Args:
        users, items, splits: of all rows [N].

    Raises:
        ConfigError: a share is outside [0, 0.5].
        DataError: no training, validation or test row is left.
    """
    check_share("cold_items", cold_items)
    check_share("cold_users", cold_users)
    if not (cold_items or cold_users):
        nobody = np.zeros(0, dtype=np.int64)
        return HeldOut(splits.astype(np.int8), nobody, nobody, [])
    met_items, met_users = np.flatnonzero(np.bincount(items)), np.flatnonzero(np.bincount(users))
    chosen_items = _chosen(met_items, cold_items, seed, COLD_ITEMS)
    chosen_users = _chosen(met_users, cold_users, seed, COLD_USERS)
    of_item, of_user = _of(items, chosen_items), _of(users, chosen_users)
    retired = (of_item | of_user) & (splits != TEST)
    left = np.where(retired, CONTEXT, splits).astype(np.int8)
    if len(chosen_items) or len(chosen_users):
        _refuse_empty(left)
    notes = []
    if len(chosen_items):
        notes.append(_note("items", len(chosen_items), len(met_items), of_item, splits))
    if len(chosen_users):
        notes.append(_note("users", len(chosen_users), len(met_users), of_user, splits))
    if len(notes) == 2:
        both = of_item & of_user
        notes.append(f"{int(both.sum()):,} of these rows are counted twice: item and user are held out")
    return HeldOut(left, chosen_items, chosen_users, notes)


def _of(column: IntArray, chosen: IntArray) -> BoolArray:
    """Whether each number of a column is among the chosen ones."""
    table = np.zeros(int(column.max(initial=-1)) + 1, dtype=bool)
    table[chosen] = True
    return np.asarray(table[column])


def _chosen(candidates: IntArray, share: float, seed: int, stream: int) -> IntArray:
    """The sorted first ``share`` of a seeded permutation of ``candidates``."""
    count = round(share * len(candidates))
    return np.sort(np.random.default_rng([seed, stream]).permutation(candidates)[:count])


def _note(what: str, chosen: int, candidates: int, held: BoolArray, splits: LabelArray) -> str:
    train, valid, test = (int((held & (splits == code)).sum()) for code in (TRAIN, VALID, TEST))
    return (
        f"{chosen:,} of {candidates:,} {what} are held out: {train:,} training and {valid:,} validation"
        f" rows are left to the histories of test rows; {test:,} test rows ask about held-out {what}"
    )


def _refuse_empty(splits: LabelArray) -> None:
    counts = {name: int((splits == code).sum()) for name, code in NAMES.items()}
    if min(counts.values()) == 0:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise DataError(
            f"data.cold_items and data.cold_users leave a part without rows: {listed}",
            "hold out a smaller share",
        )
