"""An id is found where it stands for a user, in any spelling, and nowhere else."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.data.ingest.user_names import named_in, names_a_user, table_without

ID = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "user", "named"),
    [
        ("user 'ada' met every item", "ada", True),
        ("adam met every item", "ada", False),
        ("ada-2 and ada_3", "ada_3", True),
        ("step 7/40, loss 0.7", "7", False),
        ("user 7: 12 rows", "7", True),
        ("user_id=7", "7", True),
        ("users '7', '9'", "9", True),
        ("user 77: 12 rows", "7", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        (json.dumps({"user": 'J\u00f3n "x"'}), 'J\u00f3n "x"', True),
        ("line 3: '<7>'", "<7>", True),
    ],
)
def test_sentences(text, user, named):
    assert named_in(text, user) is named


@given(ID)
def test_every_id_is_found_in_quotes_behind_the_word_and_in_json(user):
    assert named_in(f"user {user!r} has no row", user)
    assert names_a_user(json.loads(json.dumps({"a": [{"user_id": user}]})), {user})
    assert not names_a_user({"count": 3, "note": "nobody"}, {user + "#"})


def test_json_of_any_shape():
    assert names_a_user({"user": 7}, {"7"}) and not names_a_user({"row": 7, "item_id": "7"}, {"7"})
    assert names_a_user([{"x": ["", "user ada"]}], {"ada"}) and names_a_user({"user ada": 1}, {"ada"})
    assert not names_a_user({"user_id": None, "value": True}, {"ada"})


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv"])
def test_tables_lose_the_rows_of_a_user_and_nothing_else(tmp_path, ending):
    frame = pl.DataFrame({"user_id": ["007", "7", None, "a,b"], "x": ["1", "2", "3", "4"]})
    path, out = tmp_path / f"t[1].{ending}", tmp_path / "new" / f"t.{ending}"

    def read(file):
        if ending == "parquet":
            return pl.read_parquet(file)
        return pl.read_csv(file, infer_schema=False, separator="\t" if ending == "tsv" else ",")

    if ending == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if ending == "tsv" else ",")
    assert not table_without(path, ["70"], out) and not out.exists()
    assert table_without(path, ["7", "a,b"], out)
    assert read(out).rows() == [("007", "1"), (None, "3")]
    other = tmp_path / f"other.{ending}"
    other.write_bytes(b"\x00no table\xff")
    assert not table_without(other, ["7"], out)
