"""Pictures of a run as SVG text: what people would rather look at than read.

matplotlib is imported when the first picture is drawn; the figures carry no date, so the same run
gives the same bytes.  Lines and letters take the colour of the page (``currentColor``), so that a
picture inside a report reads in light and in dark mode.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from sasrecllm.evaluation.metrics import auc, calibration_curve
from sasrecllm.types import FloatArray, IntArray, LabelArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, TRIVIAL, OURS = "#5b6270", "#a3abba", "#2f6fde"
OTHERS = ("#c9701f", "#2a9d7f", "#a356b8", "#b59a1a", "#cf4f63")
FEW_ROWS = 30
"""A point of fewer rows is noise and is not drawn."""

P = ParamSpec("P")


def drawn(draw: Callable[P, Figure]) -> Callable[P, str]:
    """``draw`` in the house's style, its figure turned into SVG text."""

    @functools.wraps(draw)
    def as_svg(*args: P.args, **kwargs: P.kwargs) -> str:
        import matplotlib

        # Row names come from the user's settings: a dollar sign is no formula.
        style = {"svg.hashsalt": "sasrecllm", "svg.fonttype": "none", "text.parse_math": False}
        with matplotlib.rc_context(style | {"font.size": 9.0}):
            out = io.StringIO()
            figure = draw(*args, **kwargs)
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        text = out.getvalue()
        return text[text.index("<svg") :].replace(INK, "currentColor")

    return as_svg


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Any]]:
    """A figure of ``width`` × ``height`` inches with its axes in the house's style."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(INK)
        axis.tick_params(colors=INK)
        for text in (axis.xaxis.label, axis.yaxis.label, axis.title):
            text.set_color(INK)
    return figure, axes


@drawn
def training_curves(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Loss per step and validation AUC of every stage, from the records of ``metrics.jsonl``.

    The thin line is the loss of each step, the thick one its running mean.
    """
    columns = max(1, min(3, len(stages)))
    rows = -(-max(1, len(stages)) // columns)
    figure, axes = new_figure(3.3 * columns, 2.3 * rows, columns, rows)
    for axis in axes[len(stages) :]:
        axis.set_visible(False)
    for axis, (name, records) in zip(axes, stages.items(), strict=False):
        points = [(r["step"], r["loss"]) for r in records if "loss" in r]
        steps, losses = [p[0] for p in points], [p[1] for p in points]
        axis.plot(steps, losses, color=TRIVIAL, lw=0.6, alpha=0.6)
        axis.plot(steps, _running_mean(losses), color=INK, lw=1.4)
        axis.set_title(name)
        axis.set_xlabel("step")
        axis.set_ylabel("training loss")
        _validation_line(axis, records)
    return figure


def _validation_line(axis: Any, records: Sequence[Mapping[str, Any]]) -> None:
    points = [(r["step"], r["valid"].get("auc")) for r in records if "valid" in r]
    points = [(s, v) for s, v in points if v is not None]
    if not points:
        return
    twin = axis.twinx()
    twin.spines[["top", "left", "bottom"]].set_visible(False)
    twin.spines["right"].set_color(OURS)
    twin.tick_params(colors=OURS)
    twin.plot(*zip(*points, strict=True), color=OURS, marker="o", ms=3, lw=1.4)
    twin.set_ylabel("validation AUC", color=OURS)
    twin.ticklabel_format(axis="y", useOffset=False)


def _running_mean(values: Sequence[float]) -> FloatArray:
    """Mean of the last twentieth of the run (at least one value) at each step."""
    width = max(1, len(values) // 20)
    total = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=np.float64)]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - width)
    return np.asarray((total[end] - total[start]) / (end - start), dtype=np.float64)


@drawn
def metric_bars(
    rows: Mapping[str, Mapping[str, Sequence[float | None]]], trivial: Sequence[str]
) -> Figure:
    """AUC and UAUC of every row with 95 % intervals.

    Args:
        rows: name -> metric -> [value, low, high], in the order of the table.
        trivial: names of the rows to be drawn in grey.
    """
    figure, axes = new_figure(9.6, 0.36 * len(rows) + 0.9, 2)
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
    return figure


@drawn
def calibration_plot(probabilities: Mapping[str, FloatArray], labels: LabelArray) -> Figure:
    """Share liked against said probability in ten bins; a dot's area grows with its rows."""
    figure, (axis,) = new_figure(4.0, 3.2)
    axis.plot([0, 1], [0, 1], color=TRIVIAL, lw=1)
    for index, (name, p) in enumerate(probabilities.items()):
        share, mean, count = calibration_curve(p, labels)
        colour = (OURS, *OTHERS)[index % (1 + len(OTHERS))]
        axis.plot(mean, share, label=name, color=colour, lw=1.4)
        axis.scatter(mean, share, s=8 + 120 * count / max(1, len(labels)), color=colour)
    axis.set_xlabel("said probability of a like")
    axis.set_ylabel("share liked")
    if probabilities:
        axis.legend(frameon=False, fontsize=7, labelcolor=INK, loc="upper left")
    return figure


@drawn
def auc_by_history(
    scores: Mapping[str, FloatArray], labels: LabelArray, liked: IntArray, trivial: Sequence[str]
) -> Figure:
    """AUC within buckets of the number of likes known when the question was asked.

    Args:
        scores: row name -> score of every question; the last row is drawn strongest.
        liked: liked items in each question's history, shape [B].
    """
    edges = [0, 1, 5, 10, 20, 50, 10**9]
    ticks = ["0", "1-4", "5-9", "10-19", "20-49", "50+"]
    figure, (axis,) = new_figure(5.4, 3.2)
    bucket = np.digitize(liked, edges[1:])
    counts = np.bincount(bucket, minlength=len(ticks))
    for index, (name, values) in enumerate(scores.items()):
        points = [auc(values[bucket == b], labels[bucket == b]) for b in range(len(ticks))]
        line = [
            np.nan if p is None or count < FEW_ROWS else p
            for p, count in zip(points, counts, strict=True)
        ]
        style: dict[str, Any] = {"color": OTHERS[index % len(OTHERS)], "lw": 1.2}
        if name in trivial:
            style = {"color": TRIVIAL, "lw": 1}
        elif index == len(scores) - 1:
            style = {"color": OURS, "lw": 2.4}
        axis.plot(range(len(ticks)), line, marker="o", ms=3, label=name, **style)
    axis.set_xticks(range(len(ticks)), [f"{t}\n{c} rows" for t, c in zip(ticks, counts, strict=True)])
    axis.set_xlabel("liked items in the history")
    axis.set_ylabel("AUC")
    if scores:
        axis.legend(frameon=False, fontsize=7, labelcolor=INK, ncols=2)
    return figure
