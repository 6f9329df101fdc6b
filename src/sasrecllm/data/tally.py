"""How many rows and likes each user and each item has in each split, counted in one walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sasrecllm.data.long_columns import blocks
from sasrecllm.data.splits import CONTEXT, NAMES
from sasrecllm.types import IntArray, LabelArray

DAY = 86_400
PARTS = 1 + len(NAMES)


@dataclass(frozen=True)
class Tally:
    """Counts of a data set; rows of the tables are splits by ``code - CONTEXT``, see :meth:`at`.

    Args:
        users: rows of each user, [4, users].
        items, likes: rows and likes of each item, [4, items].
        first, last: earliest and latest time of each split, [4]; of one without rows 2^63 - 1 and -1.
        whole_days: whether all times are of one hour of their days.
    """

    users: IntArray
    items: IntArray
    likes: IntArray
    first: IntArray
    last: IntArray
    whole_days: bool

    @staticmethod
    def at(code: int) -> int:
        """Where a split stands in the tables."""
        return code - CONTEXT

    def rows(self, code: int) -> int:
        """Rows of a split."""
        return int(self.users[self.at(code)].sum())

    def liked(self, code: int) -> int:
        """Likes of a split."""
        return int(self.likes[self.at(code)].sum())

    def n_users(self, code: int) -> int:
        """Users with a row in a split."""
        return int((self.users[self.at(code)] > 0).sum())


def tally(
    users: IntArray,
    items: IntArray,
    labels: LabelArray,
    times: IntArray,
    splits: LabelArray,
    *,
    n_users: int,
    n_items: int,
) -> Tally:
    """Count rows [N] that stand by user; columns that lie in a file are never whole in memory."""
    of_users, of_items = np.zeros((n_users, PARTS), np.int64), np.zeros((2, n_items * PARTS), np.int64)
    first, last = np.full(PARTS, np.iinfo(np.int64).max), np.full(PARTS, -1)
    whole_days = True
    for part in blocks(users, items, labels, times, splits):
        place = splits[part].astype(np.int64) - CONTEXT
        low, high = int(users[part.start]), int(users[part.stop - 1])
        counted = np.bincount((users[part] - low) * PARTS + place, minlength=(high - low + 1) * PARTS)
        of_users[low : high + 1] += counted.reshape(-1, PARTS)
        at = items[part] * PARTS + place
        of_items[0] += np.bincount(at, minlength=n_items * PARTS)
        of_items[1] += np.bincount(at[labels[part] == 1], minlength=n_items * PARTS)
        np.minimum.at(first, place, times[part])
        np.maximum.at(last, place, times[part])
        whole_days = whole_days and bool((times[part] % DAY == times[0] % DAY).all())
    rows, likes = (table.reshape(n_items, PARTS).T.copy() for table in of_items)
    return Tally(of_users.T.copy(), rows, likes, first, last, whole_days)
