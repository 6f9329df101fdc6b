"""What the values of a column mean: ids, labels, ratings, places, attributes of every common type."""

from decimal import Decimal

import polars as pl
import pytest

from sasrecllm.data.ingest.validation import validate
from sasrecllm.data.ingest.values import attribute, ids, numbers, whole_numbers
from sasrecllm.data.interactions import Tables
from sasrecllm.errors import DataError

BIG = 10**30 + 7


@pytest.mark.parametrize(
    ("values", "spelled"),
    [
        (pl.Series(["007", "7"]), ["007", "7"]),
        (pl.Series([7, -7]), ["7", "-7"]),
        (pl.Series([Decimal(BIG), Decimal(7)], dtype=pl.Decimal(38, 0)), [str(BIG), "7"]),
        (pl.Series([Decimal("7.0"), None], dtype=pl.Decimal(38, 10)), ["7", None]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), ["b", "a"]),
        (pl.Series(["b", "a"], dtype=pl.Enum(["a", "b"])), ["b", "a"]),
    ],
)
def test_ids_keep_their_spelling(values, spelled) -> None:
    assert ids(values, "log, column u").to_list() == spelled


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (pl.Series([b"u1"]), "cast(pl.String)"),
        (pl.Series([7.0]), "astype('Int64')"),
        (pl.Series([Decimal("7.5")], dtype=pl.Decimal(10, 2)), "as text or integers"),
        (pl.Series([True]), "as text or integers"),
        (pl.Series([["u1"]]), "explode"),
    ],
)
def test_ids_that_lost_their_spelling_are_refused_with_a_way_out(values, remedy) -> None:
    with pytest.raises(DataError, match="log, column u: ids are of type") as refusal:
        ids(values, "log, column u")
    assert remedy in refusal.value.remedy


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        *[("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("yes", "no"), (" Yes ", "NO")],
        *[("t", "f"), ("Y", "N"), ("1", "0"), ("1.0", "0.0"), (True, False), (1.0, 0.0)],
        (Decimal(1), Decimal(0)),
    ],
)
def test_labels_however_they_are_written(yes, no) -> None:
    log = {"user_id": ["u"] * 3, "item_id": ["a"] * 3, "label": [yes, no, yes], "order": [1, 2, 3]}
    shelf = pl.DataFrame({"item_id": ["a"], "title": ["A"]})
    clean, _ = validate(Tables(pl.DataFrame(log), shelf, "t"))
    assert clean.interactions["label"].to_list() == [1, 0, 1]


def test_numbers_of_every_type_and_with_a_decimal_comma() -> None:
    text = pl.Series(["4.5", " 3,5 ", "1e1", "1,000", "good", None])
    assert numbers(text, "log").values.to_list() == [4.5, 3.5, 10.0, None, None, None]
    grades = pl.Series(["4", "5"], dtype=pl.Categorical)
    assert numbers(grades, "log").values.to_list() == [4.0, 5.0]
    cents = pl.Series([Decimal("4.50")], dtype=pl.Decimal(10, 2))
    assert numbers(cents, "log").values.to_list() == [4.5]
    with pytest.raises(DataError, match="log, column r: values are of type List"):
        numbers(pl.Series([[1]]), "log, column r")


def test_places_of_every_type() -> None:
    for values in (
        *[pl.Series(["7", "8.0"]), pl.Series([7.0, 8.0]), pl.Series(["7", "8"], dtype=pl.Categorical)],
        pl.Series([Decimal(7), Decimal(8)], dtype=pl.Decimal(38, 0)),
    ):
        assert whole_numbers(values, "log").values.to_list() == [7, 8]
    assert whole_numbers(pl.Series([7.5, float("inf")]), "log").values.to_list() == [None, None]


def test_lists_of_words_become_one_text_and_what_is_no_text_is_named() -> None:
    assert attribute(pl.Series([["War", "Drama"], ["War"], [], None])).to_list() == [
        "War|Drama", "War", None, None,
    ]  # fmt: skip
    assert attribute(pl.Series([[1, 2], None])).to_list() == ["1|2", None]
    fixed = pl.Series([["a", "b"]], dtype=pl.Array(pl.String, 2))
    assert attribute(fixed).to_list() == ["a|b"]
    written = ["['War', 'Drama']", '["Sci-Fi"]', "['War' 'Comedy']", "[1, 2]", "[]", None]
    joined = ["War|Drama", "Sci-Fi", "War|Comedy", "1|2", None, None]
    assert attribute(pl.Series(written)).to_list() == joined
    for plain in (["[REC]", "['War']"], ["['War'", None], ["War, Drama"], ["[{'a': 1}]"], ["[(1, 2)]"]):
        assert attribute(pl.Series(plain)).to_list() == plain
    shelf = pl.DataFrame(
        {
            "item_id": ["a"], "title": ["A"], "genres": [["War", "Drama"]], "cover": [b"\xff"],
            "maker": [{"name": "M"}], "runs": pl.Series([90], dtype=pl.Duration("ms")), "price": [1.5],
        }
    )  # fmt: skip
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "order": [1]})
    clean, _ = validate(Tables(log, shelf, "t", files=("log", "films")))
    assert clean.items.row(0, named=True) == {
        "item_id": "a", "title": "A", "genres": "War|Drama", "price": "1.5",
    }  # fmt: skip
    (note,) = clean.notes
    assert "films" in note and all(name in note for name in ("cover (Binary)", "maker", "runs"))
