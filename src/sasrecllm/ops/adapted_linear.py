"""A linear layer with a low-rank update beside it (LoRA), as one step with its own gradient.

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

from sasrecllm.ops.draws import drawn, sharing


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
        """The layer with its update, [..., N]; as :func:`adapted_linear` has it."""
        values_MK = values.reshape(-1, values.shape[-1])
        ctx.scale = scale / (1 - p)
        ctx.dropped = _Dropped(tuple(values.shape), p) if p else None
        narrow_RK = down_RK.to(values.dtype)
        wide_NR = (up_NR * ctx.scale).to(values.dtype)
        low_MR = _less(values_MK, ctx.dropped) @ narrow_RK.T
        learns = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        kept = (values_MK, low_MR) if learns else (None, None)
        ctx.save_for_backward(*kept, weight_NK, down_RK, up_NR)
        out_MN = F.linear(values_MK, weight_NK, bias_N).addmm_(low_MR, wide_NR.T)
        return out_MN.view(*values.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of values [..., K], ``down`` [R, K] and ``up`` [N, R]; None where none is asked."""
        values_MK, low_MR, weight_NK, down_RK, up_NR = ctx.saved_tensors
        d_out = gradients[0]
        d_out_MN = d_out.reshape(-1, d_out.shape[-1])
        d_low_MR = d_out_MN @ (up_NR * ctx.scale).to(d_out.dtype)
        d_values = d_down_RK = d_up_NR = None
        if values_MK is not None:
            d_up_NR = (d_out_MN.T @ low_MR).to(up_NR.dtype) * ctx.scale
            d_down_RK = (d_low_MR.T @ _less(values_MK, ctx.dropped)).to(down_RK.dtype)
        if ctx.needs_input_grad[0]:
            d_values_MK = d_out_MN @ weight_NK
            narrow_RK = down_RK.to(d_out.dtype)
            if ctx.dropped is None:
                d_values_MK.addmm_(d_low_MR, narrow_RK)
            else:
                d_values_MK += _less(d_low_MR @ narrow_RK, ctx.dropped)
            d_values = d_values_MK.view(*d_out.shape[:-1], -1)
        return d_values, None, None, d_down_RK, d_up_NR, None, None


class _Dropped:
    """Which entries of an input are dropped: a seed, from which their places are drawn when needed.

    Processes that share a batch draw those of the whole of it (:mod:`sasrecllm.ops.draws`), and keep a
    mask of their own rows.
    """

    def __init__(self, shape: tuple[int, ...], p: float) -> None:
        self.p, self.seed = p, int(torch.randint(2**62, ()))
        self.mask = drawn(shape, self._mask) if sharing() else None

    def places(self, entries: int) -> Tensor:
        """Of an input of so many entries."""
        # Drawn with replacement: each place is missed by all draws with probability 1 - p.
        draws = round(-math.log1p(-self.p) * entries)
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randint(entries, (draws,), generator=generator)

    def _mask(self, shape: tuple[int, ...]) -> Tensor:
        entries = math.prod(shape)
        return torch.ones(entries).index_fill_(0, self.places(entries), 0.0).view(shape)


def _less(values_MK: Tensor, dropped: _Dropped | None) -> Tensor:
    """``values_MK`` with zeros where entries are dropped, not grown for it."""
    if dropped is None:
        return values_MK
    if dropped.mask is not None:
        return values_MK * dropped.mask.to(values_MK.dtype).view_as(values_MK)
    flat = values_MK.clone(memory_format=torch.contiguous_format).view(-1)
    return flat.index_fill_(0, dropped.places(len(flat)), 0.0).view_as(values_MK)
