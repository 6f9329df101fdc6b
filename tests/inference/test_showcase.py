"""Which users a run shows: a typical one, a new one, one of rare taste; whoever there is."""

from __future__ import annotations

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import TEST, TRAIN, Dataset
from sasrecllm.inference.showcase import choose_cases, without_user


def data(rows: list[tuple[int, int, int, int]], items: int = 20) -> Dataset:
    """Of (user, item, label, split), in order; user n is called u<n>."""
    users, picked, labels, splits = (np.array(column) for column in zip(*rows, strict=True))
    n_users = int(users.max()) + 1
    titles = [f"Title {n}" for n in range(items)]
    catalog = Catalog([f"i{n:02}" for n in range(items)], titles, [f"u{n}" for n in range(n_users)])
    return Dataset(
        users=users, items=picked, labels=labels.astype(np.int8), times=np.arange(len(users)),
        splits=splits.astype(np.int8), catalog=catalog, name="log", words={},
    )  # fmt: skip


def lover(user: int, liked: list[int], tested: int = 0) -> list[tuple[int, int, int, int]]:
    return [*((user, item, 1, TRAIN) for item in liked), (user, tested, 1, TEST)]


MANY = [row for user in range(6) for row in lover(user, [0, 1, 2, 3 + user % 2])]


def test_the_three_are_who_they_are_said_to_be() -> None:
    rare = lover(6, [10, 11, 12, 13])
    poor = [(7, 9, 1, TRAIN), (7, 0, 1, TEST)]  # rarer still, but one like is no taste
    new = [(8, 1, 1, TEST), (9, 2, 1, TEST), (9, 14, 0, TEST)]
    cases = choose_cases(data(MANY + rare + poor + new))
    assert cases["rare-taste user"] == "u6" and cases["new user"] == "u9"
    assert cases["typical user"] in {f"u{n}" for n in range(6)} and cases["new item"] == "i14"
    assert "least-known user" not in cases


def test_where_nobody_is_new_the_least_known_stands_in() -> None:
    cases = choose_cases(data(MANY + lover(6, [10, 11, 12, 13]) + lover(7, [0])))
    assert list(cases) == ["typical user", "least-known user", "rare-taste user"]
    assert cases["least-known user"] == "u7" and len(set(cases.values())) == 3


def test_few_users_are_shown_once_each() -> None:
    assert choose_cases(data(lover(0, [1, 2]))) == {"typical user": "u0", "new item": "i00"}
    two = choose_cases(data(lover(0, [0, 2]) + lover(1, [0])))
    assert two == {"typical user": "u0", "least-known user": "u1"}
    only_new = choose_cases(
        data([*lover(0, [0])[:1], (1, 0, 1, TEST), (2, 0, 1, TEST), (2, 0, 1, TEST)])
    )
    assert only_new == {"typical user": "u1", "new user": "u2"}


def test_users_without_a_like_are_shown_where_nobody_has_one() -> None:
    rows = [(u, i, 0, s) for u in range(3) for i, s in ((0, TRAIN), (1, TRAIN), (0, TEST))]
    assert set(choose_cases(data(rows)).values()) == {"u0", "u1", "u2"}


def test_whoever_is_forgotten_leaves_the_showcase_under_every_heading() -> None:
    item = "new item i1, 'A title': who would like it"
    shown = {f"{case} user u1": [{"item_id": "i1"}] for case in
             ("typical", "new", "least-known", "rare-taste", "warm")}  # fmt: skip
    shown |= {"typical user u12": [{"item_id": "u1"}], item: [{"item_id": "u1"}, {"item_id": "u2"}]}
    assert without_user(shown, "u1") == {
        "typical user u12": [{"item_id": "u1"}],
        item: [{"item_id": "u2"}],
    }
