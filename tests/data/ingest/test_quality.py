"""Odd data is said with its numbers and a way out; what cannot be trained on is refused at once."""

from __future__ import annotations

import random
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.quality import WARNING, refuse_untrainable
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError, SasrecllmError

LABELS = "user_id item_id label timestamp"


def data(rows: list[tuple], columns: str = LABELS, items: int = 0, **given) -> Dataset:
    frame = pl.DataFrame(rows, schema=columns.split(), orient="row")
    shelf = sorted({*frame["item_id"], *(f"extra{n}" for n in range(items))})
    titles = pl.DataFrame({"item_id": shelf, "title": shelf})
    return prepare(Tables(frame, titles, "log"), **given)


FEW = "too few to tell two rows of a table apart"


def warnings(dataset: Dataset) -> list[str]:
    """All but those of few users, which most of these small logs have."""
    said = [n.removeprefix(WARNING) for n in dataset.notes if n.startswith(WARNING)]
    return [text for text in said if FEW not in text]


def settings_of(remedy: str) -> dict:
    """The settings that a remedy names, as arguments of ``prepare``."""
    found = dict(re.findall(r"(?:data|recommend)\.(\w+)=([\w{}.-]+)", remedy))
    given = {k: {"{}": {}}.get(v, v) for k, v in found.items()}
    return given | {k: int(given[k]) for k in ("negatives",) if k in given}


def one_row_each(users: int, rows: int) -> list[tuple]:
    rng = random.Random(3)
    return [(f"u{n // rows}", f"i{rng.randrange(9)}", n % 2, n) for n in range(users * rows)]


def test_test_rows_of_new_users_alone_are_said_with_a_split_that_works() -> None:
    rows = one_row_each(users=30, rows=3)
    said = warnings(data(rows))
    assert len(said) == 2
    assert "the test rows are all of users without a training row (9 of 9 rows" in said[1]
    assert said[1].endswith("set data.split=leave-one-out")
    assert warnings(data(rows, **settings_of(said[1]))) == []


def test_the_remedy_takes_the_arguments_of_another_split_back() -> None:
    said = warnings(data(one_row_each(users=30, rows=3), split_args={"valid": 0.2, "test": 0.2}))
    assert said[1].endswith("set data.split=leave-one-out and data.split_args={}")


def test_where_no_split_helps_none_is_named() -> None:
    (valid, test) = warnings(data(one_row_each(users=40, rows=1)))
    assert "rows are all of users" in valid and "data.split" not in valid + test


def test_test_likes_on_new_items_are_said() -> None:
    rows = [(f"u{n % 5}", f"i{n // 10}", n % 2, n) for n in range(100)]
    said = warnings(data(rows))
    assert "the test rows are all on items without a training row" in said[1]
    assert "5 of 5 likes are on such items" in said[1]
    old = [(f"u{n % 5}", "i0", 0, n) for n in range(100, 104)]
    mixed = warnings(data(rows + old, split_args={"valid": 0.05, "test": 0.15}))[-1]
    assert "the test likes are for more than half on items" in mixed


def test_few_users_are_said_with_a_split_that_asks_more_of_them() -> None:
    rows = [(f"u{n % 15}", f"i{n % 7}", n % 2, n // 40) for n in range(200)]
    few = [
        n for n in data(rows[:150] + [("u1", "i0", 0, 9), ("u1", "i1", 1, 9)] * 15).notes if FEW in n
    ]
    assert "the test rows are of 1 user, " in few[-1] and "set data.split=leave-one-out" in few[-1]
    assert not [n for n in data(rows, split="leave-one-out").notes if FEW in n]
    small = [(f"u{n % 3}", f"i{n}", n % 2, n) for n in range(9)]
    (valid, test) = [n for n in data(small, split="leave-one-out").notes if FEW in n]
    assert test.endswith("give more users") and "of 3 users" in valid


def test_a_test_of_one_label_is_said_with_its_numbers() -> None:
    rows = [(f"u{n % 20}", f"i{n % 7}", int(n % 2 and n < 180), n) for n in range(200)]
    (said,) = warnings(data(rows, split_args={"valid": 0.2, "test": 0.1}))
    assert "the test rows all have the label 0: AUC is undefined there" in said
    assert warnings(data(rows, split_args={"valid": 0.2, "test": 0.3})) == []


@pytest.mark.parametrize("rare", [0, 1])
def test_a_test_with_few_rows_of_one_label_is_said_with_their_number(rare: int) -> None:
    """AUC of 3 dislikes among 60 rows is that of these three."""
    odd = {150: 1, 170: 1, 190: 1}
    rows = [
        (f"u{n % 20}", f"i{n % 7}", abs(rare - int(n not in odd if n >= 140 else n % 2)), n)
        for n in range(200)
    ]
    (said,) = warnings(data(rows, split_args={"valid": 0.2, "test": 0.3}))
    assert f"the test rows have the label {rare} 3 times of 60, too few for an AUC to go by: " in said


def test_what_was_held_out_on_purpose_is_no_surprise() -> None:
    rows = one_row_each(users=30, rows=3)
    assert warnings(data(rows, cold_users=0.1)) == []


@pytest.mark.parametrize("label", [0, 1])
def test_labels_that_are_all_the_same_are_refused_before_anything_is_built(label: int) -> None:
    rng = random.Random(5)
    rows = [(f"u{u}", f"i{i}", label, n) for n, (u, i) in
            enumerate((u, i) for u in range(6) for i in rng.sample(range(12), 6))]  # fmt: skip
    dataset = data(rows)
    with pytest.raises(DataError, match=f"all 29 train rows have the label {label}") as refusal:
        refuse_untrainable(dataset, {})
    assert f"of 36 rows {36 * label} are likes" in refusal.value.what
    if label:
        refuse_untrainable(data(rows, **settings_of(refusal.value.remedy)), {})


def test_a_validation_split_with_one_label_is_refused_with_a_split_that_has_both() -> None:
    rows = [(f"u{n % 8}", f"i{n % 10}", n < 64 and n % 3 == 0, n) for n in range(80)]
    rows = [(u, i, int(y), t) for u, i, y, t in rows]
    given = {"valid": 0.1, "test": 0.05}
    dataset = data(rows, split_args=given)
    with pytest.raises(
        DataError, match=r"all 8 valid rows have the label 0 \(of 80 rows 22"
    ) as refusal:
        refuse_untrainable(dataset, given)
    assert "no AUC can choose" in refusal.value.what
    assert "data.split=" not in refusal.value.remedy  # the last rows of every user are no likes
    late = [(f"u{n % 8}", f"i{n % 10}", n % 2, n) for n in range(80, 120)]
    split = {"valid": 0.13, "test": 0.33}  # the validation rows lie among those without a like
    with pytest.raises(DataError, match="valid rows have the label 0") as refusal:
        refuse_untrainable(data(rows + late, split_args=split), split)
    assert refusal.value.remedy.startswith("set data.split=")
    refuse_untrainable(data(rows + late, **settings_of(refusal.value.remedy)), {})


EVENTS = "user_id item_id timestamp"


def test_users_who_met_everything_leave_a_refusal_whose_remedy_works() -> None:
    everything = [(f"u{u}", f"i{i}", i) for u in range(4) for i in range(10)]
    with pytest.raises(DataError, match="no user leaves more than 0") as refusal:
        refuse_untrainable(data(everything, EVENTS, split="leave-one-out"), {})
    given = settings_of(refusal.value.remedy)
    assert given["seen"] == "allow"
    refuse_untrainable(data(everything, EVENTS, split="leave-one-out", **given), {})
    nearly = [(f"u{u}", f"i{(i + u) % 10}", i) for u in range(4) for i in range(8)]
    with pytest.raises(DataError, match="need 4 other items each") as refusal:
        refuse_untrainable(data(nearly, EVENTS, split="leave-one-out"), {})
    given = settings_of(refusal.value.remedy)
    assert given == {"negatives": 2}
    refuse_untrainable(data(nearly, EVENTS, split="leave-one-out", **given), {})


def test_one_item_is_refused() -> None:
    with pytest.raises(DataError, match="of 1 items no user leaves more than 0") as refusal:
        refuse_untrainable(data([("u", "a", n) for n in range(9)], EVENTS, split="leave-one-out"), {})
    assert "add the items" in refusal.value.remedy


CELLS = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9), st.integers(1, 5))


def random_cells(seed: int) -> list[tuple[int, int, int, int]]:
    rng = random.Random(seed)
    users, items, days = rng.randint(2, 5), rng.randint(6, 20), rng.randint(5, 60)
    return [
        (rng.randrange(users), rng.randrange(items), rng.randrange(days), rng.randint(1, 5))
        for _ in range(rng.randint(25, 40))
    ]


def mostly(usual, *others):
    return st.sampled_from([usual] * 5 * len(others) + [*others])


@settings(deadline=None, max_examples=400)
@given(
    log=st.builds(random_cells, st.integers(0, 10**6)) | st.lists(CELLS, min_size=1, max_size=10),
    feedback=st.sampled_from(["labels", "ratings", "implicit"]),
    split=st.sampled_from(["auto", "given", "global-time", "leave-one-out"] * 5 + ["collm", "tallrec"]),
    repeats=mostly("auto", "keep", "first", "last", "refuse"),
    clock=mostly("timestamp", "order", ""),
    order=mostly("auto", "time", "file"),
    seen=st.sampled_from(["auto", "exclude", "allow"]),
    negatives=st.integers(1, 3),
    cold=mostly(0.0, 0.3),
    seed=st.integers(0, 99),
)
def test_every_small_log_is_prepared_and_right_or_refused(
    log, feedback, split, repeats, clock, order, seen, negatives, cold, seed
) -> None:
    columns = {"user_id": [f"u{u}" for u, *_ in log], "item_id": [f"i{i}" for _, i, *_ in log]}
    columns |= {clock: [t for *_, t, _ in log]} if clock else {}
    columns |= {"rating": [v for *_, v in log]} if feedback == "ratings" else {}
    columns |= {"label": [v % 2 for *_, v in log]} if feedback == "labels" else {}
    rng = random.Random(seed)
    if split == "given":
        columns |= {"split": [rng.choice(["train", "train", "valid", "test"]) for _ in log]}
    frame = pl.DataFrame(columns)
    shares = {"valid": 0.2, "test": 0.2} if split == "global-time" else {}
    shelf = sorted(set(frame["item_id"]))
    tables = Tables(frame, pl.DataFrame({"item_id": shelf, "title": shelf}), "log", order=order)
    try:
        dataset = prepare(
            tables, split=split, split_args=shares, repeats=repeats, seen=seen,
            negatives=negatives, cold_items=cold,
        )  # fmt: skip
        refuse_untrainable(dataset, shares)
    except SasrecllmError as refusal:
        assert refusal.what and refusal.remedy and refusal.exit_code in (2, 4)
        event("refused")
        return
    event("prepared")
    _check(dataset, frame, split, repeats)


def _check(dataset: Dataset, frame: pl.DataFrame, split: str, repeats: str) -> None:
    parts = {name: dataset.rows(name) for name in ("train", "valid", "test")}
    assert all(len(rows) for rows in parts.values())
    context = int((dataset.splits < 0).sum())
    assert sum(map(len, parts.values())) + context == len(dataset) <= frame.height
    if repeats == "keep" and split not in ("collm", "tallrec"):
        assert len(dataset) == frame.height
    assert set(dataset.catalog.user_ids) <= set(frame["user_id"])
    assert {dataset.catalog.item_id(i) for i in dataset.items} <= set(frame["item_id"])
    if split in ("auto", "leave-one-out"):  # nothing is learnt from behind a question of its user
        asked = {u: r for r, u in reversed(list(enumerate(dataset.users))) if dataset.splits[r] > 0}
        assert all(row < asked.get(dataset.users[row], row + 1) for row in parts["train"])
    for name, rows in parts.items():
        questions = dataset.questions(name)
        assert set(questions.rows) <= set(rows) and len(questions)
        histories = questions.histories
        assert (histories.times <= histories.asked_at[histories.owners]).all()
        if name == "train" and dataset.implicit:
            assert dataset.seen_items[questions.targets].all()
    if not dataset.implicit:
        assert len(np.unique(dataset.labels[parts["valid"]])) == 2
