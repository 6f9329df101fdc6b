"""The other way round: which known users would like an item.

A language model reads a history of its own for every user, so it is asked about the best of a first
stage alone, as in a list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.types import UNKNOWN, FloatArray, Histories, Scorer

First = Callable[[Histories, int], FloatArray]
"""How likely each of B histories goes on with an item, in any unit, [B]."""


def audience_of(
    scorer: Scorer,
    calibration: Calibration,
    dataset: Dataset,
    item: int,
    k: int,
    *,
    allowed: bool,
    first: First | None = None,
    count: int = 100,
) -> list[dict[str, Any]]:
    """The ``k`` users with the highest score for the item of index ``item``.

    Args:
        allowed: whether users who have met it count too.
        first: names the users whom ``scorer`` is asked about; without it all are asked about.
        count: so many of them, or ``k`` if that is more.
    """
    catalog = dataset.catalog
    users = np.unique(dataset.users)  # who was forgotten has no row
    if not allowed:
        users = np.setdiff1d(users, dataset.users[dataset.items == item])
    histories = dataset.latest(users)
    if first is not None and len(users) > max(count, k):
        kept = np.sort(np.argsort(-first(histories, item), kind="stable")[: max(count, k)])
        users, histories = users[kept], histories.take(kept)
    scores = scorer.score(histories, np.full((len(users), 1), item))[:, 0]
    best = np.argsort(-scores, kind="stable")[:k]
    probabilities = calibration.probabilities(scores)
    liked = histories.liked().last(1)
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
