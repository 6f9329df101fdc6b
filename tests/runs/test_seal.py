"""A run folder is opened whole or refused: settings, results, and the folders that are committed."""

import os
from pathlib import Path

import pytest

from sasrecllm.checkpoint import save_part, write_json, write_text
from sasrecllm.errors import CheckpointError
from sasrecllm.manifest import MANIFEST, read_manifest, verify_folder
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import choose_run, resealed, seal

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture
def run(tmp_path):
    """A folder that looks like a run: settings, results, a part, and what is only written."""
    folder = tmp_path / "run"
    save_part(folder / "stages/1-encoder/parts/encoder", {}, {"width": 3}, {})
    for name in ("run.json", "results.json", "showcase.json", "stages/1-encoder/stage.json"):
        write_json(folder / name, {"of": name})
    for name in ("config.yaml", "log.txt", "report.html", "prompts/text.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_text(folder / name, name)
    seal(RunFolder(folder))
    return folder


def test_the_manifest_lists_what_is_read_again_and_nothing_else(run):
    (run / ".lock").touch()
    (run / "results.json.tmp").touch()
    seal(RunFolder(run))
    assert sorted(read_manifest(run)) == [
        "config.yaml",
        "prompts/text.txt",
        "results.json",
        "run.json",
        "showcase.json",
        "stages/1-encoder/parts/encoder/MANIFEST.sha256",
        "stages/1-encoder/stage.json",
    ]
    assert choose_run(run).path == run


def test_what_its_owner_puts_into_a_run_may_change_and_go(run):
    notes = run / "analysis/notes.md"
    notes.parent.mkdir()
    notes.write_text("first")
    (run / "plot.py").write_text("1")
    if hasattr(os, "mkfifo"):
        os.mkfifo(run / "pipe")  # which nobody may wait for
    before = read_manifest(run)
    with resealed(RunFolder(run)):
        pass
    assert read_manifest(run) == before
    notes.write_text("second")
    (run / "plot.py").unlink()
    assert choose_run(run).path == run


@pytest.mark.parametrize("name", ["config.yaml", "results.json", "run.json", "prompts/text.txt"])
def test_a_changed_or_missing_file_is_refused_and_named(run, name):
    whole = (run / name).read_bytes()
    for changed in (whole[:-1], whole + b" ", bytes([whole[0] ^ 1]) + whole[1:], b""):
        (run / name).write_bytes(changed)
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as refused:
            choose_run(run)
        assert refused.value.exit_code == 5
    (run / name).unlink()
    with pytest.raises(CheckpointError):
        choose_run(run)


def test_a_whole_part_of_another_run_is_refused(run):
    part = run / "stages/1-encoder/parts/encoder"
    save_part(part, {}, {"width": 4}, {})
    verify_folder(part)
    with pytest.raises(CheckpointError, match="encoder/MANIFEST"):
        choose_run(run)


def test_what_is_only_written_may_change(run):
    (run / "report.html").unlink()
    (run / "log.txt").write_text("more")
    assert choose_run(run).path == run


def test_a_run_that_is_being_changed_is_not_opened(run):
    with resealed(RunFolder(run)):
        write_json(run / "results.json", {"new": 1})
        with pytest.raises(CheckpointError, match="not a finished run folder"):
            choose_run(run)
    assert choose_run(run).path == run
    with pytest.raises(ZeroDivisionError), resealed(RunFolder(run)):
        write_json(run / "results.json", {"new": 1 / 0})
    assert not RunFolder(run).is_sealed()


def test_a_run_that_never_finished_is_not_sealed_by_a_change(run):
    (run / "run.json").unlink()
    with resealed(RunFolder(run)):
        pass
    assert not RunFolder(run).is_sealed()


@pytest.mark.parametrize("name", ["results.json", "log.txt", "plots", "stages/1-encoder/parts"])
def test_a_symbolic_link_in_a_run_is_refused_even_to_the_same_bytes(run, tmp_path, name):
    outside = tmp_path / "outside"
    if (run / name).exists():
        (run / name).rename(outside)
    else:
        outside.mkdir()
    (run / name).symlink_to(outside)
    with pytest.raises(CheckpointError, match="symbolic link"):
        choose_run(run)


def test_a_run_may_itself_be_named_by_a_link(run, tmp_path):
    (tmp_path / "current").symlink_to(run)
    assert choose_run(tmp_path / "current")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_config.json", "more/config.json"])
def test_a_file_that_the_manifest_does_not_list_is_refused(run, name):
    part = run / "stages/1-encoder/parts/encoder"
    (part / name).parent.mkdir(exist_ok=True)
    (part / name).touch()
    with pytest.raises(CheckpointError, match="does not list it"):
        verify_folder(part)


def test_what_a_file_manager_leaves_in_a_folder_is_passed_over(run):
    part = run / "stages/1-encoder/parts/encoder"
    (part / ".DS_Store").touch()
    verify_folder(part)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", ""])
def test_a_manifest_names_nothing_outside_its_folder(run, name):
    from sasrecllm.manifest import _sealed

    (run / MANIFEST).write_text(_sealed(f"{'0' * 64}  {name}\n"))
    with pytest.raises(CheckpointError, match="not inside its folder"):
        choose_run(run)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(run):
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        choose_run(run)


def test_what_the_refusal_of_a_damaged_run_says_mends_it(tmp_path, cli):
    train = [
        "run",
        "--config",
        TINY,
        "--out",
        tmp_path / "run",
        "--quiet",
        "evaluation.ablations=false",
    ]
    train += ["strategy=encoder-only", "fusion.enabled=false"]
    cli(*train)
    recommend = ["recommend", tmp_path / "run", "--liked", "m0003"]
    for name in ("stages/1-encoder/parts/encoder/weights.safetensors", "showcase.json"):
        path = tmp_path / "run" / name
        path.write_bytes(path.read_bytes()[:-1])
        assert "--force" in cli(*recommend, expect=5)
    cli(*train, "--force")
    cli(*recommend)
