"""Strategies are data: every shipped one is consistent, a misspelt one is refused."""

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.stages.fuse import Fuse
from sasrecllm.stages.kinds import KINDS
from sasrecllm.stages.strategies import STRATEGIES, Stage, stages_of


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_shipped_strategy_has_stages_of_their_own_names(name):
    stages = stages_of(name, fusion=True)
    assert isinstance(stages[-1].kind, Fuse)
    assert len({s.name for s in stages}) == len(stages)
    assert len({s.row for s in stages}) == len(stages)


def test_hierarchical_freezing_trains_one_more_thing_at_a_time():
    stages = stages_of("hierarchical-freezing", fusion=False)
    assert [set(s.train) for s in stages[:3]] == [{"encoder"}, {"adapter"}, {"mapper"}]


ENCODE = {"name": "a", "task": "encode", "train": ["encoder"], "row": "x"}


def test_a_text_row_says_how_many_users_it_had():
    rows = {
        s.name: s.row for s in stages_of("hierarchical-freezing", fusion=False, llm_holdout_users=0.25)
    }
    assert rows["text"] == "text-only LLM, 75% of the users" and rows["soft"] == "SASRecLLM"
    for name in ("text-only", "dual-stage"):  # no stage would read the kept users
        assert "text-only LLM" in {s.row for s in stages_of(name, fusion=False, llm_holdout_users=0.25)}


def test_a_strategy_spelt_out_in_yaml():
    stages = stages_of(
        [{"name": "a", "task": "encode", "train": ["encoder"], "loop": {"epochs": 2}}], fusion=False
    )
    assert stages == (Stage("a", KINDS["encode"], ("encoder",), loop={"epochs": 2}, row="a"),)


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("dual-stag", "did you mean 'dual-stage'"),
        ([{"name": "a", "task": "encode"}], "stage 1: train is missing"),
        ([{"name": "a", "task": "encode", "trian": ["encoder"]}], "did you mean 'train'"),
        ([{"name": "a", "task": "encode", "train": ["mapper"]}], r"allowed: \[encoder\]"),
        ([{"name": "a", "task": "answer", "train": ["mapper"]}], "no slots"),
        ([{"name": "a", "task": "anwser", "train": ["mapper"]}], "did you mean 'answer'"),
        (
            [{"name": "a", "task": "answer", "train": ["encoder", "mapper"], "prompt": "soft"}],
            "set the stage's vectors",
        ),
        ([{"name": "a", "task": "encode", "train": ["encoder"]}] * 2, "two stages have the name 'a'"),
        ([ENCODE, ENCODE | {"name": "b", "row": "x"}], "two stages have the row"),
        ([], "it has none"),
        ([ENCODE | {"train": "encoder"}], r"stage 1: train is 'encoder': allowed: a list, \[a, b\]"),
        ([ENCODE | {"train": None}], "stage 1: train is None: allowed: a list"),
        ([ENCODE | {"train": {"encoder": 1}}], "stage 1: train is .*: allowed: a list"),
        ([ENCODE | {"train": [["encoder"]]}], "stage 1: train.0 is .*: allowed: text"),
        ([ENCODE | {"load": "encoder"}], "stage 1: load is 'encoder': allowed: keys and values"),
        ([ENCODE | {"loop": 3}], "stage 1: loop is 3: allowed: keys and values"),
        ([ENCODE | {"loop": {"epochs": "x"}}], "stage 1: loop.epochs is 'x'"),
        ([ENCODE | {"loop": {"epoch": 1}}], "unknown key loop.epoch; .*did you mean 'epochs'"),
        ([ENCODE | {"loop": {"lr": float("inf")}}], "loop.lr is inf"),
        ([ENCODE | {"vectors": 3}], "vectors is '3'; allowed: crossfit, encoder"),
        ([ENCODE | {"prompt": ["text"]}], "stage 1: prompt is .*: allowed: text"),
        ([ENCODE | {"row": None}], "stage 1: row is None: allowed: text"),
        ([ENCODE | {"task": ["encode"]}], "stage 1: task is .*: allowed: text"),
    ],
)
def test_refusals(strategy, says):
    with pytest.raises(ConfigError, match=says):
        stages_of(strategy, fusion=False)


def test_a_number_may_name_a_stage_and_its_row():
    (stage,) = stages_of([ENCODE | {"name": 3, "row": 4}], fusion=False)
    assert (stage.name, stage.row) == ("3", "4")
