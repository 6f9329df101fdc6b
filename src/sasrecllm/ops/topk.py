"""Exact top-k of a large catalogue without a table of all scores.

Scores are made in slices that fit a cache; of each block of items only the largest is kept.  The k best
items lie in the k blocks with the largest maxima, and only those are scored item by item.

Legend: B users, I items, D width, K wanted, M blocks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sasrecllm.types import BoolArray, FloatArray, IntArray

BLOCK = 64
SLICE = 8_192
"""Fewest items whose scores exist at once: with B users that is 32 kB · B."""
SCORES = 2**19
"""Scores that exist at once where B is small: 2 MB, still a cache's size."""


@torch.no_grad()
def top_items(
    users_BD: Tensor, items_ID: Tensor, k: int, free_BI: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest dot products of each user and their items, [B, k], falling; ties to the
    smaller index.  Equal to ``(users_BD @ items_ID.T).topk(k)`` up to rounding and ties.

    Args:
        free_BI: whether each item may be taken; all without.  A user with fewer than ``k`` of them
            has −inf behind, and items there mean nothing.
    """
    k = min(k, len(items_ID))
    if len(items_ID) < 8 * SLICE:  # small catalogues: one product is fastest
        return _sorted(_only(users_BD @ items_ID.T, free_BI), None, k)
    blocks_BM = _block_maxima(users_BD, items_ID, free_BI)
    # One block more than needed: of fewer than 64 times as many values ``topk`` finds the best by
    # another way, at four times the cost.
    chosen_BK = blocks_BM.topk(min(k + 1, blocks_BM.shape[1])).indices.sort(dim=1).values
    items_BC = (chosen_BK[:, :, None] * BLOCK + torch.arange(BLOCK, device=items_ID.device)).flatten(1)
    values, items = best_among(users_BD, items_ID, items_BC, k, free_BI)
    # A block that was left out and reaches the last value may hold a tie with a smaller index.
    tied = (blocks_BM >= values[:, -1:]).sum(1) > chosen_BK.shape[1]
    tied &= values[:, -1] > -torch.inf
    for row in torch.nonzero(tied)[:, 0].tolist():
        free = None if free_BI is None else free_BI[row : row + 1]
        whole = _only(users_BD[row : row + 1] @ items_ID.T, free)
        values[row], items[row] = (v[0] for v in _sorted(whole, None, k))
    return values, items


@torch.no_grad()
def best_among(
    users_BD: Tensor, items_ID: Tensor, items_BC: Tensor, k: int, free_BI: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`top_items`, of the items [B, C] alone, which ascend; those outside are passed over."""
    there_BC = (items_BC >= 0) & (items_BC < len(items_ID))
    items_BC = items_BC.clamp(0, len(items_ID) - 1)
    scores_BC = torch.bmm(items_ID[items_BC], users_BD[:, :, None])[:, :, 0]
    if free_BI is not None:
        there_BC &= free_BI.gather(1, items_BC)
    return _sorted(_only(scores_BC, there_BC), items_BC, k)


def _only(scores: Tensor, free: Tensor | None) -> Tensor:
    """``scores``, −inf where an item is not free."""
    return scores if free is None else scores.masked_fill_(~free, -torch.inf)


def _block_maxima(users_BD: Tensor, items_ID: Tensor, free_BI: Tensor | None) -> Tensor:
    """The largest score of each ``BLOCK`` items in turn, [B, M]; all slices in one piece of memory."""
    count = len(items_ID)
    size = max(SLICE, SCORES // len(users_BD) // BLOCK * BLOCK)
    scores_BS = users_BD.new_empty(len(users_BD), size)
    blocks_BM = users_BD.new_empty(len(users_BD), -(-count // BLOCK))
    for start in range(0, count, size):
        here = min(size, count - start)
        whole = -(-here // BLOCK) * BLOCK
        torch.mm(users_BD, items_ID[start : start + here].T, out=scores_BS[:, :here])
        if free_BI is not None:
            _only(scores_BS[:, :here], free_BI[:, start : start + here])
        scores_BS[:, here:whole] = -torch.inf  # behind the last item
        first = start // BLOCK
        torch.amax(
            scores_BS[:, :whole].view(len(users_BD), -1, BLOCK), 2,
            out=blocks_BM[:, first : first + whole // BLOCK],
        )  # fmt: skip
    return blocks_BM


def _sorted(scores_BC: Tensor, items_BC: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` highest of candidates that ascend by index (None: 0, 1, …); ties to the smaller."""
    values, at = scores_BC.topk(min(k + 1, scores_BC.shape[1]))
    if bool((values[:, 1:] == values[:, :-1]).any()):
        at = torch.sort(scores_BC, dim=1, descending=True, stable=True).indices
        values = scores_BC.gather(1, at[:, :k])
    at = at[:, :k]
    return values[:, :k], at if items_BC is None else items_BC.gather(1, at)


def best_free(values_BJ: FloatArray, free_BJ: BoolArray, count: int) -> tuple[IntArray, IntArray]:
    """Places of the ``count`` highest free values of each row, falling, ties to the smaller place.

    Returns:
        Places [B, count] and how many of them are real [B]; where a row has fewer free values the
        rest of its places mean nothing.
    """
    keep = min(count, values_BJ.shape[1])
    masked = np.where(free_BJ, values_BJ, -np.inf)
    real = np.minimum(free_BJ.sum(1), keep)
    places = np.zeros((len(masked), keep), dtype=np.int64)
    for row, (values, n) in enumerate(zip(masked, real, strict=True)):
        if n:
            edge = np.partition(values, len(values) - n)[len(values) - n]
            found = np.flatnonzero(values >= edge)
            places[row, :n] = found[np.argsort(-values[found], kind="stable")[:n]]
    return places, real
