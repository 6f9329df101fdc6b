"""Slices by cause, row by row, on a world small enough to write down."""

import numpy as np

from sasrecllm.evaluation.slices import is_member, slices_by_cause
from sasrecllm.types import UNKNOWN, Histories, Questions

# user, item, likes and dislikes in the history
ROWS = [
    (0, 0, 0, 9),  # known user and item; dislikes are no likes
    (1, 0, 1, 0),  # new user
    (0, 1, 4, 0),  # new item
    (1, 1, 5, 0),  # both
    (UNKNOWN, 2, 9, 0),  # a user without an index is new
    (0, UNKNOWN, 10, 0),  # an item outside the catalogue is new
    (99, 99, 30, 2),  # so are indices beyond the tables
]


def sliced():
    labels = [[1] * likes + [0] * dislikes for _, _, likes, dislikes in ROWS]
    flat = np.array([x for row in labels for x in row], dtype=np.int8)
    n = len(ROWS)
    histories = Histories(
        np.array([r[0] for r in ROWS]), np.zeros(len(flat), dtype=np.int64), flat,
        np.zeros(len(flat), dtype=np.int64), np.cumsum([0] + [len(x) for x in labels]), np.ones(n),
    )  # fmt: skip
    asked = Questions(histories, np.array([r[1] for r in ROWS]), np.ones(n), np.arange(n))
    masks = slices_by_cause(
        asked,
        seen_users=np.array([True, False]),
        seen_items=np.array([True, False, True]),
        train_counts=np.array([20, 0, 4]),
    )
    return {name: list(np.flatnonzero(mask)) for name, mask in masks.items()}


def test_every_row_stands_in_the_slices_of_its_causes():
    assert sliced() == {
        "overall": [0, 1, 2, 3, 4, 5, 6],
        "warm (user and item in train)": [0],
        "cold (user or item not in train)": [1, 2, 3, 4, 5, 6],
        "new user": [1, 4],
        "new item": [2, 5],
        "new user and new item": [3, 6],
        "any new item": [2, 3, 5, 6],
        "no liked history": [0],
        "1-4 liked": [1, 2],
        "5-9 liked": [3, 4],
        "10 or more liked": [5, 6],
        "item in 1-4 train rows": [4],
        "item in 5-19 train rows": [],
        "item in 20 or more train rows": [0, 1],
    }


def test_an_empty_table_knows_nobody():
    assert not is_member(np.array([UNKNOWN, 0, 5]), np.array([], dtype=bool)).any()
