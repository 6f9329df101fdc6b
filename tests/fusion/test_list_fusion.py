"""The fusion on planted choices, against another optimiser, and where single channels are better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import minimize

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.fusion.contests import (
    FOLDS,
    Contests,
    compete,
    fit_weights,
    folds_of,
    is_above,
    mark_best,
)
from sasrecllm.fusion.list_fusion import RIDGES, ListFusion
from sasrecllm.types import Histories, Scorer

USERS, ITEMS = 300, 40


@dataclass(frozen=True)
class Table:
    """A channel that knows what it says of every user."""

    table: np.ndarray
    name: str = "table"

    def scores(self, histories):
        return self.table[histories.users]


def asked(users, met=()):
    n = len(users)
    items = np.array([i for row in met for i in row] if len(met) else [], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, met)]) if len(met) else np.zeros(n + 1, dtype=np.int64)
    return Histories(
        np.asarray(users), items, np.ones(len(items), dtype=np.int8), np.arange(len(items)), offsets,
        np.full(n, 99),
    )  # fmt: skip


def unmet(histories):
    return ~histories.met(ITEMS)


def world(weights, seed=0, users=USERS):
    """Channels of normal scores, and likes drawn by the logit of their weighted sum."""
    rng = np.random.default_rng(seed)
    tables = [rng.normal(size=(users, ITEMS)) for _ in weights]
    logits = sum(w * t for w, t in zip(weights, tables, strict=True))
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    channels = [Table(10.0**k * t, f"channel {k}") for k, t in enumerate(tables)]
    return channels, asked(np.arange(users)), targets


def test_the_planted_weights_come_back_whatever_the_scales():
    channels, histories, targets = world([1.0, 0.5, 0.0], users=2000)
    fusion = ListFusion.fit(channels, histories, targets, n_items=ITEMS, free=unmet, ridges=[0.0])
    assert isinstance(fusion, ListChannel) and isinstance(fusion, Scorer)
    assert fusion.scales == pytest.approx([1, 10, 100], rel=0.02)
    # Three standard errors of 2,000 choices are about .1.
    assert fusion.weights == pytest.approx([1.0, 0.5, 0.0], abs=0.1)
    assert fusion.ridge == 0.0 and fusion.likes == 2000
    assert fusion.judged["fusion"] > max(fusion.judged[c.name] for c in channels)


def test_the_weights_are_those_of_a_general_optimiser():
    channels, histories, targets = world([0.7, -0.4, 0.2])
    contests, _ = compete(channels, histories, targets, n_items=ITEMS, free=unmet, best=10)
    part = contests.found()

    def objective(weights):
        scores = np.split(part.features @ weights, part.offsets[1:-1])
        likes = np.split(np.isin(np.arange(len(part.features)), part.liked), part.offsets[1:-1])
        terms = [np.log(np.exp(s).sum()) - s[y][0] for s, y in zip(scores, likes, strict=True)]
        return sum(terms) + 5.0 / 2 * (weights**2).sum()

    other = minimize(objective, np.full(3, 0.1), bounds=[(0, None)] * 3, method="L-BFGS-B")
    got = fit_weights(contests, ridge=5.0)
    assert got == pytest.approx(other.x, abs=1e-3) and got[1] == 0
    assert objective(got) <= other.fun + 1e-6


def test_likes_compete_with_the_best_of_every_channel_alone():
    one = np.tile(np.arange(6.0), (2, 1))
    two = -one
    contests, scales = compete(
        [Table(one), Table(two)],
        asked([0, 1], [[5], []]),
        np.array([4, 2]),
        n_items=6,
        free=lambda h: ~h.met(6),
        best=2,
    )
    # Item 5 is met before: 4 and 3 against 0 and 1; then 5 and 4, and the like of 2 is not found.
    assert contests.offsets.tolist() == [0, 4, 8]
    assert (contests.features[:, 0] * scales[0]).tolist() == [0, 1, 3, 4, 0, 1, 4, 5]
    assert contests.liked.tolist() == [3, -1]
    assert contests.gains(np.array([1.0, 0.0])) == pytest.approx([1, 0])
    assert contests.gains(np.array([0.0, 1.0])) == pytest.approx([1 / np.log2(5), 0])
    assert len(contests.found().liked) == 1
    # All four tie: half of the three others stand ahead.
    assert contests.gains(np.zeros(2))[0] == pytest.approx(1 / np.log2(3.5))


@pytest.mark.parametrize("seed", range(4))
def test_few_likes_and_many_useless_channels_end_near_the_best_one(seed):
    channels, histories, targets = world([2.0] + [0.0] * 12, seed, users=30)
    fusion = ListFusion.fit(channels, histories, targets, n_items=ITEMS, free=unmet)
    test = world([2.0] + [0.0] * 12, seed + 100)
    contests, _ = compete(*test, n_items=ITEMS, free=unmet)
    alone = np.eye(13)[0]
    assert fusion.weights[0] > 0.5 * fusion.weights.sum()
    assert contests.gains(fusion.weights).mean() > contests.gains(alone).mean() - 0.05


@pytest.mark.parametrize("best", [1, 4, 9, 30])
def test_the_best_are_marked_and_of_equal_ones_the_first(best):
    rng = np.random.default_rng(best)
    scores = rng.integers(0, 4, size=(50, 12)).astype(float)
    free = rng.random(scores.shape) < np.linspace(0, 1, 50)[:, None]
    marked = np.zeros_like(free)
    mark_best(marked, scores, free, best)
    for row, chosen in enumerate(marked):
        order = sorted(np.flatnonzero(free[row]), key=lambda item: (-scores[row, item], item))
        assert np.flatnonzero(chosen).tolist() == sorted(order[:best])


def test_the_guard_serves_the_best_channel_where_the_likelihood_misleads():
    # Channel 0 puts 60 of 100 likes first and the others last, where their likelihood is a
    # catastrophe; channel 1 is vague about all.  Likelihood wants the vague one.
    users = 100
    rng = np.random.default_rng(0)
    targets = rng.integers(0, ITEMS, users)
    sharp = rng.normal(size=(users, ITEMS))
    sharp[np.arange(users), targets] = np.where(np.arange(users) < 60, 9.0, -9.0)
    vague = rng.normal(size=(users, ITEMS))
    vague[np.arange(users), targets] += 1.0
    channels = [Table(sharp, "sharp"), Table(vague, "vague")]
    fusion, light = (
        ListFusion.fit(channels, asked(np.arange(users)), targets, n_items=ITEMS, free=unmet, **ridges)
        for ridges in ({}, {"ridges": [10.0]})
    )
    assert fusion.judged["served"] >= fusion.judged["sharp"] - 0.05
    assert light.judged["fusion"] < light.judged["served"] == light.judged["sharp"]
    assert light.weights.tolist() == [1, 0] and light.ridge == 0


@dataclass(frozen=True)
class Plain(Table):
    """A channel that says the same of every user, as popularity does."""

    is_plain = True


@pytest.mark.parametrize(("share", "served"), [(0.55, "popularity"), (0.95, "trending")])
def test_a_kind_of_popularity_that_is_better_by_luck_alone_is_not_served(share, served):
    """Nobody has a taste here; of 60 likes a little more than half have the newer item."""
    users = 60
    order = np.tile(np.arange(ITEMS, 0, -1.0), (users, 1))
    newer = order.copy()
    newer[:, [0, 1]] = newer[:, [1, 0]]
    channels = [
        Plain(order, "popularity"),
        Plain(newer, "trending"),
        Table(np.random.default_rng(0).normal(size=(users, ITEMS)), "noise"),
    ]
    targets = (np.arange(users) < share * users).astype(np.int64)
    fusion = ListFusion.fit(channels, asked(np.arange(users)), targets, n_items=ITEMS, free=unmet)
    assert fusion.judged["trending"] > fusion.judged["popularity"]
    assert fusion.is_plain and fusion.of_weight().channels[0].name == served


def alike(seed, users, noise=0.5, count=6):
    """Channels that each know the same of every user, and noise of their own beside it."""
    rng = np.random.default_rng(seed)
    known = rng.normal(size=(users, ITEMS))
    targets = (2 * known + rng.gumbel(size=known.shape)).argmax(1)
    channels = [
        Table(known + noise * rng.normal(size=known.shape), f"channel {k}") for k in range(count)
    ]
    return channels, asked(np.arange(users)), targets


def test_few_likes_leave_channels_that_know_the_same_weights_of_one_size():
    """What one earns above another among 40 likes is luck, which a light ridge pays for."""
    chosen, light = [], []
    for seed in range(6):
        channels, histories, targets = alike(seed, users=40)
        contests, _ = compete(*alike(seed + 100, users=400), n_items=ITEMS, free=unmet)
        for found, ridges in ((chosen, RIDGES), (light, [0.1])):
            fusion = ListFusion.fit(
                channels, histories, targets, n_items=ITEMS, free=unmet, ridges=ridges
            )
            largest = fusion.weights.max() / fusion.weights.sum()
            found.append((contests.gains(fusion.weights).mean(), largest))
    assert np.mean(chosen, axis=0)[0] > np.mean(light, axis=0)[0]
    assert np.mean(chosen, axis=0)[1] < np.mean(light, axis=0)[1]


def test_many_likes_may_set_channels_apart():
    """The ridge is no more than lists bear: a useless channel beside a good one gets nothing."""
    channels, histories, targets = world([1.0, 0.0, 0.0, 0.6], users=3000)
    fusion = ListFusion.fit(channels, histories, targets, n_items=ITEMS, free=unmet)
    assert fusion.weights[[1, 2]].max() < 0.1 * fusion.weights[0]
    assert fusion.weights[3] / fusion.weights[0] == pytest.approx(0.6, abs=0.12)


def test_likes_of_one_user_fall_into_one_fold_and_count_as_one():
    users = np.repeat(np.arange(40), 5)
    fold = folds_of(users, seed=3)
    assert all(len(set(fold[users == user])) == 1 for user in range(40))
    assert np.bincount(fold).tolist() == [40] * FOLDS
    assert sorted(np.bincount(folds_of(np.repeat([0, 1], 10), seed=3))) == [4] * FOLDS
    # The same difference from 40 users is no surer for being counted five times.
    once = np.random.default_rng(0).normal(0.3, 1.0, 40)
    none = np.zeros(200)
    errors = once.mean() / (once.std(ddof=1) / np.sqrt(40))
    for repeats in (1, 5):
        gains, owner = np.repeat(once, repeats), np.repeat(np.arange(40), repeats)
        others = none[: len(gains)]
        assert is_above(gains, others, owner, errors=errors - 0.01)
        assert not is_above(gains, others, owner, errors=errors + 0.01)
    assert not is_above(np.ones(5), np.zeros(5), np.zeros(5, dtype=int))


def test_no_like_that_a_channel_finds_leaves_the_best_channel():
    flat = Table(np.tile(np.arange(ITEMS, dtype=float), (3, 1)))
    fusion = ListFusion.fit(
        [flat, flat], asked([0, 1, 2]), np.array([0, 0, 1]), n_items=ITEMS, free=unmet, best=5
    )
    assert fusion.likes == 3 and (fusion.weights >= 0).all() and fusion.weights.sum() > 0


def test_scores_are_the_weighted_sum_and_a_channel_of_no_weight_is_not_asked():
    class Broken:
        name = "broken"

        def scores(self, histories):
            raise AssertionError("asked")

    table = Table(np.arange(12.0).reshape(2, 6))
    fusion = ListFusion((table, Broken()), 6, np.array([2.0, 1.0]), np.array([3.0, 0.0]))
    got = fusion.scores(asked([1, 0]))
    np.testing.assert_allclose(got, 1.5 * table.table[[1, 0]])
    assert fusion.score(asked([1]), np.array([[5, -1, 99]])).tolist() == [[16.5, 0, 0]]
    moved = fusion.with_channels([Table(-table.table), Broken()])
    np.testing.assert_allclose(moved.scores(asked([1, 0])), -got)


def test_nothing_to_fuse_is_refused():
    channels, histories, targets = world([1.0])
    with pytest.raises(ConfigError, match="without channels"):
        ListFusion.fit([], histories, targets, n_items=ITEMS, free=unmet)
    with pytest.raises(DataError, match="no validation like"):
        ListFusion.fit(channels, asked([]), targets[:0], n_items=ITEMS, free=unmet)


def test_taking_contests_keeps_their_likes():
    channels, histories, targets = world([1.0, 1.0])
    contests, _ = compete(channels, histories, targets, n_items=ITEMS, free=unmet, best=5)
    picked = contests.take(np.array([7, 3]))
    assert isinstance(picked, Contests)
    weights = np.array([1.0, 0.3])
    np.testing.assert_array_equal(picked.gains(weights), contests.gains(weights)[[7, 3]])
