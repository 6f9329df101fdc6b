"""A linear layer with a low-rank update beside it (LoRA), as one step with its own gradient, for a CPU.

Done by the library's single operations, the update costs more than the layer: a mask of random numbers
as large as the input, copies of the input in the update's number format, and sums of whole outputs.
Here the few entries that dropout takes away are drawn instead of a mask, and drawn again for the
gradient instead of kept; the update's matrices are turned into the input's number format, not the input
into theirs; and the update is added to the output in place.

Legend: M rows, K inputs, N outputs, R rank.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def adapted_linear(
    values: Tensor,
    weight_NK: Tensor,
    bias_N: Tensor | None,
    down_RK: Tensor,
    up_NR: Tensor,
    scale: float,
    p: float = 0.0,
) -> Tensor:
    """``values Wᵀ + bias + scale · dropout(values) downᵀ upᵀ``; ``W`` and ``bias`` get no gradient.

    Args:
        values: [..., K], in the number format of ``weight_NK``, which need not be the update's.
        p: share of the update's input that is dropped, in [0, 1).
    """
    out: Tensor = _Adapted.apply(values, weight_NK, bias_N, down_RK, up_NR, scale, p)  # type: ignore[no-untyped-call]
    return out


class _Adapted(torch.autograd.Function):
    """Keeps its input and the R numbers of each row, and no copy of either."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight_NK: Tensor,
        bias_N: Tensor | None,
        down_RK: Tensor,
        up_NR: Tensor,
        scale: float,
        p: float,
    ) -> Tensor:
        values_MK = values.reshape(-1, values.shape[-1])
        ctx.scale, ctx.p = scale / (1 - p), p
        ctx.seed = int(torch.randint(2**62, ())) if p else 0
        narrow_RK = down_RK.to(values.dtype)
        wide_NR = (up_NR * ctx.scale).to(values.dtype)
        low_MR = _dropped(values_MK, p, ctx.seed) @ narrow_RK.T
        learns = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        kept = (values_MK, low_MR) if learns else (None, None)
        ctx.save_for_backward(*kept, weight_NK, down_RK, up_NR)
        out_MN = F.linear(values_MK, weight_NK, bias_N).addmm_(low_MR, wide_NR.T)
        return out_MN.view(*values.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values_MK, low_MR, weight_NK, down_RK, up_NR = ctx.saved_tensors
        d_out = gradients[0]
        d_out_MN = d_out.reshape(-1, d_out.shape[-1])
        d_low_MR = d_out_MN @ (up_NR * ctx.scale).to(d_out.dtype)
        d_values = d_down_RK = d_up_NR = None
        if values_MK is not None:
            d_up_NR = (d_out_MN.T @ low_MR).to(up_NR.dtype) * ctx.scale
            d_down_RK = (d_low_MR.T @ _dropped(values_MK, ctx.p, ctx.seed)).to(down_RK.dtype)
        if ctx.needs_input_grad[0]:
            d_values_MK = d_out_MN @ weight_NK
            narrow_RK = down_RK.to(d_out.dtype)
            if ctx.p:
                d_values_MK += _dropped(d_low_MR @ narrow_RK, ctx.p, ctx.seed)
            else:
                d_values_MK.addmm_(d_low_MR, narrow_RK)
            d_values = d_values_MK.view(*d_out.shape[:-1], -1)
        return d_values, None, None, d_down_RK, d_up_NR, None, None


def _dropped(values_MK: Tensor, p: float, seed: int) -> Tensor:
    """``values_MK`` with zeros in a share ``p`` of all places, those of ``seed``; not grown for it."""
    if not p:
        return values_MK
    places = values_MK.numel()
    # Drawn with replacement: each place is missed by all draws with probability 1 - p.
    draws = round(-math.log1p(-p) * places)
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(places, (draws,), generator=generator)
    return (
        values_MK.clone(memory_format=torch.contiguous_format)
        .view(-1)
        .index_fill_(0, at, 0.0)
        .view_as(values_MK)
    )
