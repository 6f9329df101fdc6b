"""Lists after an update are those of a run that was trained anew: no channel is lost on the way."""

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM, fit
from sasrecllm.checkpoint import read_json

USERS, THEMES, OF_THEME = 60, 20, 8
QUICK = {
    "strategy": "no-network",
    "data.split": "global-time",
    "lists.channels": ["ItemKNN", "EASE", "title words"],
    "evaluation.ablations": False,
    "evaluation.resamples": 100,
    "quiet": True,
}


def table(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def first_day(tmp_path_factory) -> SASRecLLM:
    """Users of a theme like the same items; those of one word are of different themes."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(USERS):
        own = [f"t{user % THEMES}n{n}" for n in rng.permutation(OF_THEME)[:6]]
        rows += [(f"u{user}", item, 100 * at + user) for at, item in enumerate(own)]
    names = sorted({item for _, item, _ in rows})
    items = pl.DataFrame({"item_id": names, "title": [f"Number {name[-1]}x" for name in names]})
    return fit(table(rows), items, out=tmp_path_factory.mktemp("lists") / "run", **QUICK)


@pytest.fixture(scope="module")
def second_day(first_day) -> SASRecLLM:
    """Everybody goes on to four items with words of his theme, two of which nobody else has."""
    rows, titles = [], {}
    for user in range(USERS):
        theme = user % THEMES
        own = [f"old{theme}", f"older{theme}", f"new{user}", f"newer{user}"]
        titles |= {item: f"Theme{theme} {item}" for item in own}
        rows += [(f"u{user}", item, 1000 + 100 * at + user) for at, item in enumerate(own)]
    items = pl.DataFrame({"item_id": list(titles), "title": list(titles.values())})
    return first_day.update(table(rows), items, update={"valid": 0.25, "test": 0.25}, quiet=True)


def test_a_channel_without_a_weight_before_has_its_chance_in_an_update(first_day, second_day):
    before = [channel.name for channel in first_day.fusion.channels]
    assert len(before) > 1 and "title words" not in before
    assert set(second_day.fusion.judged) > {"ItemKNN", "EASE", "title words"}
    assert set(second_day.fusion.whole) == {"list fusion", "without an offset", "title words"}


def test_new_items_are_listed_as_well_as_by_the_words_that_know_them(second_day):
    """Every like of the test is on an item that nobody liked before, and has its user's words."""
    found = read_json(second_day.place.folder / "update.json")["metrics"]["hr@10"]
    assert found["after"][0] >= 0.9
