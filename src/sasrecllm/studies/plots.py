"""Pictures of a study, from the intervals of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sasrecllm.reports.plots import FEW_ROWS, INK, OTHERS, OURS, TRIVIAL, drawn, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Intervals = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Row -> metric -> [value, low, high]."""


@drawn
def by_slice(
    rows: Intervals, sizes: Mapping[str, int], slices: Sequence[str], trivial: Sequence[str]
) -> Figure:
    """AUC and UAUC of every row along ``slices``; slices of a few rows are left out."""
    shown = [s for s in slices if sizes.get(s, 0) >= FEW_ROWS]
    figure, axes = new_figure(9.6, 3.4, 2)
    for axis, metric in zip(axes, ("auc", "uauc"), strict=True):
        for index, (name, got) in enumerate(rows.items()):
            values = [_value(got, f"{metric} on {s}") for s in shown]
            axis.plot(range(len(shown)), values, marker="o", ms=3, label=name,
                      **_style(name, index, rows, trivial))  # fmt: skip
        axis.set_xticks(range(len(shown)), [f"{s}\n{sizes[s]} rows" for s in shown], fontsize=7)
        axis.set_title(metric.upper())
    if shown:
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7,
            frameon=False, labelcolor=INK,
        )  # fmt: skip
    return figure


@drawn
def warm_against_cold(rows: Intervals, warm: str, cold: str, trivial: Sequence[str]) -> Figure:
    """Each row's metric on warm rows (x) against the one on cold rows (y)."""
    figure, axes = new_figure(9.6, 3.4, 2)
    for axis, metric in zip(axes, ("auc", "uauc"), strict=True):
        for index, (name, got) in enumerate(rows.items()):
            x, y = _value(got, f"{metric} on {warm}"), _value(got, f"{metric} on {cold}")
            _labelled(axis, x, y, name, _style(name, index, rows, trivial)["color"])
        axis.set_xlabel(f"{metric.upper()}, user and item in train")
        axis.set_ylabel("user or item new")
    return figure


@drawn
def cost_against_quality(
    rows: Intervals, costs: Mapping[str, Mapping[str, float | None]], trivial: Sequence[str]
) -> Figure:
    """Training seconds of each row's own run (logarithmic, from .1) against AUC and UAUC."""
    figure, axes = new_figure(9.6, 3.4, 2)
    for axis, metric in zip(axes, ("auc", "uauc"), strict=True):
        for index, (name, got) in enumerate(rows.items()):
            seconds = max(0.1, costs[name].get("train_seconds") or 0.0)
            colour = _style(name, index, rows, trivial)["color"]
            _labelled(axis, seconds, _value(got, metric), name, colour)
        axis.set_xscale("log")
        axis.set_xlabel("training seconds")
        axis.set_ylabel(metric.upper())
    return figure


def _value(got: Mapping[str, Sequence[float | None]], key: str) -> float:
    value = got.get(key, (None,))[0]
    return np.nan if value is None else value


def _labelled(axis: Any, x: float, y: float, name: str, colour: str) -> None:
    if np.isfinite(x) and np.isfinite(y):
        axis.plot(x, y, "o", color=colour, ms=5)
        axis.annotate(name, (x, y), xytext=(4, 2), textcoords="offset points", fontsize=6, color=INK)


def _style(name: str, index: int, rows: Intervals, trivial: Sequence[str]) -> dict[str, Any]:
    if name in trivial:
        return {"color": TRIVIAL, "lw": 1}
    if index == len(rows) - 1:
        return {"color": OURS, "lw": 2.4}
    return {"color": OTHERS[index % len(OTHERS)], "lw": 1.2}
