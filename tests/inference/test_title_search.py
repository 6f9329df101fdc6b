"""Titles by words: without case, accents, punctuation; best matches first; the ambiguous are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import DataError
from sasrecllm.inference.title_search import TitleSearch, folded
from sasrecllm.types import UNKNOWN

TITLES = [
    "Matrix, The (1999)", "Matrix Reloaded, The (2003)", "Amélie", "Spider-Man (2002)", "WALL·E",
    "Schindler's List (1993)", "Cinderella (1950)", "Cinderella (1997)", "General, The (1926)",
    "The General's Daughter", "???", "C++", "Łódź Ghetto", "Sea", "A Sea of Troubles", "Sea",
]  # fmt: skip
IDS = [f"i{n:02d}" for n in range(len(TITLES))]
SEARCH = TitleSearch(Catalog(IDS, TITLES))


def names(words):
    return [TITLES[n] for n in SEARCH.find(words)]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("the matrix", "Matrix, The (1999)"),
        ("MATRIX", "Matrix, The (1999)"),
        ("reloaded matrix", "Matrix Reloaded, The (2003)"),
        ("amelie", "Amélie"),
        ("AME\u0301LIE", "Amélie"),
        ("spiderman", "Spider-Man (2002)"),
        ("spider man", "Spider-Man (2002)"),
        ("walle", "WALL·E"),
        ("schindlers list", "Schindler's List (1993)"),
        ("schindler’s", "Schindler's List (1993)"),
        ("the general", "General, The (1926)"),
        ("general", "General, The (1926)"),
        ("daughter", "The General's Daughter"),
        ("???", "???"),
        ("lodz", "Łódź Ghetto"),
        ("i04", "WALL·E"),
        ("sea", "Sea"),
    ],
)
def test_words_find_what_a_person_means_best_first(words, first):
    assert names(words)[0] == first


def test_all_words_must_be_there():
    assert names("matrix amelie") == [] and names("troubles of the sea") == []
    assert names("sea troubles") == ["A Sea of Troubles"]
    assert len(names("  ")) == len(TITLES)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Matrix, The (1999)", 0), ("the matrix", 0), ("The Matrix (1999)", 0), ("amelie", 2),
        ("cinderella 1950", 6), ("cinderella", UNKNOWN), ("a film nobody made", UNKNOWN),
        ("SEA", 13), ("c++", 11),
    ],
)  # fmt: skip
def test_a_title_names_the_one_item_that_is_called_so(text, index):
    assert SEARCH.item_of(text) == index


def test_of_several_that_may_be_meant_each_is_shown_with_its_id():
    with pytest.raises(DataError, match="'Cinderella' may be 2 items: 'i06' Cinderella") as refusal:
        SEARCH.chosen("Cinderella", "--title")
    assert "i07" in refusal.value.what and "id" in refusal.value.remedy
    with pytest.raises(DataError, match="--title is ' '"):
        SEARCH.chosen(" ", "--title")
    assert SEARCH.chosen("reloaded", "--title") == 1, "one title alone has the word"
    assert SEARCH.chosen("no such thing", "--title") == UNKNOWN
    many = TitleSearch(Catalog([f"m{n}" for n in range(30)], [f"Part {n}" for n in range(30)]))
    with pytest.raises(DataError, match=r"may be 30 items: .* and 20 more"):
        many.chosen("part", "--title")


@given(st.text(max_size=12))
def test_folding_once_is_enough_and_every_title_finds_itself(title):
    assert folded(folded(title)) == folded(title)
    other = TitleSearch(Catalog(["x", "y"], [title, "Another one"]))
    assert 0 in other.find(title)
    if folded(title) and folded(title) != "another one":
        assert other.item_of(title) == 0
