from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sasrecllm.data.ingest.validation import validate
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError, SasrecllmError

NAMES = ["user_id", "item_id", "rating", "timestamp"]


def tables(rows, names=NAMES, items=None, **given) -> Tables:
    frame = pl.DataFrame(rows, schema=names, orient="row", strict=False)
    items = items or [("a", "A"), ("b", "B"), ("c", "C")]
    return Tables(
        frame, pl.DataFrame(items, schema=["item_id", "title"], orient="row"), "t",
        files=("log.csv", "films.csv"), **given,
    )  # fmt: skip


GOOD = [("u", "a", 5.0, 1), ("u", "b", 1.0, 2), ("u", "c", 4.0, 3), ("v", "a", 2.0, 4)]
BAD_ROWS = {
    "null user": ((None, "a", 1.0, 5), "user_id", "no value"),
    "empty user": (("", "a", 1.0, 5), "user_id", "''"),
    "blank user": (("  ", "a", 1.0, 5), "user_id", "'  '"),
    "NUL in user": (("u\x00", "a", 1.0, 5), "user_id", "x00"),
    "endless user": (("u" * 129, "a", 1.0, 5), "user_id", "uuu"),
    "null item": (("u", None, 1.0, 5), "item_id", "no value"),
    "unknown item": (("u", "zzz", 1.0, 5), "item_id", "'zzz'"),
    "null rating": (("u", "a", None, 5), "rating", "no value"),
    "NaN rating": (("u", "a", math.nan, 5), "rating", "nan"),
    "infinite rating": (("u", "a", -math.inf, 5), "rating", "-inf"),
    "null time": (("u", "a", 1.0, None), "timestamp", "no value"),
    "negative time": (("u", "a", 1.0, -1), "timestamp", "-1"),
    "milliseconds": (("u", "a", 1.0, 978_300_760_000), "timestamp", "978300760000"),
    "repeated row": (("u", "a", 5.0, 1), "timestamp", "1"),
    "repeated row, other rating": (("u", "a", 2.0, 1), "timestamp", "1"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_with_file_row_column_and_value(case: str) -> None:
    row, column, value = BAD_ROWS[case]
    with pytest.raises(DataError) as refusal:
        validate(tables([*GOOD, row]))
    shown = str(refusal.value)
    assert f"log.csv, row 5, column {column}: " in shown and value in shown and "allowed: " in shown
    assert refusal.value.exit_code == 4 and "quarantine" in refusal.value.remedy


@pytest.mark.parametrize("unit", ["milliseconds", "microseconds", "nanoseconds"])
def test_times_in_another_unit_are_told_by_it_and_the_remedy_works(unit: str) -> None:
    moment, parts = 1_700_000_000, {"milli": 10**3, "micro": 10**6, "nano": 10**9}[unit[:-7]]
    with pytest.raises(DataError, match=f"this looks like {unit}\n") as refusal:
        validate(tables([("u", "a", 1.0, moment * parts)]))
    divisor = int(re.search(r"divide the column by (\d+);", refusal.value.remedy)[1])
    clean, _ = validate(tables([("u", "a", 1.0, moment * parts // divisor)]))
    assert clean.interactions["timestamp"].to_list() == [moment]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("<b>Tea</b> set", True), ("Salt &amp; Pepper", True), ("One<br/>two", True), ("&#39;76", True),
        ("I <3 you & me; 2 < 3 > 1", False), ("Q&A; R&B", False), ("a <berry> tale", False),
    ],
)  # fmt: skip
def test_titles_with_html_are_noted_and_stay_as_they_are(title: str, said: bool) -> None:
    clean, _ = validate(tables(GOOD, items=[("a", "A"), ("b", title), ("c", "C")]))
    notes = [note for note in clean.notes if "1 titles hold HTML" in note and "item 'b'" in note]
    assert len(notes) == said
    assert clean.items.filter(pl.col("item_id") == "b")["title"].item() == title


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [("u" * 129, "give shorter ids"), ("u\n1", "take line breaks"), (" ", "give the id")],
)
def test_the_next_step_for_a_bad_id_is_about_what_is_bad_of_it(raw: str, remedy: str) -> None:
    with pytest.raises(DataError) as refusal:
        validate(tables([*GOOD, (raw, "a", 1.0, 5)]))
    assert refusal.value.remedy.startswith(remedy)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_quarantine_sets_the_row_aside_with_its_reason(case: str, tmp_path: Path) -> None:
    row, column, _ = BAD_ROWS[case]
    path = tmp_path / "new" / "refused.jsonl"
    clean, count = validate(tables([*GOOD, row]), on_bad_rows="quarantine", quarantine_path=path)
    assert count == 1 and clean.interactions.height == 4
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 1 and lines[0]["column"] == column and lines[0]["file"] == "log.csv"
    assert {"row", "line", "value", "allowed", "remedy"} <= set(lines[0])


def test_quarantine_keeps_the_first_copy_of_the_file(tmp_path: Path) -> None:
    rows = [*GOOD, ("u", "a", 2.0, 1), ("u", "a", 5.0, 1), ("v", "a", 2.0, 9)]
    clean, count = validate(tables(rows), on_bad_rows="quarantine", quarantine_path=tmp_path / "q")
    assert clean.interactions.select(NAMES).rows() == [*GOOD, rows[-1]] and count == 2


BAD_ITEMS = {
    "no title": ("d", None),
    "empty title": ("d", ""),
    "title of control characters": ("d", "\x00\x1b\u202e"),
    "item twice": ("a", "A again"),
    "no id": (None, "D"),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_a_bad_item_is_named_and_its_rows_go_with_it(case: str, tmp_path: Path) -> None:
    items = [("a", "A"), ("b", "B"), ("c", "C"), BAD_ITEMS[case]]
    with pytest.raises(DataError, match=r"films\.csv, row (1|4), column (title|item_id)"):
        validate(tables(GOOD, items=items))
    path = tmp_path / "q.jsonl"
    clean, count = validate(tables(GOOD, items=items), on_bad_rows="quarantine", quarantine_path=path)
    rows_of_a = 2 if case == "item twice" else 0
    assert clean.interactions.height == 4 - rows_of_a
    assert count == (2 if rows_of_a else 1) + rows_of_a == len(path.read_text().splitlines())


BAD_TABLES = {
    "no user column": (lambda: tables([("a", 1.0)], ["item_id", "rating"]), "no column user_id"),
    "misspelt user column": (
        lambda: tables([("u", "a")], ["user_ids", "item_id"]), "did you mean 'user_ids'"),
    "no rows": (lambda: tables([], NAMES), "log.csv has no rows"),
    "fractions as ids": (lambda: tables([(1.0, "a", 1.0, 1)]), "column user_id: ids are of type"),
    "lists as ratings": (lambda: tables([("u", "a", [1], 1)]), "column rating: values are of type"),
    "labels of 2": (
        lambda: tables([("u", "a", 2, 1)], ["user_id", "item_id", "label", "timestamp"]),
        "column label: 2; allowed: 0 or 1"),
    "words as ratings": (lambda: tables([("u", "a", "good", 1)]), "column rating: 'good'"),
    "words as times": (lambda: tables([("u", "a", 1.0, "May")]), "column timestamp: 'May'"),
    "no seconds": (lambda: tables([("u", "a", 1.0, math.inf)]), "column timestamp: inf"),
    "unknown split": (
        lambda: tables([("u", "a", "dev")], ["user_id", "item_id", "split"]),
        "column split: 'dev'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused_with_the_column(case: str) -> None:
    build, words = BAD_TABLES[case]
    with pytest.raises(DataError) as refusal:
        validate(build())
    assert words in str(refusal.value) and refusal.value.remedy


def test_titles_that_are_no_text_are_refused() -> None:
    for titles in ([b"A\xff"], pl.Series([object()], dtype=pl.Object), [["A"]]):
        shelf = pl.DataFrame({"item_id": ["a"], "title": titles})
        with pytest.raises(DataError, match=r"films\.csv, column title: values are of type"):
            validate(Tables(tables(GOOD).interactions, shelf, "t", files=("l", "films.csv")))


def test_a_quarantine_file_of_an_earlier_run_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    for rows, refused in (([*GOOD, ("u", "a", math.nan, 9)], 1), (GOOD, 0)):
        _, count = validate(tables(rows), on_bad_rows="quarantine", quarantine_path=path)
        assert count == refused and path.exists() == bool(refused)


def test_no_row_left_and_quarantine_without_a_file() -> None:
    with pytest.raises(ConfigError, match="no file is named"):
        validate(tables(GOOD), on_bad_rows="quarantine")


def test_when_every_row_is_bad_nothing_is_left(tmp_path: Path) -> None:
    rows = [(u, i, r, t * 10**12) for u, i, r, t in GOOD]
    with pytest.raises(DataError, match=r"no usable row \(4 refused\)"):
        validate(tables(rows), on_bad_rows="quarantine", quarantine_path=tmp_path / "q")


ACCEPTED = {
    "numbers as text": [("u", "a", " 5.0", "1"), ("u", "b", "1e0", "2.0")],
    "zero times": [("u", "a", 5.0, 0), ("u", "b", 1.0, 0)],
    "the same pair at another time": [("u", "a", 5.0, 1), ("u", "a", 1.0, 2)],
    "whole numbers as ids": [(1, "a", 5.0, 1), (2, "b", 1.0, 2)],
    "an id of 128 bytes": [("u" * 128, "a", 5.0, 1), ("v", "a", 1.0, 2)],
    "booleans as ratings": [("u", "a", True, 1), ("u", "b", False, 2)],
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_odd_but_meaningful_tables_are_accepted(case: str) -> None:
    clean, count = validate(tables(ACCEPTED[case]))
    assert count == 0 and clean.interactions.height == 2
    assert clean.interactions.schema["timestamp"] == pl.Int64
    assert isinstance(clean.interactions.schema["user_id"], pl.Enum)


def test_dates_become_utc_seconds() -> None:
    texts = {
        "1970-01-02": 86_400,
        "1970-01-02 00:00:01": 86_401,
        "1970-01-02T00:01": 86_460,
        "1970-01-02T00:00:01Z": 86_401,
        "1970-01-02T09:00:01.9+09:00": 86_401,
        " 12.0 ": 12,
    }
    rows = [(f"u{n}", "a", 1.0, text) for n, text in enumerate(texts)]
    clean, _ = validate(tables(rows))
    assert clean.interactions.sort("__row")["timestamp"].to_list() == list(texts.values())
    for wrong in ("1970-13-01", "02/01/1970", "1969-12-31"):
        with pytest.raises(DataError, match=rf"row 1, column timestamp: '?{wrong[:2]}"):
            validate(tables([("u", "a", 1.0, wrong)]))
    second = pl.datetime(1970, 1, 2, 0, 0, 1).alias("timestamp")
    frame = tables(GOOD).interactions.with_columns(second)
    clean, _ = validate(Tables(frame, tables(GOOD).items, "t"))
    assert set(clean.interactions["timestamp"]) == {86_401}


GOOD_IDS = ["a", "b", "c", "007", "🎬"]
good_ids, good_numbers = st.sampled_from(GOOD_IDS), st.sampled_from([1, 1, 0])
cell_ids = st.one_of(good_ids, st.sampled_from(["", "x\x00", None]))
cell_numbers = st.sampled_from([-1, 6, 10**12, None, "4.5", "x", "NaN", "0", "1"])
good_rows = st.tuples(st.sampled_from("uv"), good_ids, good_numbers, st.integers(0, 60))
bad_rows = st.tuples(cell_ids, cell_ids, cell_numbers, cell_numbers)
good_tables = st.lists(good_rows, min_size=10, max_size=30, unique_by=lambda row: row[3])
good_items = st.just([(i, f"T {i}") for i in GOOD_IDS])
bad_items = st.lists(st.tuples(cell_ids, st.one_of(st.text(max_size=5), st.none())), max_size=6)


@settings(max_examples=300)
@given(
    rows=good_tables | st.lists(good_rows | bad_rows, max_size=25),
    items=good_items | bad_items,
    value=st.sampled_from(["label", "rating"]),
    clock=st.sampled_from(["timestamp", "order"]),
    mode=st.sampled_from(["refuse", "quarantine"]),
    order=st.sampled_from(["auto", "file", "time"]),
)
def test_whatever_comes_in_it_is_refused_or_right(
    rows, items, value, clock, mode, order, tmp_path_factory
) -> None:
    names = ["user_id", "item_id", value, clock]
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    texts = [[None if x is None else str(x) for x in column] for column in columns]
    frame = pl.DataFrame(dict(zip(names, texts, strict=True)), schema=dict.fromkeys(names, pl.String))
    shelf = pl.DataFrame(items, schema={"item_id": pl.String, "title": pl.String}, orient="row")
    path = tmp_path_factory.mktemp("q") / "q.jsonl"
    given_tables = Tables(frame, shelf, "t", order=order)
    try:
        clean, count = validate(given_tables, on_bad_rows=mode, quarantine_path=path)
        dataset = prepare(
            given_tables, threshold=1, split="leave-one-out", repeats="refuse", on_bad_rows=mode,
            quarantine_path=path,
        )  # fmt: skip
    except SasrecllmError as refusal:
        assert refusal.what and refusal.remedy and refusal.exit_code in (2, 4)
        event("refused")
        return
    event("accepted")
    refused = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    assert len(refused) == count and clean.interactions.height + clean.items.height + count == (
        len(rows) + len(items)
    )
    assert len(dataset) == clean.interactions.height and dataset.n_items == clean.items.height
    assert set(dataset.catalog.item_ids) <= {i for i, _ in items}
    assert set(dataset.catalog.user_ids) <= {r[0] for r in rows}
    assert set(np.unique(dataset.labels)) <= {0, 1} and (np.diff(dataset.users) >= 0).all()
    everything = dataset.histories(np.arange(len(dataset)))
    assert (everything.times <= everything.asked_at[everything.owners]).all()


def test_items_that_the_shelf_lacks_are_counted() -> None:
    """Thousands of bad rows may be three missing items."""
    rows = [("u", item, 5.0, n) for n, item in enumerate(["a", "x", "y", "x", "z", "b", "c", "a"])]
    with pytest.raises(DataError, match=r"'x'; allowed: items of films\.csv; 4 of 8 rows") as refusal:
        validate(tables(rows))
    assert refusal.value.remedy.startswith("add the 3 items that films.csv lacks to it, or remove")
    with pytest.raises(DataError) as refusal:
        validate(tables([GOOD[0], ("u", "x", 5.0, 9)]))
    assert refusal.value.remedy.startswith("add the item to films.csv, or remove the row")
