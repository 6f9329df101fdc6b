"""Titles by words: without case, accents, punctuation; best matches first; the ambiguous are named."""

import numpy as np
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


ANGLES = np.linspace(0.0, np.pi, len(TITLES))
NEAR = TitleSearch(Catalog(IDS, TITLES), np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1))
"""With vectors: an item is near to its neighbours in the list of titles."""


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


def shown(search, words, limit):
    hits, count = search.search(words, limit)
    return [(TITLES[n], near) for n, near in hits], count


def test_items_near_in_meaning_stand_behind_those_that_hold_the_words():
    found, count = shown(NEAR, "matrix", 4)
    assert count == 2 and [title for title, near in found if not near] == names("matrix")
    assert found[2:] == [("Amélie", True), ("Spider-Man (2002)", True)]
    # As many as are asked for, those that hold the words first; without vectors those alone.
    assert shown(NEAR, "matrix", 1) == ([("Matrix, The (1999)", False)], 2)
    assert shown(SEARCH, "matrix", 4) == ([(title, False) for title in names("matrix")], 2)
    assert len(shown(NEAR, "", 99)[0]) == len(TITLES) and not NEAR.near("", [])


def test_where_no_title_holds_all_words_those_with_the_most_of_them_are_neighbours():
    found, count = shown(NEAR, "troubles in space", 3)
    assert count == 0 and all(near for _, near in found)
    assert {title for title, _ in found} == {"A Sea of Troubles", "Sea"}
    # Whole words alone: "ate" is no part of anybody's meaning; and nothing is near to nothing.
    assert shown(NEAR, "ist ate", 3) == ([], 0) and shown(SEARCH, "troubles in space", 3) == ([], 0)


def test_items_added_behind_the_vectors_are_found_by_words_alone():
    some = TitleSearch(Catalog(IDS, TITLES), NEAR.vectors[:5])
    assert shown(some, "ghetto", 5) == ([("Łódź Ghetto", False)], 1)
    assert {n for n, near in some.search("matrix", 99)[0] if near} <= set(range(5))
