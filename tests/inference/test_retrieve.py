"""The first stage: exact, masked, and new items by the likeness of their titles."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.encoders.table import build_encoder
from sasrecllm.inference.explain import cosines, left_out
from sasrecllm.inference.retrieve import TitleVectors, retrieve
from sasrecllm.types import UNKNOWN, Histories

N = 30


def encoder(unseen=()):
    seen = np.ones(N, dtype=bool)
    seen[list(unseen)] = False
    made = build_encoder(
        "sasrec", n_items=N, n_users=0, width=8, blocks=1, heads=1, length=5, seen_items=seen
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made.eval()


def histories(rows, labels=None):
    flat = np.array([i for r in rows for i in r], dtype=np.int64)
    given = labels or [[1] * len(r) for r in rows]
    offsets = np.cumsum([0] + [len(r) for r in rows]).astype(np.int64)
    users = np.arange(len(rows))
    flags = np.array([x for r in given for x in r], dtype=np.int8)
    return Histories(users, flat, flags, np.arange(len(flat)), offsets, users + 99)


lists = st.lists(st.lists(st.integers(0, N - 1), max_size=5), min_size=1, max_size=4)


@given(rows=lists, count=st.integers(1, N), barred=st.sets(st.integers(0, N - 1)), seen=st.booleans())
@settings(max_examples=30)
def test_it_is_the_sorted_whole_catalogue_less_history_and_barred_items(rows, count, barred, seen):
    model, known = encoder(), histories(rows)
    allowed = np.ones(N, dtype=bool)
    allowed[list(barred)] = False
    got = retrieve(model, known, allowed, count, seen=seen)
    logits = model.logits(known, None).detach().numpy()
    for b, row in enumerate(rows):
        free = [i for i in range(N) if allowed[i] and (seen or i not in row)]
        best = sorted(free, key=lambda i: (-logits[b, i], i))[:count]
        items = [int(i) for i in got.items[b] if i != UNKNOWN]
        assert items == sorted(best)
        ranks = {
            int(i): int(r) for i, r in zip(got.items[b], got.ranks[b], strict=True) if i != UNKNOWN
        }
        assert [i for i, _ in sorted(ranks.items(), key=lambda p: p[1])] == best
        alone = retrieve(model, known.take(np.array([b])), allowed, count, seen=seen)
        assert [int(i) for i in alone.items[0] if i != UNKNOWN] == items, "a row depends on its batch"


def test_items_without_a_vector_enter_beside_the_best_and_have_no_rank():
    model = encoder(unseen=(3, 4))
    allowed = np.ones(N + 2, dtype=bool)  # two more items at the catalogue's end
    got = retrieve(model, histories([[3]]), allowed, 5)
    items, ranks = got.items[0], got.ranks[0]
    assert len(items) == 5 + 3 and {4, N, N + 1} <= set(items.tolist()) and 3 not in items
    assert (ranks[np.isin(items, [4, N, N + 1])] == 0).all() and sorted(ranks)[3:] == [1, 2, 3, 4, 5]


def test_of_many_new_items_the_ones_that_read_like_the_liked_titles_enter():
    vectors = np.zeros((N, 2))
    vectors[:, 0] = 1.0
    vectors[20:] = [0.0, 1.0]
    vectors[25] = [1.0, 0.0]
    model = encoder(unseen=range(10, N))
    got = retrieve(model, histories([[0, 1]]), np.ones(N, dtype=bool), 11, TitleVectors(vectors))
    cold = [int(i) for i, r in zip(got.items[0], got.ranks[0], strict=True) if r == 0]
    assert cold == [*range(10, 20), 25]


def test_leaving_one_out_takes_the_newest_likes_one_by_one():
    rows, places = left_out(histories([[7, 8, 9, 7]], [[1, 0, 1, 1]]), most=2)
    assert places == [3, 2]
    asked = [rows.take(np.array([b])).items.tolist() for b in range(3)]
    assert asked == [[7, 8, 9, 7], [7, 8, 9], [7, 8, 7]]


def test_cosines():
    got = cosines(np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(got, [1.0, 0.0, 0.0])
