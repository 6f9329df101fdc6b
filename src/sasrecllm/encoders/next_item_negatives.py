"""Negative items for next-item training: drawn at once for all questions, never the positive.

Shape legend: Q questions, N negatives of each, P items of the pool.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sasrecllm.errors import ConfigError
from sasrecllm.ops.draws import drawn


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
    device = targets_Q.device

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

    rank_QN = (drawn((len(targets_Q), count), draw) * choices_Q[:, None]).long()
    # Ranks from the target's on move up by one: every other item stays as likely as before.
    rank_QN = rank_QN + (inside_Q[:, None] & (rank_QN >= place_Q[:, None])).long()
    log_q_Q = -torch.log(choices_Q.double()).float()
    return Negatives(pool_P[rank_QN], log_q_Q[:, None].expand(rank_QN.shape))


def _check(pool_size: int) -> None:
    if pool_size < 2:
        raise ConfigError(
            f"negative sampling has {pool_size} items to draw from; allowed: 2 or more",
            "use the bce loss, or training data with more items",
        )
