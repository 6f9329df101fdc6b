"""The per-user regression against plain Gaussian conditioning and worlds whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.baselines.features import ItemFeatures, popularity
from sasrecllm.baselines.user_regression import (
    RegressionPrior,
    UserRegression,
    _products,
    shared_quality,
)
from sasrecllm.baselines.user_regression_terms import REGRESSION_TERMS, doubled
from sasrecllm.types import Histories

TITLES = ["Sea Song (1950)", "Sea Tale (1952)", "War Song (1998)", "War Tale (1999)", "New Sea (1951)"]
GENRES = {"genres": ["Sea", "Sea|Old", "War", "War|Old", "Sea"]}


def item_features(titles, attributes, *, words):
    return ItemFeatures.fit(titles, attributes, words=words).groups(titles, attributes)


def _history(items, labels, asked_at=None, times=None, user=0):
    n = len(items)
    times = np.arange(n) if times is None else np.array(times)
    return Histories(
        np.array([user]),
        np.array(items, dtype=np.int64),
        np.array(labels, dtype=np.int8),
        times.astype(np.int64),
        np.array([0, n]),
        np.array([n if asked_at is None else asked_at]),
    )


@pytest.fixture
def regression():
    groups = item_features(TITLES, GENRES, words=8)
    users, items = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 0])
    labels = np.array([1, 1, 0, 1, 1], dtype=np.int8)
    return UserRegression.fit(users, items, labels, groups, n_users=2, n_items=5)


def test_posterior_is_gaussian_conditioning(regression):
    """Against the textbook formula, written out with an explicit inverse."""
    items, labels, p = [0, 2, 3, 1], [1, 0, 0, 1], regression.prior
    level, wish = regression.posterior(_history(items, labels), np.array([[4, 2]]))
    phi = regression.features[items]
    residual = np.array(labels) - regression.mean - regression.quality[items]
    age = np.arange(4, 0, -1)
    drift = p.drift * np.exp(-abs(age[:, None] - age) / p.memory)
    inverse = np.linalg.inv(phi @ phi.T + p.level + drift + p.noise * np.eye(4))
    assert wish[0] == pytest.approx(regression.features[[4, 2]] @ phi.T @ inverse @ residual)
    assert level[0] == pytest.approx((p.level + p.drift * np.exp(-age / p.memory)) @ inverse @ residual)


@pytest.mark.parametrize("different", [6, 60])
def test_histories_of_the_same_items_and_of_others_have_the_same_products(different):
    """Few items in many places are multiplied once, many in few places where they stand."""
    rng = np.random.default_rng(different)
    features, at = rng.normal(size=(different, 7)), rng.integers(0, different, (5, 4))
    assert (different**2 <= at.size * 4) == (different == 6), "each on its own way"
    wanted = np.einsum("bid,bjd->bij", features[at], features[at])
    assert _products(features, at) == pytest.approx(wanted)


def test_who_likes_the_sea_is_told_so_about_a_new_item(regression):
    sea = regression.posterior(_history([0, 1, 2, 3], [1, 1, 0, 0]), np.array([[4, 2]]))[1][0]
    war = regression.posterior(_history([0, 1, 2, 3], [0, 0, 1, 1]), np.array([[4, 2]]))[1][0]
    assert sea[0] > 0 > sea[1] and war[1] > 0 > war[0]


def test_level_follows_likes_and_moves_all_candidates_alike(regression):
    scorer = REGRESSION_TERMS["user level"](regression)
    mild = scorer.score(_history([0, 1, 2], [1, 1, 1]), np.array([[3, 4]]))
    strict = scorer.score(_history([0, 1, 2], [0, 0, 0]), np.array([[3, 4]]))
    assert mild[0, 0] == mild[0, 1] > 0 > strict[0, 0] == strict[0, 1]


@pytest.mark.parametrize("name", REGRESSION_TERMS)
def test_rows_of_the_same_second_are_not_read(regression, name):
    scorer = REGRESSION_TERMS[name](regression)
    without = scorer.score(_history([0], [0], asked_at=5), np.array([[2]]))
    tied = _history([0, 1, 3], [0, 1, 1], times=[0, 5, 5], asked_at=5)
    assert scorer.score(tied, np.array([[2]])) == pytest.approx(without)


@pytest.mark.parametrize("name", REGRESSION_TERMS)
def test_no_history_and_items_from_outside_have_the_prior_mean(regression, name):
    scorer = REGRESSION_TERMS[name](regression)
    got = scorer.score(_history([], []), np.array([[-1, 99]]))
    assert got == pytest.approx(regression.mean if name == "user regression" else 0.0)


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_a_score_does_not_depend_on_its_batch(n, seed):
    rng = np.random.default_rng(seed)
    regression = UserRegression(
        0.5, rng.normal(size=6), rng.normal(size=(6, 3)) * 0.1, RegressionPrior(last=7), np.zeros(3)
    )
    lengths = rng.integers(0, 12, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    size = offsets[-1]
    histories = Histories(
        np.zeros(n, dtype=np.int64),
        rng.integers(-1, 6, size),
        rng.integers(0, 2, size).astype(np.int8),
        rng.integers(0, 9, size),
        offsets,
        np.full(n, 6),
    )
    candidates = rng.integers(0, 6, (n, 2))
    whole = REGRESSION_TERMS["user regression"](regression).score(histories, candidates)
    row = int(rng.integers(n))
    alone = REGRESSION_TERMS["user regression"](regression).score(
        histories.take(np.array([row])), candidates[[row]]
    )
    assert whole[row] == pytest.approx(alone[0], abs=1e-9)  # doubles, added in another order


@pytest.mark.parametrize(("n", "kept"), [(0, 0), (1, 1), (3, 2), (4, 4), (7, 4), (8, 8)])
def test_steady_level_reads_the_oldest_power_of_two(n, kept):
    h = doubled(_history(list(range(n)), [1] * n))
    assert h.items.tolist() == list(range(kept))


def test_quality_is_not_fooled_by_generous_users():
    """Item 0 is seen by those who like all, item 1 by those who like half: equally good."""
    users = np.repeat(np.arange(40), 10)
    items = np.where(np.arange(400) % 10 == 0, users % 2, 2 + np.arange(400) % 10)
    strict = np.random.default_rng(0).integers(0, 2, 400)
    labels = np.where(users % 2 == 0, 1.0, strict)
    quality, _ = shared_quality(
        users, items, labels - labels.mean(), np.zeros((12, 0)), n_users=40, n_items=12,
        user_ridge=0.1, item_ridge=0.1, sweeps=300,
    )  # fmt: skip
    means = [labels[items == i].mean() for i in (0, 1)]
    assert means[0] - means[1] > 0.3
    assert abs(quality[0] - quality[1]) < (means[0] - means[1]) / 2


def test_items_rated_often_are_thought_better_where_such_items_are_liked():
    """30 items of eight rows, liked; 30 of one row, not; a new item stands between them."""
    items = np.concatenate([np.repeat(np.arange(30), 8), np.arange(30, 60)])
    labels = (items < 30).astype(np.int8)
    users = np.arange(len(items)) % 7
    regression = UserRegression.fit(users, items, labels, [], n_users=7, n_items=61)
    table, new = popularity(np.bincount(items, minlength=61))
    often, once, never = (row @ regression.slope for row in (table[0], table[30], new))
    assert often > never > once
    assert regression.quality_of(np.array([60]))[0] == pytest.approx(never)


def test_popularity_counts_doublings_and_an_unrated_item_is_the_others_mean():
    table, new = popularity(np.array([0, 1, 3, 3, 15, 1000]))
    assert table[0] == pytest.approx(new) and new == pytest.approx(table[1:].mean(0))
    assert np.linalg.norm(table[1:], axis=1) == pytest.approx(np.ones(5))
    assert table[2] @ table[3] == pytest.approx(1.0)
    assert table[1] @ table[2] > table[1] @ table[4] > table[1] @ table[5]


def test_shared_quality_solves_the_ridge_regression():
    rng = np.random.default_rng(0)
    users, items, y = rng.integers(0, 5, 80), rng.integers(0, 4, 80), rng.normal(size=80)
    phi = rng.normal(size=(4, 2))
    got, _ = shared_quality(users, items, y, phi, n_users=5, n_items=4, sweeps=2000)
    x = np.concatenate([np.eye(5)[users], np.eye(4)[items], phi[items]], axis=1)
    ridge = np.diag([5.0] * 5 + [6.0] * 4 + [10.0] * 2)
    w = np.linalg.solve(x.T @ x + ridge, x.T @ y)
    assert got == pytest.approx(w[5:9] + phi @ w[9:], abs=1e-6)


def test_features_by_hand():
    genres, crossed, years, words = item_features(TITLES, GENRES, words=2)
    assert genres[1] == pytest.approx([2**-0.5, 2**-0.5, 0])  # old, sea, war by count: Sea, Old, War
    assert (crossed.shape[1], len(words[0])) == (genres.shape[1] * years.shape[1], 2)
    assert years[0] @ years[1] > 0.9 > 0.2 > years[0] @ years[2]
    assert words.tolist()[4] == [1.0, 0.0]  # "sea" and "song" are kept, "new" stands in one title
    assert item_features(["A", "B"], {}, words=5) == []


def test_an_item_that_comes_later_is_worth_what_it_would_be_worth_from_the_start(regression):
    """Item 4 has no training row; its twins come behind the table, one by one."""
    columns = ItemFeatures.fit(TITLES, GENRES, words=8)
    twin = columns.groups(TITLES[4:], {"genres": GENRES["genres"][4:]})
    blank = columns.groups(["Nothing known"], {})
    more = regression.extended(twin, 1).extended(blank, 1).extended(twin, 1)
    known, asked = _history([0, 1, 2, 3], [1, 1, 0, 0]), np.array([[4, 5, 6, 7, 8, -1]])
    # Of an item without a known word or value only its newness is known.
    P = len(regression.unrated)
    assert not more.features_of(np.array([6]))[0, :-P].any()
    assert more.quality_of(np.array([6]))[0] == pytest.approx(
        regression.unrated @ regression.slope[-P:]
    )
    for scorer in (kind(more) for kind in REGRESSION_TERMS.values()):
        old, twin_1, _, twin_2, outside, nobody = scorer.score(known, asked)[0]
        assert [twin_1, twin_2] == pytest.approx([old, old], abs=1e-9), scorer.name
        assert outside == pytest.approx(nobody, abs=1e-9), scorer.name
    assert regression.quality_of(np.array([4])) != 0
    told = more.posterior(_history([5, 7], [1, 1]), np.array([[0, 2]]))
    for got, want in zip(
        told, regression.posterior(_history([4, 4], [1, 1]), np.array([[0, 2]])), strict=True
    ):
        assert got == pytest.approx(want)
    scorer = REGRESSION_TERMS["item quality"](regression).with_new_items(twin, 1)
    assert scorer.score(known, np.array([[5]])) == pytest.approx(regression.quality_of(np.array([[4]])))


def test_a_table_without_features_grows_too():
    bare = UserRegression(0.5, np.ones(2), np.zeros((2, 0)), RegressionPrior(), np.zeros(0)).extended(
        [], 2
    )
    assert bare.quality_of(np.array([0, 2, 3, 4])).tolist() == [1, 0, 0, 0]
    assert bare.features_of(np.array([[0, 3]])).shape == (1, 2, 0)


def test_figures_on_movielens_1m(data_root):
    """The row of the README: two-table copy, genres and years, no language model."""
    import polars as pl

    from sasrecllm.evaluation.metrics import auc, uauc

    folder = data_root / "ml-1m-collm"
    d = pl.read_parquet(folder / "interactions.parquet").sort("user_id", "order")
    catalog = pl.read_parquet(folder / "items.parquet").sort("item_id")
    assert catalog["item_id"].to_list() == list(range(1, len(catalog) + 1))
    user, item = d["user_id"].to_numpy().astype(np.int64), d["item_id"].to_numpy() - 1
    item, label, time = item.astype(np.int64), d["label"].to_numpy(), d["timestamp"].to_numpy()
    train = (d["split"] == "train").to_numpy()
    groups = item_features(catalog["title"].to_list(), {"genres": catalog["genres"].to_list()}, words=0)
    regression = UserRegression.fit(
        user[train], item[train], label[train], groups, n_users=user.max() + 1, n_items=len(catalog)
    )
    rows = np.flatnonzero((d["split"] == "test").to_numpy())
    first = np.searchsorted(user, user[rows])
    entries = np.concatenate([np.arange(a, b) for a, b in zip(first, rows, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(rows - first)])
    h = Histories(user[rows], item[entries], label[entries], time[entries], offsets, time[rows])
    scores = REGRESSION_TERMS["user regression"](regression).score(h, item[rows][:, None])[:, 0]
    assert auc(scores, label[rows]) > 0.79
    assert uauc(scores, label[rows], user[rows]).value > 0.64


def test_the_preference_for_the_whole_catalogue_is_that_of_its_items(regression):
    rng = np.random.default_rng(4)
    one, other = (_history(rng.integers(0, 8, n), rng.integers(0, 2, n)) for n in (6, 0))
    later = (
        regression.extended([np.ones((2, 1))], 2) if regression.features.shape[1] == 1 else regression
    )
    for fitted in (regression, later):
        channel = REGRESSION_TERMS["user preference"](fitted)
        n_items = len(fitted.quality) + len(fitted.new_quality)
        for history in (one, other):
            every = np.arange(n_items)[None]
            # One product of matrices in place of many of vectors: equal to double precision.
            np.testing.assert_allclose(
                channel.scores(history), channel.score(history, every), rtol=1e-9, atol=1e-12
            )
