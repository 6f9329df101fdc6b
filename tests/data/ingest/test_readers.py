"""A table as text: ids and numbers are spelt as in the file, and lines are counted."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from sasrecllm.data.ingest.readers import read_table
from sasrecllm.errors import DataError

ROWS = [("007", "1e5"), ("7.0", "NaN"), ("18446744073709551617", "null"), (" 7", "")]
TEXT = "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in ROWS)


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.txt", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_every_value_of_text_is_the_text_that_stands_there(name, tmp_path: Path) -> None:
    path = tmp_path / name
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id"], orient="row")
    if name.endswith("parquet"):
        frame.write_parquet(path)
    elif name.endswith("jsonl"):
        frame.write_ndjson(path)
    else:
        path.write_bytes(gzip.compress(TEXT.encode()) if name.endswith("gz") else TEXT.encode())
    found, note = read_table(path)
    text = found.select(pl.col("user_id", "item_id").fill_null("")).rows()
    assert text == ROWS and note == ""


def test_a_file_that_is_not_there_and_a_kind_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(TEXT)
    with pytest.raises(DataError, match=r"no such file; did you mean 'ratings\.csv'"):
        read_table(tmp_path / "rating.csv")
    (tmp_path / "ratings.xlsx").write_text(TEXT)
    with pytest.raises(DataError, match=r"kind '\.xlsx' are not read; allowed: \.csv"):
        read_table(tmp_path / "ratings.xlsx")


def test_a_gzip_that_ends_too_early(tmp_path: Path) -> None:
    packed = gzip.compress(
        b"user_id,item_id\n" + b"".join(b"u%d,i%d\n" % (n, n * n) for n in range(9000))
    )
    (tmp_path / "log.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"log\.csv\.gz cannot be read"):
        read_table(tmp_path / "log.csv.gz")


def test_lines_are_counted_through_quoted_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n"x\ny",1\n2,3\n"p\n\nq",4\n5,6\n')
    assert read_table(tmp_path / "t.csv")[0]["__line"].to_list() == [2, 4, 5, 8]
