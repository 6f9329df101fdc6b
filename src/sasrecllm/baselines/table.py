"""One row per baseline: how it is made, and which tables show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from sasrecllm.baselines.als import ALS
from sasrecllm.baselines.chance import Random
from sasrecllm.baselines.ease import EASE
from sasrecllm.baselines.knn import ItemKNN
from sasrecllm.baselines.markov import MarkovChain
from sasrecllm.baselines.own_scorers import OwnScorer
from sasrecllm.baselines.pairs import Neighbours, PairTable
from sasrecllm.baselines.recent import RecentPopularity
from sasrecllm.baselines.sequence_rules import SequenceRules
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.trivial import (
    ItemMean,
    ItemMeanPlusRunningMean,
    Popularity,
    RunningMean,
    TwoMeans,
)
from sasrecllm.baselines.user_regression import UserRegression
from sasrecllm.baselines.user_regression_terms import REGRESSION_TERMS
from sasrecllm.errors import ConfigError
from sasrecllm.plugins import called, resolve
from sasrecllm.types import Scorer

Make = Callable[[TrainRows], Scorer]


@dataclass(frozen=True)
class Lists:
    """What the list fusion must know of a row that is one of its channels.

    Args:
        needs: what the data must have: ``times``, or ``repeats`` (items of the history may be served);
            ``network`` where the next-item encoder is trained for it, ``vectors`` of the items, or
            ``attributes`` that items share.
        keeps: attribute -> its class; what is slow to make, and so is kept with a run.
        model: channels of one ``model`` share what they keep; the channel's own name without.
        pairs: whether making it counts the pairs of every user's likes.
    """

    needs: Literal["", "times", "repeats", "network", "vectors", "attributes"] = ""
    keeps: Mapping[str, type] = field(default_factory=dict)
    model: str = ""
    pairs: bool = False


@dataclass(frozen=True)
class Baseline:
    """A row of the table; called with the training rows it is the scorer.

    Args:
        make: the scorer, of the training rows.
        shown: the tables that have it: ``always`` all, ``implicit`` those without labels, where means
            of labels say nothing, ``asked`` those whose ``evaluation.baselines`` names it.
        trivial: whether a claim counts only where it is beaten.
        reads_words: whether it knows an item without training rows by its words and attributes.
        listed: whether every table of lists starts with it: there only the order of items counts.
        lists: of a row that fills lists of its own, and so is a channel of the list fusion.
    """

    make: Make
    shown: Literal["always", "implicit", "asked"] = "asked"
    trivial: bool = False
    reads_words: bool = False
    listed: bool = False
    lists: Lists | None = None

    def __call__(self, rows: TrainRows) -> Scorer:
        """The scorer."""
        return self.make(rows)


def _term(term: Callable[[UserRegression], Scorer]) -> Baseline:
    """A term of the user regression."""
    own: Any = term
    return Baseline(lambda rows: term(rows.user_regression), own.shown, reads_words=own.reads_words)


_OF_EASE = Lists(keeps={"kept": np.ndarray, "weights": np.ndarray}, model="EASE", pairs=True)
_OF_RULES = Lists(keeps={"rules": Neighbours})

_ROWS: dict[str, Make] = {
    "item mean": Baseline(lambda rows: ItemMean(rows.means), "always", trivial=True),
    "item mean + user mean": Baseline(lambda rows: TwoMeans(rows.means), "always", trivial=True),
    "item mean + running mean": Baseline(
        lambda rows: ItemMeanPlusRunningMean(rows.means), "always", trivial=True
    ),
    "running mean": lambda rows: RunningMean(rows.means),
    "popularity": Baseline(
        lambda rows: Popularity(rows.means), "implicit", trivial=True, listed=True, lists=Lists()
    ),
    **{name: _term(term) for name, term in REGRESSION_TERMS.items()},
    "random": Random,
    "ItemKNN": Baseline(
        ItemKNN, listed=True, lists=Lists(keeps={"neighbours": Neighbours}, pairs=True)
    ),
    "Markov chain": Baseline(MarkovChain, lists=Lists(keeps={"transitions": PairTable})),
    "recent popularity": Baseline(RecentPopularity, lists=Lists(needs="times")),
    "EASE": Baseline(EASE, lists=_OF_EASE),
    "fading EASE": Baseline(
        lambda rows: EASE(rows, half_life=10.0, name="fading EASE"), lists=_OF_EASE
    ),
    "sequence rules": Baseline(SequenceRules, listed=True, lists=_OF_RULES),
    "sequence cosine": Baseline(
        lambda rows: SequenceRules(rows, cosine=0.5, shrink=5.0, name="sequence cosine"),
        lists=_OF_RULES,
    ),
    "ALS": Baseline(ALS, lists=Lists(keeps={"item_factors": np.ndarray})),
}

BASELINES: dict[str, Baseline] = {
    name: row if isinstance(row, Baseline) else Baseline(row) for name, row in _ROWS.items()
}

ALWAYS = tuple(name for name, row in BASELINES.items() if row.shown == "always" and row.trivial)
"""The rows that every table starts with."""

LISTED = tuple(name for name, row in BASELINES.items() if row.listed)
"""The rows that every table of lists starts with."""


def baseline_of(name: str, key: str) -> Baseline:
    """The row ``name``, or what ``package.module:NAME`` makes of the training rows.

    Args:
        key: of the setting that names it, for refusals.

    Raises:
        ConfigError: there is none; or what it makes is no scorer, or fails.
    """
    found = resolve(name, BASELINES, key)
    if name in BASELINES:
        return found
    row = found if isinstance(found, Baseline) else Baseline(found)
    if not callable(row.make):
        raise ConfigError(
            f"{key} has {name!r}, which is of type {type(found).__name__}",
            "name a class or function that makes a Scorer (sasrecllm.types) of the training rows",
        )

    def make(rows: TrainRows) -> Scorer:
        with called(name):
            made = row.make(rows)
        return OwnScorer(name, made)

    return replace(row, make=make)


def shown_baselines(implicit: bool, asked: Iterable[str]) -> list[str]:
    """Names of the rows of a table, in its order.

    Args:
        implicit: whether its data has no labels.
        asked: what ``evaluation.baselines`` names.
    """
    kinds = ("always", "implicit") if implicit else ("always",)
    return list(dict.fromkeys([*(n for n, row in BASELINES.items() if row.shown in kinds), *asked]))
