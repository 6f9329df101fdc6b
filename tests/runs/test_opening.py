"""A run folder belongs to one configuration, whatever version of the package wrote it."""

from __future__ import annotations

import pytest
import yaml

from sasrecllm.checkpoint import commit_folder
from sasrecllm.config import parse_config
from sasrecllm.errors import ConfigError
from sasrecllm.machine.lock import NAME as LOCK
from sasrecllm.machine.lock import InUseError
from sasrecllm.pipeline.prepare import prepare
from sasrecllm.runs.opening import claim, open_run, reopen_run, run_at_work
from sasrecllm.runs.replaced import ASIDE


@pytest.fixture
def folder(tmp_path):
    """A folder in which a first part was trained."""
    claim(open_run(tmp_path / "run", parse_config({"seed": 3}, "test"), "sasrecllm run", quiet=True))
    commit_folder(tmp_path / "run/stages/1-encoder/parts/encoder", lambda _: None)
    return tmp_path / "run"


def test_another_configuration_is_refused_by_key_and_both_values_and_nothing_changes(folder):
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"encoder\.width is 64 there, 32 here") as refusal:
        open_run(folder, parse_config({"seed": 3, "encoder": {"width": 32}}, "test"), "x", quiet=True)
    assert str(folder) in str(refusal.value) and "--out" in str(refusal.value)
    assert (folder / "config.yaml").read_bytes() == before


def test_a_run_from_before_a_setting_existed_is_the_run_with_its_default(folder):
    path = folder / "config.yaml"
    values = yaml.safe_load(path.read_text())
    del values["mapper"]["new_items"], values["llm"]["loop"]["max_steps"]
    path.write_text(yaml.safe_dump(values))
    run = reopen_run(folder, quiet=True)
    assert run.config == parse_config({"seed": 3}, "test") and run.command == "sasrecllm run"
    with pytest.raises(ConfigError, match=r"mapper\.new_items is 'vector' there, 'no slot' here"):
        changed = {"seed": 3, "mapper": {"new_items": "no slot"}}
        open_run(folder, parse_config(changed, "test"), "x", quiet=True)


def test_a_folder_in_which_nothing_was_trained_takes_other_settings(tmp_path):
    old, new = ({"seed": 3, "data": {"threshold": t}} for t in (4.0, 3.0))
    place = tmp_path / "run"
    claim(open_run(place, parse_config(old, "test"), "first", quiet=True))
    (place / "stages/1-old/checkpoints").mkdir(parents=True)  # begun, and nothing kept
    claim(open_run(place, parse_config(new, "test"), "second", quiet=True))
    assert reopen_run(place, quiet=True).command == "second"
    assert reopen_run(place, quiet=True).config.data.threshold == 3.0
    assert not (place / "stages").exists()


@pytest.mark.parametrize(
    "what",
    ["llm", "stages/1-encoder/parts/fold-0", "stages/0-language-titles/checkpoints/step-00000005",
     "stages/1-encoder/fold-1/checkpoints/step-00000005"],
)  # fmt: skip
def test_whatever_was_learnt_holds_the_folder_for_its_settings(tmp_path, what):
    claim(open_run(tmp_path, parse_config({"seed": 3}, "test"), "x", quiet=True))
    commit_folder(tmp_path / what, lambda _: None)
    with pytest.raises(ConfigError, match="seed is 3 there, 4 here") as refusal:
        open_run(tmp_path, parse_config({"seed": 4}, "test"), "x", quiet=True)
    assert "--force" in refusal.value.remedy
    claim(open_run(tmp_path, parse_config({"seed": 4}, "test"), "x", quiet=True, force=True))


def test_opening_alone_writes_nothing(tmp_path):
    open_run(tmp_path / "run", parse_config({}, "test"), "x", quiet=True)
    assert not list(tmp_path.iterdir())


def test_data_is_prepared_anew_for_other_settings_until_something_was_trained_on_it(tmp_path):
    def prepared(**data):
        world = {"world": {"users": 60, "items": 60, "rows": 14}}
        run = open_run(tmp_path, parse_config({"data": world | data}, "test"), "x", quiet=True)
        return prepare(run), (tmp_path / "data" / "dataset.json").stat().st_ino

    first, file = prepared()
    same, same_file = prepared()
    assert same.digest == first.digest and same_file == file, "not prepared again"
    other, _ = prepared(cold_items=0.2)
    assert other.digest != first.digest
    assert prepared()[0].digest == first.digest
    # A start that was killed between its claim and its data: the data tells what it was made with.
    changed = parse_config({"data": {"world": {"users": 90, "items": 60, "rows": 14}}}, "test")
    claim(open_run(tmp_path, changed, "x", quiet=True))
    assert prepare(open_run(tmp_path, changed, "x", quiet=True)).n_users == 90
    (tmp_path / "quarantine.jsonl").write_text("rows of other settings")
    prepared()
    assert not (tmp_path / "quarantine.jsonl").exists()


def test_a_second_run_on_the_folder_is_refused_while_the_first_is_at_work(tmp_path):
    config = parse_config({"seed": 3}, "test")
    with run_at_work(tmp_path / "run", config, "x", quiet=True) as run:
        claim(run)
        for force in (False, True):
            second = run_at_work(tmp_path / "run", config, "x", quiet=True, force=force)
            with pytest.raises(InUseError, match="in use by process"), second:
                pass
        assert (tmp_path / "run" / "config.yaml").is_file()
    with run_at_work(tmp_path / "run", config, "x", quiet=True, force=True):
        assert {p.name for p in (tmp_path / "run").iterdir()} == {LOCK, ASIDE}, "aside, and still held"
