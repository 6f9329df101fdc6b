"""Which lists of the whole catalogue are judged, and the table of their rows.

A list is what a user would be served at the moment of one of his liked test rows: the best items of
the catalogue that he had not met by then (or of all, where items may repeat).

Legend: B lists, I items of the catalogue, k places.
"""

from __future__ import annotations

from math import exp, lgamma, log
from typing import Any, NamedTuple

import numpy as np

from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.intervals import UserBootstrap
from sasrecllm.evaluation.list_metrics import ServedLists, catalogue_ranks, judge_lists, mean_interval
from sasrecllm.evaluation.metrics import refuse_nan
from sasrecllm.evaluation.protocol import SLOW_AT_ONCE
from sasrecllm.evaluation.ranking import gains, hits
from sasrecllm.machine.progress import Tell
from sasrecllm.types import (
    UNKNOWN,
    BoolArray,
    FloatArray,
    Free,
    Histories,
    IntArray,
    Scorer,
    prompts_of_list,
)

PLACES = 10
"""k of every metric of lists."""
AT_ONCE = 2**22
"""Scores that are held at a time: bounds the memory."""


class Asked(NamedTuple):
    """Lists [B] that are judged, in the order in which they were drawn.

    Args:
        histories: what each user had done when the list would have been served.
        targets: what he liked next.
        free: what may be served.
    """

    histories: Histories
    targets: IntArray
    free: Free

    def first(self, count: int) -> Asked:
        """The first ``count`` lists, or all where there are fewer."""
        kept = np.arange(min(count, len(self.targets)))
        return Asked(self.histories.take(kept), self.targets[kept], self.free)


def spread_over_users(users: IntArray, most: int, rng: np.random.Generator) -> IntArray:
    """Places of at most ``most`` of the rows of ``users`` [N], of as many users as possible.

    Every user's rows come in a drawn order: first one of each user, in a drawn order of the users,
    then a second of each who has one, and so on.  So fewer of the same seed are the first of more.
    """
    drawn = rng.permutation(len(users))
    order = drawn[np.argsort(users[drawn], kind="stable")]
    starts = np.flatnonzero(np.diff(users[order], prepend=users[order][:1] - 1))
    turn = np.empty(len(users), dtype=np.int64)
    turn[order] = np.arange(len(users)) - np.repeat(starts, np.diff([*starts, len(users)]))
    _, who = np.unique(users, return_inverse=True)
    place = rng.permutation(int(who.max(initial=-1)) + 1)[who]
    return np.lexsort((place, turn))[:most]


class Served(NamedTuple):
    """What a row of the table serves, [B]."""

    lists: IntArray  # [B, k], UNKNOWN behind the last
    ranks: FloatArray  # [B] of the target among everything that could have been served
    free: IntArray  # [B] how many items could have been served


def serve(scorer: Scorer, asked: Asked, n_items: int, progress: Tell | None = None) -> Served:
    """The lists of a scorer, and the rank of each target; ties stand in the order of the catalogue.

    Args:
        progress: called with (done, all) after every block of lists.

    Raises:
        ConfigError: the scorer answers with another shape than it was asked for.
        DivergedError: a score is NaN.
    """
    size = max(1, AT_ONCE // max(1, n_items))
    size = min(size, SLOW_AT_ONCE) if prompts_of_list(scorer) else size
    none = np.empty(0, dtype=np.int64)
    parts = [Served(np.empty((0, PLACES), dtype=np.int64), np.empty(0), none)]
    for start in range(0, len(asked.targets), size):
        rows = np.arange(start, min(start + size, len(asked.targets)))
        histories, targets = asked.histories.take(rows), asked.targets[rows]
        free_BI = asked.free(histories)
        free_BI[np.arange(len(rows)), targets] = True
        candidates_BI = np.where(free_BI, np.arange(n_items), UNKNOWN)
        scores_BI = scorer.score(histories, candidates_BI)
        if scores_BI.shape != candidates_BI.shape:
            raise ConfigError(
                f"scorer {scorer.name!r} gave shape {scores_BI.shape} for candidates"
                f" {candidates_BI.shape}",
                "return one score per candidate, in the order of the candidates",
            )
        refuse_nan(scores_BI.ravel())
        ranks = catalogue_ranks(scores_BI, targets, free_BI)
        parts.append(Served(_best(scores_BI, free_BI), ranks, free_BI.sum(1)))
        if progress is not None:
            progress(start + len(rows), len(asked.targets))
    return Served(*map(np.concatenate, zip(*parts, strict=True)))


def _best(scores_BI: FloatArray, free_BI: BoolArray) -> IntArray:
    falling_BI = np.where(free_BI, -scores_BI, np.inf)
    order = np.argsort(falling_BI, axis=1, kind="stable")[:, :PLACES]
    out = np.full((len(scores_BI), PLACES), UNKNOWN)
    there = np.take_along_axis(free_BI, order, axis=1)
    out[:, : order.shape[1]] = np.where(there, order, UNKNOWN)
    return out


class ListTable:
    """The table of lists: every row on the same lists, differences paired.

    Args:
        asked: the lists.
        likes_I: training likes of each item.
        vectors_ID: what likeness of items means, for the diversity of a list.
        resamples, seed: of the users.
    """

    def __init__(
        self,
        asked: Asked,
        likes_I: FloatArray,
        *,
        vectors_ID: FloatArray | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.asked, self.likes_I, self.vectors_ID = asked, likes_I, vectors_ID
        self.resamples, self.seed = resamples, seed
        self.served: dict[str, Served] = {}
        self._boots: dict[int, UserBootstrap] = {}

    def add(
        self, scorer: Scorer, most: int | None = None, progress: Tell | None = None
    ) -> dict[str, Any]:
        """Judge a row on the lists, or on the first ``most`` of them; see :meth:`judge`.

        Args:
            progress: see :func:`serve`.
        """
        asked = self.asked if most is None else self.asked.first(most)
        return self.judge(scorer.name, serve(scorer, asked, len(self.likes_I), progress))

    def judge(self, name: str, served: Served) -> dict[str, Any]:
        """Judge what a row serves for the first lists, as many as ``served`` has.

        Returns:
            What :func:`judge_lists` says, and ``chance``: the expected HR@k of random lists.
        """
        asked = self.asked.first(len(served.ranks))
        self.served[name] = served
        liked = asked.histories.liked()
        lists = ServedLists(served.lists, asked.targets, served.ranks, liked.owners, liked.items)
        found = judge_lists(lists, self.likes_I, self._boot(asked), vectors_ID=self.vectors_ID)
        by_luck = np.minimum(1.0, PLACES / np.maximum(1, served.free))
        chance = float(by_luck.mean()) if len(by_luck) else None
        return found | {"chance": chance, "users": self._boot(asked).n_users}

    def difference(self, name: str, other: str) -> dict[str, list[float | None]]:
        """Metric -> [value, low, high] of row ``name`` minus row ``other``, on the lists of both."""
        ours, theirs = self.served[name].ranks, self.served[other].ranks
        both = min(len(ours), len(theirs))
        boot = self._boot(self.asked.first(both))
        of = {f"hr@{PLACES}": hits, f"ndcg@{PLACES}": gains}
        return {
            metric: mean_interval(value(ours[:both], PLACES) - value(theirs[:both], PLACES), boot)
            for metric, value in of.items()
        }

    def _boot(self, asked: Asked) -> UserBootstrap:
        count = len(asked.targets)
        if count not in self._boots:
            self._boots[count] = UserBootstrap(asked.histories.users, self.resamples, self.seed)
        return self._boots[count]


def above_chance(found: dict[str, Any]) -> bool:
    """Whether a row of the table has surely more hits than random lists would.

    The number of hits of random lists is Poisson with the mean ``chance`` · lists, near enough: the
    chance of at least as many is below 2.5 %.
    """
    value, lists, chance = found[f"hr@{PLACES}"][0], found["lists"], found["chance"]
    if value is None or not lists:
        return False
    hit, mean = round(value * lists), chance * lists
    fewer = sum(exp(n * log(mean) - mean - lgamma(n + 1)) for n in range(hit)) if mean > 0 else 0.0
    return hit > 0 and 1.0 - fewer < 0.025
