"""Users for people to look at: each as he is, on 80 columns."""

import io

import numpy as np
from rich.console import Console

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.reports.people import console_people, liked_titles, people_of

USERS = ["Ann", "a user b", "nobody"]
DATA = Dataset(
    users=np.array([0, 0, 0, 1]),
    items=np.array([0, 1, 2, 1]),
    labels=np.array([1, 0, 1, 1], dtype=np.int8),
    times=np.arange(4),
    splits=np.zeros(4, dtype=np.int8),
    catalog=Catalog(["i0", "i1", "i2"], ["First", "Second [bold]", "Third " + "x" * 90], USERS),
    name="log",
    words={},
)
LINES = [{"title": title} for title in ("Second [bold]", "Fourth")]
SHOWN = {
    "typical user Ann": LINES,
    "least-known user a user b": LINES,
    "rare-taste user gone": LINES,
    "new item i2, 'A new user Ann': who would like it": [{"title": "user Ann, who liked 'First'"}],
}


def test_what_he_liked_last_stands_beside_what_he_gets():
    ann, other = people_of(DATA, SHOWN)
    assert ann.heading == "typical user Ann"
    assert ann.lines == [("Third " + "x" * 90, "Second [bold]"), ("First", "Fourth")]
    assert other.heading.endswith("a user b")
    assert other.lines == [("Second [bold]", "Second [bold]"), ("", "Fourth")]


def test_users_who_are_not_in_the_data_and_items_have_no_likes():
    assert list(liked_titles(DATA, SHOWN)) == ["typical user Ann", "least-known user a user b"]
    assert liked_titles(DATA, {"warm user Ann": LINES}) == {
        "warm user Ann": ["Third " + "x" * 90, "First"]
    }


def test_someone_without_likes_or_lists_is_no_failure():
    (one,) = people_of(DATA, {"new user nobody": []})
    assert one.lines == []
    (two,) = people_of(DATA, {"new user nobody": LINES})
    assert two.lines == [("", "Second [bold]"), ("", "Fourth")]
    console_people([one, two])


def test_the_terminal_has_80_columns_and_text_stays_text():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(console_people(people_of(DATA, SHOWN)))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80 and "Second [bold]" in text and "…" in text
