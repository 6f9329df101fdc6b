"""What a run shows at its end: lists for three users, and the users whom a new item is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.inference.recommender import Recommender
from sasrecllm.types import FloatArray, IntArray

TYPICAL, RARE, NEW, LEAST_KNOWN = "typical user", "rare-taste user", "new user", "least-known user"
NEW_ITEM = "new item"
FORMER = ("warm user",)
"""Cases of older runs."""


def choose_cases(dataset: Dataset) -> dict[str, str]:
    """Three users of the test split, as far as it has them, and a new item.

    The new user is the one with the most test rows; where everybody has training rows, the one with the
    fewest is taken for it.  Of rare taste is, of the users with at least as many likes as most, the one
    who likes the least popular items; typical is who is nearest to the middle in both.
    """
    rows = dataset.rows("test")
    cases, left = {}, np.unique(dataset.users[rows])
    likes, popularity = _tastes(dataset)
    known = left[dataset.seen_users[left]]
    if len(known) < len(left):
        new = dataset.users[rows][~dataset.seen_users[dataset.users[rows]]]
        cases[NEW] = _commonest(new)
    elif len(known) > 1:
        counts = np.bincount(dataset.users[dataset.rows("train")], minlength=dataset.n_users)
        cases[LEAST_KNOWN] = int(known[np.argmin(counts[known])])
    pool = np.setdiff1d(known if len(known) else left, list(cases.values()))
    pool = pool[likes[pool] > 0] if (likes[pool] > 0).any() else pool
    if len(pool) > 1:
        often = pool[likes[pool] >= np.median(likes[pool])]
        cases[RARE] = int(often[np.argmin(popularity[often])])
        pool = np.setdiff1d(pool, [cases[RARE]])
    if len(pool):
        apart = _from_middle(likes[pool]) + _from_middle(popularity[pool])
        cases[TYPICAL] = int(pool[np.argmin(apart)])
    named = {
        c: dataset.catalog.user_id(cases[c]) for c in (TYPICAL, NEW, LEAST_KNOWN, RARE) if c in cases
    }
    items = dataset.items[rows]
    if (unseen := ~dataset.seen_items[items]).any():
        named[NEW_ITEM] = dataset.catalog.item_id(_commonest(items[unseen]))
    return named


def _tastes(dataset: Dataset) -> tuple[FloatArray, FloatArray]:
    """Likes of each user, and the mean log popularity of what he likes; 0 without a like."""
    liked = dataset.labels == 1
    popular = np.log1p(dataset.train_counts[dataset.items[liked]])
    likes = np.bincount(dataset.users[liked], minlength=dataset.n_users).astype(np.float64)
    sums = np.bincount(dataset.users[liked], popular, minlength=dataset.n_users)
    return likes, sums / np.maximum(likes, 1.0)


def _from_middle(values: FloatArray) -> FloatArray:
    """How far each value stands from the middle of all, in shares of their number."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return np.asarray(np.abs(below / (2.0 * len(values)) - 0.5))


def showcase(system: Recommender, k: int = 10) -> dict[str, Any]:
    """Heading -> ``k`` lines: recommendations for the chosen users, and users for a new item."""
    dataset = system.dataset
    shown: dict[str, Any] = {}
    for case, raw in choose_cases(dataset).items():
        if case == NEW_ITEM:
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
    lists = {f"{case} {user}" for case in (TYPICAL, RARE, NEW, LEAST_KNOWN, *FORMER)}
    return {
        heading: [line for line in lines if not _is_of(heading, line, user)]
        for heading, lines in shown.items()
        if heading not in lists
    }


def _is_of(heading: str, line: Mapping[str, Any], user: str) -> bool:
    """Under a new item stand users, elsewhere items."""
    return heading.startswith(f"{NEW_ITEM} ") and line.get("item_id") == user
