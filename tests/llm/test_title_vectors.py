"""Vectors that a language model makes of titles: by hand, alone or among others, kept, made again."""

import numpy as np
import pytest
import torch

from sasrecllm.errors import CheckpointError
from sasrecllm.llm.loading import build_llama
from sasrecllm.llm.title_vectors import (
    DIRECTIONS,
    ReadTitles,
    TitleReader,
    View,
    principal,
    usual_view,
    views_of,
)

TITLES = ["Silent Harbour", "The Golden Reef of the Last Tide", "", "Reef </s> Tide", "Last"]


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_llama(tokenizer, width=16, layers=3, heads=2, positions=128, seed=1).eval()


def of(model, titles, view, **options):
    return TitleReader(model, "movie", **options).states(titles, [view])[view]


def test_the_views_are_layers_of_the_model_at_both_poolings(model):
    layers = {1, 2, 3}
    assert views_of(model) == [View(n, pooling) for n in sorted(layers) for pooling in ("last", "mean")]
    assert usual_view(model) == View(2, "last")


@pytest.mark.parametrize("layer", [1, 3])
def test_a_state_is_that_of_the_closing_mark_or_the_mean_over_title_and_mark(model, layer):
    tokenizer, title = model.tokenizer, "Silent Harbour"
    lead, own, tail = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ('The movie "', title, '"')
    )
    begin = [tokenizer.bos_token_id] if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else []
    ids = torch.tensor([begin + lead + own + tail])
    with torch.no_grad():
        states = model.causal(input_ids=ids, output_hidden_states=True).hidden_states[layer][0].numpy()
    np.testing.assert_allclose(of(model, [title], View(layer, "last"))[0], states[-1], atol=1e-5)
    mean = states[len(begin) + len(lead) :].mean(0)
    np.testing.assert_allclose(of(model, [title], View(layer, "mean"))[0], mean, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_title_has_the_same_state_alone_and_among_longer_ones(model, pooling):
    view = View(2, pooling)
    together = of(model, TITLES * 20, view)  # more than one batch
    for number, title in enumerate(TITLES):
        # Batches of other shapes are other kernels, which add single precision in other orders.
        np.testing.assert_allclose(of(model, [title], view)[0], together[number], atol=1e-5)
        np.testing.assert_allclose(together[number + 5], together[number], atol=1e-5)


def test_a_long_title_is_cut_and_its_progress_said(model):
    seen = []
    reader = TitleReader(model, "movie", max_tokens=3)
    long = "Reef of the Last Tide and of the Silent Harbour"
    cut = reader.states([long], [View(3, "last")], lambda *counted: seen.append(counted))
    whole = of(model, [long], View(3, "last"))
    assert seen == [(1, 1)] and not np.allclose(cut[View(3, "last")], whole, atol=1e-3)


def test_principal_directions_are_orthonormal_and_no_more_than_there_are():
    states = np.random.default_rng(0).normal(size=(400, 200)) * np.linspace(5, 0.1, 200) + 3.0
    mean, directions = principal(states)
    assert directions.shape == (200, DIRECTIONS)
    np.testing.assert_allclose(directions.T @ directions, np.eye(DIRECTIONS), atol=1e-9)
    spread = ((states - mean) @ directions).var(0)
    assert (np.diff(spread) <= 1e-9).all(), "those of most variance first"
    assert principal(states[:4])[1].shape == (200, 3)
    assert principal(np.ones((5, 6)))[1].shape == (6, 1), "titles that are all the same"


@pytest.fixture(scope="module")
def read(model):
    reader, view = TitleReader(model, "movie"), View(2, "mean")
    return ReadTitles.of(reader, view, reader.states(TITLES, [view])[view])


def test_vectors_have_length_one_and_a_later_title_gets_what_it_would_have_had(model, read):
    np.testing.assert_allclose(np.linalg.norm(read.vectors, axis=1), 1, atol=1e-6)
    again = read.later(model, [TITLES[3], TITLES[1]])
    np.testing.assert_allclose(again, read.vectors[[3, 1]], atol=1e-4)


def test_another_language_model_reads_no_later_titles(read, tokenizer):
    other = build_llama(tokenizer, width=16, layers=3, heads=2, positions=128, seed=2)
    with pytest.raises(CheckpointError, match="another language model"):
        read.later(other, ["Tide"])


def test_what_is_kept_comes_back_and_nothing_else_is_taken(model, read):
    tensors, about = read.tensors(), read.about()
    back = ReadTitles.from_kept(tensors, about, len(TITLES))
    assert back.about() == about and np.array_equal(back.vectors, read.vectors)
    assert np.array_equal(back.later(model, ["Tide"]), read.later(model, ["Tide"]))
    for wrong in (
        lambda: ReadTitles.from_kept(tensors, about, len(TITLES) + 1),
        lambda: ReadTitles.from_kept(tensors, about | {"pooling": "first"}, len(TITLES)),
        lambda: ReadTitles.from_kept(tensors, about | {"layer": "x"}, len(TITLES)),
        lambda: ReadTitles.from_kept(tensors | {"mean": tensors["mean"][:3]}, about, len(TITLES)),
    ):
        with pytest.raises(ValueError):
            wrong()
