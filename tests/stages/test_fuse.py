"""Which scores a fusion sums, and which of them know a new item by its words."""

import pytest

from sasrecllm.config import parse_config
from sasrecllm.stages.fuse import asking, fused, last_prompt, worded
from sasrecllm.stages.strategies import asks_language_model, planned

LOADED = [
    {
        "name": "soft",
        "task": "answer",
        "train": ["mapper"],
        "prompt": "soft",
        "load": {"encoder": "runs/other"},
    }
]


def told(strategy, **settings):
    config = parse_config({"strategy": strategy, **settings}, "test")
    stages = planned(config)
    names = fused(config, stages)
    assert set(worded(config, stages)) <= set(names)
    return [n for n in names if n in ("llm", "encoder")], worded(config, stages), last_prompt(stages)


@pytest.mark.parametrize(
    ("strategy", "models", "words", "prompt"),
    [
        ("hierarchical-freezing", ["llm", "encoder"], ["llm"], "soft"),
        ("text-only", ["llm"], ["llm"], "text"),
        ("encoder-only", ["encoder"], [], None),
        (LOADED, ["llm", "encoder"], ["llm", "encoder"], "soft"),
    ],
)
def test_a_model_is_summed_where_a_stage_trains_or_loads_it(strategy, models, words, prompt):
    found, readers, asked = told(strategy, encoder={"prior": "none"})
    assert found == models and asked == prompt
    assert [n for n in readers if n in ("llm", "encoder")] == words
    assert {"item quality", "user preference"} <= set(readers) and "steady level" not in readers


def test_an_encoder_with_a_title_prior_knows_new_items_by_their_words():
    assert told("encoder-only", encoder={"prior": "titles"})[1][0] == "encoder"


def test_the_components_keep_the_order_of_the_settings():
    config = parse_config({"fusion": {"components": ["popularity", "encoder", "llm"]}}, "test")
    assert fused(config, planned(config)) == ["popularity", "encoder", "llm"]


@pytest.mark.parametrize("strategy", ["encoder-only", "text-only", "joint"])
def test_a_language_model_is_built_where_a_stage_asks_it(strategy):
    asks = asks_language_model(parse_config({"strategy": strategy}, "test"))
    assert asks == (strategy != "encoder-only")


@pytest.mark.parametrize(
    ("components", "asked"),
    [
        (["llm", "encoder"], ["llm"]),
        (["encoder", "item quality"], []),
        (["popularity", "llm"], ["llm"]),
    ],
)
def test_a_sum_without_the_language_model_is_no_row_of_it(components, asked):
    config = parse_config({"fusion": {"components": components}}, "test")
    stages = planned(config)
    last = list(stages.values())[-1]
    assert asking(config, stages) == asked
    assert (last.kind.prompt(last, stages, config) is None) == (not asked)
