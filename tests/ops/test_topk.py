"""Exact top-k: the same items as a full sort, ties to the smaller index, small catalogues too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.ops import topk
from sasrecllm.ops.topk import best_free, top_items


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr(topk, "BLOCK", 4)
    monkeypatch.setattr(topk, "SLICE", 16)


@pytest.mark.parametrize("count", [1, 7, 130, 500, 1003])
@pytest.mark.parametrize("levels", [2, 5, 2_000])
def test_equals_a_stable_sort_with_many_ties_or_none(small_slices, count, levels):
    generator = torch.Generator().manual_seed(count + levels)
    draw = lambda *shape: torch.randint(-levels, levels, shape, generator=generator).float()  # noqa: E731
    users, items = draw(3, 2), draw(count, 2)
    values, found = top_items(users, items, 6)
    # Two products of whole numbers below 2,000 add up to less than 2^24: float32 holds every sum
    # exactly, whatever the kernel and its order.
    scores = (users @ items.T).numpy()
    for row in range(3):
        want = np.argsort(-scores[row], kind="stable")[:6]
        assert found[row].tolist() == want.tolist()
        assert values[row].tolist() == scores[row][want].tolist()


def test_no_table_of_all_scores_is_made(monkeypatch):
    draw = lambda n: torch.randint(-1000, 1000, (n, 8)).float()  # noqa: E731 - exact sums, as above
    users, items = draw(16), draw(8 * topk.SLICE + 5)
    largest, inner = 0, torch.Tensor.__matmul__

    def watched(self, other):
        nonlocal largest
        made = inner(self, other)
        largest = max(largest, made.numel())
        return made

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    _, found = top_items(users, items, 10)
    assert largest <= topk.SCORES < 16 * len(items)
    monkeypatch.undo()
    wanted = np.argsort(-(users @ items.T).numpy(), axis=1, kind="stable")[:, :10]
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("levels", [2, 2_000])
@pytest.mark.parametrize("share", [0.0, 0.004, 0.3, 1.0])
def test_of_the_free_items_alone_whatever_stands_between_them(small_slices, levels, share):
    draw = lambda n: torch.randint(-levels, levels, (n, 2)).float()  # noqa: E731 - exact sums, as above
    users, items = draw(4), draw(1003)
    free = torch.rand(4, 1003) < share
    values, found = top_items(users, items, 6, free)
    scores = (users @ items.T).numpy()
    for row in range(4):
        there = np.flatnonzero(free[row].numpy())
        want = there[np.argsort(-scores[row][there], kind="stable")][:6]
        real = values[row] != -torch.inf
        assert found[row][real].tolist() == want.tolist()
        assert values[row][real].tolist() == scores[row][want].tolist()
        assert real.tolist() == [n < len(want) for n in range(6)]


@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=6, max_size=6), min_size=1
    ),
    count=st.integers(1, 8),
)
@settings(max_examples=60)
def test_best_free_is_a_stable_sort_of_what_is_free(rows, count):
    values = np.array([[v for v, _ in row] for row in rows], dtype=float)
    free = np.array([[f for _, f in row] for row in rows])
    places, real = best_free(values, free, count)
    for b in range(len(rows)):
        want = sorted(np.flatnonzero(free[b]), key=lambda i: (-values[b, i], i))[:count]
        assert places[b, : real[b]].tolist() == [int(i) for i in want]
