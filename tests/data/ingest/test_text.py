"""Text files: whatever stands in them, no row is lost; what cannot be understood is refused by line."""

import csv
import gzip
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sasrecllm.data.ingest import quotes
from sasrecllm.data.ingest.readers import read_table
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.errors import DataError


def read(folder: Path, name: str, text: str) -> list[tuple[str | None, ...]]:
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    frame, _ = read_table(folder / name)
    return frame.drop("__line").rows()


SEPARATORS = {"log.csv": ",", "log.tsv": "\t", "semi.csv": ";", "bar.txt": "|", "log.inter": "\t"}
signs = st.sampled_from([*"ab1 \"'\t\n,;|é\\", "\r\n"])
cells = st.lists(signs, max_size=6).map("".join)
tables = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=8)
)


def spelt(rows) -> list[tuple[str, ...]]:
    """Rows with an empty text where a text file cannot tell it from a missing one."""
    return [tuple(value or "" for value in row) for row in rows]


@settings(max_examples=400, deadline=None)
@given(
    rows=tables,
    name=st.sampled_from(sorted(SEPARATORS)),
    packed=st.booleans(),
    bom=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_a_table_of_the_csv_module_is_read_back_or_refused_by_line(
    rows, name, packed, bom, end, quoting, tmp_path_factory
) -> None:
    separator, out = SEPARATORS[name], io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow([f"c{n}" for n in range(len(rows[0]))])
    writer.writerows(rows)
    text = "\ufeff" * bom + out.getvalue()
    folder = tmp_path_factory.mktemp("csv")
    try:
        got = spelt(read(folder, name + ".gz" * packed, text))
    except DataError as refusal:
        event("refused")
        assert ", line " in refusal.what and refusal.remedy
        return
    whole = spelt(rows)
    while whole and not any(whole[-1]):
        whole.pop()  # blank lines at the end are no rows
    while got and not any(got[-1]):
        got.pop()
    if got != whole and separator == "\t":
        # Byte for byte a file without quoting that holds these lines, all of them whole: never fewer.
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")[1:]
        assert all(line.count("\t") + 1 == len(rows[0]) for line in lines if line)
        assert len(got) > len(whole)
        event("ambiguous")
        return
    event("read")
    assert got == whole


plain_cells = st.text(st.sampled_from("ab1 \"'é\\"), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(2, 4).flatmap(
        lambda width: st.lists(
            st.lists(plain_cells, min_size=width, max_size=width), min_size=1, max_size=8
        )
    ),
    name=st.sampled_from(sorted(SEPARATORS)),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_written_without_quoting_loses_no_row_that_looks_like_one(
    rows, name, end, tmp_path_factory
) -> None:
    header = [f"c{n}" for n in range(len(rows[0]))]
    text = "".join(SEPARATORS[name].join(row) + end for row in [header, *rows])
    try:
        got = read(tmp_path_factory.mktemp("raw"), name, text)
    except DataError as refusal:
        event("refused")
        assert ", line " in refusal.what
        assert SEPARATORS[name] != "\t", "such files have no quoting"
        return
    if len(got) < len(rows):
        # Byte for byte a quoted file: with blank rows at its end, or with a field of several lines
        # where all other rows have numbers.
        assert SEPARATORS[name] != "\t"
        lines = io.StringIO(text, newline="")
        strict = spelt(list(csv.reader(lines, delimiter=SEPARATORS[name], strict=True))[1:])
        merged = len(strict) < len(rows)
        while strict and not any(strict[-1]):
            strict.pop()
        assert spelt(got) == strict
        whole = [row for row in strict if not any("\n" in value for value in row)]
        columns = [[value.strip() for value in c if value.strip()] for c in zip(*whole, strict=True)]
        assert not merged or any(len(c) > 1 and "".join(c).isdigit() for c in columns)
        event("ambiguous")
        return
    event("read")
    assert len(got) == len(rows)
    for value, cell in zip(sum(got, ()), sum(map(tuple, rows), ()), strict=True):
        assert (value or "") in (cell, cell[1:-1].replace('""', '"')), (
            "as it stands, or out of its quotes"
        )


@pytest.mark.parametrize(
    ("text", "line"),
    [('\\"|"\n1|1"\n', 3), ('1|1\n"|x\n1|1"\n', 4)],
)
def test_one_row_of_numbers_is_too_few_to_take_another_row_for_text(text, line, tmp_path) -> None:
    with pytest.raises(DataError, match=rf"line {line}: it looks like a row"):
        read(tmp_path, "bar.txt", "c0|c1\n" + text)


@pytest.mark.parametrize("last", ['1\t1\t1\t"', '1\t1\t"\t1'])
def test_a_tab_separated_file_of_whole_lines_has_no_quoting(last, tmp_path) -> None:
    rows = ["1\t1\t1\t1"] * 2 + ['1\t1\t1\t"\\', last]
    got = read(tmp_path, "log.inter", "\n".join(["a\tb\tc\td", *rows]) + "\n")
    assert got == [tuple(row.split("\t")) for row in rows]


ROWS = [f"u{n % 7},i{n % 5},{n % 5 + 1},{1600000000 + n},ok" for n in range(60)]
HEADER = "user_id,item_id,rating,timestamp,comment"


def stray(first: int, last: int, separator: str, place: int = 4) -> str:
    """A log in which a mark opens a field of one row and another closes one of a later row."""
    rows = [row.split(",") for row in ROWS]
    rows[first][place] = '"' + rows[first][place]
    rows[last][place] += '"'
    return "\n".join([HEADER.replace(",", separator), *(separator.join(row) for row in rows), ""])


@pytest.mark.parametrize("first_last", [(5, 25), (0, 59), (5, 6), (58, 59)])
@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize("name", ["log.tsv", "log.inter", "log.tsv.gz"])
def test_stray_marks_in_a_file_without_quoting_are_characters(
    name, place, first_last, tmp_path: Path
) -> None:
    rows = read(tmp_path, name, stray(*first_last, "\t", place))
    assert len(rows) == 60 and rows[first_last[0]][place].startswith('"')
    frame, note = read_table(tmp_path / name)
    assert frame["__line"].to_list() == list(range(2, 62))
    assert name in note and f"line {first_last[0] + 3}" in note


@pytest.mark.parametrize("first_last", [(5, 25), (0, 59), (5, 6), (58, 59)])
@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize(("name", "separator"), [("log.csv", ","), ("semi.csv", ";"), ("bar.txt", "|")])
def test_stray_marks_that_would_swallow_rows_are_refused(
    name, separator, place, first_last, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"{name}, line {first_last[0] + 3}: it looks like a row"):
        read(tmp_path, name, stray(*first_last, separator, place))


def test_three_titles_do_not_become_one(tmp_path: Path) -> None:
    shelf = 'item_id{0}title\na{0}"Heroes\nb{0}Big Red\nc{0}The "End"\nd{0}Low"\n'
    titles = ['"Heroes', "Big Red", 'The "End"', 'Low"']
    assert [row[1] for row in read(tmp_path, "shelf.tsv", shelf.format("\t"))] == titles
    with pytest.raises(DataError, match=r"shelf\.csv, line 2: .*quotation mark is not closed"):
        read(tmp_path, "shelf.csv", shelf.format(","))
    with pytest.raises(DataError, match=r"shelf\.csv, line 3: it looks like a row"):
        read(tmp_path, "shelf.csv", shelf.format(",").replace('The "End"', "The End"))


@pytest.mark.parametrize("name", sorted(SEPARATORS))
def test_an_inch_mark_is_read_as_it_stands(name: str, tmp_path: Path) -> None:
    mark = SEPARATORS[name]
    text = f'item_id{mark}title{mark}genre\r\na{mark}12" Mix{mark}x\r\nb{mark}6\' 2"{mark}y\r\n'
    assert read(tmp_path, name, text) == [("a", '12" Mix', "x"), ("b", "6' 2\"", "y")]
    assert "line 2" in read_table(tmp_path / name)[1]


def test_an_inch_mark_beside_quoted_fields_leaves_them_as_they_are(tmp_path: Path) -> None:
    text = 'a,b\n1,"x, ""y""\n\nz"\n2,12" Mix\n"3","plain"\n\n4,"p\nq"\n5,last\n'
    frame, _ = quoted = read_table_of(tmp_path, text)
    assert frame.drop("__line").rows() == [
        ("1", 'x, "y"\n\nz'), ("2", '12" Mix'), ("3", "plain"), (None, None), ("4", "p\nq"),
        ("5", "last"),
    ]  # fmt: skip
    assert frame["__line"].to_list() == [2, 5, 6, 7, 8, 10] and "line 5" in quoted[1]


def read_table_of(folder: Path, text: str, name: str = "t.csv"):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_table(folder / name)


PROSE = [
    ("last", 'u,i,5,1600000000,"good\nbut long, very long, and, dear\n\nindeed"\n'),
    ("first", '"of two\nlines",i,5,1600000000,ok\n'),
    ("middle", 'u,"of, two\nlines",5,1600000000,ok\n'),
]


@pytest.mark.parametrize(("where", "row"), PROSE)
def test_a_text_of_several_lines_is_one_field_and_is_counted(where, row, tmp_path: Path) -> None:
    frame, note = read_table_of(tmp_path, "\n".join([HEADER, *ROWS, row]))
    assert frame.height == 61, where
    assert f"{row.count(chr(10)) - 1} line breaks stand inside quoted fields" in note


def test_a_mark_that_makes_one_field_of_two_is_refused(tmp_path: Path) -> None:
    text = "\n".join([HEADER, *ROWS[:3], 'u1,"i1,5",1600000000,ok', ""])
    with pytest.raises(DataError, match="line 5: 4 fields; the header has 5, and a quoted field holds"):
        read_table_of(tmp_path, text)
    whole = "\n".join([HEADER, *ROWS[:3], 'u1,"i1,5",3,1600000000,', ""])
    assert read_table_of(tmp_path, whole)[0].height == 4


def test_a_tab_file_whose_marks_pair_is_quoted_and_one_that_fits_no_reading_is_refused(
    tmp_path,
) -> None:
    paired = 'a\tb\n1\t"x\ty"\n2\t"p\nq"\n3\t"say ""no"""\n'
    rows = read_table_of(tmp_path, paired, "t.tsv")[0].drop("__line").rows()
    assert rows == [("1", "x\ty"), ("2", "p\nq"), ("3", 'say "no"')]
    with pytest.raises(DataError, match=r"t\.tsv, line 2: 3 fields; .*mark on line 6 pairs with none"):
        read_table_of(tmp_path, paired + '4\t12" Mix\n', "t.tsv")
    assert read_table_of(tmp_path, '"a"\t"b"\n1\t12" Mix\n', "t.tsv")[0].rows() == [("1", '12" Mix', 2)]


def test_a_small_piece_of_the_file_at_a_time_finds_the_same(tmp_path: Path, monkeypatch) -> None:
    text = 'a,b\n"1","x\n""y"", ""z"""\n2,"p"\n"3",\n"","" \n'
    for size in range(1, 12):
        monkeypatch.setattr(quotes, "PIECE", size)
        good = text.replace('"" \n', '"q"\n')
        assert read_table_of(tmp_path, good)[0].drop("__line").rows() == [
            ("1", 'x\n"y", "z"'), ("2", "p"), ("3", None), ("", "q"),
        ]  # fmt: skip
        with pytest.raises(DataError, match=r"line 6: "):
            read_table_of(tmp_path, text)


def test_blank_lines_before_the_header_and_line_breaks_in_it_are_counted(tmp_path: Path) -> None:
    frame, _ = read_table_of(tmp_path, "\n\r\na;b\n1;2\n3;4\n")
    assert frame.rows() == [("1", "2", 4), ("3", "4", 5)]
    with pytest.raises(DataError, match=r"t\.csv is empty"):
        read_table_of(tmp_path, "\n\n")
    with pytest.raises(DataError, match="UTF-16"):
        (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-16-le"))
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["log of May.csv", "log.csv.gz"])
@pytest.mark.parametrize(
    "encoding",
    ["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "a line end"],
)
@pytest.mark.skipif(shutil.which("iconv") is None, reason="no iconv")
def test_the_conversion_that_is_named_works_as_it_stands(
    tmp_path: Path, encoding: str, name: str
) -> None:
    text = "user,title\n1,Amélie\n"
    ends = encoding == "a line end"
    old = text.replace("\n", "\r").encode() if ends else text.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(old) if name.endswith(".gz") else old)
    with pytest.raises(DataError, match="convert ") as refused:
        read_table(path)
    command = str(refused.value).split("convert ")[1].splitlines()[0].split(": ", 1)[1]
    subprocess.run(command, shell=True, check=True)
    frame, _ = read_table(tmp_path / f"new-{name.removesuffix('.gz')}")
    assert frame["title"].to_list() == ["Amélie"]
    assert path.exists()


def test_what_was_made_of_the_marks_stands_in_the_notes(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text(stray(5, 25, "\t"))
    items = "".join(f'i{n},Part "{n}"\n' for n in range(5))
    (tmp_path / "shelf.csv").write_text("item_id,title\n" + items)
    tables = load_tables("files", path=tmp_path / "log.tsv", items_path=tmp_path / "shelf.csv")
    assert [note.split(":")[0] for note in tables.notes] == ["log.tsv", "shelf.csv"]
    assert tables.items["title"].to_list() == [f'Part "{n}"' for n in range(5)]
