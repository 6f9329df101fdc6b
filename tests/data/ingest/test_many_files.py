from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data import long_columns
from sasrecllm.data.card import card_of
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest import by_users, many_files
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError, SasrecllmError

ITEMS = pl.DataFrame(
    {"item_id": [f"i{n:02}" for n in range(12)], "title": [f"Title {n}" for n in range(12)]}
)


def rows(seed: int, count: int = 120, users: int = 7) -> pl.DataFrame:
    rng = random.Random(seed)
    made = [
        (
            f"u{rng.randrange(users)}",
            f"i{rng.randrange(12):02}",
            float(rng.randint(1, 5)),
            rng.randint(0, 40),
        )
        for _ in range(count)
    ]
    return pl.DataFrame(made, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")


def in_parts(frame: pl.DataFrame, folder: Path, seed: int = 0, ending: str = "parquet") -> Path:
    """The rows in their order, in up to five files, one of which may be empty."""
    folder.mkdir()
    rng = random.Random(seed)
    cuts = [0, *sorted(rng.randint(0, frame.height) for _ in range(rng.randint(0, 4))), frame.height]
    for n, (start, stop) in enumerate(pairwise(cuts)):
        part, path = frame[start:stop], folder / f"part-{n}.{ending}"
        part.write_parquet(path) if ending == "parquet" else part.write_csv(path)
    return folder


@contextmanager
def small_pieces(seed: int = 0) -> Iterator[None]:
    """A few rows at a time, and columns of more than a few in a file."""
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_files, "CHUNK", rng.randint(9, 60))
        patch.setattr(by_users, "PART", rng.randint(9, 60))
        patch.setattr(long_columns, "IN_MEMORY", 3)
        patch.setattr(long_columns, "BLOCK", rng.randint(9, 50))
        yield


def outcome(
    path: Path, items: Path, quarantine: Path, columns: Any = None, order: Any = "auto", **given: Any
) -> Any:
    """What preparing gives: the data set and all that is said of it; or the refusal."""
    try:
        tables = load_tables(
            "files", path=path, items_path=items, columns=columns, order=order, name="log"
        )
        dataset = prepare(tables, quarantine_path=quarantine, **given)
    except SasrecllmError as refusal:
        return type(refusal), refusal.remedy
    bad = []
    if quarantine.exists():
        bad = [json.loads(line) for line in quarantine.read_text("utf-8").splitlines()]
    said = [
        note.replace(path.name, "log").replace(str(quarantine), "bad")
        for note in dataset.notes
        if " parts with " not in note
    ]
    told = [{k: v for k, v in row.items() if k not in ("file", "row", "line")} for row in bad]
    return dataset.digest, said, dataset.log, card_of(dataset).splits, dataset.summary()["splits"], told


POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "repeats": st.sampled_from(["keep", "first", "last", "refuse"]),
        "feedback": st.sampled_from(["ratings", "implicit"]),
        "threshold": st.sampled_from([2.0, 4.0, 9.0]),
        "split": st.sampled_from(["leave-one-out", "global-time", "collm"]),
        "cold_items": st.just(0.1),
        "order": st.sampled_from(["file", "time"]),
        "on_bad_rows": st.just("quarantine"),
    },
)
TIMES = ["seconds", "text", "digits", "dates", "mixed", "floats", "none", "order"]


def timed(frame: pl.DataFrame, way: str) -> pl.DataFrame:
    time = pl.col("timestamp")
    dates = pl.from_epoch(time * 43_200 + 1_600_000_000)
    digits = 20_140_701 + time % 28
    spelt = {
        "text": time.cast(pl.String),
        "digits": digits,
        "dates": dates.dt.strftime("%Y-%m-%d %H:%M:%S"),
        "mixed": pl.when(time % 3 == 0)
        .then(digits.cast(pl.String))
        .otherwise(dates.dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        "floats": time + (pl.int_range(pl.len()) * 7 % 10) / 10,
    }
    if way == "none":
        return frame.drop("timestamp")
    if way == "order":
        return frame.with_columns(pl.int_range(pl.len()).alias("order")).drop("timestamp")
    return frame.with_columns(spelt.get(way, time).alias("timestamp"))


def spoilt(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Some rows without an item, of an unknown one, without a rating, or of an unknown user."""
    rng = random.Random(seed)
    at = {column: rng.sample(range(frame.height), 3) for column in ("item_id", "rating")}
    n = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(n.is_in(at["item_id"][:1])).then(None).when(n.is_in(at["item_id"][1:])).then(pl.lit("lost"))
        .otherwise(pl.col("item_id")).alias("item_id"),
        pl.when(n.is_in(at["rating"])).then(None).otherwise(pl.col("rating")).alias("rating"),
        pl.when(n.is_in(at["rating"][:1])).then(pl.lit("nobody")).otherwise(pl.col("user_id")).alias("user_id"),
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    POLICIES,
    st.sampled_from(TIMES),
    st.booleans(),
    st.sampled_from(["parquet", "csv"]),
)
def test_a_folder_of_parts_gives_what_one_file_with_the_same_rows_gives(
    seed, policies, way, bad, ending
) -> None:
    frame = timed(rows(seed), way)
    frame = spoilt(frame, seed) if bad else frame
    with TemporaryDirectory() as name:
        folder = Path(name)
        items = folder / "items.parquet"
        ITEMS.write_parquet(items)
        one = folder / f"log.{ending}"
        frame.write_parquet(one) if ending == "parquet" else frame.write_csv(one)
        expected = outcome(one, items, folder / "bad-one.jsonl", **policies)
        many = in_parts(frame, folder / "days", seed, ending)
        with small_pieces(seed):
            assert outcome(many, items, folder / "bad-many.jsonl", **policies) == expected


def saved(folder: Path, frame: pl.DataFrame, **given: Any) -> Dataset:
    ITEMS.write_parquet(folder / "items.parquet")
    path = folder / "log.parquet"
    frame.write_parquet(path)
    return prepare(load_tables("files", path=path, items_path=folder / "items.parquet"), **given)


def test_columns_that_lie_in_a_file_are_saved_and_loaded_as_those_in_memory(tmp_path: Path) -> None:
    dataset = saved(tmp_path, rows(1), repeats="keep")
    dataset.save(tmp_path / "memory")
    with small_pieces(2):
        loaded = Dataset.load(tmp_path / "memory")
        assert loaded.digest == dataset.digest
        assert loaded.starts.tolist() == dataset.starts.tolist()
        assert card_of(loaded) == card_of(dataset)
        loaded.save(tmp_path / "file")
    again = pl.read_parquet(tmp_path / "file" / "interactions.parquet")
    assert again.equals(pl.read_parquet(tmp_path / "memory" / "interactions.parquet"))
    mine, theirs = (d.histories(np.arange(0, 120, 7)) for d in (loaded, dataset))
    assert mine.items.tolist() == theirs.items.tolist() and mine.times.tolist() == theirs.times.tolist()


def test_partition_columns_are_columns_like_others(tmp_path: Path) -> None:
    frame = rows(3).with_columns(pl.col("user_id").str.replace("u", "0").alias("user_id"))
    for (user, day), part in (
        frame.with_columns((pl.col("timestamp") // 20).alias("day"))
        .partition_by("user_id", "day", as_dict=True, include_key=False)
        .items()
    ):
        place = tmp_path / "log" / f"user_id={user}" / f"day={day}"
        place.mkdir(parents=True)
        part.write_parquet(place / "0.parquet")
    (tmp_path / "log" / "_SUCCESS").touch()
    ITEMS.write_parquet(tmp_path / "items.parquet")
    one = saved(tmp_path, frame, repeats="keep")
    tables = load_tables(
        "files", path=tmp_path / "log", items_path=tmp_path / "items.parquet", name="log"
    )
    ties = prepare(tables, repeats="keep")
    assert ties.catalog.user_ids == [f"0{n}" for n in range(7)] == one.catalog.user_ids
    assert ties.times.tolist() == one.times.tolist() and len(ties) == 120


def test_a_partition_without_a_value_and_a_name_with_escapes(tmp_path: Path) -> None:
    for user, count in (("a%2Fb", 4), ("c d", 4), ("__HIVE_DEFAULT_PARTITION__", 1)):
        (tmp_path / "log" / f"user_id={user}").mkdir(parents=True)
        rows(1)[:count].drop("user_id").write_parquet(
            tmp_path / "log" / f"user_id={user}" / "x.parquet"
        )
    ITEMS.write_parquet(tmp_path / "items.parquet")
    tables = load_tables("files", path=tmp_path / "log", items_path=tmp_path / "items.parquet")
    dataset = prepare(
        tables,
        on_bad_rows="quarantine",
        quarantine_path=tmp_path / "bad.jsonl",
        repeats="keep",
        split="leave-one-out",
    )
    assert dataset.catalog.user_ids == ["a/b", "c d"]
    bad = json.loads((tmp_path / "bad.jsonl").read_text())
    assert bad["column"] == "user_id" and bad["row"] == 1 and "DEFAULT" in bad["file"]


def test_a_bad_row_is_named_with_its_part_and_its_row_there(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    rows(1)[:50].write_csv(folder / "a.csv")
    rows(2)[:50].with_columns(
        pl.when(pl.int_range(pl.len()) == 6).then(pl.lit("?"))
        .otherwise(pl.col("rating").cast(pl.String))
        .alias("rating")
    ).write_csv(folder / "b.csv")  # fmt: skip
    ITEMS.write_csv(tmp_path / "items.csv")
    with small_pieces(), pytest.raises(DataError) as refusal:
        prepare(load_tables("files", path=folder, items_path=tmp_path / "items.csv"), repeats="keep")
    assert f"{folder / 'b.csv'}, row 7 (line 8), column rating: '?'" in str(refusal.value)


def test_an_order_against_time_and_a_repeated_row_are_named_with_their_part(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user_id": ["u"] * 6, "item_id": [f"i0{n}" for n in (1, 2, 3, 4, 5, 1)],
         "label": [1, 0] * 3, "timestamp": [1, 2, 5, 4, 5, 1], "order": [1, 2, 3, 4, 5, 1]}
    )  # fmt: skip
    folder = tmp_path / "log"
    folder.mkdir()
    frame[:2].write_parquet(folder / "a.parquet")
    frame[2:].write_parquet(folder / "b.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    tables = load_tables("files", path=folder, items_path=tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"the first: row 2 of .*b\.parquet, user_id 'u', order 4"):
        prepare(tables)
    with pytest.raises(DataError, match=r"b\.parquet, row 4, column order: 1; allowed: each \(user_id"):
        prepare(tables, repeats="refuse")


def spread(folder: Path, **more: pl.DataFrame) -> Path:
    """A good folder of parts, and further files of the given names."""
    in_parts(rows(1), folder, 7)
    for name, frame in more.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def beside(name: str, write: Any) -> Any:
    """Makes a good folder, and beside its parts a file that ``write`` writes."""
    return lambda folder: write(spread(folder) / name)


def alone(name: str, write: Any) -> Any:
    """Makes a folder with one file."""
    return lambda folder: (folder.mkdir(), write(folder / name))


TEXT_TIMES = rows(1).with_columns(pl.col("timestamp").cast(pl.String))
REFUSED = {
    "a column less": (
        beside("z.parquet", rows(1).drop("rating").write_parquet),
        r"z\.parquet has no column 'rating'",
    ),
    "a column more": (
        beside("z.parquet", rows(1).with_columns(pl.lit(1).alias("page")).write_parquet),
        r"part-0\.parquet has no column 'page', which .*z\.parquet has",
    ),
    "another type": (
        beside("z.parquet", TEXT_TIMES.write_parquet),
        r"z\.parquet, column timestamp: values are of type String; in .*part-0\.parquet .* Int64",
    ),
    "an empty folder": (Path.mkdir, "holds no table"),
    "marks alone": (alone("_SUCCESS", Path.touch), "holds no table"),
    "another kind of file": (
        beside("notes.docx", Path.touch),
        r"notes\.docx lies among parts of kind '\.parquet'",
    ),
    "another kind of table": (beside("more.csv", rows(1).write_csv), r"more\.csv lies among parts"),
    "JSON Lines": (alone("x.jsonl", rows(1).write_ndjson), r"holds no table; it holds x\.jsonl"),
    "a damaged part": (
        beside("y.parquet", lambda path: path.write_bytes(b"PAR1 no more")),
        r"y\.parquet is no readable Parquet",
    ),
    "parts without rows": (alone("x.parquet", rows(1)[:0].write_parquet), "has no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_in_parts_is_refused_by_name(case: str, tmp_path: Path) -> None:
    make, said = REFUSED[case]
    make(tmp_path / "log")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=said) as refusal:
        prepare(load_tables("files", path=tmp_path / "log", items_path=tmp_path / "items.parquet"))
    assert refusal.value.exit_code == 4 and refusal.value.remedy


def test_a_part_whose_bytes_are_damaged_is_refused_where_it_is_read(tmp_path: Path) -> None:
    folder = spread(tmp_path / "log", y=rows(5, count=5000, users=900))
    whole = bytearray((folder / "y.parquet").read_bytes())
    whole[200:1200] = bytes(1000)  # its end, which tells of its columns, stands
    (folder / "y.parquet").write_bytes(whole)
    ITEMS.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"y\.parquet"):
        prepare(load_tables("files", path=folder, items_path=tmp_path / "items.parquet"))


CHANGES = {
    "gone": lambda f: (f / "y.parquet").unlink(),
    "written again": lambda f: rows(9, count=7).write_parquet(f / "y.parquet"),
    "come": lambda f: shutil.copy(f / "y.parquet", f / "z.parquet"),
}


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("walk", [0, 1])
def test_a_folder_that_changes_while_it_is_read_is_refused(case, walk, tmp_path, monkeypatch) -> None:
    folder = spread(tmp_path / "log", y=rows(4))
    ITEMS.write_parquet(tmp_path / "items.parquet")
    tables = load_tables("files", path=folder, items_path=tmp_path / "items.parquet")
    whole, begun = many_files.Parts.chunks, []

    def watched(self, *given):
        begun.append(1)
        if len(begun) == walk + 1:
            CHANGES[case](folder)
        yield from whole(self, *given)

    monkeypatch.setattr(many_files.Parts, "chunks", watched)
    with pytest.raises(DataError, match="since reading began") as refusal:
        prepare(tables)
    assert "start again" in refusal.value.remedy


def test_items_may_be_a_folder_too_and_their_bad_rows_are_named(tmp_path: Path) -> None:
    rows(1).write_parquet(tmp_path / "log.parquet")
    items = tmp_path / "items.parquet"  # as Spark names its folders
    in_parts(ITEMS, items, 5)
    path = tmp_path / "log.parquet"
    assert len(prepare(load_tables("files", path=path, items_path=items))) > 0
    ITEMS[:1].write_parquet(items / "z.parquet")
    with pytest.raises(DataError, match=r"column item_id: 'i00'; allowed: each item once"):
        prepare(load_tables("files", path=path, items_path=items))


def test_titles_may_stand_in_the_parts_themselves(tmp_path: Path) -> None:
    frame = rows(6).join(ITEMS, on="item_id").with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.col("title")).alias("title")
    )  # fmt: skip
    frame.write_parquet(tmp_path / "one.parquet")
    one = prepare(load_tables("files", path=tmp_path / "one.parquet", name="log"))
    folder = in_parts(frame, tmp_path / "many", 3)
    with small_pieces(4):
        many = prepare(load_tables("files", path=folder, name="log"))
    assert many.digest == one.digest


def test_a_column_without_any_value_in_one_part_has_the_type_of_the_others(tmp_path: Path) -> None:
    frame = rows(1).with_columns(pl.lit("x").alias("page"))
    none = rows(2).with_columns(pl.lit(None).alias("page"))
    folder = tmp_path / "log"
    folder.mkdir()
    none.write_parquet(folder / "a.parquet")
    frame.write_parquet(folder / "b.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    tables = load_tables("files", path=folder, items_path=tmp_path / "items.parquet")
    assert len(prepare(tables, repeats="keep")) == 240
    assert "log: 2 parts with 240 rows" in tables.notes
