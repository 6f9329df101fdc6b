"""The plan of an epoch: every example once, batches of like length, alike prefixes together."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.training.batches import TOGETHER, micro_batches, plan_epoch


def _sizes_of_groups(plan, prefix_ids):
    return np.concatenate([np.unique(prefix_ids[b], return_counts=True)[1] for b in plan])


def test_every_example_once_an_epoch_and_another_order_in_the_next():
    lengths = np.arange(103) % 10
    first, second = (np.concatenate(plan_epoch(lengths, 8, 0, e)) for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(103))
    assert list(first) != list(second) and list(first) != list(range(103))
    assert list(first) == list(np.concatenate(plan_epoch(lengths, 8, 0, 0)))


def test_batches_hold_like_lengths():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    spread = np.mean([np.ptp(lengths[b]) for b in plan_epoch(lengths, 16, 0, 0)])
    assert spread < 10  # random batches spread over about 90


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 6)), min_size=1, max_size=120),
    st.integers(1, 20),
    st.integers(0, 5),
)
def test_with_beginnings_too_every_example_stands_in_exactly_one_batch(rows, batch_size, epoch):
    lengths, prefix_ids = (np.array(column) for column in zip(*rows, strict=True))
    plan = plan_epoch(lengths, batch_size, 3, epoch, prefix_ids)
    assert sorted(np.concatenate(plan)) == list(range(len(rows)))
    assert sum(len(b) != batch_size for b in plan) <= 1
    again = plan_epoch(lengths, batch_size, 3, epoch, prefix_ids)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))


def test_examples_that_begin_alike_stand_together_and_in_other_handfuls_the_next_epoch():
    rng = np.random.default_rng(0)
    prefix_ids = rng.permutation(np.repeat(np.arange(300), 2 * TOGETHER))
    lengths = 20 + prefix_ids % 17 + rng.integers(0, 5, len(prefix_ids))
    plain = plan_epoch(lengths, 4 * TOGETHER, 0, 0)
    first, second = (plan_epoch(lengths, 4 * TOGETHER, 0, epoch, prefix_ids) for epoch in (0, 1))
    assert _sizes_of_groups(plain, prefix_ids).mean() < 1.5
    assert _sizes_of_groups(first, prefix_ids).mean() > 0.8 * TOGETHER
    pairs = [{frozenset(p) for b in plan for p in itertools.pairwise(b)} for plan in (first, second)]
    assert len(pairs[0] & pairs[1]) < 0.5 * len(pairs[0])


def test_examples_without_a_companion_are_planned_as_without_beginnings():
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    plain, with_them = plan_epoch(lengths, 8, 1, 2), plan_epoch(lengths, 8, 1, 2, np.arange(500))
    assert all(np.array_equal(a, b) for a, b in zip(plain, with_them, strict=True))


def test_micro_batches_are_small_enough_with_their_padding_and_hold_every_example_once():
    lengths = np.array([5, 5, 6, 6, 7, 9, 9, 30])
    batch = np.array([7, 0, 1, 2, 3, 4, 5, 6])
    for fewest, tokens in ((1, 0), (3, 0), (1, 60), (5, 120), (1, 40), (1, 1)):
        parts = micro_batches(batch, lengths, fewest, tokens)
        assert list(np.concatenate(parts)) == list(batch) and min(map(len, parts)) > 0
        assert len(parts) >= fewest
        for part in parts:
            assert not tokens or len(part) == 1 or len(part) * lengths[part].max() <= tokens
    assert [len(micro_batches(batch, lengths, *a)) for a in ((1, 0), (3, 0), (99, 0))] == [1, 3, 8]
