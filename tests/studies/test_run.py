"""A whole study in child processes: tuning, a failing row, going on, and the table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sasrecllm.checkpoint import commit_folder, read_json, write_json
from sasrecllm.config import parse_config
from sasrecllm.errors import ConfigError, ResourceError
from sasrecllm.machine import signals
from sasrecllm.machine.progress import Progress
from sasrecllm.studies.collect import write_study
from sasrecllm.studies.plan import Cell, Range, cells_of, load_plan
from sasrecllm.studies.run import Study, estimate_study, run_study
from sasrecllm.studies.tune import tune

TINY = Path(__file__).parents[1] / "tiny.yaml"
ALONE = {"strategy": "encoder-only", "fusion.enabled": False}
PLAN = {
    "name": "tiny",
    "seeds": [0, 1],
    "reference": "MF",
    "baselines": ["popularity"],
    "tuning": {"trials": 2, "metric": "auc"},
    "resamples": 100,
    "datasets": {"world": {"config": str(TINY)}},
    "rows": {
        "MF": {"set": ALONE | {"encoder.kind": "mf"}, "space": {"encoder.width": {"choices": [4, 8]}}},
        "broken": {"set": ALONE | {"encoder.loop.lr": 1e9}, "seeds": [0]},
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    (folder / "s.yaml").write_text(yaml.safe_dump(PLAN))
    plan = load_plan(folder / "s.yaml")
    return Study(plan, folder / "s.yaml", folder / "out", Progress(quiet=True))


@pytest.fixture(scope="module")
def code(study) -> int:
    return run_study(study)


def test_every_row_is_there_and_a_failing_one_is_named_with_its_reason(study, code):
    assert code == 7
    got = write_study(study)["datasets"]["world"]
    trivial = ["item mean", "item mean + user mean", "item mean + running mean", "user regression"]
    assert list(got["rows"]) == [*trivial, "popularity", "MF"]
    assert got["rows"]["MF"]["seeds"] == [0, 1] and got["rows"]["MF"]["spread"]["auc"] > 0
    assert got["rows"]["item mean"]["spread"]["auc"] == 0
    (failure,) = got["failures"]
    assert failure["row"] == "broken" and failure["exit"] == 7 and "lr" in failure["reason"]
    costs = got["rows"]["MF"]["costs"]
    assert costs["train_seconds"] > 0 and costs["peak_megabytes"] > 50 and costs["parameters"] > 0
    for name in ("study.json", "study.md", "study.html"):
        assert "MF" in (study.out / name).read_text()


def test_tuning_chose_from_the_space_on_validation_and_its_choice_was_trained(study, code):
    found = write_study(study)["datasets"]["world"]["tuning"]["MF"]
    assert found["trials"] == 2 and found["best"]["encoder.width"] in (4, 8)
    config = yaml.safe_load((study.out / "world/MF/seed-1/config.yaml").read_text())
    assert config["encoder"]["width"] == found["best"]["encoder.width"]
    assert not list((study.out / "world/MF/tune").glob("trial-*"))


def test_the_same_command_passes_over_what_is_finished(study, code):
    stamp = study.out / "world/MF/seed-0/run.json"
    before, table = stamp.stat().st_mtime_ns, write_study(study)
    stamp_of_one = study.out / "world/MF/seed-1"
    (stamp_of_one / "run.json").unlink()  # as if it had been interrupted before its end
    assert run_study(study) == 7
    assert stamp.stat().st_mtime_ns == before and (stamp_of_one / "run.json").is_file()
    again = write_study(study)
    for results in (table, again):
        results["datasets"]["world"]["rows"]["MF"].pop("costs")
    assert again["datasets"]["world"]["rows"]["MF"] == table["datasets"]["world"]["rows"]["MF"]


def test_the_estimate_covers_what_is_open_and_leaves_no_run_behind(study, code):
    assert estimate_study(study) > 0
    assert not (study.out / "world/broken/seed-0/stages/1-encoder/stage.json").exists()


def test_a_tuning_that_was_interrupted_goes_on_and_a_failing_trial_counts(tmp_path, study):
    config = study.settings(_cell(study)).model_copy(deep=True)
    space = {"encoder.loop.lr": Range(choices=[0.003, 1e9])}
    tune(config, space, tmp_path, trials=2, metric="auc")
    first = json.loads((tmp_path / "tune.json").read_text())["trials"]
    tune(config, space, tmp_path, trials=4, metric="auc")
    after = json.loads((tmp_path / "tune.json").read_text())
    assert after["trials"][:2] == first and len(after["trials"]) == 4
    assert after["best"]["encoder.loop.lr"] == 0.003
    assert first[0]["values"]["encoder.loop.lr"] == 0.003, "the first trial is the configuration"


def test_a_space_that_names_no_setting_is_refused(tmp_path, study):
    with pytest.raises(ConfigError, match=r"encoder\.widht is no setting"):
        tune(study.settings(_cell(study)), {"encoder.widht": Range(choices=[1])}, tmp_path, trials=1)


def _changed(study: Study, **changes) -> Study:
    """The same study after somebody edited its plan."""
    return replace(study, plan=study.plan.model_copy(deep=True, update=changes))


def test_a_plan_that_would_train_another_cell_is_refused_before_anything_runs(study, code):
    plain = study.plan.rows["MF"]
    rows = {"MF": plain.model_copy(update={"set": plain.set | {"encoder.loop.batch_size": 4}})}
    with pytest.raises(ConfigError, match=r"MF/seed-0 .*loop\.batch_size is 8 there, 4 here"):
        run_study(_changed(study, rows=rows))
    rows = {"MF": plain.model_copy(update={"space": {"encoder.width": Range(choices=[4, 16])}})}
    with pytest.raises(ConfigError, match=r"MF/tune holds another .*space\.encoder\.width\.choices"):
        run_study(_changed(study, rows=rows))
    tuning = study.plan.tuning.model_copy(update={"trials": 3})
    with pytest.raises(ConfigError, match=r"MF/tune .*tuning\.trials is 2 there, 3 here"):
        run_study(_changed(study, tuning=tuning))


def test_a_plan_that_wants_another_evaluation_judges_what_is_trained(study, code):
    place = study.out / "world/MF/seed-0"
    trained = (place / "stages/1-encoder/stage.json").stat().st_mtime_ns
    other = _changed(study, baselines=["popularity", "random"])
    try:
        assert run_study(other) == 7
        assert "random" in write_study(other)["datasets"]["world"]["rows"]
        assert (place / "stages/1-encoder/stage.json").stat().st_mtime_ns == trained
    finally:
        run_study(study)  # as the tests beside this one expect it


def _cell(study: Study) -> Cell:
    return cells_of(study.plan)[0]


def test_the_command_ends_with_the_exit_code_of_a_failed_cell(tmp_path):
    lost = {"data": {"source": "two-table"}}  # without a path, which the run itself refuses
    plan = PLAN | {"datasets": {"lost": {"config": str(TINY), "set": lost}}, "seeds": [0]}
    plan["rows"] = {"MF": {"set": ALONE | {"encoder.kind": "mf"}}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(plan))
    command = [sys.executable, "-m", "sasrecllm", "study", "s.yaml", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "**Failed:** MF, seed 0, exit 4" in done.stdout


def test_a_failed_cell_whose_settings_are_corrected_starts_afresh(study, code, tmp_path):
    """Without anybody deleting its folder; what failed for want of disk goes on as it was."""
    copy = replace(study, out=tmp_path / "out")
    shutil.copytree(study.out, copy.out)
    broken = next(c for c in cells_of(study.plan) if c.row == "broken")
    folder = broken.folder(copy.out)
    commit_folder(folder / "stages/1-encoder/parts/fold-0", lambda _: None)  # something was learnt
    rows = study.plan.rows | {"broken": study.plan.rows["broken"].model_copy(update={"set": ALONE})}
    mended = _changed(copy, rows=rows)
    reason = read_json(mended.failure(broken))
    write_json(mended.failure(broken), reason | {"exit": 6})
    with pytest.raises(ConfigError, match=r"encoder\.loop\.lr is"):
        run_study(mended)
    write_json(mended.failure(broken), reason)
    assert reason["exit"] == 7 and run_study(mended) == 0
    assert (folder / "run.json").is_file() and not mended.failure(broken).exists()


def test_a_search_that_found_nothing_gives_its_folder_to_the_corrected_one(tmp_path, study):
    config = study.settings(_cell(study)).model_copy(deep=True)
    wrong = parse_config(config.model_dump() | {"item_features": {"attributes": ["nothing"]}}, "test")
    space = {"encoder.width": Range(choices=[4])}
    with pytest.raises(ConfigError, match="all 1 trials failed"):
        tune(wrong, space, tmp_path, trials=1, metric="auc")
    found = tune(config, space, tmp_path, trials=1, metric="auc")
    assert len(found["trials"]) == 1 and found["trials"][0]["error"] is None
    with pytest.raises(ConfigError, match="holds another search"):
        tune(wrong, space, tmp_path, trials=1, metric="auc")


def test_a_full_disk_is_no_fault_of_a_trial(tmp_path, study, monkeypatch):
    config, space = study.settings(_cell(study)), {"encoder.width": Range(choices=[4])}

    def full(*_, **__):
        raise ResourceError("the disk is full", "free some space")

    with monkeypatch.context() as patch, pytest.raises(ResourceError):
        patch.setattr("sasrecllm.studies.tune.train_all", full)
        tune(config, space, tmp_path, trials=1, metric="auc")
    assert not list(tmp_path.glob("trial-*"))
    (tmp_path / "trial-7").mkdir()  # as a kill leaves one
    assert tune(config, space, tmp_path, trials=1, metric="auc")["trials"][0]["error"] is None
    assert not list(tmp_path.glob("trial-*"))


def test_trials_with_other_settings_of_data_get_data_of_their_own(tmp_path, study):
    config, space = study.settings(_cell(study)), {"data.cold_items": Range(choices=[0.0, 0.3])}
    found = tune(config, space, tmp_path, trials=3, metric="auc")["trials"]
    values = {t["values"]["data.cold_items"]: t["valid"] for t in found}
    assert len(values) == 2 and values[0.0] != values[0.3]


def test_a_stopped_child_stops_the_study_and_is_no_failure(study, tmp_path, monkeypatch):
    copy = replace(study, out=tmp_path / "out")
    for ended, kind in ((143, signals.Stopped), (-15, signals.Stopped), (130, KeyboardInterrupt)):
        monkeypatch.setattr(signals, "run_child", lambda *_, ended=ended, **__: ended)
        with pytest.raises(kind):
            run_study(copy)
    assert not list(copy.out.rglob("*.failed.json"))
    monkeypatch.setattr(signals, "run_child", lambda *_, **__: -9)
    assert run_study(copy) == 137
    assert "signal 9" in read_json(next(copy.out.rglob("*.failed.json")))["reason"]


def test_a_damaged_journal_of_a_search_is_refused(tmp_path):
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'sasrecllm[tune]')")
    from sasrecllm.errors import CheckpointError
    from sasrecllm.studies import tune

    tune._open(tmp_path)
    whole = (tmp_path / tune.JOURNAL).read_bytes()
    for damaged in (b"[]\n" + whole, b"{}\n" + whole, whole[: len(whole) // 2] + b"\n" + whole):
        (tmp_path / tune.JOURNAL).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            tune._open(tmp_path)
    (tmp_path / tune.JOURNAL).write_bytes(whole)
    assert tune._open(tmp_path).trials == []


def test_a_table_reads_no_cell_that_is_not_whole(tmp_path, run):
    from sasrecllm.errors import CheckpointError
    from sasrecllm.studies import collect

    cell = shutil.copytree(run, tmp_path / "cell")
    assert collect._reopened(cell).folder.path == cell
    text = (cell / "results.json").read_text()
    (cell / "results.json").write_text(text.replace("1", "2", 1))
    with pytest.raises(CheckpointError, match=r"results\.json is damaged"):
        collect._reopened(cell)
