"""Taste for attribute values: by hand, and in worlds whose taste is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.item_attributes import ItemAttributes, is_shared
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.trivial import Popularity
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.types import Histories, Scorer

GENRES = ["war", "war|space", "tea", "tea", None]


def rows_of(users, items, n_items, labels=None):
    users, items = np.array(users), np.array(items)
    labels = np.ones(len(users)) if labels is None else np.array(labels)
    return TrainRows(
        users, items, labels.astype(np.int8), n_users=int(users.max()) + 1, n_items=n_items
    )


def test_scores_by_hand(asked):
    channel = ItemAttributes.fit({"genre": GENRES}, rows_of([0, 1], [0, 2], 5))
    assert isinstance(channel, ListChannel) and isinstance(channel, Scorer)
    # One like each of war and tea, and one more for every value: space 1, tea 2, war 2 of 5.
    channel = replace(channel, priors=np.array([2.0]))
    (got,) = channel.scores(asked([1]))  # half of a like is war, half of it space
    never = np.log(2 / (1 + 2))
    war = np.log((0.5 + 2 * 0.4) / (3 * 0.4))
    space = np.log((0.5 + 2 * 0.2) / (3 * 0.2))
    assert got == pytest.approx([war, (war + space) / 2, never, never, 0])


def test_nothing_liked_dislikes_and_foreign_items_say_nothing(asked):
    channel = ItemAttributes.fit({"genre": GENRES}, rows_of([0, 1], [0, 2], 5))
    channel = replace(channel, priors=np.array([2.0]))
    assert (channel.scores(asked([], [4], [-1, 99])) == 0).all()
    plain = channel.scores(asked([0]))
    assert channel.scores(asked([2, 0], disliked=[2])) == pytest.approx(plain)
    assert channel.score(asked([0]), np.array([[1, -1, 99]]))[0, 1:].tolist() == [0, 0]


def world(seed=0, users=200, items=120, themes=4):
    """Each user takes three items of one theme, now and then of any; cities say nothing."""
    rng = np.random.default_rng(seed)
    theme = np.arange(items) % themes
    city = rng.integers(0, 3, items)
    popular = 1.0 / (1 + rng.permutation(items))
    who, what, loves = [], [], rng.integers(0, themes, users)
    for user in range(users):
        p = popular * np.where(theme == loves[user], 1.0, 0.02)
        who += [user] * 4
        what += list(rng.choice(items, 4, replace=False, p=p / p.sum()))
    columns = {"theme": [f"t{t}" for t in theme], "city": [f"c{c}" for c in city]}
    return columns, np.array(who).reshape(users, 4), np.array(what).reshape(users, 4), theme, loves


def test_a_column_counts_as_far_as_it_tells_what_is_liked_next():
    columns, who, what, _, _ = world()
    channel = ItemAttributes.fit(columns, rows_of(who.ravel(), what.ravel(), 120))
    taste, noise = channel.priors
    assert taste <= 1.0 and noise >= 100.0


def test_of_users_without_taste_no_column_counts(asked):
    rng = np.random.default_rng(3)
    rows = rows_of(np.repeat(np.arange(300), 4), rng.integers(0, 60, 1200), 60)
    channel = ItemAttributes.fit({"theme": [f"t{i % 6}" for i in range(60)]}, rows)
    assert channel.priors[0] >= 30.0
    assert np.abs(channel.scores(asked([0]))).max() < 0.2


def test_lists_of_short_histories_follow_the_theme():
    """Three likes a user: pairs of items tell little, and popularity is the same for all."""
    columns, who, what, theme, loves = world()
    rows = rows_of(who[:, :3].ravel(), what[:, :3].ravel(), 120)
    n = len(who)
    histories = Histories(
        np.arange(n), what[:, :3].ravel(), np.ones(3 * n, dtype=np.int8), np.tile(np.arange(3), n),
        np.arange(n + 1) * 3, np.full(n, 9),
    )  # fmt: skip

    def free(asked):
        return ~asked.met(120)

    channels = [Popularity(rows.means), ItemAttributes.fit(columns, rows)]
    fusion = ListFusion.fit(channels, histories, what[:, 3], n_items=120, free=free, seed=0)
    assert (fusion.weights > 0).all()
    assert fusion.judged["served"] > 1.3 * fusion.judged["popularity"]
    scores = np.where(free(histories), fusion.scores(histories), -np.inf)
    lists = np.argsort(-scores, axis=1)[:, :10]
    clear = (theme[what[:, :3]] == loves[:, None]).all(1)
    assert (theme[lists] == loves[:, None])[clear].mean() > 0.8


def test_new_items_are_known_by_their_values_and_a_new_value_is_nobodys(asked):
    columns, who, what, theme, _ = world()
    channel = ItemAttributes.fit(columns, rows_of(who.ravel(), what.ravel(), 120))
    twin = int(np.flatnonzero(theme == 1)[0])
    fresh = {"theme": ["t1", "t9", None], "city": [columns["city"][twin], None, None], "new": ["x"] * 3}
    longer = channel.extended(fresh, 3)
    histories = asked([twin, twin])
    before, (after,) = channel.scores(histories)[0], longer.scores(histories)
    np.testing.assert_allclose(after[:120], before, atol=1e-12)  # sums of another order
    assert after[120] == pytest.approx(before[twin])
    assert after[121] == pytest.approx(-np.log1p(2 / channel.priors[0]))
    assert after[122] == 0
    assert (longer.scores(asked([121]))[0].argmax()) == 121  # whoever likes it has a taste for it


def test_a_like_is_not_explained_by_itself():
    """Every like has a value of its own: no earlier like of anybody tells it."""
    rows = rows_of(np.repeat(np.arange(50), 2), np.arange(100), 100)
    column = {"batch": [f"b{item % 50}" for item in range(100)]}  # two users share each
    assert np.isinf(ItemAttributes.fit(column, rows).priors).all()


@pytest.mark.parametrize(
    ("column", "shared"),
    [(["a", "b", None], False), (["a", "b|a"], True), (["a|a", "b"], False), ([None, ""], False)],
)
def test_a_column_of_which_no_two_items_share_a_value_is_an_id(column, shared):
    assert is_shared(column) is shared
