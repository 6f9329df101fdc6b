"""What a table of served lists is worth: hits, variety, novelty, new items, popularity bias.

Plain functions of item indices that know no model.  A list is a row [k] of item indices, best first,
with UNKNOWN behind the last; ``rank`` is the place of the held-out like among all items that could
have been served (:func:`catalogue_ranks`).  What is a mean over users comes with one value per user,
so that users can be resampled (:func:`judge_lists`).

Legend: U users and so lists, k places, I items of the catalogue, D width of item vectors, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma
from typing import Any, NamedTuple

import numpy as np

from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.metrics import refuse_nan
from sasrecllm.evaluation.ranking import gains, hits
from sasrecllm.ops.unit_rows import unit_rows
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, IntArray

GROUPS = ("niche", "between", "mainstream")
"""Thirds of the users by how popular the items are that they like."""


def catalogue_ranks(scores_UI: FloatArray, targets_U: IntArray, free_UI: BoolArray) -> FloatArray:
    """Rank (from 1, ties counted half) of each held-out like among all items that are free, [U].

    Args:
        free_UI: items that could be served; the target counts as one of them whatever stands there.

    Raises:
        DivergedError: a score is NaN.
    """
    refuse_nan(scores_UI.ravel())
    target_U1 = np.take_along_axis(scores_UI, targets_U[:, None], axis=1)
    others_UI = free_UI.copy()
    others_UI[np.arange(len(targets_U)), targets_U] = False
    ahead = ((scores_UI > target_U1) & others_UI).sum(1)
    tied = ((scores_UI == target_U1) & others_UI).sum(1)
    return np.asarray(1.0 + ahead + 0.5 * tied, dtype=np.float64)


def distinct_items(lists_Uk: IntArray, of: int = 200) -> float | None:
    """Expected number of different items in ``of`` lists drawn without replacement.

    The number in all lists depends on how many there are; this one compares data sets and runs.  An
    item that stands in n of U lists is missing from m of them with probability C(U − n, m) / C(U, m).
    All lists are taken where there are no more than ``of``; None without a list.
    """
    if not len(lists_Uk):
        return None
    users, drawn = len(lists_Uk), min(of, len(lists_Uk))
    rows, places = np.nonzero(lists_Uk != UNKNOWN)
    pairs = np.unique(np.stack([lists_Uk[rows, places], rows]), axis=1)
    _, in_lists = np.unique(pairs[0], return_counts=True)
    sizes, items = np.unique(in_lists, return_counts=True)
    missing = [_log_choose(users - n, drawn) - _log_choose(users, drawn) for n in sizes]
    return float((items * (1.0 - np.exp(missing))).sum())


def most_frequent_list(lists_Uk: IntArray) -> float | None:
    """Share of the users who get the most frequent list, its order aside; None without a list."""
    if not len(lists_Uk):
        return None
    _, counts = np.unique(np.sort(lists_Uk, axis=1), axis=0, return_counts=True)
    return float(counts.max() / len(lists_Uk))


def novelty(lists_Uk: IntArray, likes_I: FloatArray) -> FloatArray:
    """Mean −log2 of the popularity of each list's items, in bits, [U]; NaN for an empty list.

    An item's popularity is its share of the training likes, one more like for every item:
    (likes + 1) / (all likes + I).
    Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems" (2010).
    """
    bits_I = -np.log2((likes_I + 1.0) / (likes_I.sum() + len(likes_I)))
    return _mean_of_items(lists_Uk, bits_I)


def diversity(lists_Uk: IntArray, vectors_ID: FloatArray) -> FloatArray:
    """One minus the mean cosine of the pairs of each list, [U]; NaN for fewer than two items.

    A vector of zeros is like no other.
    Ziegler et al., "Improving recommendation lists through topic diversification" (WWW 2005).
    """
    unit_ID = unit_rows(vectors_ID)
    there_Uk = lists_Uk != UNKNOWN
    n_U = there_Uk.sum(1)
    out = np.full(len(lists_Uk), np.nan)
    for user in np.flatnonzero(n_U > 1):
        rows = unit_ID[lists_Uk[user, there_Uk[user]]]
        own = float((rows**2).sum())
        pairs = float((rows.sum(0) ** 2).sum()) - own
        out[user] = 1.0 - pairs / (n_U[user] * (n_U[user] - 1.0))
    return out


def shown_new(lists_Uk: IntArray, trained_I: BoolArray) -> FloatArray:
    """Share of each list that is on items without a training row, [U]; NaN for an empty list."""
    return _mean_of_items(lists_Uk, (~trained_I).astype(np.float64))


class GroupBias(NamedTuple):
    """How popular the lists of a group of users are beside what the users like themselves.

    Popularity is the mean number of training likes of the items; ``lift`` is
    (lists − likes) / likes: 0 where lists follow taste, above it where they are more popular.
    """

    group: str
    users: int
    likes: float
    lists: float
    lift: float | None


def popularity_bias(
    lists_Uk: IntArray, owners: IntArray, liked: IntArray, likes_I: FloatArray
) -> list[GroupBias]:
    """Popularity lift of thirds of the users, from those of the least popular taste on.

    Users without a like, or with an empty list, are in no group.  Abdollahpouri et al., "The
    unfairness of popularity bias in recommendation" (2019), with thirds for their three groups.

    Args:
        owners, liked: user (0 to U − 1) and item of every like of the histories, one length.
        likes_I: training likes of each item.
    """
    inside = (liked >= 0) & (liked < len(likes_I))
    count = np.bincount(owners[inside], minlength=len(lists_Uk))
    total = np.bincount(owners[inside], likes_I[liked[inside]], minlength=len(lists_Uk))
    lists_U = _mean_of_items(lists_Uk, likes_I)
    users = np.flatnonzero((count > 0) & ~np.isnan(lists_U))
    taste = total[users] / count[users]
    thirds = np.array_split(users[np.argsort(taste, kind="stable")], len(GROUPS))
    out = []
    for group, third in zip(GROUPS, thirds, strict=True):
        if not len(third):
            continue
        own = float((total[third] / count[third]).mean())
        shown = float(lists_U[third].mean())
        out.append(GroupBias(group, len(third), own, shown, (shown - own) / own if own else None))
    return out


@dataclass(frozen=True)
class ServedLists:
    """One row's lists for the users of a split, and what they are judged by.

    Args:
        lists: [U, k] items, best first, UNKNOWN behind.
        targets: [U] the held-out like.
        ranks: [U] its rank among everything that could be served (:func:`catalogue_ranks`).
        owners, liked: user (0 to U − 1) and item of every like of the histories.
    """

    lists: IntArray
    targets: IntArray
    ranks: FloatArray
    owners: IntArray
    liked: IntArray

    def __post_init__(self) -> None:
        sizes = {len(self.lists), len(self.targets), len(self.ranks)}
        if len(sizes) > 1:
            raise ConfigError(
                f"{len(self.lists)} lists, {len(self.targets)} held-out likes and {len(self.ranks)}"
                " ranks; allowed: as many of each",
                "give one list, like and rank per user",
            )


def judge_lists(
    served: ServedLists,
    likes_I: FloatArray,
    boot: UserBootstrap,
    *,
    vectors_ID: FloatArray | None = None,
) -> dict[str, Any]:
    """All metrics of one row's lists as plain values; means over users as [value, low, high].

    ``distinct items`` is of 200 lists.  ``new items liked`` is the share of the held-out likes that
    are on items without a training like, beside ``new items shown``.

    Args:
        likes_I: training likes of each item.
        boot: resamples of the lists' users, the same for all rows of a table.
        vectors_ID: what likeness of items means; without them there is no ``diversity``.
    """
    k = served.lists.shape[1]
    trained = likes_I > 0
    means = {
        f"hr@{k}": hits(served.ranks, k),
        f"ndcg@{k}": gains(served.ranks, k),
        "mrr": 1.0 / served.ranks,
        "novelty": novelty(served.lists, likes_I),
        "new items shown": shown_new(served.lists, trained),
        "new items liked": (~trained[served.targets]).astype(np.float64),
    }
    if vectors_ID is not None:
        means["diversity"] = diversity(served.lists, vectors_ID)
    out: dict[str, Any] = {name: mean_interval(values, boot) for name, values in means.items()}
    out["lists"] = len(served.lists)
    out["distinct items"] = distinct_items(served.lists)
    out["most frequent list"] = most_frequent_list(served.lists)
    groups = popularity_bias(served.lists, served.owners, served.liked, likes_I)
    out["popularity bias"] = [group._asdict() for group in groups]
    return out


def mean_interval(values_U: FloatArray, boot: UserBootstrap) -> list[float | None]:
    """[mean, low, high] over the users for whom the value is defined; None where it is for nobody."""
    defined = ~np.isnan(values_U)
    if not defined.any():
        return [None, None, None]
    total, share = (boot.row_mean(v) for v in (np.where(defined, values_U, 0.0), defined.astype(float)))
    draws = np.divide(total, share, out=np.full_like(total, np.nan), where=share > 0)
    return interval(float(values_U[defined].mean()), draws).to_list()


def _mean_of_items(lists_Uk: IntArray, values_I: FloatArray) -> FloatArray:
    """Mean value of each list's items, [U]; NaN for an empty list."""
    there = lists_Uk != UNKNOWN
    n = there.sum(1)
    if not len(values_I):
        return np.full(len(lists_Uk), np.nan)
    total = np.where(there, values_I[np.where(there, lists_Uk, 0)], 0.0).sum(1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _log_choose(n: int, m: int) -> float:
    """ln C(n, m); −∞ where m > n."""
    return -np.inf if m > n else lgamma(n + 1) - lgamma(m + 1) - lgamma(n - m + 1)
