"""One length limit for titles, at every door where data comes in."""

from __future__ import annotations

import polars as pl
import pytest

from sasrecllm.data.catalog import LONGEST_TITLE, Catalog, clean_titles
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.serving import schema

LONG = "word " * 2_000  # 10,000 characters


@pytest.mark.parametrize(
    "raw",
    ["x" * 257, LONG, "🎬" * 300, "e\u0301" * 400, " " * 300 + "x" * 300, "\u202e" + "x\x00" * 5_000],
)
def test_a_long_title_is_cut_and_ends_with_an_ellipsis(raw: str) -> None:
    (cut,) = clean_titles(pl.Series([raw])).to_list()
    assert len(cut) <= LONGEST_TITLE and cut.endswith("…") and len(cut) > LONGEST_TITLE - 3
    assert clean_titles(pl.Series([cut])).to_list() == [cut]


def test_a_title_of_the_longest_length_is_whole() -> None:
    longest = "é" * LONGEST_TITLE
    raw = [longest, f"  {longest}\n", "e\u0301" * LONGEST_TITLE, None, ""]
    assert clean_titles(pl.Series(raw)).to_list() == [longest, longest, longest, None, ""]


def test_the_preparation_counts_what_it_cuts_and_names_the_first() -> None:
    log = pl.DataFrame(
        {
            "user_id": ["u"] * 4,
            "item_id": list("abcd"),
            "label": [1, 0, 1, 1],
            "timestamp": [1, 2, 3, 4],
        }
    )
    titles = pl.DataFrame({"item_id": list("abcd"), "title": ["A", LONG, "x" * 256, "y" * 257]})
    dataset = prepare(Tables(log, titles, "t", files=("log.csv", "films.csv")), split="leave-one-out")
    assert [len(t) for t in dataset.catalog.titles] == [1, 255, 256, 256]
    (note,) = [n for n in dataset.notes if "were cut" in n]
    assert note.startswith("films.csv, column title: 2 titles of more than 256 characters")
    assert "item 'b'" in note
    short = titles.with_columns(pl.col("title").str.head(256))
    fine = prepare(Tables(log, short, "t", files=("log.csv", "films.csv")), split="leave-one-out")
    assert not [n for n in fine.notes if "were cut" in n]


def test_a_new_item_of_a_catalogue_is_cut_too_and_http_has_the_same_limit() -> None:
    longer = Catalog(["a"], ["A"]).extended(["b"], [LONG])
    assert len(longer.title(1)) == 255 and longer.title(1).endswith("…")
    item = schema.ItemsRequest.model_json_schema()["$defs"]["NewItemBody"]["properties"]["title"]
    assert item["maxLength"] == LONGEST_TITLE
