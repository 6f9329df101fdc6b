"""Items that a user never met, drawn evenly and without rejection."""

from __future__ import annotations

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import DataError
from sasrecllm.types import IntArray


def unseen_items(
    users: IntArray,
    items: IntArray,
    asked: IntArray,
    pool: IntArray,
    count: int,
    rng: np.random.Generator,
    catalog: Catalog,
) -> IntArray:
    """``count`` different items of ``pool`` for each of ``asked`` [B], none in the user's list.

    Args:
        users, items: all interactions [N].
        asked: user of each draw.
        pool: sorted item indices that may be drawn.
        rng: source of the draws.
        catalog: names the user in a refusal.

    Returns:
        Item indices [B, count].

    Raises:
        DataError: a user's list leaves fewer than ``count`` items.
    """
    width = len(pool) + 1
    inside = np.isin(items, pool)
    met = np.unique(users[inside] * width + np.searchsorted(pool, items[inside]))
    first = np.searchsorted(met, np.arange(catalog.n_users + 1) * width)
    free = len(pool) - np.diff(first)
    poor = asked[free[asked] < count]
    if len(poor):
        user = int(poor[0])
        raise DataError(
            f"user {catalog.user_id(user)!r} leaves {free[user]} items to draw {count} negatives from",
            "lower data.negatives, or leave that user out",
        )
    picks = _distinct(free[asked], count, rng)
    # The r-th free place is r plus the number of met places before it.  Met place j of a user has
    # (place - j) free ones before it, which never decreases: one sorted search for all users.
    owner = met // width
    gaps = owner * width + (met % width) - (np.arange(len(met)) - first[owner])
    before = np.searchsorted(gaps, asked[:, None] * width + picks, side="right")
    drawn: IntArray = pool[picks + before - first[asked][:, None]]
    return drawn


def _distinct(limits: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """``count`` different numbers below ``limits`` [B] each, evenly drawn, shape [B, count]."""
    picks = np.empty((len(limits), 0), dtype=np.int64)
    for drawn in range(count):
        fresh = rng.integers(0, limits - drawn)
        # The fresh number counts only places that are not taken; step over those that are.
        for taken in np.sort(picks, axis=1).T:
            fresh = fresh + (fresh >= taken)
        picks = np.concatenate([picks, fresh[:, None]], axis=1)
    return picks
