"""The parts of a run in memory: built once, loaded from disk in one way."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from sasrecllm.checkpoint import read_json, save_part
from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.llm.title_vectors import ReadTitles, View
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.parts import PARTS, part_of
from sasrecllm.runs.system import System


@pytest.fixture(scope="module")
def folder(run):
    return RunFolder(run)


@pytest.fixture(scope="module")
def system(folder):
    return System.load(folder, "cpu")


def test_every_part_that_is_kept_is_loaded_from_where_its_newest_version_lies(folder, system):
    assert {part: path.parts[-3] for part, path in system.origin.items()} == {
        "encoder": "1-encoder", "adapter": "4-soft", "mapper": "4-soft", "fusion": "5-fusion",
        "next_item": "6-next_item", "list_fusion": "7-lists",
    }  # fmt: skip


def test_a_part_is_kept_and_taken_back_to_the_bit(folder, system, tmp_path, monkeypatch):
    n_items = system.dataset.n_items  # the run read no vectors off its titles
    states = np.random.default_rng(0).normal(size=(n_items, 8))
    read = ReadTitles(states[:, :3], states[0], states[:8, :3], View(2, "last"), "film", 24, "digest")
    monkeypatch.setattr(system.vectors, "read", read)
    again = System.load(folder, "cpu", system.config, system.dataset, until=1)
    assert set(again.origin) == {"encoder"}
    for part in PARTS:
        system.save(part, tmp_path / part)
        again.bring_in({part: tmp_path / part})
        (before, about), (after, about_after) = (PARTS[part].save(s) for s in (system, again))
        assert about == about_after and before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before), part
        assert again.origin[part] == tmp_path / part


def test_parts_of_an_earlier_stage_are_those_it_left(folder, system):
    third = System.load(folder, "cpu", system.config, system.dataset, until=3)
    assert third.origin["mapper"] == folder.stage(3, "mapper").part("mapper")
    assert third.origin["adapter"] == folder.stage(2, "text").part("adapter")
    assert third.fusion is None


def test_what_stands_already_is_not_loaded_twice(folder, system, tmp_path):
    shutil.copytree(system.origin["encoder"], tmp_path / "encoder")
    system.bring_in({"encoder": system.origin["encoder"]})  # its files are not read
    again = System.load(folder, "cpu", system.config, system.dataset, until=1)
    again.bring_in({"encoder": tmp_path / "encoder"})
    shutil.rmtree(tmp_path / "encoder")
    again.bring_in({"encoder": tmp_path / "encoder"})


def test_fold_encoders_belong_to_a_division_of_the_users(folder, system):
    system.bring_in_folds(folder, before=2)
    assert len(system.folds) == system.config.encoder.folds
    assert system.crossfitted() is not None
    requires = read_json(folder.stage(1, "encoder").part("fold-0") / "part.json")["requires"]
    assert requires == part_of("fold-0").requires(system)
    other = System.load(
        folder, "cpu", system.config.model_copy(update={"seed": 1}), system.dataset, until=1
    )
    with pytest.raises(CheckpointError, match="division of the users"):
        other.bring_in_folds(folder, before=2)


def test_a_part_that_says_something_else_is_refused(folder, system, tmp_path):
    save_part(tmp_path / "fusion", {}, {"components": ["llm", "nobody"]}, {})
    with pytest.raises(CheckpointError, match="does not describe the part fusion"):
        System.load(folder, "cpu", until=1).bring_in({"fusion": tmp_path / "fusion"})
    with pytest.raises(ConfigError, match="did you mean 'encoder'"):
        part_of("encodre")
