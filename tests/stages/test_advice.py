"""What a run's card says of its budget: settings and flags that there are, true to the run."""

import re
from pathlib import Path

import polars as pl
import pytest

from sasrecllm.cli.shared import FLAGS
from sasrecllm.config import load_config
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.stages.advice import FEW_LIKES, budget_advice, run_card
from sasrecllm.stages.list_budget import prompts_of
from sasrecllm.stages.strategies import planned

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(scope="module")
def small():
    world = known_world(users=60, items=60, rows=14, seed=0)
    return prepare(Tables(world.interactions, world.items, "world"))


@pytest.mark.parametrize(
    "words", [(), ("strategy=encoder-only",), ("budget=2m",), ("lists.enabled=false",)]
)
def test_every_flag_and_setting_that_it_names_is_one(small, words):
    config = load_config(TINY, words)
    said = budget_advice(config, small)
    assert run_card(config, small).advice[-1] == said and said.startswith("budget: ")
    assert set(re.findall(r"--\w+", said)) <= set(FLAGS)
    for setting in re.findall(r"[a-z_.]+=[^ ;,]+", said):
        load_config(TINY, [setting])


def test_it_is_of_what_the_run_would_train(small):
    whole = load_config(TINY)
    prompts = prompts_of(whole, small, planned(whole))
    assert f"reads about {prompts:,} prompts" in budget_advice(whole, small)
    alone = budget_advice(load_config(TINY, ["strategy=encoder-only"]), small)
    assert "language model" not in alone and "lists.next_item.seconds=" in alone
    no_lists = budget_advice(load_config(TINY, ["strategy=encoder-only", "lists.enabled=false"]), small)
    assert "next-item" not in no_lists and no_lists.startswith("budget: --budget 15m fits")
    assert "--budget 2m chooses" in budget_advice(load_config(TINY, ["budget=2m"]), small)


KINDS = {
    "labels": (["label"], 1),
    "ratings": ([pl.col("label").mul(4).add(1).alias("rating")], 0),
    "every row a like": ([], 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_threshold_that_nothing_is_held_against_is_said(kind):
    world = known_world(users=60, items=60, rows=14, seed=0)
    columns, told = KINDS[kind]
    log = world.interactions.select("user_id", "item_id", "timestamp", *columns)
    data = prepare(Tables(log, world.items, kind))
    for words, said in (((), 0), (("data.threshold=3",), told)):
        advice = run_card(load_config(TINY, words), data).advice
        assert sum("data.threshold=3 has no effect" in text for text in advice) == said


def test_few_likes_are_said(small):
    likes = int((small.labels[small.rows("train")] == 1).sum())
    assert likes < FEW_LIKES
    assert f"{likes:,} training likes are few" in budget_advice(load_config(TINY), small)
