"""Soft tokens into a prompt: one indexed write, at places known by construction.

Legend: B prompts, T tokens, S soft-token places, H hidden size.
"""

from __future__ import annotations

from torch import Tensor


def inject(embeds_BTH: Tensor, rows_S: Tensor, columns_S: Tensor, soft_SH: Tensor) -> Tensor:
    """A copy of ``embeds_BTH`` with ``soft_SH`` at the given places; differentiable in both.

    Raises:
        ValueError: as many places as soft tokens are needed; nothing is trimmed to fit.
    """
    if not len(rows_S) == len(columns_S) == len(soft_SH):
        raise ValueError(
            f"{len(rows_S)} rows, {len(columns_S)} columns and {len(soft_SH)} soft tokens; one each"
        )
    return embeds_BTH.index_put((rows_S, columns_S), soft_SH.to(embeds_BTH.dtype))
