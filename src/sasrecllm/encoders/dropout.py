"""Dropout and causal attention with dropout whose masks cost a quarter of the random numbers.

At the widths of a sequential encoder, drawing masks takes a quarter of a training step on a CPU: the
library draws 64 random bits for each entry and uses one comparison of them.  Here one draw gives four
entries 16 bits each, so a share ``p`` is met within 1 / 65,536.  Other devices draw on their own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def dropout(values: Tensor, p: float, training: bool) -> Tensor:
    """``torch.nn.functional.dropout``, with cheaper masks on a CPU.

    Args:
        values: any shape, floating.
        p: share of entries set to zero, in [0, 1); the others grow by 1 / (1 - p).
        training: whether anything is dropped at all.
    """
    if not training or not p:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, p)
    dropped: Tensor = _Dropped.apply(values, p)  # type: ignore[no-untyped-call]
    return dropped


def causal_attention(
    query_BHTE: Tensor, key_BHTE: Tensor, value_BHTE: Tensor, p: float, training: bool
) -> Tensor:
    """Scaled dot-product attention to this and earlier places, dropping shares of the attention.

    Without dropout, and on other devices, the library's fused attention computes it.
    """
    drop = p if training else 0.0
    if not drop or query_BHTE.device.type != "cpu":
        return F.scaled_dot_product_attention(
            query_BHTE, key_BHTE, value_BHTE, dropout_p=drop, is_causal=True
        )
    T, E = query_BHTE.shape[-2:]
    later_TT = torch.full((T, T), -math.inf, dtype=query_BHTE.dtype).triu_(1)
    agreement_BHTT = query_BHTE @ (key_BHTE / math.sqrt(E)).transpose(-1, -2) + later_TT
    return dropout(agreement_BHTT.softmax(-1), drop, True) @ value_BHTE


class _Dropped(torch.autograd.Function):
    """values · mask, where the mask holds 0 or 1 / (1 - p)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        entries = values.numel()
        draws = torch.empty(-(-entries // 4), dtype=torch.int64).random_(-(2**63), 2**63 - 1)
        bits = draws.view(torch.int16)[:entries].view(values.shape)
        mask = (bits >= round(p * 65536) - 32768).to(values.dtype).mul_(1 / (1 - p))
        ctx.save_for_backward(mask)
        return values * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None
