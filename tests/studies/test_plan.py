"""A study on paper: what becomes of its keys, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sasrecllm.errors import ConfigError
from sasrecllm.machine.progress import Progress
from sasrecllm.studies.plan import Cell, cells_of, load_plan, load_space, merge, settings_of
from sasrecllm.studies.run import Study, check_study

PLAN = {
    "name": "s",
    "seeds": [0, 1],
    "baselines": ["random"],
    "datasets": {"a": {"config": "a.yaml", "set": {"data.negatives": 7}}, "b": {}},
    "rows": {
        "first": {"set": {"encoder": {"kind": "mf"}, "encoder.width": 8}},
        "second": {"set": {"llm.backbone": "{run:first}/llm"}, "seeds": [1], "datasets": ["b"]},
    },
}


def write(tmp_path: Path, changes: dict | None = None) -> Path:
    (tmp_path / "a.yaml").write_text("encoder: {blocks: 1, width: 32}\n")
    values = yaml.safe_load(yaml.safe_dump(PLAN))
    merge(values, changes or {}, "test")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return tmp_path / "s.yaml"


def test_cells_follow_the_file_and_a_row_may_have_fewer_seeds_and_data_sets(tmp_path):
    plan = load_plan(write(tmp_path))
    assert cells_of(plan) == [
        Cell("a", "first", 0), Cell("a", "first", 1),
        Cell("b", "first", 0), Cell("b", "first", 1), Cell("b", "second", 1),
    ]  # fmt: skip


def test_settings_stack_file_then_data_set_then_row_then_what_tuning_chose(tmp_path):
    plan = load_plan(write(tmp_path))
    got = settings_of(plan, Cell("a", "first", 1), tmp_path, tmp_path / "out", {"encoder.blocks": 3})
    assert (got.encoder.kind, got.encoder.width, got.encoder.blocks) == ("mf", 8, 3)
    assert (got.data.negatives, got.seed, got.data.seed) == (7, 1, 0)
    assert got.evaluation.baselines == ["random"] and not got.evaluation.ablations
    other = settings_of(plan, Cell("b", "second", 1), tmp_path, tmp_path / "out")
    assert other.llm.backbone == str(tmp_path / "out/b/first/seed-1") + "/llm"


def test_overrides_reach_any_key_of_the_plan(tmp_path):
    plan = load_plan(write(tmp_path), ["seeds=[5]", "datasets.a.set.data.path=/x"])
    assert plan.seeds == [5]
    got = settings_of(plan, Cell("a", "first", 5), tmp_path, tmp_path / "out")
    assert got.data.path == "/x" and got.data.negatives == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rowz": {}}, "unknown key rowz; allowed here: .*did you mean 'rows'"),
        ({"threads": 1}, "unknown key threads;(?s:.*)-> .*datasets.NAME.set.threads"),
        ({"rows": {"first": {"sett": {}}}}, "unknown key rows.first.sett; .*did you mean 'set'"),
        ({"rows": {"first": {"space": {"seed": {"choice": [1]}}}}}, "seed.choice; .*'choices'"),
        ({"rows": {"first!": {}, "first": {}}}, "distinct folder names"),
        ({"rows": {"second": {"datasets": ["c"]}}}, "allowed: a, b"),
        ({"seeds": []}, "seeds"),
        ({"rows": {"second": {"tuned_as": "firts"}}}, "did you mean 'first'"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_key(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        load_plan(write(tmp_path, changes))


def test_a_plan_without_a_name_and_a_wrong_search_space_are_refused_with_their_keys(tmp_path):
    (tmp_path / "s.yaml").write_text("datasets: {a: {}}\nrows: {b: {}}\n")
    with pytest.raises(ConfigError, match=r"s\.yaml: name is missing"):
        load_plan(tmp_path / "s.yaml")
    (tmp_path / "space.yaml").write_text("encoder.width: {choices: [8]}\nseed: {choice: [1]}\n")
    with pytest.raises(ConfigError, match=r"space\.yaml: seed: unknown key choice; .*'choices'"):
        load_space(tmp_path / "space.yaml")


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ("encoder.loop.lr: {low: 0.01, high: 0.001}", "encoder.loop.lr: .*low ≤ high"),
        ("encoder.loop.lr: {low: 0, high: 1, log: true}", "low above 0 where log is true"),
        ("encoder.width: {choices: []}", "allowed: choices"),
        ("encoder.loop.lr: {low: 0.1}", "allowed: choices"),
        ("encoder.loop.lr: {low: 0.1, high: .inf}", "finite"),
        ("3: {choices: [1]}", "3 is no setting"),
    ],
)
def test_a_search_space_without_values_is_refused_before_a_folder_is_made(tmp_path, space, says):
    (tmp_path / "space.yaml").write_text(space)
    with pytest.raises(ConfigError, match=says):
        load_space(tmp_path / "space.yaml")


def test_a_misspelt_name_in_a_row_is_refused_before_any_other_row_is_trained(tmp_path):
    path = write(tmp_path, {"rows": {"second": {"set": {"strategy": "encoder_only"}}}})
    study = Study(load_plan(path), path, tmp_path / "out", Progress(quiet=True))
    with pytest.raises(ConfigError, match=r"datasets\.b with rows\.second: strategy is 'encoder_only'"):
        check_study(study)
    assert not (tmp_path / "out").exists()


def test_a_wrong_setting_is_refused_with_data_set_and_row(tmp_path):
    plan = load_plan(write(tmp_path, {"rows": {"first": {"set": {"encoder": {"widht": 3}}}}}))
    with pytest.raises(ConfigError, match=r"(?s)datasets.a with rows.first.*did you mean 'width'"):
        settings_of(plan, Cell("a", "first", 0), tmp_path, tmp_path / "out")
    plan = load_plan(write(tmp_path, {"rows": {"second": {"set": {"llm.backbone": "{run:frist}"}}}}))
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        settings_of(plan, Cell("b", "second", 1), tmp_path, tmp_path / "out")


def test_an_override_of_one_data_set_leaves_another_alone_that_shares_its_settings_by_alias(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(
        "name: x\nrows: {a: {}}\ndatasets:\n"
        "  one: {set: &same {data: &data {source: two-table, path: first}}}\n"
        "  two: {set: *same}\n  three: {set: {data: *data}}\n"
    )
    plan = load_plan(path, ["datasets.two.set.data.path=second"])
    paths = {name: d.set["data"]["path"] for name, d in plan.datasets.items()}
    assert paths == {"one": "first", "two": "second", "three": "first"}
