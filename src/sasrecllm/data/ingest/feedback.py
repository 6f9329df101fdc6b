"""What a row says: a label, a rating that a threshold cuts in two, or only that it happened."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from sasrecllm.data.ingest.missing_columns import refuse_missing
from sasrecllm.data.interactions import Tables
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.types import FloatArray, IntArray, LabelArray

Feedback = Literal["auto", "labels", "ratings", "implicit"]

RARE = 0.05
"""Fewer likes than this share of the rows, or fewer others, are worth a warning."""


def feedback_of(wanted: Feedback, tables: Tables, *, items: bool = True) -> Feedback:
    """What ``auto`` stands for in a log with the columns of ``tables``; any other kind as it is.

    Args:
        items: whether a table of items was given.

    Raises:
        ConfigError: there is no such kind.
        DataError: the kind's column is missing; what else the files lack is named with it.
    """
    columns = tables.interactions.columns
    if wanted not in ("auto", "labels", "ratings", "implicit"):
        raise ConfigError(
            f"data.feedback is {wanted!r}; allowed: auto, labels, ratings, implicit", "use one"
        )
    if wanted == "auto":
        return "labels" if "label" in columns else "ratings" if "rating" in columns else "implicit"
    if column := {"labels": "label", "ratings": "rating"}.get(wanted):
        refuse_missing(tables, items=items, asked=column)
    return wanted


def labels_of(kind: Feedback, threshold: float) -> pl.Expr:
    """1 for a like, 0 for none; a rating of ``threshold`` or more is a like."""
    if kind == "implicit":
        label = pl.lit(1)
    else:
        label = pl.col("label") if kind == "labels" else pl.col("rating") >= threshold
    return label.cast(pl.Int8).alias("label")


def threshold_warnings(
    ratings: FloatArray, threshold: float, file: str, rows: IntArray | None = None
) -> list[str]:
    """Warnings of a threshold that hardly divides the ratings, or stands in the lower half of them.

    Args:
        ratings: one for each row; or, with ``rows``, each different one once, ascending.
        threshold: a rating of this or more is a like.
        file: of the log, for what is said.
        rows: how many have each rating.

    Raises:
        DataError: the threshold makes every row a like, or none.
    """
    if rows is None:
        ratings, rows = np.unique(ratings, return_counts=True)
    share, low, high = _share(ratings, threshold, rows), float(ratings[0]), float(ratings[-1])
    if low == high:
        raise DataError(
            f"{file}: every rating is {_plain(low)}, so no data.threshold tells likes from others",
            "set data.feedback=implicit, which takes every row for a like and draws others",
        )
    better = _fitting_threshold(ratings, rows)
    remedy = (
        f"set data.threshold={_plain(better)}, which makes {_share(ratings, better, rows):.1%} likes"
    )
    said = f"{file}: ratings run from {_plain(low)} to {_plain(high)}, and data.threshold="
    said += f"{_plain(threshold)} makes"
    if share in (0.0, 1.0):
        raise DataError(f"{said} {'all' if share else 'none'} of them likes", remedy)
    same = _share(ratings, better, rows) == share
    if RARE <= share <= 1 - RARE and (same or threshold >= (low + high) / 2):
        return []
    return [f"{said} {share:.1%} of them likes" + (f"; {remedy}" if not same else "")]


def _share(values: FloatArray, threshold: float, counts: IntArray) -> float:
    """Share of likes."""
    return float(counts[values >= threshold].sum() / counts.sum())


def _plain(value: float) -> str:
    """A number as it is written in a setting: 4, 3.5."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def label_warnings(labels: LabelArray, file: str) -> list[str]:
    """A warning of labels that are nearly all the same."""
    share = float(labels.mean())
    if RARE <= share <= 1 - RARE or share in (0.0, 1.0):  # those of one kind are refused, or noted
        return []
    remedy = "keep fewer of the rows without a like"
    if share > RARE:
        remedy = "give the likes alone and set data.feedback=implicit, which draws other items"
    return [f"{file}: {share:.1%} of the rows are likes; {remedy}"]


def _fitting_threshold(values: FloatArray, counts: IntArray) -> float:
    """The rating, of those in the upper half of the scale, at which likes come nearest to half.

    A value of the lower half is taken where none of the upper half leaves a twentieth of the rows on
    either side.

    Args:
        values: the different ratings, ascending, two or more.
        counts: rows of each.
    """
    shares = counts[::-1].cumsum()[::-1][1:] / counts.sum()
    upper = values[1:] >= (values[0] + values[-1]) / 2  # the smallest would make all rows likes
    fine = (shares >= RARE) & (shares <= 1 - RARE)
    return float(values[1:][np.lexsort((np.abs(shares - 0.5), ~upper, ~fine))[0]])
