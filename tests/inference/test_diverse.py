"""Mixed lists: maximal marginal relevance, against its definition, and what likeness is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.data.catalog import Catalog
from sasrecllm.inference.diverse import ItemLikeness, cosines, mixed
from sasrecllm.types import UNKNOWN


def by_definition(worth, alike, k, share):
    """Carbonell & Goldstein's formula, item by item."""
    span = worth[0] - worth[-1]
    relevance = [(w - worth[-1]) / span if span else 1.0 for w in worth]
    chosen = [0]
    while len(chosen) < k:
        gains = {
            i: (1 - share) * relevance[i] - share * max(alike[i][j] for j in chosen)
            for i in range(len(worth))
            if i not in chosen
        }
        chosen.append(max(gains, key=lambda i: (gains[i], -i)))
    return chosen


@given(
    worth=st.lists(st.integers(-4, 4), min_size=2, max_size=7),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    k=st.integers(1, 7),
)
def test_the_choice_is_the_definitions(worth, seed, share, k):
    worth = np.sort(np.array(worth, dtype=float))[::-1]
    vectors = np.random.default_rng(seed).integers(-1, 2, (len(worth), 3)).astype(float)
    alike = cosines(vectors)
    items = np.arange(len(worth))[None]
    (got,) = mixed(items, worth[None], k, share, lambda asked: alike[np.ix_(asked, asked)])
    assert sorted(set(got.tolist())) == sorted(got.tolist()) and got[0] == 0
    assert got.tolist() == by_definition(worth.tolist(), alike.tolist(), min(k, len(worth)), share)
    if share == 0:
        assert got.tolist() == list(range(min(k, len(worth)))), "the list as it is"


def test_the_first_places_do_not_depend_on_how_many_are_chosen_and_nothing_stands_behind_the_last():
    rng = np.random.default_rng(0)
    worth, alike = np.sort(rng.normal(size=9))[::-1][None], cosines(rng.normal(size=(9, 2)))
    items = np.arange(9)[None]
    few, many = (mixed(items, worth, k, 0.6, lambda i: alike[np.ix_(i, i)]) for k in (3, 9))
    assert few[0].tolist() == many[0, :3].tolist()
    short = np.array([[4, 2, UNKNOWN, UNKNOWN], [UNKNOWN] * 4])
    falling = np.array([[1.0, 0.5, -np.inf, -np.inf], [-np.inf] * 4])
    places = mixed(short, falling, 4, 0.5, lambda i: np.eye(len(i)))
    assert np.take_along_axis(short, places, 1).tolist() == short.tolist()


def test_at_one_the_second_item_is_the_one_least_like_the_first():
    alike = np.array([[1, 0.9, 0.1, 0.5], [0.9, 1, 0, 0], [0.1, 0, 1, 0], [0.5, 0, 0, 1]])
    (got,) = mixed(np.arange(4)[None], np.array([[4.0, 3, 2, 1]]), 2, 1.0, lambda i: alike)
    assert got.tolist() == [0, 2]


def test_likeness_is_the_encoders_where_both_have_a_vector_and_the_words_elsewhere():
    table = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [9.0, 9.0]])
    encoder = SimpleNamespace(
        seen_items=torch.tensor([True, True, True, False]), device="cpu",
        item_vectors=lambda rows: table[rows],
    )  # fmt: skip
    titles = ["Quiet Sea", "Loud War", "Quiet Wood", "Quiet Sea Again", "Another War"]
    got = ItemLikeness(encoder, Catalog(list("abcde"), titles))(np.array([0, 1, 2, 3, 4]))
    np.testing.assert_allclose(np.diag(got), 1.0, atol=1e-12)
    np.testing.assert_allclose(got, got.T, atol=1e-12)
    assert got[0, 1] == pytest.approx(1.0) and got[0, 2] == pytest.approx(0.0)
    assert got[0, 3] > 0.9 > got[2, 3] > 0.1 and got[1, 3] == 0, "shared words, the rare ones more"
    assert got[1, 4] > 0.9 and got[3, 4] == 0
