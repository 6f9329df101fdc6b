"""An update of a whole run: language model, cross-fitted encoders, soft tokens, fusion."""

import numpy as np
import polars as pl
import pytest

from sasrecllm.checkpoint import load_part, read_json
from sasrecllm.manifest import file_digest
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System


@pytest.fixture(scope="module")
def updated(run, cli, tmp_path_factory):
    """(a tiny whole run, the update of it).  Read them only."""
    folder = tmp_path_factory.mktemp("whole")
    data = stored_data(RunFolder(run))
    users, items = data.catalog.user_ids[:40], data.catalog.item_ids
    rng = np.random.default_rng(3)
    rows = [
        (user, item, int(rng.random() < 0.5), int(data.times.max()) + 60 * (40 * n + place))
        for place, user in enumerate([*users, "newcomer 1", "newcomer 2"])
        for n, item in enumerate([*rng.permutation(items)[:4], "fresh"])
    ]
    log = pl.DataFrame(rows, ["user_id", "item_id", "label", "timestamp"], orient="row")
    log.write_csv(folder / "day.csv")
    (folder / "items.csv").write_text("item_id,title\nfresh,The Fresh General\n")
    out = folder / "tiny-2"
    given = ("--items", folder / "items.csv", "--quiet", "--out", out)
    # At a low rate what goes on from weights of the run before, not drawn to fresh ones, stays near.
    cli("update", run, folder / "day.csv", *given, "update.lr=0.1", "update.fresh=0")
    return run, out


def part(run, name):
    return load_part(RunFolder(run).trained_part(name), {})[0]


def test_the_table_has_the_same_rows_and_the_language_model_is_untouched(updated):
    before, after = updated
    rows = [list(read_json(folder / "results.json")["rows"]) for folder in updated]
    assert rows[0] == rows[1]
    same = {p.name: file_digest(p) for p in (before / "llm").iterdir()}
    assert {p.name: file_digest(p) for p in (after / "llm").iterdir()} == same
    assert "auc" in read_json(after / "update.json")["metrics"]


@pytest.mark.parametrize("name", ["adapter", "mapper"])
def test_adapter_and_mapper_go_on_from_their_weights(updated, name):
    old, new = (part(folder, name) for folder in updated)
    assert old.keys() == new.keys()
    sizes = [sum(float(t.float().norm()) for t in weights.values()) for weights in (old, new)]
    moved = sum(float((new[k].float() - old[k].float()).norm()) for k in old)
    assert 0 < moved < 0.5 * sizes[0]


def test_fold_encoders_go_on_and_keep_the_users_that_they_never_saw(updated):
    before, after = updated
    old, new = (System.load(RunFolder(folder), "cpu") for folder in updated)
    former = new.dataset.former
    known = np.flatnonzero(former.users >= 0)
    np.testing.assert_array_equal(new.fold_of_user[known], old.fold_of_user[former.users[known]])
    items = np.flatnonzero(former.items >= 0)
    for number in range(stored_config(RunFolder(after)).encoder.folds):
        was, now = (
            load_part(folder / f"stages/1-encoder/parts/fold-{number}", {})[0]["item_table"]
            for folder in (before, after)
        )
        there = was[former.items[items]]
        assert (now[items] - there).norm() < 0.5 * there.norm()
