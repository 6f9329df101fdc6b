"""The rules look at the feedback, the columns and the size of the data."""

from types import SimpleNamespace

import numpy as np
import pytest

from sasrecllm.config import load_config
from sasrecllm.runs.choice import with_choice
from sasrecllm.stages.recipe import described_by, recipe
from sasrecllm.stages.strategies import planned

TITLES = [f"{word} tale" for word in ("Red", "Blue", "Green")] * 20


def data(implicit=False, items=2000, rows=20_000, titles=TITLES, **columns):
    catalog = SimpleNamespace(titles=list(titles), attributes=columns)
    return SimpleNamespace(
        implicit=implicit, n_items=items, negatives=4, rows=lambda _: np.arange(rows), catalog=catalog
    )


def chosen(found, *words):
    values = {}
    for rule in recipe(load_config(None, words), found):
        values |= rule.values
    return with_choice(load_config(None, words), values)


def test_likes_alone_are_learnt_with_a_softmax_and_labels_by_bce():
    likes, labels = chosen(data(implicit=True)), chosen(data())
    assert (likes.encoder.loss, labels.encoder.loss) == ("softmax", "bce")
    assert likes.encoder.loop.batch_size == 64 and labels.encoder.loop.batch_size == 16
    assert likes.fusion.components == ["llm", "encoder", "popularity"]
    assert "steady level" in labels.fusion.components


@pytest.mark.parametrize(("items", "words"), [(50_000, ()), (900, ("encoder.item_updates=touched",))])
def test_the_whole_catalogue_is_compared_only_where_that_can_be(items, words):
    assert chosen(data(implicit=True, items=items), *words).encoder.loss == "sampled-softmax"


def test_what_is_named_stays():
    config = chosen(data(implicit=True), "encoder.loss=gbce", "encoder.loop.lr=0.01")
    assert (config.encoder.loss, config.encoder.loop.lr) == ("gbce", 0.01)
    assert config.encoder.loop.epochs == 20, "the rest of the loop is the recipe's"


def test_a_model_that_is_built_here_is_trained_otherwise_than_a_pretrained_one():
    own, pretrained = chosen(data()), chosen(data(), "llm.backbone=some/model")
    assert own.llm.lora.r == 16 and own.llm.loop.batch_size == 64
    assert pretrained.llm.lora.targets is None and pretrained.llm.loop.batch_size == 16
    alone = chosen(data(), "strategy=encoder-only")
    assert not [key for key in alone.chosen if key.startswith("llm.")], "nothing asks it"


@pytest.mark.parametrize("words", [(), ("llm.backbone=some/model",)])
def test_soft_tokens_read_the_encoders_logit_where_nobody_says_otherwise(words):
    assert chosen(data(), *words).mapper.encoder_logit
    assert not chosen(data(), "mapper.encoder_logit=false", *words).mapper.encoder_logit
    alone = chosen(data(), "strategy=text-only", *words)
    assert "mapper.encoder_logit" not in alone.chosen, "no slot to read anything"
    live = chosen(data(), "strategy=dual-stage", *words)
    assert live.mapper.encoder_logit == (not words), "a pretrained one beside a live encoder"


def test_many_rows_have_fewer_passes():
    assert chosen(data(rows=100_000)).encoder.loop.epochs == 30
    large = chosen(data(rows=2_000_000))
    assert large.encoder.loop.epochs == 3 and large.llm.loop.max_steps == 100_000 // 64
    assert chosen(data(rows=10**8)).encoder.loop.epochs == 1
    likes = chosen(data(rows=210_000, implicit=True)).encoder.loop.epochs
    assert likes == 20, "as of fewer rows: 4.2 million are no more than may be read"
    assert chosen(data(rows=400_000, implicit=True)).encoder.loop.epochs == 15


def test_steps_of_the_language_model_are_counted_in_the_batches_that_it_has():
    named = chosen(data(rows=200_000), "llm.backbone=some/model", "llm.loop.batch_size=50")
    assert named.llm.loop.max_steps == 100_000 // 50


def test_columns_that_tell_kinds_describe_the_items():
    n = len(TITLES)
    columns = {
        "kind": ["a|b", "b", "c|a"] * (n // 3),
        "maker": ["ABCDEFGHI"[k % 9] for k in range(n)],
        "year": [f"19{90 + k % 4}" for k in range(n)],
        "number": [str(k) for k in range(n)],
        "rare": ["x", "x", *[None] * (n - 2)],
        "always": ["same"] * n,
    }
    found = data(titles=TITLES, **columns)
    assert list(described_by(found.catalog)) == ["kind", "maker"]
    assert chosen(found).item_features.attributes == ["kind", "maker"]
    assert chosen(found, "item_features.attributes=[]").item_features.attributes == []


def test_a_title_prior_needs_words_or_columns_that_are_shared():
    bare = [f"{k}" for k in range(60)]
    assert chosen(data()).encoder.prior == "titles"
    assert chosen(data(titles=bare)).encoder.prior == "none"
    assert chosen(data(titles=bare, kind=["a", "b"] * 30)).encoder.prior == "titles"
    kinds = data(titles=bare, kind=["a", "b"] * 30)
    assert chosen(kinds, "item_features.attributes=[]").encoder.prior == "none"
    assert chosen(data(), "strategy=text-only").encoder.prior == "none", "no stage applies it"


@pytest.mark.parametrize("implicit", [True, False])
def test_a_quick_run_trains_no_model_of_the_table(implicit):
    config = chosen(data(implicit=implicit), "quick=true")
    assert [s.kind.name for s in planned(config).values()] == ["fuse"]
    assert not config.evaluation.ablations
    assert ("ItemKNN" in config.fusion.components) == implicit
