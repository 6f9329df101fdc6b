"""Likeness of vectors, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.vectors import VectorLikeness
from sasrecllm.fusion.list_fusion import knows_new_items
from sasrecllm.types import Scorer

HALF = 0.5**0.5
VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [HALF, HALF], [0.0, 0.0]])


def test_cosines_by_hand(asked):
    channel = VectorLikeness(VECTORS)
    assert isinstance(channel, ListChannel) and isinstance(channel, Scorer) and knows_new_items(channel)
    got = channel.scores(asked([0], [2], [], [3]))
    assert got[0] == pytest.approx([1, 0, HALF, 0])
    assert got[1] == pytest.approx([HALF, HALF, 1, 0])
    assert (got[2:] == 0).all(), "nothing is liked, or only what has no vector"


def test_the_latest_like_counts_most(asked):
    one = replace(VectorLikeness(VECTORS), half_life=1.0)
    assert one.scores(asked([1, 0]))[0, :2] == pytest.approx([1 / 1.5, 0.5 / 1.5])


def test_dislikes_and_foreign_items_say_nothing(asked):
    channel = VectorLikeness(VECTORS)
    plain = channel.scores(asked([0]))
    assert channel.scores(asked([0, 1], disliked=[1])) == pytest.approx(plain)
    assert channel.scores(asked([-1, 0, 99])) == pytest.approx(plain)
    assert channel.score(asked([0]), np.array([[2, -1, 99]]))[0] == pytest.approx([HALF, 0, 0])


def test_further_items_change_nothing_of_the_others_and_no_row_depends_on_its_batch(asked):
    channel, rng = VectorLikeness(VECTORS), np.random.default_rng(0)
    grown = channel.over(np.concatenate([VECTORS, [[0.0, -1.0]]]))
    assert np.array_equal(grown.scores(asked([0, 1]))[:, :4], channel.scores(asked([0, 1])))
    assert grown.scores(asked([4]))[0] == pytest.approx([0, -1, -HALF, 0, 1])
    some = VectorLikeness(rng.normal(size=(50, 7)))
    rows = [rng.integers(0, 50, size=n).tolist() for n in (3, 20, 1, 0, 9)]
    together = some.scores(asked(*rows))
    for row, alone in zip(together, rows, strict=True):
        assert np.array_equal(row, some.scores(asked(alone))[0])
