"""The first stage: exact, masked, and new items by the likeness of their titles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.candidates import free_items
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.table import build_encoder
from sasrecllm.inference.retrieve import (
    EncoderChannel,
    ScorerChannel,
    TitleVectors,
    WordsChannel,
    channels_of,
    retrieve,
)
from sasrecllm.ops import topk
from sasrecllm.types import UNKNOWN, Histories

N = 30


def encoder(unseen=(), kind="sasrec"):
    seen = np.ones(N, dtype=bool)
    seen[list(unseen)] = False
    made = build_encoder(
        kind, n_items=N, n_users=0, width=8, blocks=1, heads=1, length=5, seen_items=seen
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


def candidates(model, known, allowed, count, titles=None, seen=False):
    """What a system of this encoder asks its second stage about."""
    channels = channels_of(EncoderChannel(model), len(allowed), titles)
    return retrieve(channels, known, free_items(known, allowed, seen=seen), count)


def ranked(got, b, channel=0):
    """Items of history b in a channel's order."""
    place = {int(i): int(r) for i, r in zip(got.items[b], got.ranks[channel][b], strict=True) if r}
    assert sorted(place.values()) == list(range(1, len(place) + 1))
    return sorted(place, key=place.get)


lists = st.lists(st.lists(st.integers(0, N - 1), max_size=5), min_size=1, max_size=4)


@given(rows=lists, count=st.integers(1, N), barred=st.sets(st.integers(0, N - 1)), seen=st.booleans())
@settings(max_examples=30)
def test_it_is_the_sorted_whole_catalogue_less_history_and_barred_items(rows, count, barred, seen):
    model, known = encoder(), histories(rows)
    allowed = np.ones(N, dtype=bool)
    allowed[list(barred)] = False
    got = candidates(model, known, allowed, count, seen=seen)
    logits = model.logits(known, None).detach().numpy()
    for b, row in enumerate(rows):
        free = [i for i in range(N) if allowed[i] and (seen or i not in row)]
        best = sorted(free, key=lambda i: (-logits[b, i], i))[:count]
        items = [int(i) for i in got.items[b] if i != UNKNOWN]
        assert items == sorted(best)
        assert ranked(got, b) == best
        alone = candidates(model, known.take(np.array([b])), allowed, count, seen=seen)
        assert [int(i) for i in alone.items[0] if i != UNKNOWN] == items, "a row depends on its batch"


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "mf", "ncf"])
@pytest.mark.parametrize("slices", [False, True])
def test_every_encoders_best_are_found_whatever_its_formula_and_the_catalogues_size(
    kind, slices, monkeypatch
):
    if slices:  # as for a catalogue of which no table of all scores is made
        monkeypatch.setattr(topk, "BLOCK", 4)
        monkeypatch.setattr(topk, "SLICE", 3)
    model, known = encoder(unseen=(2, 7), kind=kind), histories([[0, 1], [], [5, 2]])
    got = candidates(model, known, np.ones(N, dtype=bool), 6)
    logits = model.logits(known, None).detach().numpy()
    for b, row in enumerate([[0, 1], [], [5, 2]]):
        free = [i for i in range(N) if i not in (*row, 2, 7)]
        assert ranked(got, b) == sorted(free, key=lambda i: -logits[b, i])[:6]


def test_items_without_a_vector_enter_beside_the_best_and_have_no_rank():
    model = encoder(unseen=(3, 4))
    allowed = np.ones(N + 2, dtype=bool)  # two more items at the catalogue's end
    got = candidates(model, histories([[3]]), allowed, 5)
    items, ranks = got.items[0], got.ranks[0][0]
    assert len(items) == 5 + 3 and {4, N, N + 1} <= set(items.tolist()) and 3 not in items
    assert (ranks[np.isin(items, [4, N, N + 1])] == 0).all() and sorted(ranks)[3:] == [1, 2, 3, 4, 5]


def test_of_many_new_items_the_ones_that_read_like_the_liked_titles_enter():
    vectors = np.zeros((N, 2))
    vectors[:, 0] = 1.0
    vectors[20:] = [0.0, 1.0]
    vectors[25] = [1.0, 0.0]
    model = encoder(unseen=range(10, N))
    titles = TitleVectors(vectors)
    got = candidates(model, histories([[0, 1]]), np.ones(N, dtype=bool), 11, lambda: titles)
    cold = [int(i) for i, r in zip(got.items[0], got.ranks[0][0], strict=True) if r == 0]
    assert cold == [*range(10, 20), 25]


def test_titles_are_only_read_where_more_items_are_new_than_may_enter():
    def titles():
        raise AssertionError("nobody has to choose")

    new = WordsChannel(np.arange(20, N), titles)
    free = np.ones((1, N), dtype=bool)
    assert new.best(histories([[0]]), free, 10).tolist() == [list(range(20, 30))]
    with pytest.raises(AssertionError, match="nobody has to choose"):
        new.best(histories([[0]]), free, 9)


def test_no_history_is_made_for_an_index_that_finds_all():
    made = []
    judges = lambda: made.append(1) or histories([[0], [3]])  # noqa: E731
    EncoderChannel(encoder(), "exact", judges)
    assert not made
    assert EncoderChannel(encoder(), "faiss", judges).index.recall == 1.0 and made


def test_channels_are_joined_each_item_once_with_its_place_in_every_channel():
    class Rising:
        name = "rising"

        def score(self, histories, items):
            return items.astype(float)

    model, known = encoder(), histories([[0], []])
    by_encoder, by_index = EncoderChannel(model), ScorerChannel(Rising(), np.arange(0, N, 2))
    free = free_items(known, np.ones(N, dtype=bool), seen=False)
    got = retrieve([by_encoder, by_index], known, free, 8)
    for b in range(2):
        one, other = ranked(got, b, 0), ranked(got, b, 1)
        assert len(one) == len(other) == 8 and set(one) & set(other)
        assert other == list(range(N - 2, N - 18, -2))
        assert [i for i in got.items[b] if i != UNKNOWN] == sorted({*one, *other})
    whole = ScorerChannel(EncoderScorer("encoder", model), np.arange(N))
    np.testing.assert_array_equal(whole.best(known, free, 8), by_encoder.best(known, free, 8))


def test_nothing_free_gives_no_candidates():
    got = candidates(encoder(), histories([[0], [1]]), np.zeros(N, dtype=bool), 5)
    assert (got.items == UNKNOWN).all() and not got.ranks.any()
