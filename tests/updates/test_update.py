"""An update: new rows, users and items enter a run of their own; the run before does not notice."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import sasrecllm
from sasrecllm import SASRecLLM, fit
from sasrecllm.checkpoint import read_json
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.metrics import auc
from sasrecllm.manifest import file_digest
from sasrecllm.pipeline import run as pipeline
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.updates.lineage import goes_on_from
from tests.updates.shop import COLUMNS, SMALL, log_of, shelf


def digests(folder):
    places = (Path(at, name) for at, _, names in os.walk(folder) for name in names)
    return {place: file_digest(place) for place in places if place.name != ".lock"}


@pytest.fixture(scope="module")
def updated(old, new, cli):
    """(the folder after an update, what it printed, digests of the run before)."""
    before = digests(old)
    said = cli("update", old, new / "days.csv", "--items", new / "items.csv", "--quiet")
    return old.with_name("shop-2"), said, before


def test_the_run_before_is_as_it_was_and_the_new_one_is_whole(updated, old):
    folder, _, before = updated
    assert digests(old) == before
    assert SASRecLLM.from_pretrained(folder).recommend(user="u100", k=3)
    assert read_json(folder / "run.json")["stages"] == read_json(old / "run.json")["stages"]


def test_new_rows_users_and_items_are_in_it(updated, old, new):
    folder, _, _ = updated
    data, there = stored_data(RunFolder(folder)), stored_data(RunFolder(old))
    rows = pl.read_csv(new / "days.csv")
    repeated = rows.join(
        pl.DataFrame({"who": [there.catalog.user_id(int(u)) for u in there.users],
                      "what": [there.catalog.item_id(int(i)) for i in there.items], "at": there.times}),
        on=["who", "what", "at"],
    ).height  # fmt: skip
    assert len(data) == len(there) + rows.height - repeated
    assert {"u100", "u109"} < set(data.catalog.user_ids)
    assert {"i30", "i31"} < set(data.catalog.item_ids)
    assert data.seen_items[data.catalog.item_index(["i30"])[0]]


def test_it_ends_with_both_runs_on_the_same_rows_and_lets_current_name_the_new_one(updated, old):
    folder, said, _ = updated
    found = read_json(folder / "update.json")
    data = stored_data(RunFolder(folder))
    assert found["rows"] == (data.splits == 2).sum() and found["lists"] > 0
    assert found["of"] == str(old.resolve()) and found["worse"] == []
    for name in ("auc", "hr@10"):
        metric = found["metrics"][name]
        difference = metric["differences"]["after minus before"]
        assert difference[0] == pytest.approx(metric["after"][0] - metric["before"][0])
    for word in ("before", "after minus before", "AUC", "HR@10", "neither run has seen"):
        assert word in said
    report = (folder / "report.html").read_text("utf-8")
    assert "Before and after the update" in report and f"{found['rows']:,} rows" in report
    assert report.index("Before and after") < report.index("Results on the whole test split")
    assert "Before and after" not in (old / "report.html").read_text("utf-8")
    assert (old.parent / "current").resolve() == folder.resolve()
    assert "current names" in said


def test_the_run_before_is_judged_as_it_is_served(updated, old):
    """Its score of a test row is what it answers to the same history over the catalogue that grew."""
    folder, _, _ = updated
    from sasrecllm.updates.judge import Served

    data = stored_data(RunFolder(folder))
    served = SASRecLLM.from_pretrained(old).with_items(
        [sasrecllm.NewItem(f"i{n}", f"The {n % 3} story {n}") for n in (30, 31)]
    )
    test = data.questions("test")
    before = Served("before", SASRecLLM.from_pretrained(old), data.catalog)
    got = before.scorer().score(test.histories, test.targets[:, None])[:, 0]
    for place in (0, len(test) // 2, len(test) - 1):
        history = test.histories.take(np.array([place]))
        entries = [
            (data.catalog.item_id(int(i)), bool(liked))
            for i, liked in zip(history.items, history.labels, strict=True)
        ]
        item = data.catalog.item_id(int(test.targets[place]))
        user = data.catalog.user_id(int(test.histories.users[place]))
        known = user if user in served.catalog.user_ids else None
        if known is None:  # a known user's rows of the run would stand before the history once more
            (wanted,) = served.score_items([item], entries)
            assert served.calibration.probabilities(got[[place]])[0] == pytest.approx(wanted, abs=1e-5)


def test_what_the_new_run_has_scored_already_is_what_it_answers(updated):
    """The table takes its scores of the test from the run, where the old run is asked."""
    folder, _, _ = updated
    data, found = stored_data(RunFolder(folder)), read_json(folder / "update.json")
    system, test = SASRecLLM.from_pretrained(folder), data.questions("test")
    scores = system.score(test.histories, test.targets[:, None])[:, 0]
    assert auc(scores, test.labels) == pytest.approx(found["metrics"]["auc"]["after"][0], abs=1e-9)


def test_lists_are_judged_beside_the_run_before_alone_unless_always(updated, cli, tmp_path):
    folder, _, _ = updated
    assert read_json(folder / "results.json")["ranking"] == {}
    shutil.copytree(folder, tmp_path / "run")
    cli("evaluate", tmp_path / "run", "evaluation.ranking.when=always", "--quiet")
    assert "whole catalogue" in read_json(tmp_path / "run/results.json")["ranking"]
    # The report that stood says the same from now on.
    assert "whole catalogue" in (tmp_path / "run/report.html").read_text("utf-8")


def test_the_encoder_goes_on_from_its_vectors_and_takes_few_steps(updated, old):
    folder, _, _ = updated
    data = stored_data(RunFolder(folder))
    system, before = (SASRecLLM.from_pretrained(f).parts for f in (folder, old))
    known = np.flatnonzero(data.former.items >= 0)
    there = before.encoder.item_table[data.former.items[known]]
    moved = (system.encoder.item_table[known] - there).norm(dim=1).mean()
    assert moved < 0.5 * there.norm(dim=1).mean()
    steps = [read_json(f / "stages/1-encoder/stage.json")["result"]["steps"] for f in (old, folder)]
    assert steps[1] > 0


def test_the_title_prior_stands_on_what_the_update_has_just_trained(updated):
    """It moves rows of items alone; all else is the encoder of the stage before."""
    folder, _, _ = updated
    trained, shrunk = (
        load_file(folder / f"stages/{stage}/parts/encoder/weights.safetensors")
        for stage in ("1-encoder", "2-prior")
    )
    rest = [name for name in trained if "item" not in name]
    assert rest and all(torch.equal(trained[name], shrunk[name]) for name in rest)
    assert not torch.equal(trained["item_table"], shrunk["item_table"])


def test_the_same_command_again_finds_it_finished(updated, old, new, cli):
    folder, _, _ = updated
    before = digests(folder)
    again = cli("update", old, new / "days.csv", "--items", new / "items.csv")
    assert "is finished already" in again and "after minus before" in again
    assert digests(folder) == before and not old.with_name("shop-3").exists()


def test_an_update_goes_on_from_an_update(updated, new, cli, tmp_path):
    folder, _, _ = updated
    log_of(range(40, 44), range(20, 26), 5).write_csv(tmp_path / "next.csv")
    said = cli("update", folder, tmp_path / "next.csv", "--promote", "never", "--quiet")
    third = folder.with_name("shop-3")
    assert "after minus before" in said and (folder.parent / "current").resolve() == folder.resolve()
    assert {"u40", "u100", "u1"} < set(stored_data(RunFolder(third)).catalog.user_ids)
    assert stored_config(RunFolder(third)).update.of == str(folder.resolve())
    shutil.rmtree(third)


def test_the_first_run_takes_no_further_rows_while_its_update_is_served(updated, old, cli, tmp_path):
    """The rows between would go from what is served, without a word."""
    folder, _, _ = updated
    log_of(range(40, 44), range(20, 26), 5).write_csv(tmp_path / "next.csv")
    said = cli("update", old, tmp_path / "next.csv", "--quiet", expect=2)
    link = old.with_name("current")
    assert "shop-2, which goes on from shop" in said and f"update {link} with" in said
    assert "--out" in said and not old.with_name("shop-3").exists()
    assert link.resolve() == folder.resolve()
    assert goes_on_from(folder.resolve(), old.resolve())
    assert not goes_on_from(old.resolve(), folder.resolve())
    assert not goes_on_from(old.resolve(), old.resolve())


def test_what_is_known_already_changes_nothing(old, cli, tmp_path):
    log_of(range(30), range(10)).write_csv(tmp_path / "again.csv")
    said = cli("update", old, tmp_path / "again.csv", "--out", tmp_path / "none", "--quiet")
    assert "all of its 300 rows are known already" in said and "stays as it is" in said
    assert not (tmp_path / "none").exists()


def test_a_stop_leaves_the_run_before_alone_and_the_same_command_goes_on(
    old, new, cli, tmp_path, monkeypatch
):
    command = ("update", old, new / "days.csv", "--items", new / "items.csv", "--quiet")
    command += ("--out", tmp_path / "run", "--promote", "always")
    before = digests(old)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "evaluate_run", stop)
        said = cli(*command, expect=130)
    assert "the same command goes on" in said
    assert digests(old) == before and not (tmp_path / "current").exists()
    assert not RunFolder(tmp_path / "run").is_sealed()
    trained = digests(tmp_path / "run" / "stages")
    cli(*command)
    after = digests(tmp_path / "run" / "stages")
    assert {k: after[k] for k in trained} == trained
    assert (tmp_path / "current").resolve() == (tmp_path / "run").resolve()


def test_surely_worse_is_not_promoted_unless_always(updated, old, new, cli, monkeypatch):
    folder, _, _ = updated
    link = folder.parent / "current"
    found = read_json(folder / "update.json") | {"worse": ["auc"]}
    from sasrecllm.updates import update as module

    link.unlink()
    monkeypatch.setattr(module, "read_json", lambda *_, **__: found)
    command = ("update", old, new / "days.csv", "--items", new / "items.csv", "--quiet")
    said = cli(*command)
    assert "surely worse by auc" in said and not link.exists()
    cli(*command, "--promote", "always")
    assert link.resolve() == folder.resolve()


def test_a_run_that_is_named_by_a_link_moves_that_link(old, new, cli, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("sasrecllm.stages.encode.draw_towards", lambda *given: drawn.append(given[2]))
    shutil.copytree(old, tmp_path / "shop")
    (tmp_path / "live").symlink_to("shop")
    cli("update", tmp_path / "live", new / "days.csv", "--items", new / "items.csv", "--quiet")
    assert os.readlink(tmp_path / "live") == "shop-2"
    assert drawn and 0 < drawn[0] <= 0.5, "the encoder of P(like) begins drawn towards fresh weights"
    assert not (tmp_path / "current").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--promote", "maybe"], 2, "allowed: auto, always, never"),
        (["seed=1"], 2, "an update keeps what the run was made with"),
        (["--outt", "x"], 2, "did you mean '--out'"),
        (["data.columns.timestamp=when"], 4, "has no column 'when'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    old, new, cli, tmp_path, words, code, said
):
    answer = cli("update", old, new / "days.csv", "--out", tmp_path / "run", *words, expect=code)
    assert said in answer
    assert not (tmp_path / "run").exists()


def test_refused_rows_leave_no_folder_but_what_stood_there_and_what_names_them(old, new, cli, tmp_path):
    odd = pl.read_csv(new / "days.csv").with_columns(pl.lit("soon").alias("at"))
    odd.write_csv(tmp_path / "odd.csv")
    stood, fresh = tmp_path / "stood", tmp_path / "fresh"
    stood.mkdir()
    (stood / "note").write_text("mine")
    command = ("update", old, tmp_path / "odd.csv", "--items", new / "items.csv", "--quiet")
    cli(*command, "--out", stood, expect=4)
    assert (stood / "note").read_text() == "mine"
    cli(*command, "--out", fresh, expect=4)
    assert not fresh.exists()
    cli(*command, "--out", fresh, "data.on_bad_rows=quarantine", expect=4)
    assert RunFolder(fresh).quarantine.is_file(), "the rows that were set aside, with their reasons"


def test_no_folder_of_the_run_itself_is_taken(old, new, cli):
    inside = old / "stages" / "new"
    answer = cli("update", old, new / "days.csv", "--out", inside, expect=2)
    assert "lies in it" in answer and not inside.exists()


def test_where_current_is_a_folder_it_is_refused_at_once(old, new, cli, tmp_path):
    (tmp_path / "current").mkdir()
    answer = cli("update", old, new / "days.csv", "--out", tmp_path / "run", expect=2)
    assert "is no link" in answer and "--promote never" in answer


def test_no_run_and_no_rows(old, cli, tmp_path):
    assert "not a finished run" in cli("update", tmp_path / "none", tmp_path / "x.csv", expect=5)
    assert "was given no rows" in cli("update", old, expect=2)


def test_from_python_a_new_system_comes_out(old):
    system = SASRecLLM.from_pretrained(old)
    rows = log_of(range(50, 60), range(20, 25), 3)
    after = system.update(rows, out=old.with_name("from-python"), quiet=True, update={"epochs": 1})
    assert after.recommend(user="u50", k=2) and not (system.catalog.user_index(["u50"]) >= 0).any()
    assert stored_config(RunFolder(after.place.folder)).update.epochs == 1
    assert after.evaluate()["rows"].keys() == system.evaluate()["rows"].keys()
    with pytest.raises(DataError, match="known already"):
        after.update(rows, quiet=True)
    with pytest.raises(ConfigError, match="was given no rows"):
        after.update(None, quiet=True)
    with pytest.raises(ConfigError, match="keeps what the run was made with"):
        sasrecllm.update(old, rows, quiet=True, seed=3)


def test_a_system_without_a_folder_of_its_own_is_updated_into_another(old, tmp_path):
    system = fit(log_of(range(30), range(10)), shelf(range(30)), columns=COLUMNS, **SMALL)
    after = system.update(log_of(range(50, 60), range(20, 25), 3), quiet=True)
    place, first = after.place.folder, system.place.folder
    assert place != first and place.name != f"{first.name}-2" and place.is_dir()
    del after
    import gc

    gc.collect()
    assert not place.exists() and first.is_dir()
