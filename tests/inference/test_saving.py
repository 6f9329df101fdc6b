"""A copy of a run that is whole or absent, and temporary runs that go when nobody holds them."""

import gc
import shutil

import pytest

from sasrecllm import SASRecLLM
from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.inference import saving
from sasrecllm.inference.saving import Place, copy_run
from sasrecllm.names import aside


def test_a_copy_opens_and_leaves_checkpoints_behind(run, tmp_path):
    (tmp_path / "copy").mkdir()  # an empty folder may be filled
    copy_run(run, tmp_path / "copy")
    assert SASRecLLM.from_pretrained(tmp_path / "copy").recommend(["m0003"], k=2)
    assert not list((tmp_path / "copy").rglob("checkpoints"))
    assert (tmp_path / "copy" / "report.html").is_file()


def test_nothing_is_written_over_what_stands(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        with pytest.raises(ConfigError, match=f"{name} exists already"):
            copy_run(run, tmp_path / name)
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["mine.txt"]


def test_a_damaged_run_is_not_copied(run, tmp_path):
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "results.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"results\.json is damaged"):
        copy_run(damaged, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_stop_in_the_middle_leaves_nothing(run, tmp_path, monkeypatch):
    choose = saving.choose_run

    def stopped(folder):
        if folder != run:
            assert any(folder.iterdir()), "the copy stands, and is to be checked"
            raise KeyboardInterrupt
        return choose(folder)

    monkeypatch.setattr(saving, "choose_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        copy_run(run, tmp_path / "copy")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_theirs_beside_the_copy_stays(run, tmp_path):
    (tmp_path / "copy.tmp").mkdir()
    (tmp_path / "copy.tmp" / "mine.txt").write_text("mine")
    aside(tmp_path / "copy").mkdir()  # which a kill left
    copy_run(run, tmp_path / "copy")
    assert (tmp_path / "copy.tmp" / "mine.txt").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"copy", "copy.tmp"}


def test_a_temporary_place_goes_with_the_last_who_holds_it(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    place = Place(folder, temporary=True)
    other = place
    del place
    gc.collect()
    assert other.folder == folder and folder.is_dir()
    del other
    gc.collect()
    assert not folder.exists()


def test_a_system_in_memory_has_no_folder():
    with pytest.raises(ConfigError, match="put together in memory"):
        _ = Place().folder
