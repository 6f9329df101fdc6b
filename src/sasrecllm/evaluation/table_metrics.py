"""The overall metrics of a results table: one row each, a plain function of a scorer's answers."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.metrics import PerUser, auc, ece, log_loss, threshold_metrics, uauc
from sasrecllm.evaluation.ranking import hr_at_k, ndcg_at_k
from sasrecllm.plugins import called, resolve
from sasrecllm.types import FloatArray, IntArray, LabelArray

CUTOFFS = (1, 5, 10)
KEY = "evaluation.metrics"


@dataclass(frozen=True)
class Answers:
    """What one scorer says to every question of a split, [N] each.

    Args:
        scores: higher is liked sooner; comparable within one scorer only.
        probabilities: calibrated P(like).
        labels: 1 liked, 0 not.
        users: index of the user who is asked about.
    """

    scores: FloatArray
    probabilities: FloatArray
    labels: LabelArray
    users: IntArray

    @cached_property
    def per_user(self) -> PerUser:
        """UAUC, and for how many users it is defined."""
        return uauc(self.scores, self.labels, self.users)

    @cached_property
    def by_threshold(self) -> Mapping[str, float | None]:
        """Accuracy, precision, recall and F1 of the answer Yes from P(like) = ½ on."""
        return threshold_metrics(self.probabilities, self.labels)


Metric = Callable[[Answers], float | None]
"""A number, or None where it is undefined; never NaN."""


def _by_threshold(name: str, answers: Answers) -> float | None:
    return answers.by_threshold[name]


def _hr(k: int, answers: Answers) -> float | None:
    return hr_at_k(answers.scores, answers.labels, answers.users, k).value


def _ndcg(k: int, answers: Answers) -> float | None:
    return ndcg_at_k(answers.scores, answers.labels, answers.users, k).value


METRICS: Mapping[str, Metric] = {
    "auc": lambda a: auc(a.scores, a.labels),
    "uauc": lambda a: a.per_user.value,
    "log_loss": lambda a: log_loss(a.probabilities, a.labels),
    **{n: partial(_by_threshold, n) for n in ("accuracy", "precision", "recall", "f1")},
    "ece": lambda a: ece(a.probabilities, a.labels),
    **{
        f"{name}@{k}": partial(function, k)
        for k in CUTOFFS
        for name, function in (("hr", _hr), ("ndcg", _ndcg))
    },
    "scored_users": lambda a: a.per_user.scored,
    "users": lambda a: a.per_user.total,
}


def further_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Name in the table -> metric, of functions named ``package.module:function``.

    Raises:
        ConfigError: one cannot be imported, or is no function, or has the name of one of ours.
    """
    found: dict[str, Metric] = {}
    for name in names:
        metric: Metric = resolve(name, {}, KEY)
        shown = name.rpartition(":")[2]
        if not callable(metric) or shown in {*METRICS, *found}:
            why = "a metric there is already" if callable(metric) else "no function"
            raise ConfigError(
                f"{KEY} has {name!r}, which is {why}",
                "name a function of Answers (sasrecllm.evaluation.table_metrics), of a name of its own",
            )
        found[shown] = partial(_own, name, metric)
    return found


def _own(name: str, metric: Metric, answers: Answers) -> float | None:
    """The number that somebody's own metric gives.

    Raises:
        ConfigError: it failed, or gave something else than a finite number or None.
    """
    with called(name):
        value: Any = metric(answers)
    if value is None:
        return None
    number = np.asarray(value)
    if number.shape != () or number.dtype.kind not in "fiub" or not np.isfinite(number):
        raise ConfigError(
            f"the plug-in {name} gave {reprlib.repr(value)}; allowed: a finite number, or None",
            "return None where the metric is undefined",
        )
    return number.item()  # type: ignore[no-any-return]
