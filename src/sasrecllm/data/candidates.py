"""Candidate lists for ranking: one liked item against fixed seeded others, or all others.

Shape legend: B questions, C candidates, column 0 the liked item.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.negatives import unseen_items
from sasrecllm.data.splits import NAMES
from sasrecllm.errors import ConfigError
from sasrecllm.types import UNKNOWN, Histories, IntArray


class Candidates(NamedTuple):
    """What ``evaluate_ranking`` takes, and the rows that the lists belong to."""

    histories: Histories  # [B]
    items: IntArray  # [B, C], column 0 the liked item; UNKNOWN fills the short rows of a catalogue
    rows: IntArray  # [B] row of the data set


def ranking_candidates(
    dataset: Dataset, split: str, *, negatives: int | None = 100, seed: int = 0
) -> Candidates:
    """A list for every liked row of ``split``, in row order.

    The others are different from one another and stand nowhere in the user's list, before the
    question or after.  They depend on the data, the split, ``negatives`` and ``seed`` alone: every
    model, every run and every training seed is asked the same lists.  For the test they come from
    the whole catalogue, held-out items included; for validation held-out items are left out.

    Args:
        negatives: drawn items per list, each equally likely; None for every item that the user
            never met, ascending.  Such lists differ in length, and UNKNOWN fills the shorter ones;
            memory is 8 bytes times B times the size of the catalogue.
        seed: of the draws; not that of the run, or its models were asked other lists.

    Raises:
        ConfigError: an unknown split, or ``negatives`` below 1.
        DataError: a user's list leaves too few items to draw from.
    """
    if negatives is not None and negatives < 1:
        raise ConfigError(
            f"ranking was asked for {negatives} negatives; allowed: 1 or more", "ask for 100"
        )
    rows = dataset.rows(split)
    rows = rows[dataset.labels[rows] == 1]
    users = dataset.users[rows]
    if negatives is None:
        others = _never_met(dataset, users, dataset.pool(split))
    else:
        rng = np.random.default_rng([seed, NAMES[split], 17])
        pool = dataset.pool(split)
        others = unseen_items(
            dataset.users, dataset.items, users, pool, negatives, rng, dataset.catalog
        )
    items = np.concatenate([dataset.items[rows][:, None], others], axis=1)
    return Candidates(dataset.histories(rows), items, rows)


def fewest_others(dataset: Dataset, split: str) -> int:
    """How many items the user who met the most leaves to draw from: no list can be longer."""
    users = np.unique(dataset.users[dataset.rows(split)])
    theirs = np.isin(dataset.users, users) & np.isin(dataset.items, dataset.pool(split))
    pairs = np.unique(dataset.users[theirs] * dataset.n_items + dataset.items[theirs])
    met = np.bincount(pairs // dataset.n_items)
    return len(dataset.pool(split)) - int(met.max(initial=0))


def _never_met(dataset: Dataset, users: IntArray, pool: IntArray) -> IntArray:
    """Items of ``pool`` that each of ``users`` [B] never met, ascending, UNKNOWN behind the last."""
    asked, place = np.unique(users, return_inverse=True)
    taken = np.ones((len(asked), dataset.n_items), dtype=bool)
    taken[:, pool] = False
    theirs = np.isin(dataset.users, asked)
    taken[np.searchsorted(asked, dataset.users[theirs]), dataset.items[theirs]] = True
    free = dataset.n_items - taken.sum(axis=1)
    order = np.argsort(taken, axis=1, kind="stable")[:, : int(free.max(initial=0))]
    lists = np.where(np.arange(order.shape[1]) < free[:, None], order, UNKNOWN)
    return np.asarray(lists[place], dtype=np.int64)
