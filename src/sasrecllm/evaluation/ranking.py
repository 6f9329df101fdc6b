"""Ranking metrics: how early a liked item comes.

Two kinds of lists occur.  ``hr_at_k`` and ``ndcg_at_k`` order the rows that a user has in the split
(each with its label); ``metrics_of_ranks`` judges candidate lists with one relevant item each.

Legend: B questions, C candidates, N rows, U users.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sasrecllm.evaluation.metrics import PerUser, refuse_nan
from sasrecllm.types import FloatArray, IntArray, LabelArray


def ndcg_at_k(scores: FloatArray, labels: LabelArray, users: IntArray, k: int) -> PerUser:
    """Mean NDCG@k over the users who have both labels; candidates are the user's own rows.

    DCG@k = Σ_{r ≤ k} gain_r / log2(r + 1), divided by the DCG@k of the best order.  The gain of a
    tied row is the mean label of its tie: the expectation over all orders of the tied rows
    (McSherry and Najork, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", 2008).
    """
    lists = _user_lists(scores, labels, users)
    discount = np.where(lists.rank <= k, 1 / np.log2(lists.rank + 1), 0.0)
    gain = np.bincount(lists.tie, lists.label) / np.maximum(np.bincount(lists.tie), 1)
    best = np.where(lists.rank <= lists.likes[lists.user], discount, 0.0)
    found = np.bincount(lists.user, gain[lists.tie] * discount, minlength=len(lists.likes))
    possible = np.bincount(lists.user, best, minlength=len(lists.likes))
    return _mean(found[lists.both] / possible[lists.both], lists)


def hr_at_k(scores: FloatArray, labels: LabelArray, users: IntArray, k: int) -> PerUser:
    """Share of the users with both labels whose k highest rows hold a like.

    Where a tie of g rows with p likes crosses place k, leaving m places for it, it holds one with
    probability 1 − C(g − p, m) / C(g, m).
    """
    lists = _user_lists(scores, labels, users)
    likes = np.bincount(lists.tie, lists.label)
    size = np.bincount(lists.tie)
    first = np.flatnonzero(np.diff(lists.tie, prepend=-1))  # of each tie
    places = np.clip(k - (lists.rank[first] - 1), 0, size)
    # Product over the tie's places of P(no like here | none before); at most k factors.
    miss = np.ones(len(first))
    for place in range(min(k, int(places.max(initial=0)))):
        left = np.maximum(size - place, 1)
        miss *= np.where(place < places, np.maximum(size - likes - place, 0) / left, 1.0)
    nobody = np.ones(len(lists.likes))
    np.multiply.at(nobody, lists.user[first], miss)
    return _mean(1 - nobody[lists.both], lists)


def positive_ranks(scores_BC: FloatArray) -> FloatArray:
    """Rank (from 1) of column 0 among the candidates of each row, ties counted half, shape [B]."""
    positive_B1 = scores_BC[:, :1]
    others_BC = scores_BC[:, 1:]
    ahead = (others_BC > positive_B1).sum(1) + 0.5 * (others_BC == positive_B1).sum(1)
    return np.asarray(1.0 + ahead, dtype=np.float64)


def metrics_of_ranks(
    ranks_B: FloatArray, candidates: int, ks: tuple[int, ...] = (5, 10)
) -> dict[str, float | None]:
    """HR@k, NDCG@k and MRR of the ranks of one relevant item in each list of ``candidates``.

    NDCG@k of one relevant item at rank r is 1/log2(r + 1) if r ≤ k, else 0.  HR@k is None where
    k ≥ C (every order hits), and all are None without rows or with a single candidate.
    """
    if not len(ranks_B) or candidates < 2:
        return {**{f"{m}@{k}": None for k in ks for m in ("hr", "ndcg")}, "mrr": None}
    out: dict[str, float | None] = {}
    for k in ks:
        out[f"hr@{k}"] = float(hits(ranks_B, k).mean()) if k < candidates else None
        out[f"ndcg@{k}"] = float(gains(ranks_B, k).mean())
    return out | {"mrr": float((1 / ranks_B).mean())}


def hits(ranks_B: FloatArray, k: int) -> FloatArray:
    """HR@k of each list, [B]."""
    return (ranks_B <= k).astype(np.float64)


def gains(ranks_B: FloatArray, k: int) -> FloatArray:
    """NDCG@k of each list, [B]."""
    return np.asarray(np.where(ranks_B <= k, 1 / np.log2(ranks_B + 1), 0.0))


class _Lists(NamedTuple):
    """All rows, sorted by user and falling score."""

    user: IntArray  # [N] place of the row's user among the distinct users
    rank: IntArray  # [N] place within the user's list, from 1
    tie: IntArray  # [N] number of the run of equal scores within a user
    label: FloatArray  # [N]
    likes: FloatArray  # [U]
    both: IntArray  # places of the users who have both labels


def _user_lists(scores: FloatArray, labels: LabelArray, users: IntArray) -> _Lists:
    refuse_nan(scores)
    order = np.lexsort((-scores, users))
    score, label, user = scores[order], labels[order].astype(np.float64), users[order]
    new_user = np.diff(user, prepend=user[:1] - 1) != 0
    new_tie = new_user.copy()
    new_tie[1:] |= score[1:] != score[:-1]
    place = np.cumsum(new_user) - 1
    rank = np.arange(len(user)) - np.flatnonzero(new_user)[place] + 1
    count = np.bincount(place)
    likes = np.bincount(place, label).astype(np.float64)
    both = np.flatnonzero((likes > 0) & (likes < count))
    return _Lists(place, rank, np.cumsum(new_tie) - 1, label, likes, both)


def _mean(values: FloatArray, lists: _Lists) -> PerUser:
    mean = float(values.mean()) if len(values) else None
    return PerUser(mean, len(values), len(lists.likes))
