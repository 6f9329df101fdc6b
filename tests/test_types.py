"""What flows between the rooms: histories as ragged rows."""

import numpy as np

from sasrecllm.types import UNKNOWN, Histories


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
