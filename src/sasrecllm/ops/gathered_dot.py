"""Dot products of states with chosen rows of a table, without a copy of all those rows.

256 negatives of width 64 are 64 kB a question: copied for a whole batch they leave the caches, and so
do their gradients.  A few questions at a time stay inside, at a tenth of the time.

Legend: Q questions, C candidates of each, D width, I rows of the table.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS_AT_ONCE = 2**17
"""Entries of copied rows that exist at once: 512 kB, what a core's own cache holds."""


def chosen_products(
    states_QD: Tensor, table_ID: Tensor, items_QC: Tensor, *, sparse: bool = False
) -> Tensor:
    """``states[q] · table[items[q, c]]``, [Q, C].

    Args:
        items_QC: rows of the table, each at least 0 and below I.
        sparse: the table's gradient holds the chosen rows alone.
    """
    if table_ID.device.type != "cpu":
        return torch.einsum("qd,qcd->qc", states_QD, F.embedding(items_QC, table_ID, sparse=sparse))
    products: Tensor = _Chosen.apply(states_QD, table_ID, items_QC, sparse)  # type: ignore[no-untyped-call]
    return products


class _Chosen(torch.autograd.Function):
    """Rows are copied for a few questions at a time, forwards and for the table's gradient."""

    @staticmethod
    def forward(
        ctx: Any, states_QD: Tensor, table_ID: Tensor, items_QC: Tensor, sparse: bool
    ) -> Tensor:
        """Products of each state with its chosen rows, [Q, C]."""
        ctx.sparse = sparse
        ctx.save_for_backward(states_QD, table_ID, items_QC)
        products_QC = states_QD.new_empty(items_QC.shape)
        for part in _parts(items_QC, table_ID.shape[1]):
            rows_RCD = F.embedding(items_QC[part], table_ID).to(states_QD.dtype)
            products_QC[part] = torch.einsum("rd,rcd->rc", states_QD[part], rows_RCD)
        return products_QC

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of the states [Q, D] and of the table [I, D], the latter sparse where asked."""
        states_QD, table_ID, items_QC = ctx.saved_tensors
        d_QC = gradients[0].to(table_ID.dtype).contiguous()
        d_states_QD = d_table_ID = None
        if ctx.needs_input_grad[0]:
            summed_QD = F.embedding_bag(items_QC, table_ID, per_sample_weights=d_QC, mode="sum")
            d_states_QD = summed_QD.to(states_QD.dtype)
        if ctx.needs_input_grad[1]:
            rows, at_QC = None, items_QC
            if ctx.sparse:
                rows, at_QC = items_QC.unique(return_inverse=True)
            summed = table_ID.new_zeros(len(table_ID if rows is None else rows), table_ID.shape[1])
            for part in _parts(items_QC, table_ID.shape[1]):
                d_rows_RCD = d_QC[part, :, None] * states_QD[part, None, :].to(d_QC.dtype)
                summed.index_add_(0, at_QC[part].reshape(-1), d_rows_RCD.flatten(0, 1))
            d_table_ID = summed
            if rows is not None:
                d_table_ID = torch.sparse_coo_tensor(
                    rows[None], summed, table_ID.shape, is_coalesced=True, check_invariants=False
                )
        return d_states_QD, d_table_ID, None, None


def _parts(items_QC: Tensor, width: int) -> list[slice]:
    """Stretches of questions whose rows fit the cache."""
    Q, C = items_QC.shape
    size = max(1, NUMBERS_AT_ONCE // max(1, C * width))
    return [slice(start, start + size) for start in range(0, Q, size)]
