from __future__ import annotations

import gzip
import random
import sys
import types
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.ingest.readers import read_table
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.ingest.validation import validate
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError, SasrecllmError

ROWS = [
    ("007", "🎬", "1", "11"),
    ("7", "1e5", "0", "12"),
    ("18446744073709551617", "NaN", "1", "13"),
]
HEADER = ("user_id", "item_id", "label", "timestamp")
ITEMS = 'item_id,title,genre\n🎬,Clap,x\n1e5,Many,y\nNaN,"Not, a ""number""",z\n'


def csv_text(rows=ROWS, header=HEADER, separator=",", end="\n") -> str:
    return "".join(separator.join(row) + end for row in [header, *rows])


def own(folder: Path, name: str, content: str | bytes, items: str = ITEMS, **given) -> Tables:
    folder.mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (folder / "items.csv").write_text(items, encoding="utf-8")
    return load_tables("files", path=folder / name, items_path=folder / "items.csv", **given)


def content(tables: Tables) -> list[tuple]:
    return tables.interactions.select("user_id", "item_id", "label", "timestamp").rows()


JSON = "".join(
    f'{{"user_id": "{u}", "item_id": "{i}", "label": {y}, "timestamp": {t}}}\n' for u, i, y, t in ROWS
)
SAME = {
    "plain": ("log.csv", csv_text()),
    "CRLF": ("log.csv", csv_text(end="\r\n")),
    "BOM": ("log.csv", b"\xef\xbb\xbf" + csv_text().encode()),
    "tabs": ("log.tsv", csv_text(separator="\t")),
    "semicolons": ("log.csv", csv_text(separator=";")),
    "blank lines at the end": ("log.csv", csv_text() + "\n\n"),
    "no line feed at the end": ("log.csv", csv_text().rstrip("\n")),
    "gzip": ("log.csv.gz", csv_text()),
    "JSON Lines": ("log.jsonl", JSON),
    "RecBole": ("log.inter", csv_text(
        header=("user_id:token", "item_id:token", "label:float", "timestamp:float"),
        separator="\t")),
    "MovieLens names": ("log.csv", csv_text(header=("userId", "movieId", "liked", "timestamp"))),
    "Amazon names": (
        "log.csv", csv_text(header=("reviewerID", "asin", "label", "unixReviewTime"))),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_however_a_file_is_written_it_reads_the_same_and_ids_keep_their_spelling(
    case: str, tmp_path: Path
) -> None:
    name, text = SAME[case]
    assert content(own(tmp_path, name, text)) == [*ROWS]


def test_big_numbers_in_json_keep_all_their_digits(tmp_path: Path) -> None:
    line = '{"user_id": 18446744073709551617, "item_id": "NaN", "label": 1, "timestamp": 1}\n'
    assert content(own(tmp_path, "log.jsonl", line))[0][0] == "18446744073709551617"


def test_a_parquet_file_and_one_with_ids_that_lost_their_spelling(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=list(HEADER), orient="row")
    frame.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "items.csv").write_text(ITEMS, encoding="utf-8")
    place = {"path": tmp_path / "log.parquet", "items_path": tmp_path / "items.csv"}
    assert content(load_tables("files", **place)) == ROWS
    frame.with_columns(user_id=pl.Series([7.0, 8.0, 9.0])).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"column user_id: ids are of type Float64"):
        prepare(load_tables("files", **place))


def test_a_column_map_and_titles_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "views.csv"
    path.write_text("who,what,when,label on it\na,x,1,X\na,y,2,Y\nb,x,3,X\n")
    names = {"user_id": "who", "item_id": "what", "timestamp": "when", "title": "label on it"}
    words = {"item": "film"}
    tables = load_tables("files", path=path, columns=names, words=words, name="views")
    shelf = tables.items.select("item_id", "title").rows()
    assert shelf == [("x", "X"), ("y", "Y")] and tables.name == "views"
    assert tables.words == {"item": "film", "items": "items", "consumed": "chosen"}
    assert prepare(tables, split_args={"valid": 0.3, "test": 0.3}).implicit
    path.write_text(path.read_text() + "b,y,4,Z\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column what: 'y'; allowed: one title"):
        prepare(load_tables("files", path=path, columns=names))
    del names["title"]
    with pytest.raises(DataError, match="no file with item titles"):
        load_tables("files", path=path, columns=names)


def test_the_items_file_may_have_names_of_its_own(tmp_path: Path) -> None:
    items = "sku code,title\n🎬,Clap\n1e5,Many\nNaN,None\n"
    names = {"items.item_id": "sku code"}
    tables = own(tmp_path, "log.csv", csv_text(), items, columns=names)
    assert tables.items["item_id"].to_list() == ["🎬", "1e5", "NaN"]
    assert "genre" in own(tmp_path, "log.csv", csv_text()).items.columns


def test_a_json_id_with_a_fraction_has_lost_its_spelling(tmp_path: Path) -> None:
    line = '{"user_id": 7.0, "item_id": "NaN", "label": 1, "timestamp": 1.0}\n'
    with pytest.raises(DataError, match="column user_id: ids are of type Float64"):
        prepare(own(tmp_path, "log.jsonl", line))


def test_a_column_that_is_mapped_elsewhere_keeps_its_one_meaning(tmp_path: Path) -> None:
    rows = [(u, i, str(n + 3), t) for n, (u, i, _, t) in enumerate(ROWS)]
    tables = own(tmp_path, "log.csv", csv_text(rows), columns={"rating": "label"})
    assert "label" not in tables.interactions.columns
    assert prepare(tables, split_args={"valid": 0.3, "test": 0.3}).labels.tolist() == [0, 1, 1]


def test_columns_named_like_our_hidden_ones_do_no_harm(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=list(HEADER), orient="row")
    hidden = frame.with_columns(pl.lit("x").alias("__row"), pl.lit("y").alias("__line"))
    hidden.write_parquet(tmp_path / "log.parquet")
    hidden.write_csv(tmp_path / "log.csv")
    hidden.write_ndjson(tmp_path / "log.jsonl")
    (tmp_path / "items.csv").write_text(ITEMS, encoding="utf-8")
    for kind, line in (("parquet", ""), ("csv", r" \(line 2\)"), ("jsonl", "")):
        place = {"path": tmp_path / f"log.{kind}", "items_path": tmp_path / "items.csv"}
        tables = load_tables("files", **place)
        assert content(tables) == ROWS
        broken = tables.interactions.with_columns(pl.lit("z").alias("item_id"))
        with pytest.raises(DataError, match=f"row 1{line}, column item_id: 'z'"):
            prepare(Tables(broken, tables.items, "t"))


REFUSED = {
    "a field too many": (
        "log.csv",
        csv_text() + "a,b,1,1,9\n",
        "line 5: 5 fields; the header has 4",
    ),
    "an unclosed quote": ("log.csv", csv_text() + '"a,b,1,1\n', "line 5"),
    "a quote inside a field": ("log.csv", csv_text() + 'a,"b"c,1,1\n', "line 5"),
    "latin-1": ("log.csv", csv_text().encode() + b"Am\xe9lie,NaN,1,1\n", "line 5: byte 0xe9"),
    "latin-1 header": ("log.csv", "us\xe9r,item\n1,2\n".encode("latin-1"), "line 1: byte 0xe9"),
    "an empty file": ("log.csv", "", "is empty"),
    "two columns of one name": ("log.csv", "user_id,user_id\n1,2\n", "two columns are named"),
    "two columns of one meaning": ("log.csv", "user,uid,item_id\na,b,c\n", "user, uid may each be"),
    "JSON cut off": ("log.jsonl", JSON + '{"user_id":', "line 4"),
    "JSON of lists": ("log.jsonl", "[1]\n", "line 1: a list, not an object"),
    "JSON in latin-1": ("log.jsonl", b'{"user_id": "\xe9"}\n', "line 1: byte 0xe9"),
    "damaged Parquet": ("log.parquet", b"PAR1 nothing PAR1", "no readable Parquet file"),
    "columns without a name": ("log.csv", csv_text(header=(*HEADER, "", "")), "without a name"),
    "Parquet named like text": ("log.csv", b"PAR1\x15\x04", "is a Parquet file, not delimited"),
    "gzip named like text": ("log.csv", gzip.compress(csv_text().encode()), "by gzip, not delimited"),
    "JSON Lines named like text": ("log.csv", b'{"user_id": "a"}\n', "ends with .jsonl"),
    "JSON named like text": ("log.csv", b'[{"user_id": "a"}]\n', "one object a line into a .jsonl"),
    "a spreadsheet named like text": ("log.csv", b"PK\x03\x04\x14\x00", "is a spreadsheet"),
    "text named like Parquet": ("log.parquet", csv_text(), "rename it after what it holds"),
    "a line above the header": ("log.csv", "# of 2020\n" + csv_text(), "or remove line 1"),
    "an array": ("log.json", f"[{JSON.strip().replace(chr(10), ',')}]", "jq -c '.[]'"),
    "unknown kind": ("log.xlsx", "x", "files of kind '.xlsx' are not read"),
    "broken gzip": ("log.dat.gz", None, "cannot be read"),
    "a field too many in a gzip": ("log.csv.gz", csv_text() + "a,b,1,1,9\n", "line 5: 5 fields"),
    "latin-1 in a gzip": (
        "log.csv.gz",
        csv_text().encode() + b"Am\xe9lie,NaN,1,1\n",
        "line 5: byte 0xe9",
    ),
    "UTF-16": ("log.csv", csv_text().encode("utf-16"), "is UTF-16"),
    "UTF-16 without a mark": ("log.csv", csv_text().encode("utf-16-be"), "is UTF-16"),
    "UTF-32": ("log.csv", csv_text().encode("utf-32"), "is UTF-32"),
    "UTF-32 from the other end": (
        "log.csv",
        b"\x00\x00\xfe\xff" + csv_text().encode("utf-32-be"),
        "is UTF-32",
    ),
    "UTF-32 without a mark": ("log.csv", csv_text().encode("utf-32-le"), "is UTF-32"),
    "a NUL in the header": (
        "log.csv",
        csv_text().replace(",", ",\x00", 1),
        "line 1: the header holds a NUL",
    ),
    "carriage returns alone": ("log.csv", csv_text(end="\r"), "line 1: lines end with a carriage"),
    "JSON with a BOM": ("log.jsonl", b"\xef\xbb\xbf" + JSON.encode(), "byte order mark"),
    "JSON with NaN": ("log.jsonl", JSON + '{"timestamp": NaN}\n', "line 4: NaN is no JSON value"),
    "an empty JSON file": ("log.jsonl", "", "is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_file_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    name, text, words = REFUSED[case]
    with pytest.raises(DataError) as refusal:
        if text is None:
            (tmp_path / name).write_bytes(b"no gzip")
            read_table(tmp_path / name)
        own(tmp_path, name, text)
    assert words in str(refusal.value) and name in refusal.value.what and refusal.value.remedy


BAD_LINES = {
    "a short row": ("a,NaN,1\n", "row 4 (line 5), column timestamp: no value"),
    "a blank line inside": ("\na,NaN,1,4\n", "row 4 (line 5), column user_id: no value"),
    "a NUL": ("a\x00,NaN,1,4\n", "row 4 (line 5), column user_id"),
    "a bad row after a field of two lines": (
        '"a\nb",NaN,1,4\nx,NaN,?,5\n', "row 4 (line 5), column user_id"),
    "a bad value after a title of two lines": ("x,NaN,?,5\n", "row 4 (line 5), column label: '?'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_row_of_a_text_file_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    lines, words = BAD_LINES[case]
    with pytest.raises(DataError) as refusal:
        prepare(own(tmp_path, "log.csv", csv_text() + lines))
    assert words in str(refusal.value) and "log.csv" in str(refusal.value)


@settings(max_examples=150)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)), max_size=4
    ),
    name=st.sampled_from(["log.csv", "log.jsonl", "log.parquet", "log.tsv"]),
)
def test_a_file_with_flipped_bytes_is_refused_or_read_but_never_crashes(
    edits, name, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    if name.endswith("parquet"):
        pl.DataFrame(ROWS, schema=list(HEADER), orient="row").write_parquet(folder / name)
        data = (folder / name).read_bytes()
    else:
        data = (JSON if "json" in name else csv_text()).encode()
    for place, new, cut in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + cut :]
    try:
        dataset = prepare(own(folder, name, data), split="leave-one-out")
    except SasrecllmError as refusal:
        assert refusal.what and refusal.remedy and refusal.exit_code in (2, 4)
    else:
        assert set(dataset.catalog.item_ids) == {"🎬", "1e5", "NaN"}


def test_shuffled_files_prepare_the_same_data_set(tmp_path: Path) -> None:
    rng = random.Random(4)
    rows = [(f"u{n % 7}", rng.choice(["🎬", "1e5", "NaN"]), "1", str(n // 3)) for n in range(60)]
    rows = list({(u, i, t): (u, i, y, t) for u, i, y, t in rows}.values())
    digests = set()
    for _ in range(4):
        rng.shuffle(rows)
        head, *shelf = ITEMS.splitlines(keepends=True)
        rng.shuffle(shelf)
        tables = own(tmp_path, "log.csv", csv_text(rows), head + "".join(shelf))
        digests.add(prepare(tables).digest)
    assert len(digests) == 1


def test_swapped_columns_and_endless_fields(tmp_path: Path) -> None:
    swapped = csv_text(header=("item_id", "user_id", "label", "timestamp"))
    with pytest.raises(DataError, match=r"row 1 \(line 2\), column item_id: '007'; allowed: items of"):
        prepare(own(tmp_path, "log.csv", swapped))
    with pytest.raises(DataError, match="ids up to 128 bytes"):
        prepare(own(tmp_path, "log.csv", csv_text() + "x" * 3_000_000 + ",NaN,1,4\n"))
    long = ITEMS + f"long,{'x' * 3_000_000},g\n"
    tables = own(tmp_path, "log.csv", csv_text(), long)
    titles = prepare(tables, split_args={"valid": 0.3, "test": 0.3}).catalog.titles
    assert titles[2].startswith("xxx") and len(titles[2]) < 300, "such a title is cut"


def test_wrong_settings_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'user_id'"):
        own(tmp_path, "log.csv", csv_text(), columns={"userid": "x"})
    with pytest.raises(DataError, match="no column 'users'"):
        own(tmp_path, "log.csv", csv_text(), columns={"user_id": "users"})
    with pytest.raises(ConfigError, match="did you mean 'ml-1m'"):
        load_tables("ml1m")
    with pytest.raises(ConfigError, match=r"data\.order"):
        load_tables("ml-1m", order="backwards")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data\.words has 'itms'; .*; did you mean 'items'"):
        load_tables("ml-1m", words={"itms": "films"})
    with pytest.raises(ConfigError, match="needs a file"):
        load_tables("files")
    with pytest.raises(DataError, match=r"no such file; did you mean 'log\.csv'"):
        load_tables("files", path=tmp_path / "logs.csv")
    with pytest.raises(DataError, match="needs a folder"):
        load_tables("two-table", path=tmp_path / "log.csv")


def test_a_source_of_ones_own_needs_no_fork(monkeypatch) -> None:
    module = types.ModuleType("my_source")
    shelf = pl.DataFrame({"item_id": ["x"], "title": ["X"]})
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["x"]})
    module.read = lambda request: Tables(log, shelf, str(request.path))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_source", module)
    assert load_tables("my_source:read", path="here").name == "here"


@pytest.mark.parametrize(
    ("folder", "rows", "implicit", "order"),
    [
        ("ml-latest-small", 100_836, False, "auto"),
        ("ml-100k", 100_000, False, "time"),
        ("lastfm-llara", 52_925, True, "auto"),
        ("amazon-office-minionerec", 22_447, True, "auto"),
        ("amazon-bundle-electronic", 6_165, True, "auto"),
        ("goodreads-sprec", 54_885, True, "auto"),
    ],
)
def test_the_two_table_folders(data_root, folder, rows, implicit, order) -> None:
    dataset = prepare(load_tables("two-table", path=data_root / folder, order=order))
    assert len(dataset) == rows and dataset.implicit == implicit and dataset.name == folder
    everything = dataset.histories(dataset.rows("test"))
    assert (everything.times <= everything.asked_at[everything.owners]).all()


SMALLEST = {
    "log.csv": "user_id,item_id\n",
    "log.tsv": "user_id\titem_id\n",
    "log.jsonl": "",
    "log.parquet": "",
}


@pytest.mark.parametrize("order", ["auto", "file"])
@pytest.mark.parametrize("name", SMALLEST)
def test_users_and_items_alone_are_the_smallest_log_and_stand_in_the_files_order(
    name: str, order: str, tmp_path: Path
) -> None:
    rows = [(u, i) for i in ("c", "a", "d", "b") for u in ("v", "u")]
    if name == "log.parquet":
        pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_parquet(tmp_path / name)
        text: str | bytes = (tmp_path / name).read_bytes()
    elif name == "log.jsonl":
        text = "".join(f'{{"user_id": "{u}", "item_id": "{i}"}}\n' for u, i in rows)
    else:
        text = SMALLEST[name] + "".join(SMALLEST[name][7].join(row) + "\n" for row in rows)
    shelf = "item_id,title\n" + "".join(f"{i},Title {i}\n" for i in "abcde")
    dataset = prepare(own(tmp_path, name, text, shelf, order=order), negatives=1)
    assert dataset.implicit and not dataset.has_times
    for user in range(2):
        theirs = dataset.items[dataset.users == user]
        assert "".join(dataset.catalog.item_id(i) for i in theirs) == "cadb"
    assert any("order of the file" in note for note in dataset.notes)


@pytest.mark.parametrize("end", ["csv", "csv.gz", "parquet", "jsonl", "jsonl.gz"])
def test_a_path_names_one_file_whatever_signs_it_holds(end: str, tmp_path: Path) -> None:
    folder = tmp_path / "a[1]*?"
    rows = own(folder, "log.csv", csv_text())
    if end == "parquet":
        pl.read_csv(csv_text().encode(), infer_schema=False).write_parquet(folder / "[b]*.parquet")
        tables = load_tables("files", path=folder / "[b]*.parquet", items_path=folder / "items.csv")
    else:
        tables = own(folder, f"[b]*.{end}", JSON if "json" in end else csv_text())
    assert content(tables) == content(rows)


def test_a_folder_is_not_proposed_for_itself(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no table\n"):
        load_tables("files", path=tmp_path)


def titled(folder: Path, *titles: str) -> Tables:
    rows = "".join(f"u{n},i,{title}\n" for n, title in enumerate(titles))
    (folder / "log.csv").write_text("user_id,item_id,title\n" + rows, encoding="utf-8")
    return load_tables("files", path=folder / "log.csv")


def test_titles_beside_the_rows_are_one_each_however_they_are_spaced_or_left_out(
    tmp_path: Path,
) -> None:
    assert titled(tmp_path, "", "One  film", "One film ", "").items["title"].to_list() == ["One film"]
    long, _ = validate(titled(tmp_path, "x" * 300))
    assert any("1 titles of more than 256 characters were cut" in note for note in long.notes)
    with pytest.raises(DataError, match=r"column title: .*\n.*give the item a title"):
        prepare(titled(tmp_path, "", ""))
    with pytest.raises(DataError, match=r"one title for each item(.|\n)*data\.items_path"):
        prepare(titled(tmp_path, "One film", "Another"))


def test_lists_and_structures_are_no_ids_and_the_remedy_says_what_to_do(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["u"], "item_id": [["NaN", "1e5"]]})
    path = tmp_path / "log.parquet"
    for wide in (
        frame,
        frame.with_columns(pl.struct(**{f"n{k}": pl.lit(k) for k in range(99)}).alias("item_id")),
    ):
        wide.write_parquet(path)
        (tmp_path / "items.csv").write_text(ITEMS, encoding="utf-8")
        with pytest.raises(DataError, match="explode, unnest") as refusal:
            prepare(load_tables("files", path=path, items_path=tmp_path / "items.csv"))
        assert len(refusal.value.what) < 300 + len(str(path))


def test_the_known_world_is_a_source_whose_tables_carry_their_truth():
    small = {"users": 60, "items": 60, "rows": 12}
    tables = load_tables("known-world", world=small, seed=3)
    again = load_tables("known-world", world=small | {"seed": 3})
    assert tables.interactions.equals(again.interactions)
    assert not tables.interactions.equals(load_tables("known-world", world=small).interactions)
    assert tables.truth is not None and tables.truth.parameters["users"] == 60
    users, items = (tables.interactions[c].to_list() for c in ("user_id", "item_id"))
    p = tables.truth.of(users, items)
    assert p.shape == (len(users),) and ((p > 0) & (p < 1)).all()
    assert load_tables("known-world", world=small, words={"item": "film"}).words["item"] == "film"
