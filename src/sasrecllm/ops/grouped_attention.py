"""Causal attention of a language model in half precision on a CPU, as one step with its own gradient.

The library's fused attention takes four times as long there as two batched products and a softmax, its
gradient most of all (docs/performance.md).  Queries that share keys (grouped-query attention) are rows
of one product.

Legend: B prompts, H query heads, G heads of keys and values, T queries, S keys, E head width,
N = B · G.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LARGEST = 2**28
"""Bytes of the attention shares of a layer from which on the library's way is the better one."""


def fits(query_BHTE: Tensor, key_BGSE: Tensor, mask: Tensor | None) -> bool:
    """Whether :func:`grouped_attention` is made for these."""
    (B, H, T, _), S = query_BHTE.shape, key_BGSE.shape[2]
    half = query_BHTE.dtype == torch.bfloat16 and query_BHTE.device.type == "cpu"
    plain = mask is not None or T in (1, S)  # without a mask all keys are seen, or those so far
    return half and plain and B * H * T * S * query_BHTE.element_size() <= LARGEST


def grouped_attention(
    query_BHTE: Tensor, key_BGSE: Tensor, value_BGSE: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """softmax(scale · q kᵀ) v, [B, H, T, E].

    Args:
        mask: [B or 1, 1, T, S], true where a query sees a key, or numbers to be added; None: as many
            keys as there are queries, each seeing those up to its own place, or one query seeing all.
    """
    read: Tensor = _Grouped.apply(query_BHTE, key_BGSE, value_BGSE, mask, scale)  # type: ignore[no-untyped-call]
    return read


class _Grouped(torch.autograd.Function):
    """Keeps its inputs and the shares."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """What each head reads, [B, H, T, E]; as :func:`grouped_attention` has it."""
        (B, H, T, E), (G, S) = query.shape, key.shape[1:3]
        ctx.scale = scale
        query_NTE = query.reshape(B * G, H // G * T, E)
        key_NSE, value_NSE = key.reshape(B * G, S, E), value.reshape(B * G, S, E)
        scores = torch.bmm(query_NTE, key_NSE.transpose(1, 2)).mul_(scale).view(B, H, T, S)
        if mask is None and T > 1:
            mask = torch.ones(T, S, dtype=torch.bool).tril_()
        if mask is not None:
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, -math.inf)
            scores.add_(mask)
        shares_NTS = scores.softmax(-1).view(B * G, H // G * T, S)
        ctx.save_for_backward(query_NTE, key_NSE, value_NSE, shares_NTS)
        return torch.bmm(shares_NTS, value_NSE).view(B, H, T, E)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries [B, H, T, E], and of keys and values [B, G, S, E]."""
        query_NTE, key_NSE, value_NSE, shares_NTS = ctx.saved_tensors
        B, H, T, E = gradients[0].shape
        S = key_NSE.shape[1]
        d_read_NTE = gradients[0].reshape(query_NTE.shape)
        d_shares_NTS = torch.bmm(d_read_NTE, value_NSE.transpose(1, 2))
        d_scores_NTS = torch._softmax_backward_data(d_shares_NTS, shares_NTS, -1, shares_NTS.dtype)
        d_scores_NTS.mul_(ctx.scale)
        d_query = torch.bmm(d_scores_NTS, key_NSE).view(B, H, T, E)
        d_key = torch.bmm(d_scores_NTS.transpose(1, 2), query_NTE).view(B, -1, S, E)
        d_value = torch.bmm(shares_NTS.transpose(1, 2), d_read_NTE).view(B, -1, S, E)
        return d_query, d_key, d_value, None, None
