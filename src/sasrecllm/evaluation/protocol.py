"""The one way in which anything is judged: whole splits, one set of rows, the same resamples.

``score_questions`` asks a scorer about every row; ``compare`` turns the scores of all rows of a
table into metrics, intervals, slices and paired differences; ``evaluate`` is both for one scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sasrecllm.errors import DivergedError
from sasrecllm.evaluation.calibration import Calibration, fit_calibration
from sasrecllm.evaluation.intervals import Interval, UserBootstrap, interval
from sasrecllm.evaluation.metrics import (
    auc,
    ece,
    log_loss,
    ranking_metrics,
    threshold_metrics,
    uauc,
)
from sasrecllm.types import (
    BoolArray,
    FloatArray,
    Histories,
    IntArray,
    LabelArray,
    Questions,
    Scorer,
)


@dataclass(frozen=True)
class Evaluation:
    """How one scorer did on one set of rows.

    Attributes:
        metrics: overall numbers; ``reasons`` says why a None is undefined.
        intervals: metric -> [value, low, high].
        slices: slice -> {"rows", "users", "auc", "uauc", "scored_users", "log_loss"}.
        differences: reference -> metric -> [value, low, high], positive where this one is better
            (AUC, UAUC); also for the slice "any new item" under ``METRIC on any new item``.
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


NEW_ITEMS = "any new item"


def score_questions(
    scorer: Scorer,
    questions: Questions,
    chunk: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """The scorer's score for the target of every question, shape [B]; no row is left out.

    Raises:
        DivergedError: a score is not finite; names the first such row.
    """
    out = np.empty(len(questions))
    for start in range(0, len(questions), chunk):
        part = questions.take(np.arange(start, min(start + chunk, len(questions))))
        scores = scorer.score(part.histories, part.targets[:, None])
        if scores.shape != (len(part), 1):
            raise ValueError(f"{scorer.name} gave shape {scores.shape} for {(len(part), 1)}")
        out[start : start + len(part)] = scores[:, 0]
        if progress is not None:
            progress(start + len(part), len(questions))
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise DivergedError(
            f"{scorer.name} gave {out[bad[0]]} for row {questions.rows[bad[0]]}"
            f" ({len(bad)} of {len(out)} rows are not finite)",
            "train the model again with a lower learning rate",
        )
    return out


def evaluate(
    scorer: Scorer,
    questions: Questions,
    *,
    calibration: Calibration | None = None,
    slices: Mapping[str, BoolArray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Judge one scorer on all rows of ``questions``; see :func:`compare` for a whole table."""
    judge = _Judge(questions, slices or {}, resamples, seed)
    return judge.evaluation(
        scorer.name, score_questions(scorer, questions), calibration or Calibration()
    )


def compare(
    scores: Mapping[str, FloatArray],
    questions: Questions,
    *,
    validation_scores: Mapping[str, FloatArray],
    validation_labels: LabelArray,
    slices: Mapping[str, BoolArray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Evaluation]:
    """Judge every row of a table on the same questions, with paired differences between all rows.

    Args:
        scores: name -> score of every question, in the order of the table.
        validation_scores, validation_labels: each row's calibration is fitted on these.
    """
    judge = _Judge(questions, slices or {}, resamples, seed)
    out = {}
    for name, values in scores.items():
        calibration = fit_calibration(validation_scores[name], validation_labels)
        out[name] = judge.evaluation(name, values, calibration)
    for name, evaluation in out.items():
        for other in out:
            if other != name:
                evaluation.differences[other] = judge.differences(name, other)
    return out


def evaluate_ranking(
    scorer: Scorer, histories: Histories, candidates: IntArray, ks: Sequence[int] = (5, 10)
) -> dict[str, float | None]:
    """HR@k, NDCG@k and MRR over candidates [B, C] whose column 0 is the relevant item."""
    scores = scorer.score(histories, candidates)
    return ranking_metrics(scores, tuple(ks))


class _Judge:
    """Metrics and resampled metrics of any scores on one fixed set of questions."""

    def __init__(
        self, questions: Questions, slices: Mapping[str, BoolArray], resamples: int, seed: int
    ) -> None:
        self.questions, self.slices = questions, slices
        self.labels, self.users = questions.labels, questions.histories.users
        self.masks: dict[str, BoolArray] = {"": np.ones(len(questions), dtype=bool)}
        if NEW_ITEMS in slices and slices[NEW_ITEMS].any():
            self.masks[f" on {NEW_ITEMS}"] = slices[NEW_ITEMS]
        self.bootstraps = {
            k: UserBootstrap(self.users[m], resamples, seed) for k, m in self.masks.items()
        }
        self.draws: dict[str, dict[str, tuple[float | None, FloatArray]]] = {}

    def evaluation(self, name: str, scores: FloatArray, calibration: Calibration) -> Evaluation:
        if scores.shape != self.labels.shape or not np.isfinite(scores).all():
            raise ValueError(f"{name}: {len(self.labels)} finite scores are needed, got {scores.shape}")
        self.draws[name] = self._draws(scores)
        p = calibration.probabilities(scores)
        per_user = uauc(scores, self.labels, self.users)
        metrics: dict[str, float | None] = {
            "auc": auc(scores, self.labels),
            "uauc": per_user.value,
            "log_loss": log_loss(p, self.labels),
            **threshold_metrics(p, self.labels),
            "ece": ece(p, self.labels),
            "scored_users": per_user.scored,
            "users": per_user.total,
        }
        losses = -np.log(np.clip(np.where(self.labels == 1, p, 1 - p), 1e-12, 1))
        intervals = {k: interval(*d).to_list() for k, d in self.draws[name].items()}
        intervals["log_loss"] = interval(
            metrics["log_loss"], self.bootstraps[""].row_mean(losses)
        ).to_list()
        return Evaluation(
            name,
            len(scores),
            metrics,
            intervals,
            {k: self._slice(scores[m], p[m], m) for k, m in self.slices.items()},
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

    def _draws(self, scores: FloatArray) -> dict[str, tuple[float | None, FloatArray]]:
        out = {}
        for key, mask in self.masks.items():
            s, y, boot = scores[mask], self.labels[mask], self.bootstraps[key]
            out["auc" + key] = (auc(s, y), boot.auc(s, y))
            out["uauc" + key] = (uauc(s, y, self.users[mask]).value, boot.uauc(s, y))
        return out

    def _slice(self, scores: FloatArray, p: FloatArray, mask: BoolArray) -> dict[str, Any]:
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
    return {k: why.get(k, "there are no rows") for k, v in metrics.items() if v is None}
