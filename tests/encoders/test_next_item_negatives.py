from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.encoders.next_item_negatives import uniform_negatives
from sasrecllm.errors import ConfigError


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=20, unique=True),
    st.integers(0, 10**6),
)
def test_negatives_come_from_the_pool_and_are_never_the_positive(pool, seed):
    generator = torch.Generator().manual_seed(seed)
    pool_P = torch.tensor(sorted(pool))
    targets = torch.arange(41)
    drawn = uniform_negatives(targets, 8, pool_P, generator)
    assert drawn.items_QN.shape == drawn.log_q_QN.shape == (41, 8)
    assert torch.isin(drawn.items_QN, pool_P).all()
    assert (drawn.items_QN != targets[:, None]).all()


def test_frequencies_are_the_stated_probabilities():
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([0, 1, 4])
    pool = torch.tensor([0, 2, 3, 4])
    drawn = uniform_negatives(targets, 40_000, pool, generator)
    for items, log_q in zip(drawn.items_QN, drawn.log_q_QN, strict=True):
        total = 0.0
        for item in items.unique():
            stated = log_q[items == item].exp()
            assert stated.unique().numel() == 1
            measured = (items == item).float().mean()
            assert stated[0].item() == pytest.approx(measured.item(), abs=0.015)
            total += stated[0].item()
        assert total == pytest.approx(1, abs=1e-5)


def test_the_same_generator_draws_the_same():
    pool = torch.arange(1, 10)
    first, again, other = (
        uniform_negatives(torch.tensor([1, 2]), 30, pool, torch.Generator().manual_seed(s)).items_QN
        for s in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_global_generator_is_the_default():
    torch.manual_seed(1)
    first = uniform_negatives(torch.tensor([1]), 30, torch.arange(10)).items_QN
    torch.manual_seed(1)
    assert torch.equal(uniform_negatives(torch.tensor([1]), 30, torch.arange(10)).items_QN, first)


def test_a_pool_of_one_is_refused():
    with pytest.raises(ConfigError, match="1 items"):
        uniform_negatives(torch.tensor([0]), 3, torch.tensor([0]))
