"""Frames of polars and pandas at the door of files: the same rows, kinds and refusals."""

import ast
import datetime
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sasrecllm.data.ingest import frames
from sasrecllm.data.ingest.frames import as_polars, digest, lent
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError


def log(rows=120):
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "reader": [f"r{n % 10}" for n in range(rows)],
            "isbn": [f"{i:03d}" for i in rng.integers(0, 20, rows)],
            "stars": rng.integers(1, 6, rows),
            "when": 1_600_000_000 + 3600 * np.arange(rows),
        }
    )


def shelf():
    return pl.DataFrame(
        {"isbn": [f"{i:03d}" for i in range(20)], "name": [f"Book {i}" for i in range(20)]}
    )


COLUMNS = {
    "user_id": "reader", "item_id": "isbn", "rating": "stars", "timestamp": "when", "title": "name"
}  # fmt: skip


def to_pandas(frame):
    return pd.DataFrame(frame.to_dict(as_series=False))


def tables(interactions, items, columns=COLUMNS):
    with lent(interactions, items) as given:
        given = dict(given)
        source = given.pop("source")
        return load_tables(source, columns=columns, **given)


def prepared(interactions, items, columns=COLUMNS, **more):
    return prepare(tables(interactions, items, columns), split="global-time", **more)


def test_a_frame_of_either_library_and_a_file_give_the_same_data_set(tmp_path):
    log().write_parquet(tmp_path / "log.parquet")
    shelf().write_csv(tmp_path / "items.csv")
    ways = [
        (tmp_path / "log.parquet", tmp_path / "items.csv"),
        (str(tmp_path / "log.parquet"), shelf()),
        (log(), tmp_path / "items.csv"),
        (log().lazy(), shelf().lazy()),
        (to_pandas(log()), to_pandas(shelf())),
        (log().to_arrow(), shelf()),
    ]
    assert len({prepared(*way).digest for way in ways}) == 1


def test_titles_may_stand_in_the_interactions(tmp_path):
    both = log().join(shelf(), on="isbn")
    assert prepared(both, None).catalog.titles == prepared(log(), shelf()).catalog.titles


def test_a_refusal_names_the_frames_own_column_and_its_row_counted_from_0():
    bad = log().with_columns(stars=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("stars"))
    for frame in (bad, to_pandas(bad)):
        with pytest.raises(DataError) as refused:
            prepared(frame, shelf())
        assert str(refused.value).startswith(
            "the interactions frame, row 7 (counted from 0), column stars: no value; allowed: a finite"
        )
    twice = pl.concat([shelf(), shelf()[3:4]])
    with pytest.raises(
        DataError, match=r"the items frame, row 3 \(counted from 0\), column isbn: '003'"
    ):
        prepared(log(), twice)
    with pytest.raises(DataError, match=r"the interactions frame has no column 'stars' .* its columns"):
        tables(log().drop("stars"), shelf())
    order = COLUMNS | {"order": "place"}
    back = log().with_columns(place=-pl.int_range(pl.len()))
    with pytest.raises(DataError, match=r"the first: row \d+, reader 'r0', place"):
        prepared(back, shelf(), order)


def test_columns_that_are_missing_are_named_as_python_names_them():
    """What is printed is an argument of the call that was refused, and mends it."""
    books, rows = shelf().rename({"isbn": "no"}), log().rename({"isbn": "no", "reader": "who"})
    columns = {"rating": "stars", "timestamp": "when"}
    with pytest.raises(DataError, match=r"the items frame .*; the interactions frame has") as refused:
        prepared(rows, books, columns)
    remedy = refused.value.remedy.replace("<name in your file>", "who")
    named = ast.literal_eval(remedy.removeprefix("name them: columns="))
    assert named == {"item_id": "no", "user_id": "who"}
    assert len(prepared(rows, books, columns | named)) == 120


def test_refused_rows_are_set_aside_with_their_numbers(tmp_path):
    bad = log().with_columns(stars=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("stars"))
    aside = tmp_path / "quarantine.jsonl"
    prepared(bad, shelf(), on_bad_rows="quarantine", quarantine_path=aside)
    (line,) = pl.read_ndjson(aside).rows(named=True)
    assert (line["file"], line["row"], line["column"]) == ("the interactions frame", 7, "stars")


def test_what_pandas_has_for_a_missing_value_is_one():
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", None, pd.NA], dtype="object"),
            "string": pd.Series(["a", pd.NA, "b"], dtype="string"),
            "number": [1.5, float("nan"), 2.0],
            "whole": pd.Series([1, None, 3], dtype="Int64"),
            "truth": pd.Series([True, None, False], dtype="boolean"),
            "kind": pd.Series(["x", None, "y"], dtype="category"),
            "time": pd.to_datetime(["2020-01-01", None, "2021-01-01"]),
            "zone": pd.to_datetime(["2020-01-01", None, "2021-01-01"]).tz_localize("Europe/Berlin"),
        }
    )
    got = as_polars(frame, "it")
    assert got.null_count().row(0) == (2, 1, 1, 1, 1, 1, 1, 1)
    assert got["whole"].to_list() == [1, None, 3] and got["whole"].dtype == pl.Int64
    assert got["time"][0] == datetime.datetime(2020, 1, 1)
    assert got["zone"].dt.epoch("s")[0] == 1577833200  # midnight in Berlin


def test_a_named_index_is_a_column_and_another_is_not():
    items = to_pandas(shelf()).set_index("isbn")
    assert as_polars(items, "it").columns == ["isbn", "name"]
    some = to_pandas(shelf()).iloc[[4, 2]]
    assert as_polars(some, "it").to_dict(as_series=False) == {
        "isbn": ["004", "002"], "name": ["Book 4", "Book 2"]
    }  # fmt: skip


def test_a_column_of_two_kinds_is_refused_with_what_makes_it_one():
    frame = pd.DataFrame({"user_id": [1, "a"], "item_id": ["x", "y"]})
    with pytest.raises(DataError, match=r"the items frame, column user_id: .*: int, str") as refused:
        as_polars(frame, "the items frame")
    assert "astype(str)" in refused.value.remedy
    frame = pd.DataFrame([["x", "y"]], columns=["a", "a"])
    with pytest.raises(DataError, match="two columns are named 'a'"):
        as_polars(frame, "it")


@pytest.mark.parametrize("table", [[1, 2], {"user_id": [1]}, 7, np.zeros((2, 2))])
def test_what_is_no_table_is_refused(table):
    with (
        pytest.raises(
            ConfigError, match=r"the interactions frame is a .*; allowed: a polars or pandas"
        ),
        lent(table, None),
    ):
        pass


def test_a_frame_is_named_by_what_it_holds_and_kept_only_while_it_is_lent():
    with lent(log(), shelf()) as one, lent(log(), shelf()) as again:
        assert one == again and one["source"] == "frames"
        with lent(log().reverse(), shelf()) as other:
            assert other["path"] != one["path"] and other["items_path"] == one["items_path"]
    assert digest(log()) != digest(log().rename({"stars": "points"}))
    coded = log().with_columns(pl.col("reader").cast(pl.Categorical))
    assert digest(coded) == digest(log().with_columns(pl.col("reader").cast(pl.Categorical)))
    with pytest.raises(DataError, match=r"frame-.* are not here: they were given to sasrecllm.fit"):
        frames.held(Path(one["path"]))


def test_pandas_is_never_imported_by_us():
    source = Path(frames.__file__).parents[2]
    assert not [p for p in source.rglob("*.py") if "import pandas" in p.read_text("utf-8")]
    assert "pandas" in sys.modules  # of this test
