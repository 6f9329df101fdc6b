"""Raw ids at the recommender's door: indices, or refusals that name the culprit."""

from types import SimpleNamespace

import numpy as np
import pytest

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import DataError
from sasrecllm.inference.id_lookup import (
    entries_of,
    history_of,
    items_of,
    named_titles,
    user_of,
)
from sasrecllm.inference.requests import NewItem, Title
from sasrecllm.inference.title_search import TitleSearch
from sasrecllm.types import UNKNOWN, Histories

TITLES = ["The Sea", "A War", "The Sea", "Love"]
CATALOG = Catalog(
    ["a", "b", "c", "title 1"], TITLES, ["ann", "bob"], {"genre": ["Sea|Old", "War", "Sea", None]}
)
SEARCH = TitleSearch(CATALOG)


def test_ids_become_indices_in_their_order():
    assert items_of(CATALOG, ["c", "a", "c"], "items").tolist() == [2, 0, 2]
    assert items_of(CATALOG, [], "items").tolist() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("x", r"history: item 'x' is not in the catalogue of 4 items"),
        ("titel 1", r"did you mean 'title 1'"),
        ("A War", r"it is the title of item 'b'"),
        ("The Sea", r"it is the title of item 'a', 'c'"),
    ],
)
def test_an_unknown_item_is_named_with_what_may_be_meant(given, said):
    with pytest.raises(DataError, match=said):
        items_of(CATALOG, ["a", given], "history")


def test_a_user_is_found_or_not_and_needed_or_not():
    assert user_of(CATALOG, "bob", needed=True) == 1
    assert user_of(CATALOG, None, needed=False) == user_of(CATALOG, "eve", needed=False) == UNKNOWN
    with pytest.raises(DataError, match="user 'bobb' is not in this run's data; did you mean 'bob'"):
        user_of(CATALOG, "bobb", needed=True)
    with pytest.raises(DataError, match="neither user nor history was given"):
        user_of(CATALOG, None, needed=True)


def test_what_is_told_now_stands_behind_what_the_data_knows():
    before = Histories(
        np.array([1]), np.array([3]), np.array([0], np.int8), np.array([7]), np.array([0, 1]),
        np.array([9]),
    )  # fmt: skip
    dataset = SimpleNamespace(latest=lambda users: before)
    got = history_of(dataset, 1, np.array([0, 2]), [True, False])
    assert got.items.tolist() == [3, 0, 2] and got.labels.tolist() == [0, 1, 0]
    assert (np.diff(got.times) >= 0).all() and got.asked_at[0] > got.times[-1]
    alone = history_of(dataset, UNKNOWN, np.array([0, 2]), [True, False])
    assert alone.items.tolist() == [0, 2] and alone.users.tolist() == [UNKNOWN]


def test_a_known_title_is_its_item_and_each_new_one_becomes_an_item_once():
    told = [Title("a WAR"), "c", Title("Brand New"), Title("Other"), Title("Brand New")]
    items, new = entries_of(SEARCH, told)
    assert items.tolist() == [1, 2, 4, 5, 4]
    assert [item.title for item in new] == ["Brand New", "Other"]
    with pytest.raises(DataError, match="history: item 'x'"):
        entries_of(SEARCH, ["x"])


def test_the_ids_of_titles_are_nobody_elses():
    (first, second) = named_titles(CATALOG, [Title("One"), Title("Two")])
    assert isinstance(first, NewItem) and first.title == "One"
    assert len({first.item_id, second.item_id, *CATALOG.item_ids}) == 6
