"""Nothing that is held out reaches training or validation, and nothing is lost without a word."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.dataset import CONTEXT, TEST, TRAIN, VALID, Dataset
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.sequences import windows
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.slices import slices_by_cause

SPLITS = ["global-time", "leave-one-out", "given"]


def tables(seed: int, *, implicit: bool = False, users: int = 14, items: int = 40) -> Tables:
    rng = random.Random(seed)
    rows = [
        (f"u{user}", f"i{item}", rng.randint(0, 1), rng.randint(0, 90))
        for user, item in rng.sample([(u, i) for u in range(users) for i in range(items)], 260)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")
    # Splits in no order at all: a test row may stand before a training row of its user.
    names = [rng.choice(["train", "train", "valid", "test"]) for _ in rows]
    frame = frame.with_columns(pl.Series("split", names))
    ids = [f"i{n}" for n in range(items)]
    return Tables(
        frame.drop("label") if implicit else frame,
        pl.DataFrame({"item_id": ids, "title": [f"T {i}" for i in ids]}),
        "world",
    )


def question_items(dataset: Dataset, split: str) -> set[int]:
    asked = dataset.questions(split)
    return set(asked.targets) | set(asked.histories.items)


@settings(max_examples=50)
@given(
    st.integers(0, 10**6), st.floats(0, 0.5), st.floats(0, 0.3), st.sampled_from(SPLITS), st.booleans()
)
def test_training_and_validation_never_meet_what_is_held_out(
    seed: int, cold_items: float, cold_users: float, split: str, implicit: bool
) -> None:
    source = tables(seed, implicit=implicit)
    whole = prepare(source, split=split, seed=seed)
    dataset = prepare(source, split=split, seed=seed, cold_items=cold_items, cold_users=cold_users)
    known_items, known_users = len(np.unique(whole.items)), len(np.unique(whole.users))
    assert len(dataset.held_items) == round(cold_items * known_items)
    assert len(dataset.held_users) == round(cold_users * known_users)

    held = set(dataset.held_items)
    for name in ("train", "valid"):
        assert not held & question_items(dataset, name)
        assert not set(dataset.held_users) & set(dataset.users[dataset.rows(name)])
    assert not dataset.train_counts[dataset.held_items].any()
    assert not dataset.seen_users[dataset.held_users].any()
    for likes_only in (True, False):
        cut = windows(dataset, length=6, likes_only=likes_only, rows=dataset.rows("train"))
        assert not held & (set(cut.items.ravel()) | set(cut.target))
        assert not set(dataset.held_users) & set(cut.users)

    # Every row is still there, test rows are the same, and only held-out rows have changed.
    of_held = np.isin(whole.items, dataset.held_items) | np.isin(whole.users, dataset.held_users)
    changed = dataset.splits != whole.splits
    assert dataset.items.tolist() == whole.items.tolist()
    assert dataset.rows("test").tolist() == whole.rows("test").tolist()
    assert (dataset.splits[changed] == CONTEXT).all() and of_held[changed].all()
    assert not np.isin(dataset.splits[of_held], (TRAIN, VALID)).any()

    again = prepare(source, split=split, seed=seed, cold_items=cold_items, cold_users=cold_users)
    assert again.digest == dataset.digest
    assert again.held_items.tolist() == dataset.held_items.tolist()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS), st.none() | st.integers(0, 4))
def test_a_history_is_whole_in_the_test_and_lacks_only_held_items_before_it(
    seed: int, split: str, last: int | None
) -> None:
    dataset = prepare(tables(seed), split=split, seed=seed, cold_items=0.3)
    rows = np.random.default_rng(seed).permutation(len(dataset))
    got = dataset.histories(rows, last)
    for b, row in enumerate(rows):
        before = np.arange(dataset.starts[dataset.users[row]], row)
        if dataset.splits[row] in (TRAIN, VALID):
            before = before[~np.isin(dataset.items[before], dataset.held_items)]
        if last is not None:
            before = before[max(0, len(before) - last) :]
        mine = slice(got.offsets[b], got.offsets[b + 1])
        assert got.items[mine].tolist() == dataset.items[before].tolist()
        assert got.labels[mine].tolist() == dataset.labels[before].tolist()
        assert got.times[mine].tolist() == dataset.times[before].tolist()


def test_test_histories_show_held_items_and_a_new_user_shows_what_came_before() -> None:
    dataset = prepare(tables(3), cold_items=0.4, cold_users=0.3)
    assert set(dataset.held_items) & set(dataset.questions("test").histories.items)
    asked = dataset.questions("test")
    of_new = np.isin(asked.histories.users, dataset.held_users)
    assert np.diff(asked.histories.offsets)[of_new].any()


def test_the_notes_count_every_row_that_moved() -> None:
    whole = prepare(tables(5))
    dataset = prepare(tables(5), cold_items=0.25, cold_users=0.2)
    items, users, both = dataset.notes[-3:]
    moved = re.findall(r"(\d+) training and (\d+) validation", items + users)
    lost = sum(int(n) for pair in moved for n in pair)
    twice = np.isin(whole.items, dataset.held_items) & np.isin(whole.users, dataset.held_users)
    assert both.startswith(f"{int(twice.sum())} of these rows are counted twice")
    for code in (TRAIN, VALID):
        assert (dataset.splits == code).sum() < (whole.splits == code).sum()
    learnt = [np.isin(d.splits, (TRAIN, VALID)).sum() for d in (whole, dataset)]
    assert learnt[0] - learnt[1] == lost - (twice & (whole.splits != TEST)).sum()
    assert items.startswith("10 of 40 items are held out") and users.startswith("3 of 14 users")
    summary = dataset.summary()
    assert (summary["held_out_items"], summary["held_out_users"]) == (10, 3)


def test_a_larger_share_holds_out_the_same_and_more_and_a_seed_others() -> None:
    small, large = (prepare(tables(1), cold_items=s).held_items for s in (0.1, 0.3))
    assert set(small) < set(large) and len(small) == 4 and len(large) == 12
    assert set(prepare(tables(1), cold_items=0.1, seed=1).held_items) != set(small)
    assert prepare(tables(1), cold_users=0.3).held_items.tolist() == []


def test_without_held_out_rows_nothing_changes_and_with_them_they_survive_the_disk(tmp_path) -> None:
    whole = prepare(tables(2))
    assert prepare(tables(2), cold_items=0.0).digest == whole.digest
    dataset = prepare(tables(2), cold_items=0.2, cold_users=0.2)
    assert dataset.digest != whole.digest
    dataset.save(tmp_path)
    again = Dataset.load(tmp_path)
    assert again.held_items.tolist() == dataset.held_items.tolist() != []
    assert again.held_users.tolist() == dataset.held_users.tolist() != []
    assert again.summary() == dataset.summary()
    assert question_items(again, "valid") == question_items(dataset, "valid")
    facts = json.loads((tmp_path / "dataset.json").read_text())
    facts["held_items"][0] += 1
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="digest differs"):
        Dataset.load(tmp_path)


def test_held_out_items_and_users_fall_into_the_slices_of_their_cause() -> None:
    dataset = prepare(tables(4), cold_items=0.3, cold_users=0.3)
    asked = dataset.questions("test")
    masks = slices_by_cause(
        asked,
        seen_users=dataset.seen_users,
        seen_items=dataset.seen_items,
        train_counts=dataset.train_counts,
    )
    item, user = (
        np.isin(asked.targets, dataset.held_items),
        np.isin(asked.histories.users, dataset.held_users),
    )
    assert item.any() and user.any() and (item & user).any()
    assert masks["any new item"][item].all()
    assert masks["new user and new item"][item & user].all()
    assert not masks["warm (user and item in train)"][item | user].any()


@pytest.mark.parametrize("share", [-0.1, 0.51, float("nan")])
@pytest.mark.parametrize("name", ["cold_items", "cold_users"])
def test_impossible_shares_are_refused(name: str, share: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{name} is {share}; allowed: a share between 0"):
        prepare(tables(1), **{name: share})


def test_a_share_that_leaves_nothing_to_validate_is_refused() -> None:
    rows = [("a", f"i{n}", 1, n) for n in range(4)] + [("b", f"i{n}", 1, n) for n in (0, 1)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")
    ids = [f"i{n}" for n in range(4)]
    source = Tables(frame, pl.DataFrame({"item_id": ids, "title": ids}), "tiny")
    refused = 0
    for seed in range(8):
        try:
            prepare(source, split="leave-one-out", cold_users=0.5, seed=seed)
        except DataError as refusal:
            refused += 1
            assert "leave a part without rows: train 2, valid 0, test 1" in str(refusal)
    assert 0 < refused < 8
