"""A run folder by the names of what is in it, and what counts as its newest parts."""

from __future__ import annotations

import pytest

from sasrecllm.checkpoint import SECONDS, save_part, write_json
from sasrecllm.config import parse_config
from sasrecllm.names import aside
from sasrecllm.runs.folder import RunFolder, folds_beside


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def kept(*parts):
    for part in parts:
        save_part(part, {}, {}, {})


def test_asking_for_a_name_makes_nothing(folder):
    for name, value in vars(RunFolder).items():
        if isinstance(value, property):
            assert getattr(folder, name).is_relative_to(folder.path), name
    assert folder.stage(2, "text").part("adapter") == folder.path / "stages/2-text/parts/adapter"
    assert folder.baseline(3, "a b/c:D").name == "03-a-b-c-D"
    assert folder.newest_parts() == {} and folder.newest_folds() == [] and not folder.is_trained()
    assert not folder.path.exists() and str(folder) == str(folder.path)


def test_stages_stand_in_the_order_of_the_strategy_not_of_their_names(folder):
    for number in (10, 2, 1):
        folder.stage(number, f"s{number}").path.mkdir(parents=True)
    folder.language_stage("titles").path.mkdir()
    (folder.stages / "notes").mkdir()
    assert [stage.number for stage in folder.stage_folders()] == [0, 1, 2, 10]
    stages = {"first": "a", "second": "b"}
    assert [(f.path.name, s) for f, s in folder.of_stages(stages)] == [
        ("1-first", "a"), ("2-second", "b")
    ]  # fmt: skip


def test_the_later_stage_wins_and_what_was_trained_wins_over_what_was_loaded(folder):
    first, second, third = (folder.stage(n, "s") for n in (1, 2, 10))
    kept(first.part("encoder"), first.part("fold-0"), second.loaded_part("encoder"))
    kept(second.part("adapter"), third.loaded_part("adapter"), third.part("adapter"))
    aside(third.path / "parts" / "mapper").mkdir()  # which a killed writer left
    assert folder.newest_parts() == {
        "encoder": second.loaded_part("encoder"), "adapter": third.part("adapter")
    }  # fmt: skip
    assert folder.newest_parts(before=3)["adapter"] == second.part("adapter")
    assert folder.newest_parts(before=2) == {"encoder": first.part("encoder")}
    assert folder.trained_part("encoder") == first.part("encoder"), "loaded is not trained"


def test_fold_encoders_stand_by_their_numbers_and_the_newest_count(folder):
    first, second = folder.stage(1, "a"), folder.stage(2, "b")
    kept(*(first.part(f"fold-{n}") for n in range(11)), second.loaded_part("fold-0"))
    assert [p.name for p in folder.newest_folds(before=2)] == [f"fold-{n}" for n in range(11)]
    assert folder.newest_folds() == [second.loaded_part("fold-0")]
    assert folds_beside(first.part("encoder"))[10] == first.part("fold-10")


def test_a_part_that_is_not_ours_has_a_folder_that_every_system_can_name(folder):
    place = folder.stage(1, "a").part("package.module:PART")
    assert ":" not in place.name
    kept(place)
    assert folder.newest_parts() == {"package.module:PART": place}


def test_seconds_are_those_of_finished_stages_and_of_begun_ones_up_to_their_checkpoints(folder):
    folder.stage(1, "encoder").path.mkdir(parents=True)
    write_json(folder.stage(1, "encoder").about, {"seconds": 30.0})
    for place, seconds in (
        (folder.language_stage("titles").checkpoints, 2.0),
        (folder.stage(1, "encoder").checkpoints, 29.0),  # it is finished, and says so itself
        (folder.stage(2, "soft").checkpoints, 5.0),
        (folder.stage(2, "soft").fold(1).checkpoints, 4.0),
    ):
        (place / "step-00000001").mkdir(parents=True)
        write_json(place / "step-00000001" / SECONDS, {"seconds": seconds})
    assert folder.stage(2, "soft").seconds() == 9.0
    assert folder.seconds() == 2.0 + 30.0 + 9.0
    write_json(folder.language_seconds, {"seconds": 3.0})
    assert folder.seconds() == 3.0 + 30.0 + 9.0, "the language model is built"


def test_a_run_is_finished_under_the_settings_of_evaluation_that_judged_it(folder):
    config = parse_config({}, "test")
    other = parse_config({"evaluation": {"resamples": 200}}, "test")
    write_json_at(folder.summary, {"evaluation": config.evaluation.model_dump()})
    assert folder.is_trained() and not folder.is_finished(config), "not sealed"
    folder.manifest.touch()
    assert folder.is_finished(config) and not folder.is_finished(other)


def test_the_identity_of_a_run_is_its_settings_its_summary_and_its_results(folder):
    folder.path.mkdir()
    seen = {folder.digest()}
    for path in (folder.config, folder.summary, folder.results):
        path.write_text(path.name)
        seen.add(folder.digest())
    folder.log.write_text("said")
    assert len(seen) == 4 and folder.digest() in seen


def write_json_at(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)
