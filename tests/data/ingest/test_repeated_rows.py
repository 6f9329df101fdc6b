"""Two rows of one user, item and moment: data for events, one rating too many, or bad rows."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError

DAYS = ["2024-03-01"] * 4 + ["2024-03-02"] * 4 + ["2024-03-03"] * 4


def daily(value: str = "", values: list[float] | None = None) -> Tables:
    """A log by the day: each day item b comes twice for both users."""
    frame = pl.DataFrame({"user_id": list("uuvv") * 3, "item_id": list("bbbb") * 3, "timestamp": DAYS})
    if value:
        frame = frame.with_columns(pl.Series(value, values))
    shelf = [f"{c}" for c in "abcdefgh"]
    return Tables(frame, pl.DataFrame({"item_id": shelf, "title": shelf}), "daily")


def test_a_log_by_the_day_keeps_what_happened_twice_and_says_so() -> None:
    dataset = prepare(daily(), split="leave-one-out", negatives=1, seen="allow")
    assert len(dataset) == 12 and dataset.implicit
    assert any(n.startswith("6 rows repeat the user, item and moment") for n in dataset.notes)
    assert any("(data.repeats)" in n and "count like any" in n for n in dataset.notes)


def test_labels_of_one_moment_are_all_kept() -> None:
    dataset = prepare(daily("label", [0, 1] * 6), split="leave-one-out")
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0, 1] * 2


@pytest.mark.parametrize(("repeats", "stays"), [
    ("auto", [5, 1, 4]), ("last", [5, 1, 4]), ("first", [1, 2, 3]), ("keep", [1, 5, 2, 1, 3, 4]),
])  # fmt: skip
def test_of_two_ratings_of_one_moment_the_last_of_the_file_counts(repeats: str, stays: list) -> None:
    ratings = [1.0, 5, 1, 5, 2, 1, 2, 1, 3, 4, 3, 4]
    dataset = prepare(daily("rating", ratings), split="leave-one-out", threshold=3, repeats=repeats)
    assert dataset.labels.tolist() == [int(r >= 3) for r in stays] * 2
    (note,) = [n for n in dataset.notes if "data.repeats" in n]
    assert note.startswith("6 rows repeat")
    kept = {"auto": "last alone", "keep": "like any"}.get(repeats, f"{repeats} alone")
    assert kept in note


def test_repeats_can_be_refused_or_set_aside_and_the_remedy_works(tmp_path) -> None:
    tables = daily()
    with pytest.raises(DataError, match=r"row 2, column timestamp: '2024-03-01'; allowed: each") as got:
        prepare(tables, split="leave-one-out", repeats="refuse")
    assert "data.repeats=keep, first or last" in got.value.remedy
    path = tmp_path / "q.jsonl"
    given = {"split": "leave-one-out", "negatives": 1, "seen": "allow"}
    aside = {"on_bad_rows": "quarantine", "quarantine_path": path, "repeats": "refuse"}
    dataset = prepare(tables, **given, **aside)
    assert len(dataset) == 6
    rows = [json.loads(line)["row"] for line in path.read_text().splitlines()]
    assert rows == [2, 4, 6, 8, 10, 12]
    for repeats, count in (("keep", 12), ("first", 6), ("last", 6)):
        assert len(prepare(tables, repeats=repeats, **given)) == count


def test_a_log_without_a_clock_has_no_two_rows_of_one_moment() -> None:
    tables = daily()
    bare = replace(tables, interactions=tables.interactions.drop("timestamp"))
    assert len(prepare(bare, repeats="refuse", seen="allow")) == 12
    placed = bare.interactions.with_columns(pl.Series("order", [1] * 4 + [2] * 4 + [3] * 4))
    placed = replace(bare, interactions=placed)
    with pytest.raises(DataError, match="row 2, column order: 1; allowed: each"):
        prepare(placed, repeats="refuse", seen="allow")
    assert len(prepare(placed, repeats="first", seen="allow")) == 6


def test_rows_of_one_day_stand_in_the_order_of_the_file_whatever_their_ids() -> None:
    frame = pl.DataFrame(
        {"user_id": ["u"] * 6, "item_id": list("fbdcae"), "timestamp": ["2024-03-02"] * 3 + DAYS[:3]}
    )
    dataset = prepare(replace(daily(), interactions=frame), split="leave-one-out", negatives=1)
    assert "".join(dataset.catalog.item_id(i) for i in dataset.items) == "caefbd"
    (note,) = [n for n in dataset.notes if "breaks the tie" in n]
    assert note.startswith("6 rows share user and time") and "data.order" in note


@pytest.mark.parametrize("repeats", ["first", "last", "refuse"])
def test_a_setting_without_an_effect_is_told(repeats: str) -> None:
    tables = daily()
    timeless = replace(tables, interactions=tables.interactions.drop("timestamp"))
    given = {"split": "leave-one-out", "negatives": 1, "seen": "allow"}
    told = f"data.repeats={repeats} has no effect"
    assert any(told in note for note in prepare(timeless, repeats=repeats, **given).notes)
    for quiet in (prepare(timeless, **given), prepare(tables, repeats="last", **given)):
        assert not any("has no effect" in note for note in quiet.notes)
