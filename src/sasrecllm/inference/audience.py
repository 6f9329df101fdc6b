"""The other way round: which known users would like an item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sasrecllm.types import UNKNOWN

if TYPE_CHECKING:
    from sasrecllm.inference.recommender import SASRecLLM


def audience_of(system: SASRecLLM, item: int, k: int, *, allowed: bool) -> list[dict[str, Any]]:
    """The ``k`` users with the highest score for the item of index ``item``.

    Args:
        allowed: whether users who have met it count too.
    """
    dataset, catalog = system.dataset, system.catalog
    users = np.unique(dataset.users)  # who was forgotten has no row
    if not allowed:
        users = np.setdiff1d(users, dataset.users[dataset.items == item])
    known = dataset.latest(users)
    scores = system.score(known, np.full((len(users), 1), item))[:, 0]
    best = np.argsort(-scores, kind="stable")[:k]
    probabilities = system.calibration.probabilities(scores)
    liked = known.liked().last(1)
    last = np.full(len(users), UNKNOWN)
    last[liked.owners] = liked.items
    return [
        {
            "rank": rank,
            "user_id": catalog.user_id(int(users[at])),
            "probability": float(probabilities[at]),
            "recently_liked": catalog.title(int(last[at])) if last[at] >= 0 else None,
        }
        for rank, at in enumerate(best, 1)
    ]
