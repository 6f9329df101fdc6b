"""Pictures of a run as SVG text: what people would rather look at than read.

matplotlib is imported when the first picture is drawn; the figures carry no date, so the same run
gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sasrecllm.evaluation.metrics import auc, calibration_curve
from sasrecllm.types import FloatArray, IntArray, LabelArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, TRIVIAL, OURS = "#5b6270", "#b6bcc8", "#2f6fde"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Any]]:
    from matplotlib import rcParams
    from matplotlib.figure import Figure as NewFigure

    rcParams.update({"svg.hashsalt": "sasrecllm", "font.size": 9, "svg.fonttype": "none"})
    figure = NewFigure(figsize=(width, height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, columns)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(INK)
        axis.tick_params(colors=INK)
        for text in (axis.xaxis.label, axis.yaxis.label, axis.title):
            text.set_color(INK)
    return figure, axes


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def training_curves(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Loss per step and validation AUC of every stage, from the records of ``metrics.jsonl``."""
    figure, axes = _figure(3.0 * max(1, len(stages)), 2.4, max(1, len(stages)))
    for axis, (name, records) in zip(axes, stages.items(), strict=False):
        steps = [r["step"] for r in records if "loss" in r]
        axis.plot(steps, [r["loss"] for r in records if "loss" in r], color=TRIVIAL, lw=1)
        axis.set_title(name)
        axis.set_xlabel("step")
        axis.set_ylabel("training loss")
        points = [(r["step"], r["valid"].get("auc")) for r in records if "valid" in r]
        points = [(s, v) for s, v in points if v is not None]
        if points:
            twin = axis.twinx()
            twin.spines[["top"]].set_visible(False)
            twin.tick_params(colors=OURS)
            twin.plot(*zip(*points, strict=True), color=OURS, marker="o", ms=3)
            twin.set_ylabel("validation AUC", color=OURS)
    return _svg(figure)


def metric_bars(
    rows: Mapping[str, Mapping[str, Sequence[float | None]]], trivial: Sequence[str]
) -> str:
    """AUC and UAUC of every row with 95 % intervals; ``rows``: name -> metric -> [value, low, high]."""
    figure, axes = _figure(8.4, 0.34 * len(rows) + 0.9, 2)
    names = list(rows)[::-1]
    for axis, metric in zip(axes, ("auc", "uauc"), strict=True):
        for y, name in enumerate(names):
            value, low, high = rows[name][metric]
            if value is None or low is None or high is None:
                continue
            colour = TRIVIAL if name in trivial else OURS
            axis.plot([low, high], [y, y], color=colour, lw=4, alpha=0.45, solid_capstyle="butt")
            axis.plot(value, y, "o", color=colour, ms=6)
            axis.annotate(f"{value:.3f}", (value, y + 0.22), ha="center", fontsize=7, color=INK)
        axis.set_yticks(range(len(names)), names if metric == "auc" else [""] * len(names))
        axis.set_ylim(-0.6, len(names) - 0.3)
        axis.set_title(f"{metric.upper()}, test split, 95 % interval")
    return _svg(figure)


def calibration_plot(probabilities: Mapping[str, FloatArray], labels: LabelArray) -> str:
    """Share liked against said probability, in ten bins."""
    figure, (axis,) = _figure(4.2, 3.2)
    axis.plot([0, 1], [0, 1], color=TRIVIAL, lw=1)
    for index, (name, p) in enumerate(probabilities.items()):
        share, mean, _ = calibration_curve(p, labels)
        axis.plot(mean, share, marker="o", ms=3, label=name, color=(OURS, "#c9701f", INK)[index % 3])
    axis.set_xlabel("said probability of a like")
    axis.set_ylabel("share liked")
    axis.legend(frameon=False, fontsize=7, labelcolor=INK)
    return _svg(figure)


def auc_by_history(
    scores: Mapping[str, FloatArray], labels: LabelArray, liked: IntArray, trivial: Sequence[str]
) -> str:
    """AUC within buckets of the number of likes known when the question was asked."""
    edges = [0, 1, 5, 10, 20, 50, 10**9]
    ticks = ["0", "1-4", "5-9", "10-19", "20-49", "50+"]
    figure, (axis,) = _figure(5.6, 3.2)
    bucket = np.digitize(liked, edges[1:])
    counts = np.bincount(bucket, minlength=len(ticks))
    for name, values in scores.items():
        points = [auc(values[bucket == b], labels[bucket == b]) for b in range(len(ticks))]
        line = [np.nan if p is None else p for p in points]
        style = {"color": TRIVIAL, "lw": 1} if name in trivial else {"lw": 2}
        axis.plot(range(len(ticks)), line, marker="o", ms=3, label=name, **style)
    axis.set_xticks(range(len(ticks)), [f"{t}\n{c} rows" for t, c in zip(ticks, counts, strict=True)])
    axis.set_xlabel("liked items in the history")
    axis.set_ylabel("AUC")
    axis.legend(frameon=False, fontsize=7, labelcolor=INK)
    return _svg(figure)
