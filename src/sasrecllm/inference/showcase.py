"""What a run shows at its end: lists for a warm user, a new user and a new item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.inference.recommender import SASRecLLM
from sasrecllm.types import IntArray


def choose_cases(dataset: Dataset) -> dict[str, str]:
    """A warm user, a new user and a new item of the test split: the ones with the most test rows."""
    rows = dataset.rows("test")
    users, items = dataset.users[rows], dataset.items[rows]
    new_user, new_item = ~dataset.seen_users[users], ~dataset.seen_items[items]
    cases = {}
    if (~new_user).any():
        cases["warm user"] = dataset.catalog.user_id(_commonest(users[~new_user]))
    if new_user.any():
        cases["new user"] = dataset.catalog.user_id(_commonest(users[new_user]))
    if new_item.any():
        cases["new item"] = dataset.catalog.item_id(_commonest(items[new_item]))
    return cases


def showcase(system: SASRecLLM, k: int = 10) -> dict[str, Any]:
    """Heading -> ``k`` lines: recommendations for a warm and a new user, and users for a new item."""
    dataset = system.dataset
    shown: dict[str, Any] = {}
    for case, raw in choose_cases(dataset).items():
        if case == "new item":
            title = dataset.catalog.title(int(dataset.catalog.item_index([raw])[0]))
            lines = [
                {
                    "rank": a["rank"],
                    "item_id": a["user_id"],
                    "title": f"user {a['user_id']}, who liked {a['recently_liked']!r}",
                    "probability": a["probability"],
                    "flags": [],
                }
                for a in system.audience(raw, k)
            ]
            shown[f"{case} {raw}, {title!r}: who would like it"] = lines
        else:
            shown[f"{case} {raw}"] = [r.to_dict() for r in system.recommend(user=raw, k=k)]
    return shown


def _commonest(index: IntArray) -> int:
    return int(np.bincount(index).argmax())


def without_user(shown: Mapping[str, Any], user: str) -> dict[str, Any]:
    """A showcase without the list of ``user`` and without the lines that stand for him."""
    lists = {f"{case} {user}" for case in ("warm user", "new user")}
    return {
        heading: [line for line in lines if not _is_of(heading, line, user)]
        for heading, lines in shown.items()
        if heading not in lists
    }


def _is_of(heading: str, line: Mapping[str, Any], user: str) -> bool:
    """Under a new item stand users, elsewhere items."""
    return heading.startswith("new item ") and line.get("item_id") == user
