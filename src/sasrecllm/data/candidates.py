"""What lists are made of: the items that may be served, and one liked item against seeded others.

Shape legend: B questions, C candidates, column 0 the liked item, I items of the catalogue.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.negatives import Unmet
from sasrecllm.data.splits import NAMES
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.seeds import RANKING_LISTS
from sasrecllm.types import UNKNOWN, BoolArray, Free, Histories, IntArray


class Candidates(NamedTuple):
    """What ``evaluate_ranking`` takes, and the rows that the lists belong to."""

    histories: Histories  # [B]
    items: IntArray  # [B, C], column 0 the liked item; UNKNOWN fills the short rows of a catalogue
    rows: IntArray  # [B] row of the data set


def ranking_candidates(
    dataset: Dataset, split: str, *, negatives: int | None = 100, seed: int = 0
) -> Candidates:
    """A list for every liked row of ``split`` that can be served, in row order.

    The others are different from one another, and none is the relevant item.  They stand nowhere in
    the user's list, before the question or after, unless the data set allows seen items
    (``allow_seen``), as its recommendations do then.  They depend on the data, the split,
    ``negatives`` and ``seed`` alone: every model, every run and every training seed is asked the same
    lists.  For the test they come from the whole catalogue, held-out items included; for validation
    held-out items are left out.

    Left out are rows whose item the user had met before where such items are never recommended, and
    rows that leave fewer than ``negatives`` others (None: not one).

    Args:
        negatives: drawn items per list, each equally likely; None for every item that may stand
            there, ascending.  Such lists differ in length, and UNKNOWN fills the shorter ones;
            memory is 8 bytes times B times the size of the catalogue.
        seed: of the draws; not that of the run, or its models were asked other lists.

    Raises:
        ConfigError: an unknown split, or ``negatives`` below 1.
        DataError: no liked row, or none that leaves enough items to draw from.
    """
    if negatives is not None and negatives < 1:
        raise ConfigError(
            f"ranking was asked for {negatives} negatives; allowed: 1 or more", "ask for 100"
        )
    rows = servable_likes(dataset, split)
    if not len(rows):
        raise DataError(
            f"no ranking list can be made: no {split} row is a like of an item that may be recommended",
            "choose a split with liked rows (data.split), or recommend.seen=allow where they repeat",
        )
    unmet, owners = dataset.others(split, rows)
    free = unmet.free[owners]
    enough = free >= (negatives or 1)
    if not enough.any():
        raise DataError(
            f"no list of 1 + {negatives or 1} items can be made for the {len(rows):,} liked rows of"
            f" {split}: they leave {int(free.max(initial=0))} items to draw from at most",
            "ask for fewer negatives",
        )
    rows, owners = rows[enough], owners[enough]
    if negatives is None:
        others = _all_others(unmet, owners)
    else:
        others = unmet.draw(
            owners, negatives, np.random.default_rng([seed, NAMES[split], RANKING_LISTS])
        )
    items = np.concatenate([dataset.items[rows][:, None], others], axis=1)
    return Candidates(dataset.histories(rows), items, rows)


def free_items(histories: Histories, allowed_I: BoolArray, *, seen: bool) -> BoolArray:
    """Whether each item may be recommended to each history, [B, I]: allowed; not met, or ``seen``."""
    if seen:
        return np.broadcast_to(allowed_I, (len(histories), len(allowed_I))).copy()
    return allowed_I & ~histories.met(len(allowed_I))


def servable_items(dataset: Dataset, among_I: BoolArray | None = None) -> Free:
    """What may be served to a history, of the items ``among_I`` (all without)."""
    allowed_I = np.ones(dataset.n_items, dtype=np.bool_) if among_I is None else among_I

    def free(histories: Histories) -> BoolArray:
        return free_items(histories, allowed_I, seen=dataset.allow_seen)

    return free


def servable_rows(dataset: Dataset, split: str) -> tuple[IntArray, int]:
    """The liked rows of ``split`` whose item may be recommended, and how many liked rows there are.

    The item of the others was met before, where such items are never recommended.
    """
    rows = dataset.rows(split)
    return servable_likes(dataset, split), int((dataset.labels[rows] == 1).sum())


def longest_lists(dataset: Dataset, split: str, wanted: int) -> int:
    """The most negatives, up to ``wanted``, that 19 of 20 liked rows of ``split`` leave to draw.

    Rows that leave none are not counted; 0 where there is no other.
    """
    unmet, owners = dataset.others(split, servable_likes(dataset, split))
    free = np.sort(unmet.free[owners])
    free = free[free > 0]
    return min(wanted, int(free[len(free) // 20])) if len(free) else 0


def servable_likes(dataset: Dataset, split: str) -> IntArray:
    """The liked rows of ``split`` whose item may be recommended."""
    rows = dataset.rows(split)
    rows = rows[dataset.labels[rows] == 1]
    kept: IntArray = rows if dataset.allow_seen else rows[~_in_history(dataset, rows)]
    return kept


def _in_history(dataset: Dataset, rows: IntArray) -> BoolArray:
    """Whether the history of each of ``rows`` holds its item."""
    before = dataset.histories(rows)
    hit = before.items == dataset.items[rows][before.owners]
    return np.asarray(np.bincount(before.owners[hit], minlength=len(rows)) > 0)


def _all_others(unmet: Unmet, owners: IntArray) -> IntArray:
    """Every item of the pool that each of ``owners`` [B] may be given, ascending, UNKNOWN behind."""
    asked, place = np.unique(owners, return_inverse=True)
    width = len(unmet.pool) + 1
    whose, where = unmet.met // width, unmet.met % width
    theirs = np.isin(whose, asked)
    taken = np.zeros((len(asked), len(unmet.pool)), dtype=bool)
    taken[np.searchsorted(asked, whose[theirs]), where[theirs]] = True
    free = unmet.free[asked]
    order = np.argsort(taken, axis=1, kind="stable")[:, : int(free.max(initial=0))]
    lists = np.where(np.arange(order.shape[1]) < free[:, None], unmet.pool[order], UNKNOWN)
    return np.asarray(lists[place], dtype=np.int64)
