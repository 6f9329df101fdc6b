"""What goes in and out: pairs, new items, flags and lines."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.inference.arguments import liked_of
from sasrecllm.inference.requests import (
    NewItem,
    Title,
    flags_of,
    may_repeat,
    new_items,
    one_history,
    pairs_of,
    recommendations,
)
from sasrecllm.types import UNKNOWN, Histories


class Nasty:
    """An object that fails at everything it is asked."""

    def __repr__(self):
        raise RuntimeError("no")

    def __iter__(self):
        raise RuntimeError("no")


def test_pairs_say_what_was_liked_and_nothing_else_is_taken_for_it():
    likes = [("a", True), ("b", False), (3, 1), ["d", np.bool_(False)], (Title("T"), 0.0)]
    assert [liked for _, liked in pairs_of(likes)] == [True, False, True, False, False]
    assert pairs_of(np.array([[1, 1], [2, 0]])) == [("1", True), ("2", False)]
    for liked in ("b", "yes", 2, -1, 0.5, None, float("nan"), [], Nasty()):
        with pytest.raises(DataError, match="True, False"):
            liked_of(liked, "history")
    for entry in (("a",), ("a", True, 5), {"item_id": "a"}, None, NewItem("a", "A")):
        with pytest.raises(DataError):
            pairs_of([entry])
    for text in ("", "  ", None, 5, ["x"]):
        with pytest.raises(DataError, match="Title"):
            pairs_of([Title(text)])


def test_new_items_have_plain_values():
    (got,) = new_items([NewItem(np.int64(5), "A Film", {"year": 1999, "genre": None})])
    assert got == NewItem("5", "A Film", {"year": "1999", "genre": None})
    (got,) = new_items([NewItem(torch.tensor(6), "Another")])
    assert (got.item_id, dict(got.attributes)) == ("6", {})


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("x", "is no NewItem"),
        (NewItem("x", None), "new item 'x': its title is None"),
        (NewItem("x", "X", None), "new item 'x': its attributes are None"),
        (NewItem("x", "X", {"genre": ["a"]}), "attributes of new item 'x'"),
    ],
    ids=["no item", "no title", "no attributes", "a list"],
)
def test_a_new_item_is_refused_by_its_id_and_what_is_wrong(item, said):
    with pytest.raises(DataError, match=said):
        new_items([item])


def people():
    """User 0 with a history, user 1 without one, and a stranger with one."""
    two, offsets = np.array([0, 1]), np.array([0, 1, 1, 2])
    return Histories(np.array([0, 1, UNKNOWN]), two, np.ones(2, np.int8), two, offsets, np.zeros(3))


def test_flags_say_what_training_has_not_seen_and_of_whom_nothing_is_known():
    items = np.array([[0, 2], [0, 9], [UNKNOWN, 1]])
    trained = SimpleNamespace(
        seen_users=np.array([True, False]), seen_items=np.array([True, True, False])
    )
    assert flags_of(people(), items, trained) == [
        [(), ("cold_item",)],
        [("cold_user", "fallback"), ("cold_user", "fallback", "cold_item")],
        [("cold_user", "cold_item"), ("cold_user",)],
    ]


def test_lines_are_numbered_and_end_where_the_items_end():
    catalog = Catalog(["a", "b"], ["A film", "Another"])
    lists = (
        np.array([[1, 0], [0, UNKNOWN]]),
        np.array([[2.0, 1.0], [3.0, -np.inf]]),
        np.array([[0, 4], [1, 0]]),
    )
    flags = [[("cold_item",), ()], [(), ()]]
    one, other = recommendations(catalog, lists, np.array([[0.9, 0.8], [0.7, 0.0]]), flags)
    assert [line.to_dict() for line in one] == [
        {"rank": 1, "item_id": "b", "title": "Another", "score": 2.0, "probability": 0.9,
         "retrieval_rank": None, "flags": ["cold_item"]},
        {"rank": 2, "item_id": "a", "title": "A film", "score": 1.0, "probability": 0.8,
         "retrieval_rank": 4, "flags": []},
    ]  # fmt: skip
    assert [(line.item_id, line.retrieval_rank) for line in other] == [("a", 1)]


def test_what_was_met_may_come_again_where_it_is_said():
    assert [may_repeat(s, True) for s in (None, "allow", "exclude")] == [True, True, False]
    assert [may_repeat(s, False) for s in (None, "allow", "exclude")] == [False, True, False]
    for seen in ("yes", True, 0, ["allow"], {}):
        with pytest.raises(ConfigError, match="allowed: exclude, allow"):
            may_repeat(seen, True)


def test_one_history_is_asked_about_at_its_end():
    got = one_history(3, np.array([5, 6]), np.array([1, 0]), np.array([10, 20]), 30)
    assert (got.users.tolist(), got.items.tolist(), got.labels.tolist()) == ([3], [5, 6], [1, 0])
    assert (got.offsets.tolist(), got.asked_at.tolist()) == ([0, 2], [30])
