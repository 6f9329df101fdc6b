"""A folder belongs to one process at a time, and to none whose process is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.machine import lock
from sasrecllm.machine.lock import InUseError, in_use, is_held

HOLDER = """
import sys, pathlib
from sasrecllm.machine.lock import in_use
with in_use(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds ``tmp_path / "run"`` until it is ended."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_by_the_name_of_its_process(holder, tmp_path):
    with pytest.raises(InUseError) as refusal, in_use(tmp_path / "run"):
        pass
    assert isinstance(refusal.value, ConfigError) and refusal.value.exit_code == 2
    for part in (
        f"process {holder.pid} on {os.uname().nodename} since 2",
        "sasrecllm",
        "run is in use",
    ):
        assert part in str(refusal.value)
    assert is_held(tmp_path / "run" / lock.NAME)


def test_the_lock_of_a_dead_process_is_taken_over(holder, tmp_path):
    holder.kill()
    holder.wait()
    path = tmp_path / "run" / lock.NAME
    assert path.is_file() and not is_held(path)
    with in_use(tmp_path / "run"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / lock.NAME).exists()


def test_several_locks_share_a_folder_and_one_of_each_name_is_held(tmp_path):
    with in_use(tmp_path, "a"), in_use(tmp_path, "b"):
        with pytest.raises(InUseError), in_use(tmp_path, "a"):
            pass
        assert is_held(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_in_vain_goes_again_and_another_stays(tmp_path):
    with in_use(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with in_use(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
    with in_use(tmp_path / "c"):
        (tmp_path / "c" / "kept").touch()
    assert (tmp_path / "c" / "kept").is_file()


def test_a_folder_deleted_under_the_lock_is_no_fault(tmp_path):
    import shutil

    with in_use(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_processes_of_one_job_leave_the_lock_to_the_first(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with in_use(tmp_path / "run"):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "run" / lock.NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"), in_use(tmp_path / "run"):
        pass
    assert (tmp_path / "victim").read_text() == "kept"


@pytest.mark.parametrize("verb", ["run", "prepare", "train", "evaluate", "report", "tune", "study"])
def test_a_verb_that_writes_refuses_a_folder_in_use_and_changes_nothing(verb, holder, cli, tmp_path):
    folder = tmp_path / "run"
    (folder / "config.yaml").write_text("name: kept\n")
    (tmp_path / "space.yaml").write_text("encoder.width: {choices: [8]}\n")
    (tmp_path / "plan.yaml").write_text("name: p\ndatasets: {w: {}}\nrows: {r: {}}\n")
    words = {
        "tune": ("--space", tmp_path / "space.yaml", "--out", folder),
        "study": (tmp_path / "plan.yaml", "--out", folder),
        "evaluate": (folder,),
        "report": (folder,),
        "run": ("--out", folder, "--force"),
    }.get(verb, ("--out", folder))
    assert f"in use by process {holder.pid}" in cli(verb, *words, expect=2)
    assert sorted(p.name for p in folder.iterdir()) == [lock.NAME, "config.yaml"]


def test_of_processes_that_train_together_each_may_hold_a_lock_for_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with in_use(tmp_path, "a"):
        assert not is_held(tmp_path / "a")
    with in_use(tmp_path, "a", each=True):
        assert is_held(tmp_path / "a")
