"""A run folder belongs to one configuration, whatever version of the package wrote it."""

from __future__ import annotations

import pytest
import yaml

from sasrecllm.checkpoint import commit_folder
from sasrecllm.config import parse_config
from sasrecllm.errors import ConfigError
from sasrecllm.pipeline.folder import claim, open_run, reopen_run


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
