"""An update of a run that took a part from elsewhere: the run's own copy serves, new items and all."""

import shutil

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM, fit
from sasrecllm.checkpoint import load_part
from tests.updates.shop import COLUMNS, DAY, SMALL, START, log_of, shelf

PRIOR = {"name": "prior", "task": "title_prior", "train": ["encoder"], "row": "with a prior"}


@pytest.fixture(scope="module")
def both(trained, tmp_path_factory):
    """(a run whose encoder is that of another, which is gone; an update of it with a new item)."""
    folder = tmp_path_factory.mktemp("loaded")
    shutil.copytree(trained, folder / "shop")
    place = str(folder / "shop" / "stages" / "1-encoder" / "parts" / "encoder")
    how = SMALL | {"strategy": [PRIOR | {"load": {"encoder": place}}], "lists": {"enabled": False}}
    run = fit(
        log_of(range(30), range(10)), shelf(range(30)), out=folder / "run", columns=COLUMNS, **how
    )
    shutil.rmtree(folder / "shop")
    rows = log_of(range(20), range(10, 13), 1)
    new = [(f"u{n}", "a0", 5, START + 9 * DAY + n) for n in range(5)]
    rows = pl.concat([rows, pl.DataFrame(new, rows.columns, orient="row")])
    items = pl.DataFrame({"what": ["a0"], "name": ["The 1 story of old"]})
    return run, run.update(rows, items, out=folder / "next", quiet=True)


def test_the_copy_goes_on_over_the_new_catalogue_and_does_not_know_what_is_new(both):
    _, after = both
    assert after.catalog.item_ids[0] == "a0", "all others have moved by one"
    old, new = (
        load_part(run.place.folder / "stages" / "1-prior" / "loaded" / "encoder", {})[0] for run in both
    )
    assert np.array_equal(
        new["item_table"][1:][old["seen_items"]], old["item_table"][old["seen_items"]]
    )
    assert not new["seen_items"][0] and np.array_equal(new["seen_items"][1:], old["seen_items"])
    rest = [name for name in old if "item" not in name]
    assert rest and all(np.array_equal(old[name], new[name]) for name in rest)


def test_it_serves(both):
    _, after = both
    again = SASRecLLM.from_pretrained(after.place.folder)
    assert 0 < again.score_items(["a0"], user="u1")[0] < 1
