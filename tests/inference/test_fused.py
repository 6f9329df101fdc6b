"""Lists of the fusion: P(like) where it has a weight, places for new items, one order everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.list_rerank import Rerank
from sasrecllm.fusion.new_items_in_lists import NewItems
from sasrecllm.inference.fused import FusedLists
from sasrecllm.inference.retrieve import best_of
from sasrecllm.types import UNKNOWN, Histories

USERS, ITEMS = 5, 30


class Table:
    """A channel, a scorer and a channel of candidates that knows what it says of every user."""

    def __init__(self, table, name="table"):
        self.table, self.name, self.asked = table, name, []

    def scores(self, histories):
        return self.table[histories.users]

    def score(self, histories, candidates):
        self.asked += [
            (int(u), row.tolist()) for u, row in zip(histories.users, candidates, strict=True)
        ]
        return np.take_along_axis(self.table[histories.users], candidates, axis=1)

    def best(self, histories, free_BI, count):
        return best_of(self.scores(histories), free_BI, np.arange(ITEMS), count)


def asked(met=()):
    items = np.array([i for row in met for i in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, met)]) if met else np.zeros(USERS + 1, dtype=np.int64)
    ones = np.ones(len(items), dtype=np.int8)
    return Histories(np.arange(USERS), items, ones, np.arange(len(items)), offsets, np.full(USERS, 99))


def fused(weight=0.0, best=8, explore=0, **facts):
    rng = np.random.default_rng(0)
    order, encoder, likes = rng.normal(size=(3, USERS, ITEMS))
    scorer = Table(likes, "P(like)")
    vars(scorer).update(facts)
    asks = bool(facts.get("asks_language_model"))
    rerank = Rerank("P(like)", weight, 2.0, best, 100, 0.1, 0.2, asks)
    titles = [f"word{n % 3} other{n}" for n in range(ITEMS)]
    is_new = np.arange(ITEMS) % 10 == 9
    new = NewItems.of(WordLikeness.fit(titles), is_new, ~is_new) if explore else None
    fusion = ListFusion(
        (Table(order),), ITEMS, np.ones(1), np.ones(1), new=new, explore=explore, rerank=rerank
    )
    return FusedLists(fusion, Table(encoder), scorer, count=4), fusion.scores(asked()), likes


def order_of(scores, k=10):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def test_without_a_weight_the_score_is_asked_about_what_is_listed_alone():
    lists, scores, likes = fused(asks_language_model=True)
    assert lists.reranked == lists.prompts == 0
    found = lists.lists(asked(), 10)
    np.testing.assert_array_equal(found.items, order_of(scores))
    np.testing.assert_array_equal(found.scores, np.take_along_axis(likes, found.items, axis=1))
    assert [len(row) for _, row in lists.scorer.asked] == [10] * USERS
    lists.scorer.asked.clear()
    lists.score(asked(), np.tile(np.arange(ITEMS), (USERS, 1)))
    assert not lists.scorer.asked, "and for an order it is not asked at all"


def test_with_a_weight_the_best_of_the_others_are_ordered_by_the_sum_and_no_item_is_asked_twice():
    lists, scores, likes = fused(3.0, asks_language_model=True)
    assert lists.reranked == lists.prompts == 8 and fused(3.0)[0].prompts == 0
    found = lists.lists(asked(), 10)
    best = order_of(scores, 8)
    total = np.take_along_axis(scores + 1.5 * likes, best, axis=1)
    expected = np.take_along_axis(best, np.argsort(-total, axis=1, kind="stable"), axis=1)
    np.testing.assert_array_equal(found.items[:, :8], expected)
    np.testing.assert_array_equal(found.items[:, 8:], order_of(scores)[:, 8:])
    np.testing.assert_array_equal(found.scores, np.take_along_axis(likes, found.items, axis=1))
    lists.scorer.asked.clear()
    short = lists.lists(asked(), 3)
    np.testing.assert_array_equal(short.items, expected[:, :3])
    assert [sorted(row) for _, row in lists.scorer.asked] == np.sort(best, axis=1).tolist()


@pytest.mark.parametrize("weight", [0.0, 3.0])
@pytest.mark.parametrize("explore", [0, 4])
def test_the_table_judges_the_order_that_is_served(weight, explore):
    lists, _, _ = fused(weight, explore=explore)
    met = [[], [3], [9, 19], list(range(25)), []]
    histories = asked(met)
    items = np.tile(np.arange(ITEMS), (USERS, 1))
    items[histories.owners, histories.items] = UNKNOWN
    worth = lists.score(histories, items)
    for row, listed in enumerate(lists.lists(histories, ITEMS).items):
        listed = listed[listed != UNKNOWN]
        assert len(listed) == ITEMS - len(met[row]) and not set(met[row]) & set(listed.tolist())
        order = np.argsort(-worth[row], kind="stable")[: len(listed)]
        assert items[row][order].tolist() == listed.tolist()
        short = lists.lists(histories, 5).items[row]
        assert short[short != UNKNOWN].tolist() == listed[:5].tolist()


def test_a_new_item_among_the_first_has_every_fourth_place():
    lists, _, _ = fused(explore=4)
    found = lists.lists(asked(), 28).items
    for row in (found % 10 == 9).reshape(USERS, 7, 4):
        assert row.sum() == 3
        for block in range(7):
            assert row[block].any() or not row[block:].any(), "as long as one is left it has its place"
    plain = FusedLists(
        replace(lists.fusion, explore=0), lists.channels[0], lists.scorer, count=4
    ).lists(asked(), 28)
    assert (found != plain.items).any()


def test_a_boundary_between_lists_of_different_batches_is_none():
    lists, _, _ = fused(3.0, explore=4)
    together = lists.lists(asked(), 6).items
    for user in range(USERS):
        alone = lists.lists(asked().take(np.array([user])), 6).items
        np.testing.assert_array_equal(alone[0], together[user])
