from __future__ import annotations

import polars as pl
import pytest

from sasrecllm.data.catalog import Catalog, clean_titles
from sasrecllm.errors import DataError


@pytest.fixture
def shelf() -> Catalog:
    return Catalog(["007", "7", "🎬"], ["Bond", "Seven", "Action"], ["a"], {"genre": ["x", None, "y"]})


def test_ids_and_indices(shelf: Catalog) -> None:
    assert shelf.item_index(["🎬", "7", "07", "007"]).tolist() == [2, 1, -1, 0]
    assert [shelf.item_id(i) for i in range(3)] == ["007", "7", "🎬"]
    assert shelf.title(2) == "Action" and shelf.n_items == 3 and shelf.n_users == 1
    for wrong in (-1, 3):
        with pytest.raises(DataError, match="allowed: 0 to 2"):
            shelf.item_id(wrong)


def test_new_items_go_to_the_end(shelf: Catalog) -> None:
    longer = shelf.extended(["z", "0"], ["Ame\u0301lie\n", "Zero"])
    assert longer.item_ids == ["007", "7", "🎬", "z", "0"]
    assert longer.title(3) == "Amélie" and longer.attributes["genre"] == [
        "x",
        None,
        "y",
        None,
        None,
    ]
    assert shelf.n_items == 3 and longer.item_index(["0"]).tolist() == [4]
    for ids, titles in ((["7"], ["again"]), (["new"], [" "]), ([""], ["t"]), (["new"], []),
                        (["n", "n"], ["a", "b"]), (["\ud800"], ["t"]),
                        (["n"], ["t\ud800"])):  # fmt: skip
        with pytest.raises(DataError):
            shelf.extended(ids, titles)


def test_the_digest_knows_ids_titles_and_their_order(shelf: Catalog) -> None:
    def digest(ids: list[str], titles: list[str]) -> str:
        return Catalog(ids, titles).digest

    base = digest(["a", "b"], ["x", "y"])
    assert base == digest(["a", "b"], ["x", "y"])
    others = [(["b", "a"], ["x", "y"]), (["a", "b"], ["y", "x"]), (["ab", ""], ["x", "y"]),
              (["a", "b"], ["x", "y "])]  # fmt: skip
    assert base not in {digest(*other) for other in others}
    assert shelf.digest != shelf.extended(["n"], ["N"]).digest


def test_a_catalogue_with_two_of_the_same_is_refused() -> None:
    with pytest.raises(DataError, match="'a' occurs twice"):
        Catalog(["a", "b", "a"], ["x", "y", "z"])
    with pytest.raises(DataError, match="2 item ids but 1 titles"):
        Catalog(["a", "b"], ["x"])


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Ame\u0301lie", "Amélie"),
        ("a\tb\r\nc", "a b c"),
        ("\x00x\x1b[31m\x9f", "x[31m"),
        ("\u202eevil\u2066", "evil"),
        ("👩\u200d🚀 joined", "👩\u200d🚀 joined"),
        ("</s><unk>", "</s><unk>"),
        (None, None),
    ],
)
def test_titles_are_cleaned_but_keep_their_words(raw: str | None, clean: str | None) -> None:
    assert clean_titles(pl.Series([raw], dtype=pl.String)).to_list() == [clean]
