"""Slices by cause: which rows are hard, and why.

"Cold" mixes causes (on ML-1M 97.9 % of the rows that the field calls cold are new *users*, most of
whom show ten or more likes when they are scored), so every cause stands alone, with its row count.
"""

from __future__ import annotations

import numpy as np

from sasrecllm.types import BoolArray, IntArray, Questions


def is_member(indices: IntArray, seen: BoolArray) -> BoolArray:
    """Whether each index was seen in training; anything outside the table was not."""
    inside = (indices >= 0) & (indices < len(seen))
    return np.append(seen, False)[np.where(inside, indices, len(seen))]


def slices_by_cause(
    questions: Questions, *, seen_users: BoolArray, seen_items: BoolArray, train_counts: IntArray
) -> dict[str, BoolArray]:
    """Name -> mask over the questions, in the order in which a report shows them.

    Args:
        seen_users, seen_items: whether the training split shows them, by index.
        train_counts: training rows of each item.
    """
    user = is_member(questions.histories.users, seen_users)
    item = is_member(questions.targets, seen_items)
    liked = np.bincount(
        questions.histories.owners[questions.histories.labels == 1], minlength=len(questions)
    )
    inside = (questions.targets >= 0) & (questions.targets < len(train_counts))
    count = np.append(train_counts, 0)[np.where(inside, questions.targets, len(train_counts))]
    return {
        "overall": np.ones(len(questions), dtype=bool),
        "warm (user and item in train)": user & item,
        "cold (user or item not in train)": ~(user & item),
        "new user": ~user & item,
        "new item": user & ~item,
        "new user and new item": ~user & ~item,
        "any new item": ~item,
        "no liked history": liked == 0,
        "1-4 liked": (liked >= 1) & (liked <= 4),
        "5-9 liked": (liked >= 5) & (liked <= 9),
        "10 or more liked": liked >= 10,
        "item in 1-4 train rows": (count >= 1) & (count <= 4),
        "item in 5-19 train rows": (count >= 5) & (count <= 19),
        "item in 20 or more train rows": count >= 20,
    }
