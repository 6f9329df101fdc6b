"""Negative items for next-item training: drawn at once for all questions, never the positive.

Shape legend: Q questions, N negatives of each, P items of the pool.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sasrecllm.errors import ConfigError


class Negatives(NamedTuple):
    """Drawn items and the log-probability of each draw, given that the positive cannot be drawn."""

    items_QN: Tensor
    log_q_QN: Tensor


def uniform_negatives(
    targets_Q: Tensor, count: int, pool_P: Tensor, generator: torch.Generator | None = None
) -> Negatives:
    """``count`` items per question, each of the pool but the target as likely, with replacement.

    Args:
        pool_P: ascending item indices to draw from (those seen in training).
        generator: source of randomness; torch's global one unless given.

    Raises:
        ConfigError: a pool of fewer than two items.
    """
    _check(len(pool_P))
    place_Q = torch.searchsorted(pool_P, targets_Q)
    inside_Q = (place_Q < len(pool_P)) & (pool_P[place_Q.clamp(max=len(pool_P) - 1)] == targets_Q)
    choices_Q = len(pool_P) - inside_Q.long()
    shape = (len(targets_Q), count)
    drawn = torch.rand(shape, generator=generator, device=targets_Q.device, dtype=torch.float64)
    rank_QN = (drawn * choices_Q[:, None]).long()
    # Ranks from the target's on move up by one: every other item stays as likely as before.
    rank_QN = rank_QN + (inside_Q[:, None] & (rank_QN >= place_Q[:, None])).long()
    log_q_Q = -torch.log(choices_Q.double()).float()
    return Negatives(pool_P[rank_QN], log_q_Q[:, None].expand(shape))


def popularity_negatives(
    targets_Q: Tensor, count: int, weights_I: Tensor, generator: torch.Generator | None = None
) -> Negatives:
    """``count`` items per question, drawn in proportion to ``weights_I`` without the target.

    Args:
        weights_I: not negative, one per item of the catalogue; an item of weight 0 is never drawn.
        generator: source of randomness; torch's global one unless given.

    Raises:
        ConfigError: fewer than two items have a weight.
    """
    pool_P = torch.nonzero(weights_I > 0)[:, 0]
    _check(len(pool_P))
    share_I = weights_I.double() / weights_I.double().sum()
    share_P = share_I[pool_P]
    cumulated_P = torch.cumsum(share_P, dim=0)
    place_Q = torch.searchsorted(pool_P, targets_Q)
    own_Q = share_I[targets_Q]
    before_Q = torch.where(place_Q > 0, cumulated_P[(place_Q - 1).clamp(min=0)], 0.0)
    shape = (len(targets_Q), count)
    drawn = torch.rand(shape, generator=generator, device=targets_Q.device, dtype=torch.float64)
    drawn = drawn * (1 - own_Q)[:, None]
    # The line from 0 to 1 without the target's stretch: what falls behind its start jumps over it.
    drawn = drawn + (drawn >= before_Q[:, None]) * own_Q[:, None]
    rank_QN = torch.searchsorted(cumulated_P, drawn, right=True).clamp(max=len(pool_P) - 1)
    # Rounding can still land on the target's edge; its neighbour takes that draw.
    rank_QN = torch.where(pool_P[rank_QN] == targets_Q[:, None], rank_QN + 1, rank_QN) % len(pool_P)
    log_q_QN = torch.log(share_P[rank_QN] / (1 - own_Q)[:, None]).float()
    return Negatives(pool_P[rank_QN], log_q_QN)


def _check(pool_size: int) -> None:
    if pool_size < 2:
        raise ConfigError(
            f"negative sampling has {pool_size} items to draw from; allowed: 2 or more",
            "use the bce loss, or training data with more items",
        )
