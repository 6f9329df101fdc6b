"""Tables for the terminal and for Markdown, and one HTML file that needs nothing but itself."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sasrecllm.evaluation.protocol import NEW_ITEMS

if TYPE_CHECKING:
    from rich.table import Table

Rows = Mapping[str, Mapping[str, Any]]
"""Name of a table row -> ``Evaluation.to_dict()``."""


@dataclass
class ReportInputs:
    """All that the report shows; plain values, filled by the pipeline.

    Args:
        final: the row that the run is about.
        trivial: names of the trivial rows.
        ablations: what was changed -> metric -> [difference, low, high] against the final row.
        plots: title -> SVG text.
        facts: label -> value lists under a heading ("Data", "Training", "Versions", ...).
        truth: parameters and ceiling of the known world, where the data is one.
        recommendations: heading -> list of {"rank", "item_id", "title", "probability", "flags"}.
        notes: sentences a reader must know (no leakage, what was implicit, ...).
    """

    title: str
    command: str
    seed: int
    final: str
    trivial: Sequence[str]
    rows: Rows
    ablations: Mapping[str, Mapping[str, Sequence[float | None]]] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None
    recommendations: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    config_yaml: str = ""


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """A metric for people: ``.7317``, ``+.0123``, or ``–`` where undefined.

    >>> number(0.73174), number(-0.05, sign=True), number(None)
    ('.7317', '−.0500', '–')
    """
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if abs(value) < 1 else text
    return ("−" if value < 0 else "+" if sign else "") + text


def span(triple: Sequence[float | None] | None, sign: bool = False) -> str:
    """A value with its interval: ``.7317 [.7110, .7520]``."""
    if not triple or triple[0] is None:
        return "–"
    value, low, high = triple
    return f"{number(value, sign=sign)} [{number(low, sign=sign)}, {number(high, sign=sign)}]"


def markdown_table(rows: Rows, reference: str) -> str:
    """The results as a Markdown table with paired differences against ``reference``."""
    lines = [
        f"| row | AUC | UAUC | log loss | AUC of {reference} minus it | UAUC of {reference} minus it |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        better = rows[reference]["differences"].get(name, {})
        shown = f"**{name}**" if name == reference else name
        lines.append(
            f"| {shown} | {span(row['intervals']['auc'])} | {span(row['intervals']['uauc'])} |"
            f" {number(row['metrics']['log_loss'])} | {span(better.get('auc'), True)} |"
            f" {span(better.get('uauc'), True)} |"
        )
    return "\n".join(lines)


def console_table(rows: Rows, reference: str, title: str) -> Table:
    """The results for the terminal; a difference whose interval excludes 0 is bold."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("row", "AUC", "UAUC", "log loss"):
        table.add_column(column)
    for metric in ("AUC", "UAUC"):
        table.add_column(f"last row's gain, {metric}", justify="right")
    for name, row in rows.items():
        better = rows[reference]["differences"].get(name, {})
        cells = [name, span(row["intervals"]["auc"]), span(row["intervals"]["uauc"])]
        cells.append(number(row["metrics"]["log_loss"]))
        for metric in ("auc", "uauc"):
            text = span(better.get(metric), True)
            cells.append(f"[bold]{text}[/bold]" if surely(better.get(metric)) else text)
        table.add_row(*cells, style="bold" if name == reference else "")
    return table


def surely(triple: Sequence[float | None] | None) -> bool:
    """Whether an interval of a difference excludes zero."""
    if not triple or triple[1] is None or triple[2] is None:
        return False
    return triple[1] > 0 or triple[2] < 0


def headline(inputs: ReportInputs) -> str:
    """The result in one or two sentences, true to the paired intervals."""
    final = inputs.rows[inputs.final]
    best = max(inputs.trivial, key=lambda n: inputs.rows[n]["metrics"]["auc"] or 0.0)
    sentence = (
        f"{inputs.final}: AUC {number(final['metrics']['auc'])}, UAUC"
        f" {number(final['metrics']['uauc'])} on {final['rows']:,} test rows."
    )
    difference = final["differences"].get(best, {}).get("auc")
    if difference and difference[0] is not None:
        verdict = (
            "surely better than" if difference[1] > 0
            else "surely worse than" if difference[2] < 0
            else "not surely different from"
        )  # fmt: skip
        sentence += f" On AUC it is {verdict} the best trivial row, {best} ({span(difference, True)})."
    return sentence


def html_report(inputs: ReportInputs) -> str:
    """The whole report as one self-contained page; every text from data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sasrecllm.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, span=span, surely=surely, new_items=NEW_ITEMS)
    template = environment.get_template("report.html.j2")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return template.render(r=inputs, headline=headline(inputs), date=today)
