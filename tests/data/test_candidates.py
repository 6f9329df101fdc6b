"""Candidate lists: the same for everybody, and nothing in them that the user has met."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.candidates import longest_lists, ranking_candidates, servable_items
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.protocol import evaluate_ranking
from sasrecllm.types import UNKNOWN, Histories


def world(seed: int, *, implicit: bool, cold_items: float = 0.0, run_seed: int = 0) -> Dataset:
    rng = random.Random(seed)
    pairs = rng.sample([(u, i) for u in range(9) for i in range(35)], 120)
    rows = [(f"u{u}", f"i{i}", rng.randint(0, 1), rng.randint(0, 50)) for u, i in pairs]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")
    ids = [f"i{n}" for n in range(35)]
    return prepare(
        Tables(
            frame.drop("label") if implicit else frame,
            pl.DataFrame({"item_id": ids, "title": ids}),
            "w",
        ),
        cold_items=cold_items,
        seed=run_seed,
    )


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([None, 1, 4]),
    st.sampled_from(["valid", "test"]),
)
def test_the_liked_item_comes_first_and_the_user_met_none_of_the_others(
    seed: int, implicit: bool, negatives: int | None, split: str
) -> None:
    dataset = world(seed, implicit=implicit, cold_items=0.2)
    rows = dataset.rows(split)
    if not (dataset.labels[rows] == 1).any():  # so small a world may draw no like
        with pytest.raises(DataError, match=f"no row of {split} likes an item"):
            ranking_candidates(dataset, split, negatives=negatives, seed=seed)
        return
    lists = ranking_candidates(dataset, split, negatives=negatives, seed=seed)
    assert lists.rows.tolist() == rows[dataset.labels[rows] == 1].tolist()
    assert lists.items[:, 0].tolist() == dataset.items[lists.rows].tolist()
    assert lists.histories.items.tolist() == dataset.histories(lists.rows).items.tolist()
    pool = set(range(35)) if split == "test" else set(range(35)) - set(dataset.held_items)
    for row, items in zip(lists.rows, lists.items[:, 1:], strict=True):
        met = set(dataset.items[dataset.users == dataset.users[row]])
        drawn = items[items != UNKNOWN]
        assert len(set(drawn)) == len(drawn) and set(drawn) <= pool - met
        if negatives is None:
            assert drawn.tolist() == sorted(pool - met)
            assert (items[: len(drawn)] != UNKNOWN).all()
        else:
            assert len(drawn) == negatives


def test_the_lists_depend_on_their_own_seed_and_not_on_the_run() -> None:
    one, other = (world(1, implicit=True, run_seed=s) for s in (0, 1))
    assert one.questions("test").targets.tolist() != other.questions("test").targets.tolist()
    lists = [ranking_candidates(d, "test", negatives=5).items.tolist() for d in (one, other)]
    assert lists[0] == lists[1]
    assert ranking_candidates(one, "test", negatives=5, seed=1).items.tolist() != lists[0]


class LovesLowNumbers:
    """Scores an item by its index: the rank of every list is known."""

    name = "low numbers"

    def score(self, histories, candidates):
        return -candidates.astype(float)


def test_evaluate_ranking_takes_the_lists_as_they_are() -> None:
    lists = ranking_candidates(world(2, implicit=False), "test", negatives=6)
    found = evaluate_ranking(LovesLowNumbers(), lists.histories, lists.items, ks=(3,))
    rank = 1 + (lists.items[:, 1:] < lists.items[:, :1]).sum(axis=1)
    assert found["hr@3"] == pytest.approx((rank <= 3).mean())
    assert found["mrr"] == pytest.approx((1 / rank).mean())


def test_impossible_lists_are_refused() -> None:
    dataset = world(1, implicit=True)
    with pytest.raises(ConfigError, match="0 negatives; allowed: 1 or more"):
        ranking_candidates(dataset, "test", negatives=0)
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        ranking_candidates(dataset, "tests")
    with pytest.raises(DataError, match="items to draw"):
        ranking_candidates(dataset, "test", negatives=34)


def test_a_held_out_item_stands_in_test_lists_alone() -> None:
    dataset = world(3, implicit=True, cold_items=0.3)
    in_lists = {
        s: np.unique(ranking_candidates(dataset, s, negatives=None).items) for s in ("valid", "test")
    }
    assert not np.isin(dataset.held_items, in_lists["valid"]).any()
    assert np.isin(dataset.held_items, in_lists["test"]).all()


def songs(seen: str) -> Dataset:
    """Users 0 to 3 hear the songs 0 and 1 again and again and one new song at the end; 4 hears all."""
    rows = [(f"u{u}", f"i{n % 2}", n) for u in range(4) for n in range(6)]
    rows += [(f"u{u}", "i0" if u < 2 else f"i{u}", 9) for u in range(4)]
    rows += [("u4", f"i{n}", n) for n in range(8)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    ids = [f"i{n}" for n in range(8)]
    shelf = pl.DataFrame({"item_id": ids, "title": ids})
    return prepare(Tables(frame, shelf, "songs"), split="leave-one-out", seen=seen, negatives=1)


def test_what_is_never_served_has_no_list_and_what_is_served_has_one() -> None:
    exclude, allow = songs("exclude"), songs("allow")
    lists = ranking_candidates(exclude, "test", negatives=None)
    assert [exclude.catalog.item_id(i) for i in lists.items[:, 0]] == ["i2", "i3"]
    assert not np.isin(lists.items[:, 1:], [0, 1]).any()  # heard before: not recommended again
    lists = ranking_candidates(allow, "test", negatives=None)
    targets = [allow.catalog.item_id(i) for i in lists.items[:, 0]]
    assert targets == ["i0", "i0", "i2", "i3", "i7"]
    for items in lists.items:
        assert sorted(items) == list(range(8))  # the catalogue, with what was heard before


def test_users_who_met_everything_do_not_shorten_the_lists_of_the_others() -> None:
    exclude = songs("exclude")
    assert longest_lists(exclude, "test", 100) == 5 and longest_lists(exclude, "test", 3) == 3
    assert len(ranking_candidates(exclude, "test", negatives=5).rows) == 2
    assert longest_lists(songs("allow"), "test", 100) == 7
    everything = [(f"u{u}", f"i{n}", n) for u in range(3) for n in range(4)]
    frame = pl.DataFrame(everything, schema=["user_id", "item_id", "timestamp"], orient="row")
    shelf = pl.DataFrame({"item_id": ["i0", "i1", "i2", "i3"], "title": list("abcd")})
    dataset = prepare(Tables(frame, shelf, "all"), split="leave-one-out")
    assert longest_lists(dataset, "test", 100) == 0
    with pytest.raises(DataError, match="3 liked rows of test: they leave 0 items"):
        ranking_candidates(dataset, "test", negatives=None)


def test_what_was_met_may_be_served_only_where_things_repeat() -> None:
    """A history of item 1, an item without a number and one beyond the catalogue of six."""
    met = np.array([1, UNKNOWN, 9])
    known = Histories(
        np.zeros(1, dtype=np.int64), met, np.ones(3, dtype=np.int8), np.arange(3), np.array([0, 3]),
        np.array([3]),
    )  # fmt: skip
    once, again = (SimpleNamespace(n_items=6, allow_seen=seen) for seen in (False, True))
    first = np.array([True, True, True, False, False, False])
    assert servable_items(once)(known).tolist() == [[True, False, True, True, True, True]]
    assert servable_items(once, first)(known).tolist() == [[True, False, True, False, False, False]]
    assert servable_items(again)(known).all()
    assert servable_items(again, first)(known).tolist() == [first.tolist()]
