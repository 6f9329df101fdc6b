"""Both rows of the table of indexes: masks, ties, short lists; what is found is scored exactly."""

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.errors import MissingExtraError
from sasrecllm.ops import vector_index
from sasrecllm.ops.topk import top_items
from sasrecllm.ops.vector_index import INDEXES, Exact, Faiss

D = 6


def whole(seed, *shape):
    """Small whole numbers: every product is exact whatever the kernel, and many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).float()


def tastes(seed, count):
    """Vectors about a few topics, of unequal length."""
    generator = torch.Generator().manual_seed(seed)
    topics = torch.randn(40, D, generator=torch.Generator().manual_seed(1))
    topic = torch.randint(40, (count,), generator=generator)
    return topics[topic] + 0.3 * torch.randn(count, D, generator=generator)


@pytest.mark.parametrize("kind", INDEXES)
@given(count=st.integers(1, 700), k=st.integers(1, 12), seed=st.integers(0, 999), share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_nothing_barred_is_found_ties_go_to_the_smaller_index_and_no_list_is_short(
    kind, count, k, seed, share
):
    items, users = whole(seed, count, D), whole(seed + 1, 5, D)
    free = torch.rand((5, count), generator=torch.Generator().manual_seed(seed)) < share
    values, found = INDEXES[kind](items, lambda: users).top(users, k, free)
    exact, _ = top_items(users, items, k, free)
    assert values.shape == found.shape == exact.shape
    scores = users @ items.T
    for row in range(5):
        real = values[row] > -torch.inf
        assert int(real.sum()) == min(k, int(free[row].sum()))
        mine = found[row][real]
        assert free[row][mine].all() and len(set(mine.tolist())) == len(mine)
        assert values[row][real].tolist() == scores[row][mine].tolist()
        order = sorted(mine.tolist(), key=lambda i, row=row: (-scores[row][i].item(), i))
        assert mine.tolist() == order


def test_a_small_catalogue_is_found_whole_by_either():
    items, users = whole(1, 60, D), whole(2, 4, D)
    free = torch.ones(4, 60, dtype=torch.bool)
    exact, near = (
        INDEXES[kind](items, lambda: users).top(users, 10, free) for kind in ("exact", "faiss")
    )
    assert torch.equal(exact[0], near[0]) and torch.equal(exact[1], near[1])


def test_the_recall_is_that_of_the_exact_best_and_cells_are_added_until_it_is_enough():
    items, users = tastes(3, 20_000), tastes(4, 64)
    near = Faiss(items, lambda: users)
    exact = top_items(users, items, vector_index.JUDGED)[1].numpy()
    found = near.top(users, vector_index.JUDGED, torch.ones(64, 20_000, dtype=torch.bool))[1].numpy()
    hits = [np.isin(*rows).mean() for rows in zip(exact, found, strict=True)]
    assert near.recall == pytest.approx(np.mean(hits)) and near.recall >= vector_index.ENOUGH
    assert 1 <= near._index.nprobe < near._index.nlist  # it did not have to look everywhere
    few = Faiss(whole(1, 120, D), lambda: whole(2, 64, D))  # lists that cells cut short are not judged
    assert few._index.nprobe == few._index.nlist == 3
    unjudged = Faiss(items, lambda: users[:0])
    assert unjudged._index.nprobe == unjudged._index.nlist and unjudged.recall == 1.0


def test_the_exact_index_asks_nobody_to_judge_it():
    def nobody():
        raise AssertionError("made for nothing")

    assert Exact(whole(1, 9, D), nobody).recall is None


def test_who_may_be_given_few_items_is_answered_exactly(monkeypatch):
    items, users = tastes(3, 6_000), tastes(5, 8)
    near = Faiss(items, lambda: users)
    near._index.nprobe = 1
    free = torch.zeros(8, 6_000, dtype=torch.bool)
    free[:, 7::50] = True
    assert torch.equal(near.top(users, 9, free)[1], top_items(users, items, 9, free)[1])


def test_the_same_vectors_make_the_same_index():
    items, users = tastes(6, 5_000), tastes(7, 20)
    free = torch.ones(20, 5_000, dtype=torch.bool)
    one, two = (Faiss(items, lambda: users).top(users, 20, free)[1] for _ in range(2))
    assert torch.equal(one, two)


def test_without_the_package_the_pip_line_is_given(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as refusal:
        INDEXES["faiss"](whole(1, 5, D), lambda: whole(2, 1, D))
    assert 'pip install "sasrecllm[faiss]"' in refusal.value.remedy and refusal.value.exit_code == 3
    assert len(INDEXES["exact"](whole(1, 5, D), lambda: whole(2, 1, D)).items_ID) == 5
