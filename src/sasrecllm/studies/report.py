"""A study's table as Markdown and as one self-contained page, from plain values.

``results`` is what ``study.json`` holds: ``name``, ``date``, ``reference``, ``resamples``, and for
each of ``datasets`` its ``rows`` (see :func:`sasrecllm.studies.summary.summarise`, with ``costs``),
``slices`` (name -> row count), ``trivial``, ``failures`` and ``tuning``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sasrecllm.reports.list_tables import ranking_tables
from sasrecllm.reports.plots import metric_bars
from sasrecllm.reports.run_report import page
from sasrecllm.reports.wording import cell, number, span
from sasrecllm.studies import plots

HISTORY = ("no liked history", "1-4 liked", "5-9 liked", "10 or more liked")
FREQUENCY = (
    "any new item",
    "item in 1-4 train rows",
    "item in 5-19 train rows",
    "item in 20 or more train rows",
)
WARM, COLD = "warm (user and item in train)", "cold (user or item not in train)"
COSTS = {
    "train_seconds": "training s",
    "trained_parameters": "trained",
    "parameters": "parameters",
    "peak_megabytes": "peak MB",
    "rows_per_second": "rows/s",
}


def reference_of(results: Mapping[str, Any], dataset: Mapping[str, Any]) -> str | None:
    """The row that differences are against: the plan's where it stands, else the first."""
    rows = list(dataset["rows"])
    return results["reference"] if results["reference"] in rows else (rows[0] if rows else None)


def markdown(results: Mapping[str, Any]) -> str:
    """All tables of a study."""
    lines = [f"# Study {results['name']}", ""]
    lines += [
        f"{results['date']}. Each value is the mean over the row's seeds with its 95 % interval"
        f" ({results['resamples']} user resamples, the same for every row and seed); Δ is the row minus"
        " the reference on the same resamples. Training seconds are those of the row's own run: parts"
        " that it loads from another row are not counted again.",
        "",
    ]
    for name, dataset in results["datasets"].items():
        lines += _dataset(name, dataset, reference_of(results, dataset))
    return "\n".join(lines)


def _dataset(name: str, dataset: Mapping[str, Any], reference: str | None) -> list[str]:
    lines = [f"## {name}", "", f"{dataset['test_rows']:,} test rows of {dataset['users']:,} users.", ""]
    costs = [k for k in COSTS if any(cost(v["costs"], k) != "–" for v in dataset["rows"].values())]
    if reference is not None:
        heads = "".join(f" {COSTS[key]} |" for key in costs)
        lines += [
            f"| row | seeds | AUC | UAUC | log loss | ΔAUC to {cell(reference)} | ΔUAUC |{heads}",
            "|---" * (7 + len(costs)) + "|",
            *(_row(row, values, reference, costs) for row, values in dataset["rows"].items()),
            "",
            *_slices(dataset, reference),
            ranking_tables(dataset.get("ranking", {})),
            "",
        ]
    for failure in dataset["failures"]:
        lines.append(
            f"**Failed:** {cell(failure['row'])}, seed {failure['seed']}, exit {failure['exit']}:"
            f" {cell(failure['reason'])}"
        )
    for row, tuned in dataset["tuning"].items():
        space = ", ".join(f"{k} {_range(v)}" for k, v in tuned["space"].items())
        best = ", ".join(f"{k} = {v}" for k, v in tuned["best"].items())
        valid = ", ".join(f"{k} {number(v)}" for k, v in tuned["valid"].items())
        lines.append(
            f"Tuned on validation: {cell(row)}, {tuned['trials']} trials, best {tuned['metric']};"
            f" space: {space}; chosen: {best} (validation {valid})."
        )
    return [*lines, ""]


def _row(row: str, values: Mapping[str, Any], reference: str, costs: Sequence[str]) -> str:
    got, better = values["intervals"], values["differences"].get(reference, {})
    spread = values["spread"]
    cells = [cell(row), str(len(values["seeds"]))]
    for metric in ("auc", "uauc"):
        apart = f" ± {number(spread[metric])}" if spread[metric] is not None else ""
        cells.append(span(got[metric]) + apart)
    cells += [number(got["log_loss"][0]), span(better.get("auc"), True), span(better.get("uauc"), True)]
    cells += [cost(values["costs"], key) for key in costs]
    return "| " + " | ".join(cells) + " |"


def cost(costs: Mapping[str, float | None], key: str) -> str:
    """A cost for people.

    >>> cost({"parameters": 1804608}, "parameters"), cost({}, "parameters")
    ('1,804,608', '–')
    """
    value = costs.get(key)
    return "–" if value is None else f"{value:,.0f}"


def _range(values: Mapping[str, Any]) -> str:
    if "choices" in values:
        return "{" + ", ".join(map(str, values["choices"])) + "}"
    return f"[{values['low']}, {values['high']}]" + (" log" if values.get("log") else "")


def slices_shown(dataset: Mapping[str, Any]) -> dict[str, int]:
    """Slice -> rows, of those that a table shows: parts of the test split with a row in them."""
    return {s: rows for s, rows in dataset["slices"].items() if s != "overall" and rows}


def _slices(dataset: Mapping[str, Any], reference: str) -> list[str]:
    """Each row's AUC / UAUC on every slice, then its differences to ``reference`` with intervals."""
    shown = slices_shown(dataset)
    head = " | ".join(f"{s} ({rows:,} rows)" for s, rows in shown.items())
    above = [f"| row | {head} |", "|---" * (1 + len(shown)) + "|"]
    lines = ["AUC / UAUC by slice:", "", *above]
    for row, values in dataset["rows"].items():
        got = values["intervals"]
        cells = [
            f"{number(got[f'auc on {s}'][0], 3)} / {number(got[f'uauc on {s}'][0], 3)}" for s in shown
        ]
        lines.append(f"| {cell(row)} | " + " | ".join(cells) + " |")
    for metric in ("auc", "uauc"):
        lines += ["", f"Δ{metric.upper()} to {cell(reference)} by slice:", "", *above]
        for row, values in dataset["rows"].items():
            if row != reference:
                better = values["differences"].get(reference, {})
                cells = [span(better.get(f"{metric} on {s}"), True) for s in shown]
                lines.append(f"| {cell(row)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def pictures(dataset: Mapping[str, Any]) -> dict[str, str]:
    """Title -> SVG of one data set's pictures."""
    rows, trivial = dataset["rows"], dataset["trivial"]
    if not rows:
        return {}
    bars = {name: row["intervals"] for name, row in rows.items()}
    sizes = dataset["slices"]
    return {
        "Every row with its interval": metric_bars(bars, trivial),
        "AUC and UAUC by likes known": plots.by_slice(bars, sizes, HISTORY, trivial),
        "AUC and UAUC by the item's training rows": plots.by_slice(bars, sizes, FREQUENCY, trivial),
        "Warm against cold": plots.warm_against_cold(bars, WARM, COLD, trivial),
        "Cost against quality": plots.cost_against_quality(
            bars, {k: v["costs"] for k, v in rows.items()}, trivial
        ),
    }


def html(results: Mapping[str, Any]) -> str:
    """The study as one page that needs nothing but itself."""
    drawn = {name: pictures(dataset) for name, dataset in results["datasets"].items()}
    references = {name: reference_of(results, d) for name, d in results["datasets"].items()}
    return page(
        "study.html.j2",
        r=results,
        pictures=drawn,
        references=references,
        slices_shown=slices_shown,
        cost_columns=COSTS,
        cost=cost,
        range_text=_range,
    )
