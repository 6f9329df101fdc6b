"""Which items could be had when a like of a new item happened."""

from types import SimpleNamespace

import numpy as np
import pytest

from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.data.candidates import servable_items
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.new_items_in_lists import NewItems
from sasrecllm.stages import list_parts
from sasrecllm.stages.list_parts import fitted_rerank, met_by_others, with_new_items
from sasrecllm.types import Histories, Questions

# Validation: user 0 meets items 3 and 4, user 1 meets 3 twice; nobody meets 5.  Trained: 0, 1, 2.
DATA = SimpleNamespace(
    users=np.array([0, 0, 1, 1]),
    items=np.array([3, 4, 3, 3]),
    n_users=3,
    n_items=6,
    allow_seen=False,
    rows=lambda split: {"valid": np.arange(4)}[split],
)
TRAINED = np.array([True, True, True, False, False, False])


def asked(users, met):
    items = np.array([i for row in met for i in row], dtype=np.int64)
    return Histories(
        np.array(users), items, np.ones(len(items), dtype=np.int8), np.arange(len(items)),
        np.cumsum([0, *map(len, met)]), np.full(len(users), 99),
    )  # fmt: skip


def test_a_new_item_competes_where_another_user_met_it_and_not_by_ones_own_like():
    there = met_by_others(DATA, servable_items(DATA), TRAINED)(asked([0, 1, 2, -1], [[0], [], [], []]))
    assert there.tolist() == [
        [False, True, True, True, False, False],  # 4 is his own alone, and 0 he has met
        [True, True, True, True, True, False],  # 3 another met too, however often he did
        [True, True, True, True, True, False],
        [True, True, True, True, True, False],
    ]


class ByLikes:
    """Item 0 is the best of the liked ones, and 2 the worst."""

    name = "by likes"

    def __init__(self, n_items=12):
        self.n_items = n_items

    def scores(self, histories):
        return np.tile([2.0, 1.0, *np.zeros(self.n_items - 2)], (len(histories), 1))


@pytest.mark.parametrize(
    ("offset", "liked_next", "chosen"),
    [
        (-9.0, 3, "without an offset"),  # the twin of what he likes, which a low offset would hide
        (0.5, 3, "list fusion"),
        (-9.0, 1, "list fusion"),  # what follows is no new item
        (0.5, 11, "title words"),  # its twin is new too, so no channel by likes knows it
    ],
)
def test_new_items_are_listed_in_the_best_way(monkeypatch, offset, liked_next, chosen):
    monkeypatch.setattr(list_parts, "PLACES", 1)
    monkeypatch.setattr("sasrecllm.fusion.contests.PLACES", 1)
    monkeypatch.setattr(list_parts, "fitted_offset", lambda *_: offset)
    titles = [
        "red one",
        "blue two",
        "green six",
        "red one",
        *map("x{}y".format, range(6)),
        *["kin"] * 2,
    ]
    words, is_new = WordLikeness.fit(titles), np.arange(12) >= 3
    data = SimpleNamespace(n_items=12, allow_seen=False)
    work = SimpleNamespace(
        dataset=data, run=SimpleNamespace(progress=SimpleNamespace(bar=lambda _: None))
    )
    histories = asked([0, 1, 2], [[10 if liked_next == 11 else 0]] * 3)
    likes = Questions(histories, np.full(3, liked_next), np.ones(3, dtype=np.int8), np.arange(3))
    fusion = ListFusion((ByLikes(),), 12, np.ones(1), np.ones(1))
    new = NewItems.of(words, is_new, ~is_new)
    found = with_new_items(work, fusion, (ByLikes(), words), new, likes)
    assert max(found.whole, key=found.whole.get) == chosen
    assert [c.name for c in found.channels] == [chosen if chosen == "title words" else "by likes"]
    assert found.new.offset == (offset if chosen == "list fusion" else 0.0)


def test_one_like_that_is_hit_by_luck_does_not_replace_the_mixture(monkeypatch):
    """Of eighteen likes the mixture has none and title words have one: no sure difference."""
    monkeypatch.setattr(list_parts, "fitted_offset", lambda *_: 0.0)
    titles = ["red one", "blue two", *map("x{}y".format, range(16)), "kin", "kin"]
    words, is_new = WordLikeness.fit(titles), np.arange(20) >= 18
    work = SimpleNamespace(
        dataset=SimpleNamespace(n_items=20, allow_seen=False),
        run=SimpleNamespace(progress=SimpleNamespace(bar=lambda _: None)),
    )
    histories = asked(list(range(18)), [[18], *[[2]] * 17])
    targets = np.array([19, *[17] * 17])  # 19 is new like its twin: no channel by likes knows it
    likes = Questions(histories, targets, np.ones(18, dtype=np.int8), np.arange(18))
    fusion = ListFusion((ByLikes(20),), 20, np.ones(1), np.ones(1))
    new = NewItems.of(words, is_new, ~is_new)
    found = with_new_items(work, fusion, (words,), new, likes)
    assert found.whole["title words"] > found.whole["list fusion"]
    assert [channel.name for channel in found.channels] == ["by likes"]


class Newness:
    """Likes what nobody has liked, and knows nothing else."""

    name = "newness"

    def score(self, histories, candidates):
        return (candidates >= 3).astype(np.float64)


@pytest.mark.parametrize(("liked_by", "earns"), [(1, False), (5, True)])
def test_a_score_is_not_paid_for_preferring_what_is_in_the_log_for_being_liked(
    monkeypatch, liked_by, earns
):
    """Every new item is there because of its one like; where another user met it, it was to be had."""
    monkeypatch.setattr("sasrecllm.fusion.contests.PLACES", 100)  # all new items tie
    users = 40
    targets = 3 + np.arange(users) // liked_by
    n_items = int(targets.max()) + 1
    data = SimpleNamespace(
        users=np.arange(users), items=targets, n_users=users, n_items=n_items, allow_seen=False,
        rows=lambda _: np.arange(users),
    )  # fmt: skip
    stage = SimpleNamespace(kind=SimpleNamespace(has_row=True, scorer=lambda *_: Newness()))
    likes_I = np.array([5.0] * 3 + [0.0] * (n_items - 3))
    work = SimpleNamespace(
        config=SimpleNamespace(lists=SimpleNamespace(rerank=True, best=n_items), seed=0),
        dataset=data,
        stages={"score": stage},
        system=SimpleNamespace(
            interactions=lambda _: SimpleNamespace(means=SimpleNamespace(likes=likes_I))
        ),
        run=SimpleNamespace(progress=SimpleNamespace(bar=lambda _: lambda *_: None)),
    )
    likes = Questions(
        asked(range(users), [[]] * users), targets, np.ones(users, dtype=np.int8), np.arange(users)
    )
    fusion = ListFusion((ByLikes(n_items),), n_items, np.ones(1), np.ones(1))
    rerank = fitted_rerank(work, fusion, likes)
    assert (rerank.weight > 0) == earns
