"""Columns: seen before they are dropped, given back when they are asked for, named as the file does."""

import json
from pathlib import Path

import polars as pl
import pytest

from sasrecllm.config import load_config
from sasrecllm.data.ingest.columns import interactions, nearest
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError

SHELF = "item_id,title\na,A\nb,B\nc,C\n"
DAYS = ["2014-07-14", "2014-07-15", "2014-07-16", "2014-07-17"]


def log(folder: Path, header: str, *rows: str, shelf: str = SHELF, **given):
    (folder / "log.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    (folder / "shelf.csv").write_text(shelf, encoding="utf-8")
    return load_tables("files", path=folder / "log.csv", items_path=folder / "shelf.csv", **given)


def refused(tables, **given) -> DataError:
    with pytest.raises(DataError) as refusal:
        prepare(tables, split="leave-one-out", **given)
    return refusal.value


def test_a_refusal_lists_the_files_own_columns_with_the_nearest_name(tmp_path: Path) -> None:
    header, row = "customer_no,article_no,mark,day", "u,a,5,2014-07-14"
    refusal = refused(log(tmp_path, header, row))
    assert (
        "no column user_id and no column item_id; its columns: customer_no, article_no" in refusal.what
    )
    assert "its columns: customer_no, article_no, mark, day" in refusal.what
    assert "did you mean 'customer_no'?" in refusal.what
    both = "'data.columns.user_id=customer_no' 'data.columns.item_id=article_no'"
    assert refusal.remedy == f"name them: {both}"
    refusal = refused(log(tmp_path, header, row, columns={"user_id": "customer_no"}))
    assert "article_no, mark, day" in refusal.what and "item_id=article_no" in refusal.remedy
    refusal = refused(log(tmp_path, "user_id,item_id", "u,a", shelf="article,maker\na,M\n"))
    assert (
        "shelf.csv has no column item_id and no column title; its columns: article, maker"
        in refusal.what
    )
    both = "'data.columns.items.item_id=article' 'data.columns.items.title=<name in your file>'"
    assert refusal.remedy.startswith(f"name them: {both}")
    no_titles = tmp_path / "one.csv"
    no_titles.write_text("user_id,item_id,Film\nu,a,A\n")
    with pytest.raises(DataError, match="its columns: user_id, item_id, Film"):
        load_tables("files", path=no_titles)


@pytest.mark.parametrize(
    ("ours", "names", "near"),
    [
        ("user_id", ["customer_no", "price"], "customer_no"),
        ("item_id", ["day", "Product Code"], "Product Code"),
        ("item_id", ["product_idx", "user"], "product_idx"),
        ("title", ["movie_titles", "genre"], "movie_titles"),
        ("user_id", [], ""),
    ],
)
def test_the_nearest_name_is_one_of_the_fields_names(ours, names, near) -> None:
    assert nearest(ours, names) == near


LEFT_OUT = {
    "My Rating": ("5", "it may be a rating: 'data.columns.rating=My Rating'"),
    "review_score": ("4.5", "a rating: 'data.columns.rating=review_score'"),
    "watchCount": ("17", "'data.columns.rating=watchCount' with a data.threshold"),
    "played_seconds": ("9000", "'data.columns.rating=played_seconds' with a data.threshold"),
    "play_duration": ("9000", "'data.columns.rating=play_duration' with a data.threshold"),
    "is_click": ("1", "'data.columns.label=is_click'"),
    "event_type": ("view", "the kind of an event"),
    "behavior": ("pv", "the kind of an event"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_column_that_may_tell_what_was_liked_is_named_in_a_note(name: str, tmp_path: Path) -> None:
    value, words = LEFT_OUT[name]
    rows = [f"u,{item},{n},{value}" for n, item in enumerate("abc")]
    tables = log(tmp_path, f"user_id,item_id,timestamp,{name}", *rows)
    (note,) = [n for n in prepare(tables, split="leave-one-out").notes if "not used" in n]
    assert repr(name) in note and words in note and "log.csv" in note


@pytest.mark.parametrize("name", ["price", "genres", "marketplace", "country", "device_id", "release"])
def test_other_columns_are_no_news(name: str, tmp_path: Path) -> None:
    rows = [f"u,{item},{n},x" for n, item in enumerate("abc")]
    tables = log(tmp_path, f"user_id,item_id,timestamp,{name}", *rows)
    assert not [n for n in prepare(tables, split="leave-one-out").notes if "not used" in n]


TIMES = {
    "t_dat": DAYS,
    "created_at": ["2014-07-14T12:00:00Z"] * 4,
    "visit": ["2014-07-14 12:00:00"] * 4,
    "time_ms": ["1405339200000"] * 4,
    "Purchase Day": ["20140714"] * 4,
}


@pytest.mark.parametrize("name", TIMES)
def test_without_an_order_an_unused_time_is_asked_about(name: str, tmp_path: Path) -> None:
    rows = [f"u,{item},{text},0.5" for item, text in zip("abca", TIMES[name], strict=True)]
    refusal = refused(log(tmp_path, f"user_id,item_id,{name},price", *rows))
    assert repr(name) in refusal.what and f"'data.columns.timestamp={name}'" in refusal.remedy
    tables = log(tmp_path, f"user_id,item_id,{name},price", *rows, order="file")
    assert any(repr(name) in note for note in prepare(tables, split="leave-one-out").notes)
    if name != "time_ms":
        named = log(tmp_path, f"user_id,item_id,{name},price", *rows, columns={"timestamp": name})
        assert not any("not used" in note for note in named.notes)


@pytest.mark.parametrize(
    "text", ["13 Sep 2020", "09/13/2020", "13.9.20", "Sun, 13 Sep 2020 12:26:40 GMT"]
)
def test_a_date_in_a_form_that_is_not_read_is_not_overlooked(text: str, tmp_path: Path) -> None:
    tables = log(tmp_path, "user_id;item_id;created_at", *[f"u;{item};{text}" for item in "abc"])
    assert "data.columns.timestamp=created_at" in refused(tables).remedy


def test_times_that_were_given_back_hide_no_other_time(tmp_path: Path) -> None:
    rows = [f"u,{item},{n},2014-07-1{n}" for n, item in enumerate("abc")]
    tables = log(tmp_path, "user_id,item_id,time,t_dat", *rows, columns={"timestamp": None})
    assert "data.columns.timestamp=t_dat" in refused(tables).remedy


def test_a_column_has_one_meaning(tmp_path: Path) -> None:
    header, rows = "item_id,rating,time", [f"{item},5,9" for item in "abc"]
    with pytest.raises(ConfigError, match=r"user_id and data\.columns\.item_id are both 'item_id'"):
        log(tmp_path, header, *rows, columns={"user_id": "item_id", "item_id": "item_id"})
    refusal = refused(log(tmp_path, header, *rows, columns={"user_id": "item_id"}))
    assert "did you mean" not in refusal.what and "<name in your file>" in refusal.remedy


HEADLESS = {
    "rows alone": (("u,a,5,1600000000", "u,b,4,1600000001"), SHELF, "above it: user_id, item_id"),
    "words alone": (("ann,a,yes", "bob,b,no"), SHELF, "above it: user_id, item_id"),
    "items": (("user_id,item_id", "u,a"), "a,Alpha\nb,Beta\n", "above it: item_id, title"),
    "double colons": (("user_id::item_id", "u::a"), SHELF, "separate the fields of a line by comma"),
    "whole lines in quotation marks": (
        ('"user_id,item_id"', '"u,a"'),
        SHELF,
        "remove the quotation marks around whole lines",
    ),
    "a page": (("<!DOCTYPE html>", "<p>404</p>"), SHELF, "separate the fields of a line by comma"),
}


@pytest.mark.parametrize("case", HEADLESS)
def test_a_file_without_names_or_of_another_separator_is_told_so(case: str, tmp_path: Path) -> None:
    rows, shelf, says = HEADLESS[case]
    assert says in refused(log(tmp_path, *rows, shelf=shelf)).remedy


@pytest.mark.parametrize("name", [" a", "A", "a.0", "00a"])
def test_ids_that_programs_have_changed_are_told_from_ids_that_are_missing(
    name, tmp_path: Path
) -> None:
    refusal = refused(log(tmp_path, "user_id,item_id", f"u,{name}"))
    assert f"{name!r} is 'a' in" in refusal.remedy and "spell the ids alike" in refusal.remedy
    assert "spell" not in refused(log(tmp_path, "user_id,item_id", "u,d")).remedy


@pytest.mark.parametrize("name", ["day_of_week", "created_by", "at"])
def test_a_name_alone_makes_no_time(name: str, tmp_path: Path) -> None:
    tables = log(tmp_path, f"user_id,item_id,{name}", *[f"u,{item},3" for item in "abc"])
    assert not tables.notes and len(prepare(tables, split="leave-one-out")) == 3


def test_an_order_number_orders_the_orders_and_time_the_rows_of_one(tmp_path: Path) -> None:
    header = "user_id,item_id,timestamp,order"
    rows = [f"u,{item},{n},{1000 + n // 3}" for n, item in enumerate("abcabcab")]
    data = prepare(log(tmp_path, header, *rows[::-1]), split="leave-one-out")
    assert data.times.tolist() == [*range(8)]
    assert any("8 rows share user and order with another row" in note for note in data.notes)


def test_an_order_number_against_time_can_be_given_back_and_the_remedy_says_so(tmp_path) -> None:
    header = "user_id,item_id,date,position"
    rows = [f"u,{item},{n},{1000 - n // 3}" for n, item in enumerate("abcabcab")]
    refusal = refused(log(tmp_path, header, *rows))
    assert "a later date; the first: row 4, user_id 'u', position 999" in refusal.what
    assert "data.order=time" in refusal.remedy and "data.columns.order=null" in refusal.remedy
    assert "quarantine" not in refusal.remedy, "it would throw most of the rows away"
    for given in ({"columns": {"order": None}}, {"order": "time"}):
        assert len(prepare(log(tmp_path, header, *rows, **given), split="leave-one-out")) == 8


GIVEN_BACK = {
    "order": ("position", "first"),
    "split": ("split", "A"),
    "label": ("target", "7"),
    "rating": ("score", "high"),
    "timestamp": ("time", "noon"),
    "timestamp in milliseconds": ("time", "1600000000000"),
    "label of three values": ("liked", "-1"),
}


@pytest.mark.parametrize("ours", GIVEN_BACK)
def test_every_optional_column_can_be_given_back(ours: str, tmp_path: Path) -> None:
    name, value = GIVEN_BACK[ours]
    ours = ours.split()[0]
    header, rows = f"user_id,item_id,{name}", [f"u,{item},{value}" for item in "abc"]
    refusal = refused(log(tmp_path, header, *rows))
    assert f"column {name}: '{value}'" in refusal.what
    assert f"data.columns.{ours}=null" in refusal.remedy
    tables = log(tmp_path, header, *rows, columns={ours: None})
    assert ours not in tables.interactions.columns and not tables.notes, "its user has said so"
    assert len(prepare(tables, split="leave-one-out")) == 3


def test_a_name_that_is_not_there_comes_with_the_setting_that_mends_it(tmp_path: Path) -> None:
    header, rows, shelf = "who,dish,day", ["u,a,2014-07-14"] * 3, "dish,movie_titles\na,A\n"
    columns = {"user_id": "hwo", "item_id": "dish", "items.title": "name", "timestamp": "day"}
    for key, name in (("items.title", "movie_titles"), ("user_id", "who")):
        with pytest.raises(DataError, match=f"no column '{columns[key]}'") as refusal:
            log(tmp_path, header, *rows, shelf=shelf, columns=columns)
        assert refusal.value.remedy == f"name it: 'data.columns.{key}={name}'"
        columns[key] = name
    tables = log(tmp_path, header, *rows, shelf=shelf, columns=columns)
    assert len(prepare(tables, split="leave-one-out", repeats="keep")) == 3


@pytest.mark.parametrize("columns", [{}, {"user_id": "customer_id", "title": "name"}])
def test_a_log_in_the_place_of_the_items_is_told(columns: dict, tmp_path: Path) -> None:
    log(tmp_path, "customer_id,item_id", "u,a", "u,b", shelf="item_id,name\na,A\nb,B\n")
    paths = {"path": tmp_path / "shelf.csv", "items_path": tmp_path / "log.csv"}
    with pytest.raises(DataError, match="'customer_id', stands in the items") as refusal:
        load_tables("files", columns=columns, **paths)
    assert "each other's place" in refusal.value.remedy


def test_braces_in_the_name_of_a_file_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "a{b}{}"
    folder.mkdir()
    refusal = refused(log(folder, "user_id,item_id", "u,zzz"))
    assert "add the item to" in refusal.remedy


def test_an_order_that_contradicts_the_time_names_row_and_columns(tmp_path: Path) -> None:
    rows = [f"u,{item},{day},{n}" for n, (item, day) in enumerate(zip("abc", DAYS[2::-1], strict=True))]
    refusal = refused(log(tmp_path, "user_id,item_id,date,position", *rows))
    assert "a later date; the first: row 2, user_id 'u', position 1" in refusal.what
    assert "data.columns.order=null" in refusal.remedy


def test_null_comes_through_the_configuration_and_is_refused_for_what_is_needed(tmp_path) -> None:
    config = load_config(None, ["data.columns.order=null"])
    assert config.data.columns == {"order": None}
    with pytest.raises(ConfigError, match=r"data\.columns\.user_id is null"):
        log(tmp_path, "user_id,item_id", "u,a", columns={"user_id": None})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_messages_and_the_quarantine_file_speak_the_files_words(kind: str, tmp_path: Path) -> None:
    days = [*DAYS, "1969-07-14"]
    columns = {"who": list("uuuvv"), "movieId": list("abcab"), "stars": list("51515"), "date": days}
    frame = pl.DataFrame(columns)
    if kind == "parquet":
        frame = frame.with_columns(pl.col("date").str.to_date())
        frame.write_parquet(tmp_path / "log.parquet")
    else:
        frame.write_csv(tmp_path / "log.csv")
    (tmp_path / "shelf.csv").write_text(SHELF)
    given = {"items_path": tmp_path / "shelf.csv", "columns": {"user_id": "who"}}
    tables = load_tables("files", path=tmp_path / f"log.{kind}", **given)
    shown = refused(tables).what
    line, value = ("", "1969-07-14") if kind == "parquet" else (" (line 6)", "'1969-07-14'")
    assert f"log.{kind}, row 5{line}, column date: {value}; allowed: Unix seconds" in shown
    again = pl.concat([frame.head(3), frame.head(1)])
    again.write_parquet(tmp_path / "log.parquet") if kind == "parquet" else again.write_csv(
        tmp_path / "log.csv"
    )
    path = tmp_path / "q.jsonl"
    tables = load_tables("files", path=tmp_path / f"log.{kind}", **given)
    unknown = tables.interactions.with_columns(item_id=pl.Series(["a", "b", "zzz", "c"]))
    broken = type(tables)(**{**vars(tables), "interactions": unknown})
    prepare(broken, split="leave-one-out", on_bad_rows="quarantine", quarantine_path=path)
    (told,) = [json.loads(text) for text in path.read_text().splitlines()]
    assert (told["column"], told["value"]) == ("movieId", "'zzz'")


def test_two_names_for_one_meaning_can_both_be_left_out() -> None:
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "score": [1], "stars": [2]})
    with pytest.raises(DataError, match="score, stars may each be the rating") as refusal:
        interactions(frame, {}, "log")
    assert "data.columns.rating=null" in refusal.value.remedy
    _, seen = interactions(frame, {"rating": None}, "log")
    assert seen.named == {"user_id": "user_id", "item_id": "item_id"} and set(seen.unused) == {
        "score", "stars",
    }  # fmt: skip


def test_users_whose_ids_may_be_none_or_differ_by_a_space_are_named(tmp_path: Path) -> None:
    rows = [f"{user},{item}" for user in ("u", "u ", "NULL", "7") for item in "abc"]
    notes = prepare(log(tmp_path, "who,item_id", *rows, columns={"user_id": "who"}), seen="allow").notes
    assert any(
        "column who: 1 ids begin or end with a space (for example 'u ')" in note for note in notes
    )
    assert any("column who: the rows of 'NULL' are taken for those of a user" in note for note in notes)
    rows = [f"{user},{item}" for user in ("Anna", "anna", "ANNA", "ben", "Carl") for item in "abc"]
    notes = prepare(log(tmp_path, "who,item_id", *rows, columns={"user_id": "who"}), seen="allow").notes
    assert [n for n in notes if "column who" in n] == [
        "log.csv, column who: 3 ids differ from another one in case alone (for example 'ANNA' and"
        " 'Anna'): they are different users"
    ]
    plain = [f"{user},{item}" for user in ("u", "nulla", "a b") for item in "abc"]
    assert not any(
        "column user_id" in n for n in prepare(log(tmp_path, "user_id,item_id", *plain)).notes
    )
