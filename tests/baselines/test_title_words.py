"""Likeness of titles and attributes, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.types import Scorer

TITLES = ["Space War", "War of Space", "Garden Tea", "Tea Time", "Nothing"]
GENRES = ["A|B", "B", None, "", "C"]


def test_cosines_by_hand(asked):
    # Shared by two of five items, all words weigh alike: space, war, tea; and genre B.
    channel = WordLikeness.fit(TITLES, {"genres": GENRES})
    assert isinstance(channel, ListChannel) and isinstance(channel, Scorer)
    got = channel.scores(asked([0], [3], [4], []))
    assert got[0] == pytest.approx([1, 1, 0, 0, 0])
    assert got[1] == pytest.approx([0, 0, 1, 1, 0])
    assert (got[2:] == 0).all()


def test_rare_words_count_more_and_the_latest_like_most(asked):
    titles = ["red apple", "red plum", "red apple", "blue plum"]
    red, apple = np.log(4 / 3), np.log(2)
    channel = WordLikeness.fit(titles)
    cosine = red * red / (np.hypot(red, apple) ** 2)
    assert channel.scores(asked([0]))[0, 1] == pytest.approx(cosine)
    one = replace(channel, half_life=1.0)
    both = one.scores(asked([3, 0]))[0]
    assert both[2] == pytest.approx((0 / 2 + 1) / 1.5)
    assert both[3] == pytest.approx((1 / 2 + 0) / 1.5)


def test_dislikes_and_foreign_items_say_nothing(asked):
    channel = WordLikeness.fit(TITLES)
    plain = channel.scores(asked([0]))
    assert channel.scores(asked([2, 0], disliked=[2])) == pytest.approx(plain)
    candidates = np.array([[1, -1, 99, 2]])
    assert channel.score(asked([0]), candidates)[0] == pytest.approx([1, 0, 0, 0])
    empty = WordLikeness.fit([])
    assert empty.scores(asked([])).shape == (1, 0)
    assert empty.score(asked([]), np.array([[0]])).tolist() == [[0.0]]


def test_new_items_have_the_weights_of_the_old_and_change_nothing_else(asked):
    titles = ["red apple", "red plum", "green apple", "blue plum"]
    genres = {"genre": ["a|b", "a", "b", "b"]}
    channel = WordLikeness.fit(titles, genres)
    longer = channel.extended(["red plum", "unheard of"], {"genre": ["a", None]})
    histories = asked([0, 1], [3])
    before, after = channel.scores(histories), longer.scores(histories)
    np.testing.assert_allclose(after[:, :4], before, atol=1e-12)  # sums of another order
    np.testing.assert_allclose(after[:, 4], before[:, 1], atol=1e-12)
    assert (after[:, 5] == 0).all()
    assert longer.scores(asked([4]))[0, 1] == pytest.approx(1.0)
