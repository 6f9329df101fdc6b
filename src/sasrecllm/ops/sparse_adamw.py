"""AdamW for tables of which a step touches a few rows: only those move.

AdamW moves every row of a table in every step, with a gradient or without, and with a million items
that is most of a step.  Of a table with a sparse gradient (``torch.sparse_coo``, one entry a row) the
touched rows move alone, with their moments and their decay; all others stand still, as in
torch's SparseAdam.  That is another optimiser than AdamW for rows that are touched seldom, and the same
for a table of which every step touches every row.

Legend: R touched rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter, ICLR 2019, algorithm 2), of touched rows alone where asked."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient."""
        sparse = [
            (parameter, parameter.grad, group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for parameter, gradient, group in sparse:
            self._move_rows(parameter, gradient.coalesce(), group)
            parameter.grad = None  # torch's own step refuses it
        done = super().step(closure)
        for parameter, gradient, _ in sparse:
            parameter.grad = gradient
        return done

    def _move_rows(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=table.device)
            state["exp_avg"] = torch.zeros_like(table)
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1
        step, (beta1, beta2), rate = int(state["step"]), group["betas"], group["lr"]
        rows_R, gradient_RD = gradient.indices()[0], gradient.values()
        first_RD = state["exp_avg"][rows_R].lerp_(gradient_RD, 1 - beta1)
        second_RD = state["exp_avg_sq"][rows_R].mul_(beta2)
        second_RD.addcmul_(gradient_RD, gradient_RD, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows_R, first_RD)
        state["exp_avg_sq"].index_copy_(0, rows_R, second_RD)
        scale_RD = (second_RD / (1 - beta2**step)).sqrt_().add_(group["eps"])
        moved_RD = table[rows_R].mul_(1 - rate * group["weight_decay"])
        moved_RD.addcdiv_(first_RD, scale_RD, value=-rate / (1 - beta1**step))
        table.index_copy_(0, rows_R, moved_RD)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scale all gradients, sparse ones too, to a common norm of at most ``largest``.

    Returns:
        The norm before; what ``torch.nn.utils.clip_grad_norm_`` does for dense gradients.
    """
    gradients: list[Any] = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    norm: Any = nn.utils.get_total_norm(gradients)
    if hasattr(norm, "full_tensor"):  # of gradients that are cut among processes
        norm, gradients = norm.full_tensor(), [g.to_local() for g in gradients]
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.to(gradient.device))
    return float(norm)
