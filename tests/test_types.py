"""What flows between the rooms: histories as ragged rows."""

import numpy as np

from sasrecllm.types import UNKNOWN, Histories, each_once, spans


def test_items_that_were_met_are_marked_in_their_own_row_and_foreign_ones_nowhere():
    items = np.array([2, 2, UNKNOWN, 0, 9])
    histories = Histories(
        np.zeros(3, dtype=np.int64), items, np.ones(5, dtype=np.int8), np.arange(5),
        np.array([0, 3, 3, 5]), np.full(3, 9),
    )  # fmt: skip
    assert histories.met(4).tolist() == [
        [False, False, True, False],
        [False] * 4,
        [True, False, False, False],
    ]


def test_spans_are_put_end_to_end():
    offsets, rows = spans(np.array([7, 2, 5, 0]), np.array([2, 0, 3, 1]))
    assert offsets.tolist() == [0, 2, 2, 5, 6]
    assert rows.tolist() == [7, 8, 5, 6, 7, 0]
    offsets, rows = spans(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert offsets.tolist() == [0] and rows.tolist() == []


def test_neighbours_that_are_alike_in_every_column_stand_for_one_another():
    users, items = np.array([3, 3, 3, 5, 3]), np.array([[1, 2], [1, 2], [1, 9], [1, 9], [1, 9]])
    first, like = each_once(users, items)
    assert first.tolist() == [0, 2, 3, 4] and like.tolist() == [0, 0, 1, 2, 3]
    assert [a.tolist() for a in each_once(users[:1], items[:1])] == [[0], [0]]
