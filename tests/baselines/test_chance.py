"""The random row: a fixed number for each question, uniform over all of them."""

from __future__ import annotations

import numpy as np

from sasrecllm.baselines.chance import Random
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import Histories

NOTHING = np.array([], dtype=np.int64)


def scores(users, times, candidates, seed=0):
    n = len(users)
    rows = TrainRows(NOTHING, NOTHING, NOTHING.astype(np.int8), n_users=9, n_items=9, seed=seed)
    empty = Histories(
        np.array(users), NOTHING, NOTHING.astype(np.int8), NOTHING,
        np.zeros(n + 1, dtype=np.int64), np.array(times),
    )  # fmt: skip
    return Random(rows).score(empty, np.array(candidates))


def test_the_score_is_that_of_its_user_item_and_time_in_any_company():
    one = scores([3], [100], [[5, 6]])
    among = scores([1, 3, 3, 3], [100, 100, 101, 100], [[5, 6], [6, 5], [5, 6], [7, 5]])
    assert one[0].tolist() == among[1, ::-1].tolist()
    assert among[3, 1] == one[0, 0]
    others = [one[0, 1], among[0, 0], among[2, 0], among[3, 0]]  # other item, user, time, item
    assert one[0, 0] not in others and len(set(others)) == 4


def test_the_seed_draws_anew():
    assert (scores([3], [7], [[5]], seed=1) != scores([3], [7], [[5]], seed=2)).all()
    assert (scores([3], [7], [[5]], seed=1) == scores([3], [7], [[5]], seed=1)).all()


def test_the_scores_are_uniform_over_users_items_and_times():
    users, items = np.arange(200), np.tile(np.arange(200), (200, 1))
    drawn = scores(users, np.full(200, 10**9), items)
    assert drawn.min() >= 0 and drawn.max() < 1
    share = np.histogram(drawn, 10, (0, 1))[0] / drawn.size
    assert np.abs(share - 0.1).max() < 0.01  # six standard errors of 40,000 draws
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.1 and np.abs(drawn.mean(axis=1) - 0.5).max() < 0.1
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.3
