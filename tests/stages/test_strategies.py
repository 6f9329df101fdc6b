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
        ([{"name": "a", "task": "encode"}], "lacks train"),
        ([{"name": "a", "task": "encode", "trian": ["encoder"]}], "did you mean 'train'"),
        ([{"name": "a", "task": "encode", "train": ["mapper"]}], r"allowed: \[encoder\]"),
        ([{"name": "a", "task": "answer", "train": ["mapper"]}], "no slots"),
        ([{"name": "a", "task": "anwser", "train": ["mapper"]}], "did you mean 'answer'"),
        (
            [{"name": "a", "task": "answer", "train": ["encoder", "mapper"], "prompt": "soft"}],
            "set the stage's vectors",
        ),
        ([{"name": "a", "task": "encode", "train": ["encoder"]}] * 2, "its own name"),
    ],
)
def test_refusals(strategy, says):
    with pytest.raises(ConfigError, match=says):
        stages_of(strategy, fusion=False)
