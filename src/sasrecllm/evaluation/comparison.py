"""Verdicts: metrics, intervals, slices and paired differences of scores on one fixed set of rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.evaluation.intervals import Interval, UserBootstrap, interval
from sasrecllm.evaluation.metrics import auc, log_loss, row_log_loss, uauc
from sasrecllm.evaluation.table_metrics import CUTOFFS, METRICS, Answers, Metric
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, LabelArray, Questions

NEW_ITEMS = "any new item"


@dataclass(frozen=True)
class Evaluation:
    """How one scorer did on one set of rows.

    Attributes:
        metrics: overall numbers; ``reasons`` says why a None is undefined.
        intervals: metric -> [value, low, high] for AUC, UAUC and log loss, also on the slice
            "any new item" under ``METRIC on any new item``.
        slices: slice -> {"rows", "users", "auc", "uauc", "scored_users", "log_loss"}.
        differences: other row -> metric -> [value, low, high]: this one minus the other on the same
            resamples, so better is above zero for AUC and UAUC and below zero for log loss.
        calibration: slope and intercept that made probabilities of the scores.
    """

    name: str
    rows: int
    metrics: dict[str, float | None]
    intervals: dict[str, list[float | None]]
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    differences: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Judge:
    """Metrics and resampled metrics of any scores on one fixed set of questions.

    Args:
        intervals_on: slices that get intervals and differences too (under ``METRIC on SLICE``).
        metrics: overall numbers, beside those of :data:`~sasrecllm.evaluation.table_metrics.METRICS`.
    """

    def __init__(
        self,
        questions: Questions,
        slices: Mapping[str, BoolArray],
        resamples: int,
        seed: int,
        intervals_on: Collection[str] = (NEW_ITEMS,),
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        self.questions, self.slices = questions, slices
        self.metrics = {**METRICS, **(metrics or {})}
        self.labels, self.users = questions.labels, questions.histories.users
        nameless = int((self.users < 0).sum())
        if nameless:
            raise ConfigError(
                f"{nameless} of {len(questions)} questions have user {UNKNOWN}: metrics per user would"
                " take them for one and the same user",
                "give every user an index of its own; a scorer treats one beyond its table as new",
            )
        self.masks: dict[str, BoolArray] = {"": np.ones(len(questions), dtype=bool)}
        self.masks |= {f" on {k}": m for k, m in slices.items() if k in intervals_on and m.any()}
        self.bootstraps = {
            k: UserBootstrap(self.users[m], resamples, seed) for k, m in self.masks.items()
        }
        self.draws: dict[str, dict[str, tuple[float | None, FloatArray]]] = {}

    def evaluation(self, name: str, scores: FloatArray, calibration: Calibration) -> Evaluation:
        """The verdict on ``scores`` [B]; remembers the resamples under ``name`` for differences.

        Raises:
            ConfigError: a score is missing or not finite.
        """
        require_whole(name, "judged", scores, self.labels)
        p = calibration.probabilities(scores)
        self.draws[name] = self.resampled(scores, p)
        answers = Answers(scores, p, self.labels, self.users)
        metrics = {name: metric(answers) for name, metric in self.metrics.items()}
        return Evaluation(
            name,
            len(scores),
            metrics,
            {k: interval(*d).to_list() for k, d in self.draws[name].items()},
            {k: self.slice(scores[m], p[m], m) for k, m in self.slices.items()},
            reasons=_reasons(metrics),
            calibration=asdict(calibration),
        )

    def differences(self, name: str, other: str) -> dict[str, list[float | None]]:
        """Paired differences name − other for every resampled metric."""
        out = {}
        for key, (value, draws) in self.draws[name].items():
            theirs, their_draws = self.draws[other][key]
            both = value is not None and theirs is not None
            difference = value - theirs if value is not None and theirs is not None else None
            out[key] = (
                interval(difference, draws - their_draws) if both else Interval(None, None, None)
            ).to_list()
        return out

    def resampled(
        self, scores: FloatArray, p: FloatArray
    ) -> dict[str, tuple[float | None, FloatArray]]:
        """Metric -> its value and its value in every resample [R]."""
        out = {}
        for key, mask in self.masks.items():
            s, y, boot = scores[mask], self.labels[mask], self.bootstraps[key]
            out["auc" + key] = (auc(s, y), boot.auc(s, y))
            out["uauc" + key] = (uauc(s, y, self.users[mask]).value, boot.uauc(s, y))
            losses = boot.row_mean(row_log_loss(p[mask], y))
            out["log_loss" + key] = (log_loss(p[mask], y), losses)
        return out

    def slice(self, scores: FloatArray, p: FloatArray, mask: BoolArray) -> dict[str, Any]:
        """Row counts and metrics of the scores and probabilities of the rows in ``mask``."""
        labels, users = self.labels[mask], self.users[mask]
        per_user = uauc(scores, labels, users)
        return {
            "rows": int(mask.sum()),
            "users": per_user.total,
            "auc": auc(scores, labels),
            "uauc": per_user.value,
            "scored_users": per_user.scored,
            "log_loss": log_loss(p, labels),
        }


def _reasons(metrics: Mapping[str, float | None]) -> dict[str, str]:
    """Why each undefined metric is undefined."""
    why = {
        "auc": "all rows have the same label",
        "uauc": "no user has both labels",
        "precision": "no row was answered Yes",
        "recall": "no row is liked",
        "f1": "no row is liked and none was answered Yes",
    }
    why |= {f"{m}@{k}": why["uauc"] for m in ("hr", "ndcg") for k in CUTOFFS}
    return {k: why.get(k, "there are no rows") for k, v in metrics.items() if v is None}


def require_whole(name: str, split: str, scores: FloatArray, labels: LabelArray) -> None:
    """Refuse a row of a table that has not one finite score for every row of the split."""
    finite = int(np.isfinite(scores).sum())
    if scores.shape != labels.shape or finite < len(labels):
        raise ConfigError(
            f"row {name!r}: {finite} finite scores in shape {scores.shape} for the"
            f" {len(labels)} rows of the {split} split",
            "score every row of the split with score_questions",
        )
