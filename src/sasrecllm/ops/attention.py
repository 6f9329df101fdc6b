"""Dropout and causal attention with dropout, written for the widths of a sequential encoder on a CPU.

There the library spends a quarter of a training step on drawing masks (64 random bits for each entry,
of which one comparison uses them) and another on copies around its attention.  Here one draw gives four
entries 16 bits each, so a share ``p`` is met within 1 / 65,536, and attention is one step with its own
gradient, which writes queries, keys and values once.  Other devices have the library's own ways, unless
several processes share a batch (:mod:`sasrecllm.ops.draws`).

Legend: B rows, T positions, H heads, E = width / heads, N = B · H.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sasrecllm.ops.draws import drawn, sharing


def dropout(values: Tensor, p: float, training: bool) -> Tensor:
    """``torch.nn.functional.dropout``, with cheaper masks on a CPU.

    Args:
        values: any shape, floating.
        p: share of entries set to zero, in [0, 1); the others grow by 1 / (1 - p).
        training: whether anything is dropped at all.
    """
    if not training or not p:
        return values
    if values.device.type != "cpu" and not sharing():
        return F.dropout(values, p)
    dropped: Tensor = _Dropped.apply(values, p)  # type: ignore[no-untyped-call]
    return dropped


def causal_attention(packed_BT3HE: Tensor, p: float, training: bool) -> Tensor:
    """Scaled dot-product attention to this and earlier places, dropping shares of the attention.

    Without dropout, and on other devices, the library's fused attention computes it.

    Args:
        packed_BT3HE: queries, keys and values of every place, as one projection gives them.

    Returns:
        What every place reads, [B, T, H, E].
    """
    drop = p if training else 0.0
    if drop and (packed_BT3HE.device.type == "cpu" or sharing()):
        read_BTHE: Tensor = _Attention.apply(packed_BT3HE, drop)  # type: ignore[no-untyped-call]
        return read_BTHE
    query_BHTE, key_BHTE, value_BHTE = packed_BT3HE.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(
        query_BHTE, key_BHTE, value_BHTE, dropout_p=drop, is_causal=True
    ).transpose(1, 2)


def _mask(like: Tensor, p: float) -> Tensor:
    """0 with probability ``p``, else 1 / (1 - p), for each entry of ``like``."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        entries = math.prod(shape)
        numbers = torch.empty(-(-entries // 4), dtype=torch.int64, device=like.device)
        numbers.random_(-(2**63), 2**63 - 1)
        return numbers.view(torch.int16)[:entries].view(shape)

    bits = drawn(tuple(like.shape), draw)
    # Compared into a tensor of numbers: truth values turned into numbers would cost seven times that.
    kept = torch.ge(bits, round(p * 65536) - 32768, out=torch.empty_like(like))
    return kept.mul_(1 / (1 - p))


class _Dropped(torch.autograd.Function):
    """values · mask."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        """``values`` times a fresh mask, of their shape."""
        mask = _mask(values, p)
        ctx.save_for_backward(mask)
        return values * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient through the same mask."""
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


class _Attention(torch.autograd.Function):
    """(mask · softmax(q kᵀ / √E)) v, and its gradient written out.

    Only the shares before and after dropout are kept.  With s the shares, t what dropout leaves of
    them and g the gradient at t, that at the scores is t·g − s · Σ t·g, the sum over what is read.
    """

    @staticmethod
    def forward(ctx: Any, packed_BT3HE: Tensor, p: float) -> Tensor:
        """What each head reads, [B, T, H, E], at queries, keys and values that lie side by side."""
        B, T, _, H, E = packed_BT3HE.shape
        query_NTE, key_NTE, value_NTE = _apart(packed_BT3HE)
        later_TT = packed_BT3HE.new_full((T, T), -math.inf).triu_(1)
        scores_NTT = torch.baddbmm(later_TT, query_NTE, key_NTE.transpose(1, 2), alpha=E**-0.5)
        shares_NTT = scores_NTT.softmax(-1)
        left_NTT = _mask(shares_NTT, p).mul_(shares_NTT)
        ctx.save_for_backward(packed_BT3HE, shares_NTT, left_NTT)
        return torch.bmm(left_NTT, value_NTE).view(B, H, T, E).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of queries, keys and values, [B, T, 3, H, E]."""
        packed_BT3HE, shares_NTT, left_NTT = ctx.saved_tensors
        B, T, _, H, E = packed_BT3HE.shape
        query_NTE, key_NTE, value_NTE = _apart(packed_BT3HE)
        d_read_NTE = gradients[0].transpose(1, 2).reshape(B * H, T, E)
        d_scores_NTT = torch.bmm(d_read_NTE, value_NTE.transpose(1, 2)).mul_(left_NTT)
        d_scores_NTT.addcmul_(shares_NTT, d_scores_NTT.sum(-1, keepdim=True), value=-1)
        d_scores_NTT.mul_(E**-0.5)
        d_parts = (
            torch.bmm(d_scores_NTT, key_NTE),
            torch.bmm(d_scores_NTT.transpose(1, 2), query_NTE),
            torch.bmm(left_NTT.transpose(1, 2), d_read_NTE),
        )
        return torch.stack([d.view(B, H, T, E).transpose(1, 2) for d in d_parts], dim=2), None


def _apart(packed_BT3HE: Tensor) -> list[Tensor]:
    """Queries, keys and values, [N, T, E] each; with one head nothing is copied."""
    B, T, _, H, E = packed_BT3HE.shape
    return [part.transpose(1, 2).reshape(B * H, T, E) for part in packed_BT3HE.unbind(2)]
