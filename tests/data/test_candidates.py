"""Candidate lists: the same for everybody, and nothing in them that the user has met."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.candidates import ranking_candidates
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.protocol import evaluate_ranking
from sasrecllm.types import UNKNOWN


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
    lists = ranking_candidates(dataset, split, negatives=negatives, seed=seed)
    rows = dataset.rows(split)
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
