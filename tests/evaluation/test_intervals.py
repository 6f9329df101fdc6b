"""User bootstrap: as wide as the truth asks for, the same for all rows of a table, fast, defined."""

import time

import numpy as np
import pytest

from sasrecllm.evaluation.intervals import UserBootstrap, interval


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Rows of a user share an effect: an interval over rows would cover far less than 95 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for world in range(200):
        effect = rng.normal(size=40)
        users = np.repeat(np.arange(40), 10)
        values = effect[users] + rng.normal(size=400)
        draws = UserBootstrap(users, 300, seed=world).row_mean(values)
        low, high = interval(values.mean(), draws).to_list()[1:]
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_one_seed_one_answer_and_another_seed_another():
    users, scores = np.arange(50) % 9, np.random.default_rng(0).normal(size=50)
    labels = (scores + np.random.default_rng(1).normal(size=50) > 0).astype(np.int8)
    one, same = (UserBootstrap(users, 50, seed=4).auc(scores, labels) for _ in range(2))
    assert (one == same).all()
    assert (UserBootstrap(users, 50, seed=5).auc(scores, labels) != one).any()


def test_numbers_of_users_do_not_matter():
    rng = np.random.default_rng(0)
    users, scores = rng.integers(0, 9, 60), rng.normal(size=60)
    labels = rng.integers(0, 2, 60).astype(np.int8)
    for metric in ("auc", "uauc"):
        a = getattr(UserBootstrap(users, 40), metric)(scores, labels)
        b = getattr(UserBootstrap(users * 1000 + 7, 40), metric)(scores, labels)
        np.testing.assert_array_equal(a, b)


def test_undefined_resamples_are_left_out_and_nothing_is_none():
    # One user likes everything, the other nothing: half of the resamples see one label only.
    boot = UserBootstrap(np.array([0, 0, 1, 1]), 400)
    draws = boot.auc(np.array([3.0, 4, 1, 2]), np.array([1, 1, 0, 0], dtype=np.int8))
    assert 0.3 < np.isnan(draws).mean() < 0.7 and interval(1.0, draws).to_list() == [1.0, 1.0, 1.0]
    assert np.isnan(boot.uauc(np.arange(4.0), np.array([1, 1, 0, 0], dtype=np.int8))).all()
    nothing = np.array([], dtype=np.int64)
    empty = UserBootstrap(nothing, 10).auc(nothing.astype(float), nothing.astype(np.int8))
    assert interval(None, empty).to_list() == [None, None, None]


def test_of_a_single_user_there_is_no_interval():
    """Resampling one user gives the same rows again: a width of 0 would make everything sure."""
    boot = UserBootstrap(np.zeros(6, dtype=np.int64), 50)
    scores, labels = np.arange(6.0), np.array([0, 1, 0, 1, 0, 1], dtype=np.int8)
    for draws in (boot.auc(scores, labels), boot.uauc(scores, labels), boot.row_mean(scores)):
        assert interval(0.5, draws).to_list() == [0.5, None, None]


@pytest.mark.soak
@pytest.mark.parametrize("ties", [False, True])
def test_ten_rows_of_a_table_the_size_of_ml_1m_take_seconds(ties):
    rng = np.random.default_rng(0)
    users, labels = rng.integers(0, 320, 7331), rng.integers(0, 2, 7331).astype(np.int8)
    boot = UserBootstrap(users, 1000)
    started = time.process_time()
    for _ in range(10):
        scores = rng.normal(size=7331)
        boot.auc(np.round(scores, 1) if ties else scores, labels)
        boot.uauc(scores, labels)
    assert time.process_time() - started < 10
