"""Metrics of served lists against answers worked out by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sasrecllm.errors import ConfigError, DivergedError
from sasrecllm.evaluation.intervals import UserBootstrap
from sasrecllm.evaluation.list_metrics import (
    ServedLists,
    catalogue_ranks,
    distinct_items,
    diversity,
    judge_lists,
    mean_interval,
    most_frequent_list,
    novelty,
    popularity_bias,
    shown_new,
)

LISTS = np.array([[0, 1, 2], [1, 0, 2], [3, 4, -1], [-1, -1, -1]])
LIKES = np.array([7.0, 3.0, 1.0, 0.0, 0.0])
NO_LIST = np.zeros((0, 3), dtype=np.int64)


def test_a_rank_counts_what_could_be_served_and_ties_half():
    scores = np.array([[5.0, 4.0, 4.0, 3.0], [1.0, 1.0, 1.0, 1.0], [9.0, 8.0, 7.0, 0.0]])
    free = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]], dtype=bool)
    ranks = catalogue_ranks(scores, np.array([2, 0, 3]), free)
    # One better and one equal; three equal; two better, and the item met before does not count.
    assert ranks.tolist() == [2.5, 2.5, 3.0]


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(DivergedError, match="1 of 2 scores are NaN"):
        catalogue_ranks(np.array([[np.nan, 1.0]]), np.array([1]), np.ones((1, 2), dtype=bool))


def test_distinct_items_are_the_mean_over_all_samples_of_lists():
    rng = np.random.default_rng(2)
    lists = np.stack([rng.permutation(9)[:3] for _ in range(7)])
    lists[3, 2] = -1
    for drawn in (1, 3, 7):
        each = [len(np.unique(rows[rows >= 0])) for rows in map(lists.__getitem__, _choices(7, drawn))]
        assert distinct_items(lists, of=drawn) == pytest.approx(np.mean(each))
    assert distinct_items(lists, of=200) == pytest.approx(len(np.unique(lists[lists >= 0])))
    assert distinct_items(NO_LIST) is None
    assert distinct_items(np.full((2, 3), -1)) == 0


def _choices(n, k):
    return [np.array(c) for c in combinations(range(n), k)]


def test_the_most_frequent_list_has_no_order():
    assert most_frequent_list(LISTS) == 2 / 4
    assert most_frequent_list(np.array([[0, 1], [1, 2], [2, 0]])) == pytest.approx(1 / 3)
    assert most_frequent_list(NO_LIST) is None


def test_novelty_in_bits_of_smoothed_popularity():
    bits = -np.log2(np.array([8, 4, 2, 1, 1]) / 16)  # 11 likes and one more for each of 5 items
    assert bits.tolist() == [1, 2, 3, 4, 4]
    got = novelty(LISTS, LIKES)
    assert got[:3] == pytest.approx([2, 2, 4]) and np.isnan(got[3])


def test_diversity_is_one_minus_the_mean_cosine_of_pairs():
    vectors = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    got = diversity(LISTS, vectors)
    # Cosines of the first list: 0, 1 and 0; item 3 has no vector and is like no other.
    assert got[:3] == pytest.approx([2 / 3, 2 / 3, 1.0]) and np.isnan(got[3])
    assert np.isnan(diversity(np.array([[1, -1]]), vectors)[0])
    assert diversity(np.array([[0, 2]]), vectors)[0] == pytest.approx(0)


def test_new_items_are_those_without_a_training_row():
    got = shown_new(np.array([[0, 3, 4], [0, 3, -1], [-1, -1, -1]]), LIKES > 0)
    assert got[:2] == pytest.approx([2 / 3, 1 / 2]) and np.isnan(got[2])


def test_popularity_bias_by_thirds_of_taste():
    # Users 0 to 2 like items of popularity 1, 3 and 7; everybody is shown item 0 (7) and item 1 (3).
    lists = np.tile([0, 1], (4, 1))
    owners, liked = np.array([2, 0, 1, 1]), np.array([0, 2, 1, 99])
    niche, between, mainstream = popularity_bias(lists, owners, liked, LIKES)
    assert niche == ("niche", 1, 1.0, 5.0, pytest.approx(4.0))
    assert between == ("between", 1, 3.0, 5.0, pytest.approx(2 / 3))
    assert mainstream == ("mainstream", 1, 7.0, 5.0, pytest.approx(-2 / 7))
    nobody = np.array([], dtype=np.int64)
    assert popularity_bias(lists, nobody, nobody, LIKES) == []
    unliked = popularity_bias(lists[:1], np.array([0]), np.array([3]), LIKES)
    assert unliked[0].lift is None and unliked[0].lists == 5.0


def test_the_table_of_a_row_has_intervals_where_it_is_a_mean_over_users():
    ranks = np.array([1.0, 4.0, 2.0, 9.0])
    served = ServedLists(LISTS, np.array([0, 4, 3, 1]), ranks, np.array([0, 1]), np.array([0, 1]))
    boot = UserBootstrap(np.arange(4), 200, seed=1)
    got = judge_lists(served, LIKES, boot, vectors_ID=np.eye(5))
    assert got["hr@3"][0] == 0.5 and got["lists"] == 4 and got["distinct items"] == 5
    assert got["ndcg@3"][0] == pytest.approx((1 + 1 / np.log2(3)) / 4)
    assert got["mrr"][0] == pytest.approx((1 + 1 / 4 + 1 / 2 + 1 / 9) / 4)
    assert got["novelty"][0] == pytest.approx(8 / 3)  # the user with an empty list has none
    assert got["new items shown"][0] == pytest.approx(1 / 3)
    assert got["new items liked"][0] == 0.5
    assert got["diversity"][0] == pytest.approx(1.0)
    assert [group["group"] for group in got["popularity bias"]] == ["niche", "between"]
    for name in ("hr@3", "ndcg@3", "mrr", "novelty", "new items shown", "new items liked"):
        value, low, high = got[name]
        assert low <= value <= high and low < high
    assert "diversity" not in judge_lists(served, LIKES, boot)


def test_a_mean_over_nobody_is_none():
    boot = UserBootstrap(np.arange(2), 10)
    assert mean_interval(np.full(2, np.nan), boot) == [None, None, None]
    value, low, high = mean_interval(np.array([3.0, np.nan]), boot)
    assert value == low == high == 3.0  # resamples in which nobody has a value are left out


def test_lists_likes_and_ranks_belong_together():
    with pytest.raises(ConfigError, match="4 lists, 1 held-out likes and 4 ranks"):
        ServedLists(LISTS, np.array([0]), np.ones(4), np.array([0]), np.array([0]))
