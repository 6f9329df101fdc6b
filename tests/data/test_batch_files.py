"""Files of users: every type of id that a run can be trained on, and no user lost to stray marks."""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from sasrecllm.data.batch_files import merge_lists, user_batches, users_of
from sasrecllm.errors import DataError


def users(path: Path, **given) -> list[str]:
    """The users of a file, which both readers of it agree on."""
    every = [user for part in user_batches(path, 2, **given) for user in part]
    parts = -(-len(every) // 2)
    apart = [user for n in range(parts + 1) for user in users_of(path, n, 2, **given)]
    assert every == apart
    return every


@pytest.mark.parametrize(
    ("values", "spelt"),
    [
        (pl.Series([1, 2, 18]), ["1", "2", "18"]),
        (pl.Series([2**63 + 7], dtype=pl.UInt64), [str(2**63 + 7)]),
        (pl.Series([Decimal(7), Decimal(10**30)], dtype=pl.Decimal(38, 0)), ["7", str(10**30)]),
        (pl.Series(["b", "a"], dtype=pl.Enum(["a", "b"])), ["b", "a"]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), ["b", "a"]),
    ],
)
def test_ids_of_every_type_that_keeps_its_spelling(values, spelt, tmp_path: Path) -> None:
    pl.DataFrame({"who": values}).write_parquet(tmp_path / "u.parquet")
    assert users(tmp_path / "u.parquet", column="who") == spelt


@pytest.mark.parametrize("values", [[7.0], [b"u1"], [True], [["u1"]]])
def test_other_types_are_refused_before_any_row(values, tmp_path: Path) -> None:
    pl.DataFrame({"user_id": values}).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"u\.parquet, column user_id: ids are of type"):
        next(user_batches(tmp_path / "u.parquet", 2))


def test_json_lines_of_numbers_and_of_both(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    path.write_text('{"user_id": 1}\n{"user_id": 18446744073709551617}\n')
    assert users(path) == ["1", "18446744073709551617"]
    path.write_text("".join(f'{{"user_id": {n}}}\n' for n in range(150)) + '{"user_id": "007"}\n')
    assert users(path) == [*map(str, range(150)), "007"]


TEXTS = {
    "one column": ("u.csv", "user_id\nu1\nu2\nu3\n", ["u1", "u2", "u3"]),
    "semicolons": ("u.csv", "user_id;age\r\nu1;7\r\nu2;8\r\n", ["u1", "u2"]),
    "quoted": ("u.csv", '"user_id","said"\n"u1","a,\nb"\n"u2","x"\n', ["u1", "u2"]),
    "an inch mark": ("u.csv", 'user_id,said\nu1,12" Mix\nu2,x\n', ["u1", "u2"]),
    "stray marks": ("u.tsv", 'user_id\tsaid\nu1\t"so\nu2\tx\nu3\tno"\n', ["u1", "u2", "u3"]),
    "a BOM": ("u.csv", "\ufeffuser_id\nu1\n", ["u1"]),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_files_are_read_as_the_data_is(case: str, tmp_path: Path) -> None:
    name, text, expected = TEXTS[case]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert users(tmp_path / name) == expected


@pytest.mark.parametrize("text", ['user_id\n"u1\nu2\nu3"\nu4\n', 'user_id,x\nu1,"a\nu2,b\nu3,c"\n'])
def test_stray_marks_that_would_swallow_users_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text(text)
    with pytest.raises(DataError, match=r"u\.csv, line 3: it looks like a row"):
        list(user_batches(tmp_path / "u.csv", 2))


@pytest.mark.parametrize("name", ["[u]*.csv", "[u]*.parquet", "[u]*.jsonl"])
def test_a_path_names_one_file_whatever_signs_it_holds(name: str, tmp_path: Path) -> None:
    path, frame = tmp_path / name, pl.DataFrame({"user_id": ["a", "b", "c"]})
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[
        name.rpartition(".")[2]
    ](path)
    assert users(path) == ["a", "b", "c"]


BROKEN = {
    "latin-1": ("u.csv", "user_id\na\nJos\xe9\n".encode("latin-1"), "line 3: byte 0xe9"),
    "a field too many": ("u.csv", b"user_id\na\nb,1\n", "line 3: 2 fields; the header has 1"),
    "a list of texts": ("u.jsonl", b'"a"\n', "line 1: a str, not an object"),
    "JSON cut off": ("u.jsonl", b'{"user_id": "a"}\n{"user_id": "', "line 2"),
    "a name twice": ("u.csv", b"user_id,user_id\na,b\n", "two columns are named 'user_id'"),
    "one column of another name": ("u.csv", b"member\na\n", "name it: --column member;"),
    "a name like ours": ("u.csv", b"n,user no\n1,a\n", "name it: --column 'user no';"),
    "no header": ("u.csv", b"a\nb\n", "make user_id the first line"),
    "a blank line inside": ("u.csv", b"user_id\na\n\nb\n", "row 2: user_id is empty"),
    "no id": ("u.jsonl", b'{"user_id": "a"}\n{"user_id": null}\n', "row 2: user_id is empty"),
    "no id at the end": ("u.csv", b"user_id,n\na,1\n,2\n", "row 2: user_id is empty"),
    "no Parquet": ("u.parquet", b"user_id\na\n", "u.parquet cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_of_users_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    name, text, says = BROKEN[case]
    (tmp_path / name).write_bytes(text)
    with pytest.raises(DataError) as refusal:
        list(user_batches(tmp_path / name, 2))
    assert says in str(refusal.value)


@pytest.mark.parametrize("text", ["user_id\na\nb\nc\n\n\n", "user_id,n\na,1\nb,2\nc,3\n\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_blank_lines_at_the_end_are_no_users(size: int, text: str, tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text(text, encoding="utf-8")
    parts = list(user_batches(path, size))
    assert [user for part in parts for user in part] == ["a", "b", "c"]
    assert [users_of(path, n, size) for n in range(len(parts))] == parts


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_of_theirs_beside_the_lists_stays(ending, tmp_path: Path) -> None:
    part, out = tmp_path / "part.parquet", tmp_path / f"recs.{ending}"
    pl.DataFrame({"user_id": ["u1"], "flags": [["new"]]}).write_parquet(part)
    out.with_name(f"{out.name}.tmp").write_text("mine")
    merge_lists([part], out)
    assert out.with_name(f"{out.name}.tmp").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3
