"""Dropout with cheap masks against what the library's dropout promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.ops.attention import causal_attention, dropout


@given(st.floats(0.01, 0.95), st.integers(0, 2**31))
def test_the_share_dropped_and_the_mean_are_those_asked(p, seed):
    torch.manual_seed(seed)
    kept = dropout(torch.ones(40_001), p, True)
    assert torch.unique(kept[kept != 0]).tolist() == [pytest.approx(1 / (1 - p))]
    deviation = math.sqrt(p * (1 - p) / 40_001)
    assert abs(float((kept == 0).float().mean()) - p) < 6 * deviation


def test_neighbours_that_share_one_draw_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(400_000), 0.3, True) == 0).float().view(-1, 4)
    together = torch.corrcoef(dropped.T) - torch.eye(4)
    assert together.abs().max() < 0.02


def test_the_gradient_passes_where_the_value_did():
    torch.manual_seed(1)
    values = torch.randn(5, 7, 3, requires_grad=True)
    out = dropout(values, 0.5, True)
    out.sum().backward()
    assert torch.equal(values.grad, (out != 0).float() * 2)


def test_one_seed_gives_one_mask_and_the_next_draw_another():
    values = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(values, 0.5, True), dropout(values, 0.5, True)
    torch.manual_seed(3)
    assert torch.equal(dropout(values, 0.5, True), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_outside_training_or_by_a_share_of_zero(p, training):
    values = torch.randn(9)
    assert dropout(values, p, training) is values


def _attention(heads=2):
    """Queries, keys and values [B, T, 3, H, E], and them apart as the library wants them."""
    torch.manual_seed(0)
    packed = torch.randn(3, 6, 3, heads, 4, requires_grad=True)
    return packed, packed.permute(2, 0, 3, 1, 4)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_equals_the_fused_one_as_the_share_goes_to_zero(heads):
    packed, parts = _attention(heads)
    wanted = torch.randn(3, 6, heads, 4)
    # A share below half of 1 / 65,536 drops nothing, but takes the written-out way.
    ours = causal_attention(packed, 1e-6, True)
    fused = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(ours, fused, rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad((ours * wanted).sum(), packed)
    theirs = torch.autograd.grad((fused * wanted).sum(), packed)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_with_dropout_has_the_gradient_of_its_own_draws(heads):
    torch.manual_seed(0)
    packed = torch.randn(2, 5, 3, heads, 4, dtype=torch.float64, requires_grad=True)

    def drawn_alike(values):
        torch.manual_seed(1)
        return causal_attention(values, 0.4, True)

    assert not torch.allclose(drawn_alike(packed), causal_attention(packed, 0.4, False))
    assert torch.autograd.gradcheck(drawn_alike, packed)


def test_attention_with_dropout_has_the_mean_of_attention_without():
    packed = _attention()[0].detach()
    torch.manual_seed(0)
    mean = sum(causal_attention(packed, 0.3, True) for _ in range(4000)) / 4000
    without = causal_attention(packed, 0.3, False)
    torch.testing.assert_close(mean, without, atol=0.08, rtol=0)
    assert not torch.equal(causal_attention(packed, 0.3, True), without)
