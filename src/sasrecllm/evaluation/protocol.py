"""The one way in which anything is judged: whole splits, one set of rows, the same resamples.

``score_questions`` asks a scorer about every row; ``compare`` turns the scores of all rows of a
table into metrics, intervals, slices and paired differences; ``evaluate`` is both for one scorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sasrecllm.errors import ConfigError, DivergedError
from sasrecllm.evaluation.calibration import Calibration, fit_calibration
from sasrecllm.evaluation.comparison import Evaluation, Judge, require_whole
from sasrecllm.evaluation.ranking import metrics_of_ranks, positive_ranks
from sasrecllm.evaluation.table_metrics import Metric
from sasrecllm.machine.progress import Tell
from sasrecllm.types import (
    UNKNOWN,
    BoolArray,
    FloatArray,
    Histories,
    IntArray,
    LabelArray,
    Questions,
    Scorer,
    asks_by_prompts,
)

SLOW_AT_ONCE = 16
"""Lists at a time of a scorer that asks a language model, so that it can say how far it is."""


def score_questions(
    scorer: Scorer,
    questions: Questions,
    chunk: int = 1024,
    progress: Tell | None = None,
) -> FloatArray:
    """The scorer's score for the target of every question, shape [B]; no row is left out.

    Args:
        chunk: questions per call of the scorer.
        progress: called with (done, all) after every chunk.

    Raises:
        DivergedError: a score is not finite; names the first such row.
        ConfigError: the scorer answers with another shape than it was asked for.
    """
    out = np.empty(len(questions))
    for start in range(0, len(questions), chunk):
        part = questions.take(np.arange(start, min(start + chunk, len(questions))))
        scores = _scores(scorer, part.histories, part.targets[:, None])
        out[start : start + len(part)] = scores[:, 0]
        if progress is not None:
            progress(start + len(part), len(questions))
    _refuse_not_finite(scorer.name, out, questions.rows)
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
    """Judge one scorer on all rows of ``questions``; see :func:`compare` for a whole table.

    Args:
        calibration: fitted on other rows (``fit_calibration``); without it the scores are taken to
            be logits, which matters to log loss, accuracy, F1 and ECE only.
    """
    judge = Judge(questions, slices or {}, resamples, seed)
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
    metrics: Mapping[str, Metric] | None = None,
    progress: Tell | None = None,
) -> dict[str, Evaluation]:
    """Judge every row of a table on the same questions, with paired differences between all rows.

    Args:
        scores: name -> score of every question, in the order of the table.
        validation_scores, validation_labels: each row's calibration is fitted on these.
        metrics: further ones (:mod:`sasrecllm.evaluation.table_metrics`), by their names.
        progress: called with (done, all) after every row.

    Raises:
        ConfigError: a row lacks validation scores, or has not one finite score for every question.
    """
    for name in scores:
        if name not in validation_scores:
            raise ConfigError(
                f"row {name!r} has test scores but no validation scores",
                f"score the validation split with {name!r} too: its calibration is fitted there",
            )
        require_whole(name, "validation", validation_scores[name], validation_labels)
    judge = Judge(questions, slices or {}, resamples, seed, metrics=metrics)
    out = {}
    for name, values in scores.items():
        calibration = fit_calibration(validation_scores[name], validation_labels)
        out[name] = judge.evaluation(name, values, calibration)
        if progress is not None:
            progress(len(out), len(scores))
    for name, evaluation in out.items():
        for other in out:
            if other != name:
                evaluation.differences[other] = judge.differences(name, other)
    return out


def evaluate_ranking(
    scorer: Scorer,
    histories: Histories,
    candidates: IntArray,
    ks: Sequence[int] = (5, 10),
    chunk: int = 256,
) -> dict[str, float | None]:
    """HR@k, NDCG@k and MRR over candidates [B, C] whose column 0 is the relevant item.

    Raises:
        ConfigError: the relevant item stands among the other candidates of its row too.
        DivergedError: a score is not finite.
    """
    ranks = rank_positives(scorer, histories, candidates, chunk)
    return metrics_of_ranks(ranks, candidates.shape[1], tuple(ks))


def rank_positives(
    scorer: Scorer,
    histories: Histories,
    candidates: IntArray,
    chunk: int = 256,
    progress: Tell | None = None,
) -> FloatArray:
    """Rank (from 1, ties counted half) of column 0 among ``candidates`` [B, C], shape [B].

    UNKNOWN fills the end of a list that is shorter than the others; it stands behind every item.

    Args:
        progress: called with (done, all) after every chunk.

    Raises:
        ConfigError: the relevant item stands among the other candidates of its row too.
        DivergedError: a score is not finite.
    """
    twice = np.flatnonzero((candidates[:, 1:] == candidates[:, :1]).any(axis=1))
    if len(twice):
        raise ConfigError(
            f"row {twice[0]} of the candidates holds its relevant item"
            f" {candidates[twice[0], 0]} more than once ({len(twice)} such rows)",
            "draw the other candidates without the item of column 0",
        )
    ranks = np.empty(len(candidates))
    chunk = min(chunk, SLOW_AT_ONCE) if asks_by_prompts(scorer) else chunk
    for start in range(0, len(candidates), chunk):
        rows = np.arange(start, min(start + chunk, len(candidates)))
        scores_BC = _scores(scorer, histories.take(rows), candidates[rows])
        _refuse_not_finite(scorer.name, scores_BC, rows)
        ranks[rows] = positive_ranks(np.where(candidates[rows] == UNKNOWN, -np.inf, scores_BC))
        if progress is not None:
            progress(int(rows[-1]) + 1, len(candidates))
    return ranks


def _scores(scorer: Scorer, histories: Histories, candidates: IntArray) -> FloatArray:
    scores = scorer.score(histories, candidates)
    if scores.shape != candidates.shape:
        raise ConfigError(
            f"scorer {scorer.name!r} gave shape {scores.shape} for candidates {candidates.shape}",
            "return one score per candidate, in the order of the candidates",
        )
    return scores


def _refuse_not_finite(name: str, scores: FloatArray, rows: IntArray) -> None:
    """``scores`` [B] or [B, C]; ``rows`` [B] are the numbers by which the user knows the rows."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        raise DivergedError(
            f"{name} gave {scores[tuple(bad[0])]} for row {rows[bad[0][0]]}"
            f" ({len(bad)} of {scores.size} scores are not finite)",
            "train the model again with a lower learning rate",
        )
