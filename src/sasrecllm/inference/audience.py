"""The other way round: which known users would like an item."""

from __future__ import annotations

from typing import Any

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.types import UNKNOWN, Scorer


def audience_of(
    scorer: Scorer, calibration: Calibration, dataset: Dataset, item: int, k: int, *, allowed: bool
) -> list[dict[str, Any]]:
    """The ``k`` users with the highest score for the item of index ``item``.

    Args:
        allowed: whether users who have met it count too.
    """
    catalog = dataset.catalog
    users = np.unique(dataset.users)  # who was forgotten has no row
    if not allowed:
        users = np.setdiff1d(users, dataset.users[dataset.items == item])
    histories = dataset.latest(users)
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
