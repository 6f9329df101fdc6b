"""What the tests of updates share: a run, and what came since."""

import shutil

import polars as pl
import pytest

from sasrecllm import fit
from tests.updates.shop import COLUMNS, DAY, SMALL, START, log_of, shelf


@pytest.fixture(scope="session")
def trained(once):
    """A run on the log of the first ten days.  Change a copy of it, not it."""
    log, items = log_of(range(30), range(10)), shelf(range(30))
    return once("shop", lambda folder: fit(log, items, out=folder, columns=COLUMNS, **SMALL))


@pytest.fixture(scope="module")
def old(trained, tmp_path_factory):
    """A copy of it for one file of tests."""
    folder = tmp_path_factory.mktemp("before") / "shop"
    shutil.copytree(trained, folder)
    return folder


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """The files of the days after it: known users, one of them on a new item, and new users."""
    folder = tmp_path_factory.mktemp("after")
    rows = pl.concat([log_of(range(20), range(10, 13), 1), log_of(range(100, 110), range(10, 15), 2)])
    more = pl.DataFrame([("u1", "i30", 5, START + 10 * DAY + 7)], rows.columns, orient="row")
    pl.concat([rows, more]).unique(["who", "what", "at"]).sort("at").write_csv(folder / "days.csv")
    shelf([30, 31]).write_csv(folder / "items.csv")
    return folder
