"""Lists of the whole catalogue: which are asked, what is served, and what chance would hit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.errors import ConfigError, DivergedError
from sasrecllm.evaluation.served_lists import (
    Asked,
    ListTable,
    above_chance,
    serve,
    spread_over_users,
)
from sasrecllm.types import UNKNOWN, Histories

N_ITEMS = 14


def histories(*items):
    flat = np.concatenate([np.array(i, dtype=np.int64) for i in items])
    offsets = np.concatenate([[0], np.cumsum([len(i) for i in items])])
    ones = np.ones(len(flat), dtype=np.int8)
    return Histories(np.arange(len(items)), flat, ones, flat * 0, offsets, np.zeros(len(items)))


def unmet(known):
    free = np.ones((len(known), N_ITEMS), dtype=bool)
    free[known.owners, known.items] = False
    return free


class Fixed:
    """Scores of the catalogue, whoever asks."""

    def __init__(self, scores, name="fixed"):
        self.scores, self.name = np.asarray(scores, dtype=float), name

    def score(self, histories, candidates):
        return np.where(candidates == UNKNOWN, 99.0, self.scores[candidates])


ASKED = Asked(histories([0, 1], [], [13]), np.array([2, 13, 0]), unmet)
EARLY = -np.arange(N_ITEMS)


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 9))
def test_every_user_comes_once_before_anybody_comes_twice(users, seed):
    users = np.array(users, dtype=np.int64)
    everything = spread_over_users(users, 100, np.random.default_rng(seed))
    assert sorted(everything) == list(range(len(users)))
    turns = [list(users[everything[:n]]).count(users[row]) for n, row in enumerate(everything)]
    assert turns == sorted(turns)
    for most in (0, 1, 5):
        fewer = spread_over_users(users, most, np.random.default_rng(seed))
        assert list(fewer) == list(everything[:most])


def test_lists_hold_what_may_be_served_best_first_and_ties_in_the_order_of_the_catalogue():
    got = serve(Fixed(EARLY), ASKED, N_ITEMS)
    assert got.lists.tolist() == [list(range(2, 12)), list(range(10)), list(range(10))]
    assert got.ranks.tolist() == [1, 14, 1] and got.free.tolist() == [12, 14, 13]
    tied = serve(Fixed(np.zeros(N_ITEMS)), ASKED, N_ITEMS)
    assert tied.lists.tolist() == got.lists.tolist()
    assert tied.ranks.tolist() == [1 + 11 / 2, 1 + 13 / 2, 1 + 12 / 2]


def test_a_short_catalogue_leaves_places_empty():
    asked = Asked(histories(range(5, 14)), np.array([0]), unmet)
    assert serve(Fixed(EARLY), asked, N_ITEMS).lists.tolist() == [[0, 1, 2, 3, 4] + [UNKNOWN] * 5]


def test_what_is_no_score_is_refused():
    with pytest.raises(DivergedError):
        serve(Fixed(np.full(N_ITEMS, np.nan)), ASKED, N_ITEMS)
    wrong = Fixed(EARLY)
    wrong.score = lambda known, asked: np.zeros(3)
    with pytest.raises(ConfigError, match="gave shape"):
        serve(wrong, ASKED, N_ITEMS)


def test_rows_are_compared_on_the_lists_that_both_have():
    likes = np.arange(N_ITEMS, dtype=float)
    table = ListTable(ASKED, likes, vectors_ID=np.eye(N_ITEMS), resamples=100)
    early = table.add(Fixed(EARLY, "early"))
    late = table.add(Fixed(-EARLY, "late"), most=2)
    assert early["hr@10"][0] == pytest.approx(2 / 3) and early["lists"] == early["users"] == 3
    assert early["chance"] == pytest.approx((10 / 12 + 10 / 14 + 10 / 13) / 3)
    assert late["hr@10"][0] == 0.5 and late["lists"] == 2  # 13 is found, 2 is not
    assert table.difference("early", "late")["hr@10"][0] == 0.0
    assert table.difference("early", "early")["ndcg@10"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("hits", "lists", "chance", "above"),
    [(0, 50, 0.002, False), (3, 50, 0.002, True), (5, 50, 0.1, False), (12, 50, 0.1, True),
     (1, 1000, 0.001, False), (700, 1000, 0.69, False), (0, 0, None, False)],
)  # fmt: skip
def test_hits_are_held_against_random_lists(hits, lists, chance, above):
    value = hits / lists if lists else None
    found = {"hr@10": [value, None, None], "lists": lists, "chance": chance}
    assert above_chance(found) is above
