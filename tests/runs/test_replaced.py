"""``--force`` replaces a run by one that can be trained; nothing is lost by one that cannot."""

import os

import pytest

from sasrecllm.config import parse_config
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.pipeline.run import train_all
from sasrecllm.runs import replaced
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import run_at_work

TINY = {
    "strategy": "encoder-only",
    "fusion": {"enabled": False},
    "lists": {"enabled": False},
    "data": {"world": {"users": 60, "items": 60, "rows": 12}},
    "encoder": {"width": 8, "length": 5, "folds": 0, "loop": {"epochs": 1}},
}


class Killed(BaseException):
    """As SIGKILL: nothing runs after it."""


def files_of(folder):
    found = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {path: raw for path, raw in found.items() if path.name != ".lock"}


@pytest.fixture
def folder(tmp_path):
    """What looks like a finished run, and two files that somebody else put there."""
    run = RunFolder(tmp_path / "run")
    for path in (run.manifest, run.config, run.log, run.summary, run.report, run.results):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"old {path.name}")
    for path in (run.data, run.stages / "1-encoder", run.plots):
        path.mkdir(parents=True)
        (path / "x").write_text("old")
    (run.path / "log.csv").write_text("mine")
    (run.path / "lists.parquet").write_text("mine")
    return run


def begun(folder, text="new"):
    for path in (folder.config, folder.log, folder.quarantine, folder.data / "y"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_what_is_set_aside_comes_back_as_it_was(folder):
    before = files_of(folder.path)
    replaced.set_aside(folder)
    seen = {p.name for p in folder.path.iterdir()}
    assert seen == {"log.csv", "lists.parquet", replaced.ASIDE}
    begun(folder)
    replaced.put_back(folder)
    assert files_of(folder.path) == before
    replaced.put_back(folder)  # nothing is aside
    assert files_of(folder.path) == before


def test_what_is_discarded_is_gone_and_the_files_of_others_stay(folder):
    replaced.set_aside(folder)
    begun(folder)
    replaced.discard(folder)
    replaced.put_back(folder)
    assert {str(p) for p in files_of(folder.path)} == {
        "log.csv", "lists.parquet", "config.yaml", "log.txt", "quarantine.jsonl", "data/y",
    }  # fmt: skip


def test_a_second_start_keeps_what_the_first_one_set_aside(folder):
    before = files_of(folder.path)
    replaced.set_aside(folder)
    begun(folder)  # and then the machine went down
    replaced.set_aside(folder)
    begun(folder, "newer")
    replaced.put_back(folder)
    assert files_of(folder.path) == before


@pytest.mark.parametrize("step", [replaced.set_aside, replaced.put_back])
def test_a_kill_at_any_move_loses_nothing(folder, monkeypatch, step):
    before, move = files_of(folder.path), os.replace
    if step is replaced.put_back:
        replaced.set_aside(folder)
        begun(folder)
    for survived in range(40):
        left = survived

        def killed(source, target):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            move(source, target)

        monkeypatch.setattr(os, "replace", killed)
        try:
            step(folder)
        except Killed:
            monkeypatch.setattr(os, "replace", move)
            replaced.finish_moving(folder)
            replaced.put_back(folder)
            assert files_of(folder.path) == before
            if step is replaced.put_back:
                replaced.set_aside(folder)
                begun(folder)
            continue
        break
    monkeypatch.setattr(os, "replace", move)
    replaced.put_back(folder)
    assert survived > 5 and files_of(folder.path) == before


@pytest.mark.parametrize("lost", ["config.yaml", "run.json", "MANIFEST.sha256"])
def test_a_damaged_run_is_replaced_too_as_its_refusal_says(folder, lost):
    (folder.path / lost).unlink()
    replaced.set_aside(folder)
    assert {p.name for p in folder.path.iterdir()} == {"log.csv", "lists.parquet", replaced.ASIDE}


def test_files_that_are_no_run_are_refused_and_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not a run folder"):
        replaced.set_aside(RunFolder(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    replaced.set_aside(RunFolder(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_a_start_that_ends_before_training_gives_the_trained_run_back(tmp_path):
    out = tmp_path / "run"
    with run_at_work(out, parse_config(TINY, "test"), "x", quiet=True) as run:
        train_all(run)
    (out / "mine.csv").write_text("user_id\n")
    before = files_of(out)
    files = {"source": "files", "path": str(tmp_path / "nowhere.csv")}
    for wrong, refusal in (
        ({"data": files}, DataError),
        ({"data": files | {"path": str(out / "mine.csv")}}, DataError),  # no item ids
        ({"llm": {"backbone": "no such model"}, "strategy": "text-only"}, DataError),
        ({"encoder": TINY["encoder"] | {"kind": "sasrek"}}, ConfigError),
    ):
        with (
            pytest.raises(refusal),
            run_at_work(out, parse_config(TINY | wrong, "test"), "x", quiet=True, force=True) as run,
        ):
            train_all(run)
        assert files_of(out) == before, wrong
    with (
        pytest.raises(KeyboardInterrupt),
        run_at_work(out, parse_config(TINY | {"seed": 1}, "test"), "x", quiet=True, force=True),
    ):
        raise KeyboardInterrupt
    assert files_of(out) == before, "stopped before anything was trained"
    with run_at_work(out, parse_config(TINY | {"seed": 1}, "test"), "x", quiet=True, force=True) as run:
        train_all(run)
    after = files_of(out)
    assert b"seed: 1" in (out / "config.yaml").read_bytes() and not (out / replaced.ASIDE).exists()
    assert (out / "mine.csv").exists() and after.keys() == before.keys() and after != before


def test_an_estimate_replaces_nothing(cli, tmp_path):
    assert "--force" in cli("run", "--dry-run", "--force", "--out", tmp_path / "run", expect=2)
    assert not (tmp_path / "run").exists()
