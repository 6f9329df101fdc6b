from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.dataset import TRAIN, Dataset
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.sequences import windows
from sasrecllm.errors import ConfigError


def world(seed: int, split: str) -> Dataset:
    rng = random.Random(seed)
    rows = [
        (f"u{u}", f"i{rng.randrange(40)}", rng.randint(0, 1), 10 * n + u)
        for u in range(6)
        for n in range(rng.choice([1, 4, 15, 40]))
    ] + [("late", f"i{n}", 1, 500 + n) for n in range(9)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")
    ids = [f"i{n}" for n in range(40)]
    return prepare(Tables(frame, pl.DataFrame({"item_id": ids, "title": ids}), "w"), split=split)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from(["global-time", "leave-one-out"]),
    st.booleans(),
)
def test_a_window_shows_the_newest_end_of_the_history_and_nothing_later(
    seed: int, length: int, likes_only: bool, split: str, some: bool
) -> None:
    dataset = world(seed, split)
    rows = dataset.rows("train")[:: 3 if some else 1]
    cut = windows(dataset, length=length, likes_only=likes_only, rows=rows)
    assert sorted(cut.row) == sorted(rows)
    history = dataset.histories(cut.row)
    history = history.liked() if likes_only else history
    for q in range(len(cut.row)):
        w, state = int(cut.window[q]), int(cut.state[q])
        full = history.items[history.offsets[q] : history.offsets[q + 1]]
        feedback = history.labels[history.offsets[q] : history.offsets[q + 1]]
        assert state >= min(len(full), max(1, length // 2))
        assert cut.items[w, :state].tolist() == full[len(full) - state :].tolist()
        assert cut.labels[w, :state].tolist() == feedback[len(full) - state :].tolist()
        assert cut.users[w] == dataset.users[cut.row[q]]
    assert cut.target.tolist() == dataset.items[cut.row].tolist()
    assert cut.label.tolist() == dataset.labels[cut.row].tolist()
    assert (np.diff(cut.window) >= 0).all() and set(cut.window) == set(range(len(cut)))
    assert (cut.items >= 0).sum(axis=1).tolist() == cut.lengths.tolist()
    assert ((cut.items >= 0) == (np.arange(length) < cut.lengths[:, None])).all()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_rows_beside_are_asked_in_the_windows_that_are_read_anyway_and_nowhere_else(
    seed: int, length: int, likes_only: bool
) -> None:
    dataset = world(seed, "global-time")
    every, how = dataset.rows("train"), {"length": length, "likes_only": likes_only}
    rows, beside = every[::7], every[::2]
    alone, whole = windows(dataset, rows=rows, **how), windows(dataset, rows=every, **how)
    cut = windows(dataset, rows=rows, beside=beside, **how)
    assert np.array_equal(cut.items, alone.items) and np.array_equal(cut.users, alone.users)
    read = set(whole.window[np.isin(whole.row, rows)])
    there = whole.row[np.isin(whole.window, list(read))]
    assert sorted(cut.row) == sorted(there[np.isin(there, np.union1d(rows, beside))])
    assert set(alone.row) <= set(cut.row)


def test_the_work_is_a_fraction_of_one_history_per_row() -> None:
    dataset = world(1, "leave-one-out")
    rows = dataset.rows("train")
    cut = windows(dataset, length=10, likes_only=False, rows=rows)
    assert len(cut) < len(rows) / 3


def test_empty_and_impossible_windows() -> None:
    dataset = world(1, "global-time")
    none = windows(dataset, length=4, likes_only=True, rows=np.array([], dtype=np.int64))
    assert len(none) == 0 and none.items.shape == (0, 4) and none.window.shape == (0,)
    with pytest.raises(ConfigError):
        windows(dataset, length=0, likes_only=True, rows=dataset.rows("train"))
    with pytest.raises(ConfigError):
        windows(dataset, length=4, likes_only=True, rows=np.flatnonzero(dataset.splits != TRAIN))
