"""``sasrecllm.fit``: frames in, a trained system out, and a run folder if asked."""

import gc
import os
import signal
import subprocess
import sys
import threading

import polars as pl
import pytest

import sasrecllm
from sasrecllm import Config, SASRecLLM, fit
from sasrecllm import fitting as module
from sasrecllm.checkpoint import read_json
from sasrecllm.errors import ConfigError, DataError, SasrecllmError
from sasrecllm.inference.requests import NewItem
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config

SMALL = {
    "strategy": "encoder-only",
    "fusion": {"enabled": False},
    "encoder": {"prior": "none", "width": 8, "blocks": 1, "length": 5, "loop": {"epochs": 1}},
    "evaluation": {"resamples": 100, "ablations": False},
    "quiet": True,
}


@pytest.fixture(scope="module")
def items():
    return pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(30)], "title": [f"Title {n}" for n in range(30)]}
    )


@pytest.fixture(scope="module")
def system(log, items):
    return fit(log, items, **SMALL)


def test_a_system_comes_out_that_recommends_explains_and_takes_new_items(system):
    assert isinstance(system, SASRecLLM)
    (first, *_) = system.recommend(["i1", "i3"], k=4)
    assert isinstance(first, sasrecllm.Recommendation)
    assert isinstance(system.explain(first.item_id, ["i1"]), sasrecllm.Explanation)
    assert system.with_items([NewItem("new", "Title 99")]).score_items(["new"], ["i1"])


def test_the_results_are_a_mapping_and_print_as_the_table(system):
    results = system.evaluate()
    assert results["final"] == "SASRec" and set(results["rows"]) >= {"item mean", "SASRec"}
    auc = results["rows"]["SASRec"]["metrics"]["auc"]
    line, lists = [line for line in str(results).splitlines() if line.startswith("SASRec ")]
    assert (
        f"{results['ranking']['whole catalogue']['rows']['SASRec']['hr@10'][0]:.4f}".removeprefix("0")
        in lists
    )
    assert f"{auc:.4f}".removeprefix("0") in line and "[" in line
    assert repr(results) == str(results)


def test_without_out_the_run_goes_with_the_system_and_save_keeps_it(log, items, tmp_path):
    made = fit(log, items, **SMALL)
    folder, wanted = made.place.folder, made.recommend(["i1"], k=5)
    grown = made.with_items([NewItem("new", "Title 99")])
    made.save(tmp_path / "kept")
    with pytest.raises(ConfigError, match="exists already"):
        made.save(tmp_path / "kept")
    with pytest.raises(ConfigError, match="1 items were added after training"):
        grown.save(tmp_path / "grown")
    del made
    gc.collect()
    assert folder.is_dir(), "a system that came of it holds it too"
    del grown
    gc.collect()
    assert not folder.exists()
    again = SASRecLLM.from_pretrained(tmp_path / "kept")
    assert again.recommend(["i1"], k=5) == wanted
    assert again.evaluate()["final"] == "SASRec"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept"]


def test_with_out_the_same_call_finds_it_finished_and_other_rows_are_refused(log, items, tmp_path):
    first = fit(log, items, out=tmp_path / "run", **SMALL)
    about = read_json(tmp_path / "run" / "run.json")
    second = fit(log.clone(), items, out=str(tmp_path / "run"), **SMALL)
    assert read_json(tmp_path / "run" / "run.json") == about
    assert second.recommend(["i1"]) == first.recommend(["i1"])
    with pytest.raises(ConfigError, match=r"another configuration: data.path is 'frame-"):
        fit(log[1:], items, out=tmp_path / "run", **SMALL)
    third = fit(log[1:], items, out=tmp_path / "run", force=True, **SMALL)
    assert len(third.dataset.users) == len(first.dataset.users) - 1


def test_paths_are_files_and_settings_come_in_every_form(log, items, tmp_path):
    log.rename({"user_id": "who"}).write_csv(tmp_path / "log.csv")
    items.write_parquet(tmp_path / "items.parquet")
    (tmp_path / "own.yaml").write_text("strategy: encoder-only\nencoder: {width: 16, length: 7}\n")
    dotted = {"encoder.blocks": 1, "encoder.loop.epochs": 1, "evaluation.ablations": False}
    files = str(tmp_path / "log.csv"), tmp_path / "items.parquet"
    made = fit(
        *files, out=tmp_path / "run", config=tmp_path / "own.yaml", columns={"user_id": "who"},
        encoder={"length": 6}, fusion={"enabled": False}, evaluation={"resamples": 100}, quiet=True,
        seed=3, **dotted,
    )  # fmt: skip
    config = stored_config(RunFolder(tmp_path / "run"))
    assert (config.data.source, config.data.path) == ("files", files[0])
    assert config.data.columns == {"user_id": "who"} and config.seed == 3
    e = config.encoder
    assert (e.width, e.length, e.blocks, e.loop.epochs) == (16, 6, 1, 1)
    assert made.recommend(user="u3", k=2)


@pytest.mark.parametrize("form", [dict, Config.model_validate])
def test_a_dict_and_a_config_are_begun_with(log, items, form):
    given = {k: v for k, v in SMALL.items() if k != "quiet"}
    chosen = module._chosen(form(given), {"source": "files", "path": "x"}, None, {"seed": 4})
    assert (chosen.encoder.width, chosen.seed, chosen.data.path) == (8, 4, "x")


class MeanOfLikes(sasrecllm.SASRec):
    """An encoder of one's own."""


def test_an_encoder_of_ones_own_may_be_given_as_its_class():
    chosen = module._chosen(None, {"path": "x"}, None, {"encoder": {"kind": MeanOfLikes}})
    assert chosen.encoder.kind == f"{__name__}:MeanOfLikes"


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"interactions": [1]}, ConfigError, "a polars or pandas DataFrame, or a path"),
        ({}, ConfigError, "neither interactions nor a data source"),
        ({"interactions": "log.csv", "epoch": 3}, ConfigError, "unknown key epoch"),
        ({"interactions": "log.csv", "encoder": {"widht": 3}}, ConfigError, "did you mean 'width'"),
        ({"interactions": "log.csv", "config": 7}, ConfigError, "allowed: a path, a dict, a Config"),
        ({"interactions": "log.csv", "config": {7: 1}}, ConfigError, "a setting is named 7"),
        ({"interactions": "log.csv", "config": "none.yaml"}, ConfigError, "none.yaml: no such file"),
        ({"interactions": "nowhere/log.csv"}, DataError, "nowhere/log.csv: no such file"),
    ],
)
def test_refusals_are_ours_and_leave_nothing(given, kind, said, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(kind, match=said):
        fit(**given)
    assert not list(tmp_path.iterdir())


def test_a_bad_row_is_named_and_no_folder_is_left(log, items, tmp_path):
    bad = log.with_columns(rating=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("rating"))
    with pytest.raises(SasrecllmError, match=r"the interactions frame, row 3 .*column rating"):
        fit(bad, items, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run" / "data").exists()


def test_ctrl_c_stops_it_where_nothing_is_lost_and_the_same_call_goes_on(
    log, items, tmp_path, monkeypatch
):
    train = module.run_all

    def stopped(run):
        os.kill(os.getpid(), signal.SIGINT)
        return train(run)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(module, "run_all", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(log, items, out=tmp_path / "run", **SMALL)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(module, "run_all", train)
    assert fit(log, items, out=tmp_path / "run", **SMALL).recommend(["i1"])


def test_a_thread_may_call_it(log, items):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(log, items, **SMALL).recommend(["i1"])))
    thread.start()
    thread.join()
    assert found and found[0]


def test_it_never_exits_the_process(tmp_path):
    code = (
        "import sasrecllm\n"
        "try:\n    sasrecllm.fit('nowhere.csv', quiet=True)\n"
        "except sasrecllm.SasrecllmError as refused:\n    print('caught', refused.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "caught 4\n"), done.stderr
