"""Popularity with a memory, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sasrecllm.baselines.recent import RecentPopularity
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.runs.channels import make_channels
from sasrecllm.types import Histories

# Item 0 is liked at 0 and 40, item 1 at 80 and 100; user 1 dislikes item 2 at 90.  A span of 100.
USERS, ITEMS = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 2, 1])
LABELS, TIMES = np.array([1, 1, 1, 0, 1], dtype=np.int8), np.array([0, 80, 40, 90, 100])


def asked(*moments):
    n = len(moments)
    nothing = np.array([], dtype=np.int64)
    return Histories(
        np.full(n, -1), nothing, nothing.astype(np.int8), nothing, np.zeros(n + 1, dtype=np.int64),
        np.array(moments),
    )  # fmt: skip


def rows(times):
    return TrainRows(USERS, ITEMS, LABELS, n_users=2, n_items=3, times=times)


def test_a_like_is_worth_half_after_every_half_life_and_nothing_before_it_happens():
    scorer = RecentPopularity(rows(TIMES), half_life=0.4)
    got = scorer.scores(asked(120, 40, 0, 81, 1_000_000))
    assert got[0] == pytest.approx([2**-3 + 2**-2, 2**-1 + 2**-0.5, 0])
    assert got[1] == pytest.approx([0.5, 0, 0])  # the like of that very moment is not read
    assert got[2] == pytest.approx([0, 0, 0])
    assert got[3] == pytest.approx([2 ** (-81 / 40) + 2 ** (-41 / 40), 2 ** (-1 / 40), 0])
    assert np.isfinite(got).all() and (got >= 0).all()


def test_the_order_of_the_questions_changes_nothing():
    scorer = RecentPopularity(rows(TIMES), half_life=0.1)
    moments = [30, 120, 90, 30, 200]
    whole = scorer.scores(asked(*moments))
    for row, moment in enumerate(moments):
        # Decayed step by step or at once: equal to double precision.
        np.testing.assert_allclose(scorer.scores(asked(moment))[0], whole[row], rtol=1e-9)


def test_without_times_it_is_popularity():
    assert RecentPopularity(rows(None)).scores(asked(5, 7)).tolist() == [[2, 2, 0]] * 2


def test_one_moment_is_no_span():
    got = RecentPopularity(rows(np.full(5, 7))).scores(asked(7, 8))
    assert (got[0] == 0).all() and np.isfinite(got).all()


def test_trending_follows_what_is_of_the_hour_where_recent_popularity_still_has_the_week():
    """Item 0 was liked a hundred times over the last tenth of the time, item 1 five times just now."""
    items = np.array([2] + [0] * 100 + [1] * 5)
    times = np.array([0, *range(90_000, 98_000, 80), *range(99_990, 99_995)])
    labels, users = np.ones(len(items), dtype=np.int8), np.arange(len(items))
    log = TrainRows(users, items, labels, n_users=len(items), n_items=3, times=times)
    week, hour = make_channels(["recent popularity", "trending"], None, log)
    assert (week.name, hour.name) == ("recent popularity", "trending") and hour.is_plain
    assert week.scores(asked(100_000))[0].argmax() == 0
    assert hour.scores(asked(100_000))[0].argmax() == 1
