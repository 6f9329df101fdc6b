"""What comes back: the last likes, and those that come back all the time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.runs.channels import make_channels, usable
from sasrecllm.settings import CHANNELS
from sasrecllm.types import Histories

REPEATS, HABITS = "repeats", "personal frequency"
ROWS = TrainRows(np.array([0]), np.array([0]), np.array([1], dtype=np.int8), n_users=1, n_items=30)
MILK, RICE, DISLIKED, NEVER = 0, 28, 1, 29


def shopper(baskets=4):
    """Milk and five other things in every basket; rice, once, is the last thing of all."""
    items, labels = [], []
    for basket in range(baskets):
        items += [MILK, *range(2 + 5 * basket, 7 + 5 * basket)]
    items[-1] = RICE
    items.insert(3, DISLIKED)
    labels = np.where(np.array(items) == DISLIKED, 0, 1).astype(np.int8)
    n = len(items)
    offsets = np.array([0, n])
    return Histories(np.array([0]), np.array(items), labels, np.arange(n), offsets, np.array([n]))


def scores(name):
    (channel,) = make_channels([name], None, ROWS)
    assert channel.name == name
    return channel.scores(shopper())[0]


def test_habits_stand_before_the_last_thing_and_repeats_are_led_by_it():
    assert scores(REPEATS).argmax() == RICE
    habits = scores(HABITS)
    assert habits.argmax() == MILK and habits[MILK] == pytest.approx(4, rel=0.1)
    assert habits[RICE] == 1 and habits[2] == pytest.approx(1, rel=0.2)
    assert habits[DISLIKED] == habits[NEVER] == 0


@pytest.mark.parametrize("allowed", [True, False])
def test_both_fill_lists_only_where_what_was_met_may_be_served(allowed):
    data = SimpleNamespace(
        has_times=True, allow_seen=allowed, n_users=1, users=np.array([0]), labels=np.array([1]),
        catalog=SimpleNamespace(attributes={}),
    )  # fmt: skip
    names, _ = usable(CHANNELS, SimpleNamespace(dataset=data, item_vectors=None))
    assert (REPEATS in names, HABITS in names) == (allowed, allowed) and "popularity" in names
