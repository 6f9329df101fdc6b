"""RMSNorm in half precision, as one step that keeps no copies in single precision.

Legend: M rows, K columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rms_norm(values: Tensor, weight_K: Tensor, eps: float) -> Tensor:
    """``values / √(mean(values²) + eps) · weight``, differentiable in ``values`` alone, [..., K].

    Means and quotients are of single precision, whatever ``values`` is.
    """
    out: Tensor = _Norm.apply(values, weight_K, eps)  # type: ignore[no-untyped-call]
    return out


class _Norm(torch.autograd.Function):
    """Keeps the normalised values, and one number a row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight_K: Tensor, eps: float) -> Tensor:
        """The normalised values times the weights, [..., K]."""
        size = torch.linalg.vector_norm(values, dim=-1, keepdim=True, dtype=torch.float32)
        per_size = size.square_().div_(values.shape[-1]).add_(eps).rsqrt_()
        normal = torch.mul(values, per_size, out=torch.empty_like(values))
        ctx.save_for_backward(normal, weight_K, per_size)
        return normal * weight_K

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """(g − n · mean(g·n)) / size, [..., K]: n the normalised values, g the gradient at them."""
        normal, weight_K, per_size = ctx.saved_tensors
        d_normal = gradients[0] * weight_K
        along = (d_normal * normal).sum(-1, keepdim=True, dtype=torch.float32).div_(normal.shape[-1])
        d_normal.addcmul_(normal, along.to(normal.dtype), value=-1)
        return torch.mul(d_normal, per_size, out=torch.empty_like(d_normal)), None, None
