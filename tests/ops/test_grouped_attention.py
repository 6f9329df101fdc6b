"""Attention in half precision against the library's, output and gradients."""

import pytest
import torch
import torch.nn.functional as F

from sasrecllm.ops import grouped_attention as module
from sasrecllm.ops.grouped_attention import fits, grouped_attention

CLOSE = 2e-2
"""As a share of the largest entry: half precision rounds by 2⁻⁹, at each of some steps."""


def made(T=7, S=7, H=6, G=2):
    torch.manual_seed(0)
    shapes = ((3, H, T, 8), (3, G, S, 8), (3, G, S, 8))
    return [torch.randn(*s).to(torch.bfloat16).requires_grad_() for s in shapes]


def masks(kind, T, S):
    if kind is None:
        return None, torch.ones(T, S, dtype=torch.bool).tril() if T > 1 else None
    seen = torch.ones(3, 1, T, S, dtype=torch.bool).tril(S - T)
    seen[1, :, :, 2] = False
    if kind == "truth values":
        return seen, seen
    return torch.zeros(seen.shape, dtype=torch.bfloat16).masked_fill(~seen, -1e30), seen


@pytest.mark.parametrize(
    ("T", "S", "kind"),
    [(7, 7, None), (1, 7, None), (7, 7, "truth values"), (4, 9, "truth values"), (4, 9, "numbers")],
)
@pytest.mark.parametrize("heads", [(6, 2), (4, 4)])
def test_output_and_gradients_are_those_of_the_library_in_single_precision(T, S, kind, heads):
    inputs = made(T, S, *heads)
    mask, seen = masks(kind, T, S)
    mine = grouped_attention(*inputs, mask, 0.3)
    query, key, value = (x.float() for x in inputs)
    plain = F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=0.3, enable_gqa=True
    )
    assert mine.dtype == torch.bfloat16 and mine.shape == plain.shape
    weights = torch.linspace(-1, 1, plain.numel()).view_as(plain)
    got = [mine, *torch.autograd.grad((mine.float() * weights).sum(), inputs)]
    wanted = [plain, *torch.autograd.grad((plain * weights).sum(), inputs)]
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        assert (a.float() - b.float()).abs().max() <= CLOSE * b.float().abs().max()


def test_other_formats_other_masks_and_what_is_too_large_are_left_to_the_library(monkeypatch):
    query, key, _ = made()
    assert fits(query, key, None)
    assert not fits(query.float(), key.float(), None)
    assert not fits(query[:, :, :4], key, None), "where these stand without a mask is not known"
    monkeypatch.setattr(module, "LARGEST", 3 * 6 * 7 * 7 * 2 - 1)
    assert not fits(query, key, None)
