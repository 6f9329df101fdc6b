"""The second stage: candidates in the order of the system's score, however they are asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.errors import ConfigError, DivergedError
from sasrecllm.evaluation.protocol import rank_positives
from sasrecllm.inference import rerank
from sasrecllm.inference.rerank import TwoStage, dense_ranks
from sasrecllm.inference.retrieve import ScorerChannel
from sasrecllm.inference.wishes import Wanted
from sasrecllm.types import UNKNOWN, Histories


class Table:
    """Scores an item by a fixed table, whoever asks; never asked about UNKNOWN."""

    def __init__(self, scores):
        self.name, self.scores = "table", np.array(scores, dtype=float)
        self.asked = 0

    def score(self, histories, candidates):
        assert (candidates != UNKNOWN).all()
        self.asked += candidates.size
        return self.scores[candidates]


class Behind(Table):
    """The same where UNKNOWN may be asked about: index -1 would be the last of the table."""

    def score(self, histories, candidates):
        return self.scores[candidates]


def people(*histories):
    """Users with these items behind them, all liked."""
    items = np.array([i for h in histories for i in h], dtype=np.int64)
    ends = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    none = np.full(len(histories), -1)
    return Histories(none, items, np.ones(len(items), np.int8), np.arange(len(items)), ends, none)


def nobody(count):
    return people(*[[]] * count)


def two_stage(first, second, count, behind=None):
    items = np.arange(len(second.scores))
    return TwoStage([ScorerChannel(first, items)], second, len(items), count=count, behind=behind)


LISTS = np.array([[0, 1, 2, 3, 4], [4, 0, 1, UNKNOWN, UNKNOWN]])


def test_only_the_first_stages_best_are_asked_again_and_stay_before_the_others():
    first, second = Table([1, 5, 4, 3, 2]), Table([9, 1, 2, 8, 7])
    both = two_stage(first, second, 3, Behind([1, 5, 4, 3, 2]))
    order = np.argsort(-both.score(nobody(2), LISTS), axis=1, kind="stable")
    # First stage: 1, 2, 3 | 4, 0.  Second among the three: 3, 2, 1.
    assert LISTS[0][order[0]].tolist() == [3, 2, 1, 4, 0]
    # The list with two empty places: the three items in the second stage's order, then nothing.
    assert LISTS[1][order[1]].tolist() == [0, 4, 1, UNKNOWN, UNKNOWN]
    assert second.asked == 6
    assert both.lists(nobody(1), 3).items.tolist() == [[3, 2, 1]]
    assert both.lists(nobody(1), 5).items.tolist() == [[0, 3, 4, 2, 1]]


def test_an_empty_place_never_stands_before_an_item():
    both = two_stage(Table([5, 1, 2, 3, 0]), Table([5, 1, 2, 3, 0]), 2, Behind([5, 1, 2, 3, 99]))
    assert rank_positives(both, nobody(2), LISTS).tolist() == [1.0, 3.0]


def test_reranking_everything_is_the_second_stage_alone():
    rng = np.random.default_rng(0)
    first, second = Table(rng.normal(size=30)), Table(rng.normal(size=30))
    lists = np.stack([rng.permutation(30)[:20] for _ in range(7)])
    both = two_stage(first, second, 20)
    np.testing.assert_array_equal(
        rank_positives(both, nobody(7), lists), rank_positives(second, nobody(7), lists)
    )


@given(
    first=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    second=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    histories=st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=1, max_size=4),
    barred=st.sets(st.integers(0, 7), max_size=6),
    count=st.integers(1, 8),
    seen=st.booleans(),
)
@settings(max_examples=60)
def test_a_list_is_the_order_in_which_the_tables_judge_the_same_items(
    first, second, histories, barred, count, seen
):
    """Ties too: equal in the tables; a list shows them in the order of the catalogue."""
    both, known = two_stage(Table(first), Table(second), count, Behind(first)), people(*histories)
    allowed = np.array([i not in barred for i in range(8)])
    got = both.lists(known, 3, Wanted(allowed, seen=seen))
    free = [[i for i in range(8) if allowed[i] and (seen or i not in h)] for h in histories]
    judged = np.array([f + [UNKNOWN] * (8 - len(f)) for f in free])
    scores = both.score(known, judged)
    for b, row in enumerate(free):
        place = dict(zip(row, scores[b], strict=False))
        order = sorted(row, key=lambda i: (-place[i], i))
        named = min(len(row), max(3, count))
        best = sorted(row, key=lambda i: (-first[i], i))[: max(3, count)]
        assert len([i for i in got.items[b] if i != UNKNOWN]) == min(3, named)
        if count >= 3:
            assert [i for i in got.items[b] if i != UNKNOWN] == order[:3]
        assert set(got.items[b].tolist()) - {UNKNOWN} <= set(best)
        assert [best.index(i) + 1 for i in got.items[b] if i != UNKNOWN] == [
            r for r in got.ranks[b] if r
        ]
        assert [second[i] for i in got.items[b] if i != UNKNOWN] == [
            s for s in got.scores[b] if np.isfinite(s)
        ]


def test_without_the_second_stage_the_first_channels_order_stands_with_the_systems_scores():
    first, second = Table([1, 5, 4, 3, 2]), Table([9, 1, 2, 8, 7])
    got = two_stage(first, second, 3).lists(people([2]), 4, rerank=False)
    assert got.items.tolist() == [[1, 3, 4, 0]] and got.ranks.tolist() == [[1, 2, 3, 4]]
    assert got.scores.tolist() == [[1.0, 8.0, 7.0, 9.0]]


def test_every_channel_names_its_own_and_the_ranks_are_the_first_ones():
    one, other, second = Table([3, 2, 1, 0]), Table([0, 1, 2, 3]), Table([1, 2, 3, 4])
    items = np.arange(4)
    channels = [ScorerChannel(one, items), ScorerChannel(other, items)]
    got = TwoStage(channels, second, 4, count=1).lists(nobody(1), 1)
    assert got.items.tolist() == [[3]] and got.ranks.tolist() == [[0]]
    got = TwoStage(channels, second, 4, count=2).lists(nobody(1), 1)
    assert second.asked == 2 + 4 and got.items.tolist() == [[3]]


def test_no_user_depends_on_how_many_are_looked_at_together(monkeypatch):
    rng = np.random.default_rng(1)
    known = people(*[rng.permutation(20)[: rng.integers(0, 20)] for _ in range(9)])
    both = two_stage(Table(rng.normal(size=20)), Table(rng.normal(size=20)), 5)
    judged = np.stack([rng.permutation(20) for _ in range(9)])
    whole, scores = both.lists(known, 4), both.score(known, judged)
    monkeypatch.setattr(rerank, "AT_ONCE", 45)  # two users
    for got, wanted in zip(both.lists(known, 4), whole, strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(both.score(known, judged), scores)


def test_a_score_that_is_no_number_is_refused_and_does_not_lead_a_list():
    both = two_stage(Table([1, 2, 3]), Table([1, np.nan, 3]), 3)
    for asked in (lambda: both.lists(nobody(1), 2), lambda: both.score(nobody(1), LISTS[:1, :3])):
        with pytest.raises(DivergedError, match="NaN"):
            asked()


def test_nobody_and_nothing():
    both = two_stage(Table([1, 2, 3]), Table([1, 2, 3]), 3)
    assert both.lists(nobody(0), 2).items.shape == (0, 2)
    nothing = both.lists(nobody(1), 2, Wanted(np.zeros(3, dtype=bool)))
    assert (nothing.items == UNKNOWN).all() and (nothing.scores == -np.inf).all()


def test_equal_scores_have_the_same_rank():
    got = dense_ranks(np.array([[3.0, -np.inf, 3.0, 7.0], [0.0, 0.0, 0.0, 0.0]]))
    assert got.tolist() == [[2, 1, 2, 3], [1, 1, 1, 1]]


@settings(max_examples=60)
@given(
    scores=st.lists(st.integers(-3, 3), min_size=8, max_size=8),
    boost=st.lists(st.sampled_from([0.0, 0.0, 1.0, -2.0]), min_size=8, max_size=8),
    count=st.integers(1, 8),
    log_odds=st.sampled_from([0.5, 1.0, 4.0]),
)
def test_a_boost_is_added_to_the_score_in_its_own_units_and_reaches_behind_the_first_stage(
    scores, boost, count, log_odds
):
    boost = np.array(boost)
    table = Table(scores)
    both = TwoStage([ScorerChannel(table, np.arange(8))], table, 8, count=count, log_odds=log_odds)
    got = both.lists(nobody(1), 3, Wanted(boost_I=boost))
    named = np.zeros(8, dtype=bool)
    for some in (np.ones(8, dtype=bool), boost > 0):  # the best of all, and of what is pushed up
        order = [i for i in np.argsort(-table.scores, kind="stable") if some[i]]
        named[order[: max(3, count)]] = True
    worth = np.where(named, table.scores + log_odds * boost, -np.inf)
    assert got.items[0].tolist() == np.argsort(-worth, kind="stable")[:3].tolist()
    assert got.scores[0].tolist() == table.scores[got.items[0]].tolist(), "the score stays the score"


def test_a_mixed_list_is_chosen_among_the_first_stages_best_and_without_a_share_is_the_list_itself():
    table = Table([9, 8, 7, 6, 5, 4])
    alike = np.array(
        [[1, 1, 1, 0, 0, 0]] * 3 + [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]]
    )
    channels = [ScorerChannel(table, np.arange(6))]
    both = TwoStage(channels, table, 6, count=4, likeness=lambda items: alike[np.ix_(items, items)])
    assert both.lists(nobody(1), 3, Wanted(diversity=0.0)).items.tolist() == [[0, 1, 2]]
    assert both.lists(nobody(1), 3, Wanted(diversity=0.5)).items.tolist() == [[0, 3, 1]]
    scores = both.lists(nobody(1), 3, Wanted(diversity=0.5)).scores
    assert scores.tolist() == [[9, 6, 8]]


@pytest.mark.parametrize("wish", [Wanted(boost_I=np.ones(3)), Wanted(diversity=0.1)])
def test_the_encoders_own_order_takes_no_wish_for_another(wish):
    both = two_stage(Table([1, 2, 3]), Table([1, 2, 3]), 3)
    with pytest.raises(ConfigError, match="leave one of the two out"):
        both.lists(nobody(1), 2, wish, rerank=False)
