"""Which items could be had when a like of a new item happened."""

from types import SimpleNamespace

import numpy as np

from sasrecllm.stages.list_parts import met_by_others, servable
from sasrecllm.types import Histories

# Validation: user 0 meets items 3 and 4, user 1 meets 3 twice; nobody meets 5.  Trained: 0, 1, 2.
DATA = SimpleNamespace(
    users=np.array([0, 0, 1, 1]),
    items=np.array([3, 4, 3, 3]),
    n_users=3,
    n_items=6,
    allow_seen=False,
    rows=lambda split: {"valid": np.arange(4)}[split],
)
TRAINED = np.array([True, True, True, False, False, False])


def asked(users, met):
    items = np.array([i for row in met for i in row], dtype=np.int64)
    return Histories(
        np.array(users), items, np.ones(len(items), dtype=np.int8), np.arange(len(items)),
        np.cumsum([0, *map(len, met)]), np.full(len(users), 99),
    )  # fmt: skip


def test_a_new_item_competes_where_another_user_met_it_and_not_by_ones_own_like():
    there = met_by_others(DATA, servable(DATA), TRAINED)(asked([0, 1, 2, -1], [[0], [], [], []]))
    assert there.tolist() == [
        [False, True, True, True, False, False],  # 4 is his own alone, and 0 he has met
        [True, True, True, True, True, False],  # 3 another met too, however often he did
        [True, True, True, True, True, False],
        [True, True, True, True, True, False],
    ]


def test_what_was_met_may_be_served_where_things_repeat():
    one = asked([0], [[1, -1, 9]])
    assert servable(DATA)(one).tolist() == [[True, False, True, True, True, True]]
    assert servable(DATA, TRAINED)(one).tolist() == [[True, False, True, False, False, False]]
    again = SimpleNamespace(**(vars(DATA) | {"allow_seen": True}))
    assert servable(again)(one).all()
