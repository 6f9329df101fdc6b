"""Tables for the terminal and for Markdown, and one HTML file that needs nothing but itself."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sasrecllm.evaluation.comparison import NEW_ITEMS
from sasrecllm.reports import changes, list_tables
from sasrecllm.reports.people import Person
from sasrecllm.reports.wording import cell, number, span, surely, two_lines

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
        rivals: names of all baselines, against which the headline holds the final row; the
            trivial ones where none are named.
        ablations: what was changed -> metric -> [difference, low, high] against the final row.
        ranking: kind of list -> {"lists": count, "rows": row -> metric -> [value, low, high],
            "reranked": row -> how many of the encoder's best it was asked about}.
        plots: title -> SVG text.
        facts: label -> value lists under a heading ("Data", "Training", "Versions", ...).
        truth: parameters and ceiling of the known world, where the data is one.
        recommendations: heading -> list of {"rank", "item_id", "title", "probability", "flags"}.
        verdict: paragraphs on what to deploy and why.
        alarms: reasons not to believe the table, which then has no headline.
        liked: heading of a list -> titles that its user liked last.
        people: a few users, what they liked beside what they get.
        card: label -> what the data is; ``ratings`` rating -> its share of the rows; ``advice`` on it.
        notes: sentences a reader must know (no leakage, what was implicit, ...).
        update: of a run that goes on from another, what ``update.json`` has of both.
    """

    title: str
    command: str
    seed: int
    final: str
    trivial: Sequence[str]
    rows: Rows
    ablations: Mapping[str, Mapping[str, Sequence[float | None]]] = field(default_factory=dict)
    ranking: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None
    recommendations: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    config_yaml: str = ""
    rivals: Sequence[str] = ()
    verdict: Sequence[str] = ()
    alarms: Sequence[str] = ()
    liked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    people: Sequence[Person] = ()
    card: Mapping[str, str] = field(default_factory=dict)
    ratings: Mapping[str, float] = field(default_factory=dict)
    advice: Sequence[str] = ()
    update: Mapping[str, Any] | None = None


def markdown_table(rows: Rows, reference: str) -> str:
    """The results as a Markdown table with paired differences against ``reference``."""
    lines = [
        f"| row | AUC | UAUC | log loss | AUC of {cell(reference)} minus it"
        f" | UAUC of {cell(reference)} minus it |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        better = rows[reference]["differences"].get(name, {})
        shown = f"**{cell(name)}**" if name == reference else cell(name)
        lines.append(
            f"| {shown} | {span(row['intervals']['auc'])} | {span(row['intervals']['uauc'])} |"
            f" {number(row['metrics']['log_loss'])} | {span(better.get('auc'), True)} |"
            f" {span(better.get('uauc'), True)} |"
        )
    return "\n".join(lines)


def console_table(rows: Rows, reference: str, title: str) -> Table:
    """The results for the terminal, 80 columns wide; every interval stands under its value.

    A difference whose interval excludes 0 is bold.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title),
        title_justify="left",
        caption=f"Δ: {escape(reference)} minus the row, paired; bold: its interval excludes 0",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        box=box.SIMPLE_HEAD,
    )
    table.add_column("row", min_width=17)
    for column in ("AUC", "UAUC", "log\nloss", "ΔAUC", "ΔUAUC"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows.items():
        better = rows[reference]["differences"].get(name, {})
        cells = [
            escape(name),
            two_lines(row["intervals"]["auc"]),
            two_lines(row["intervals"]["uauc"]),
        ]
        cells.append(number(row["metrics"]["log_loss"]))
        for metric in ("auc", "uauc"):
            text = two_lines(better.get(metric), True)
            cells.append(f"[bold]{text}[/bold]" if surely(better.get(metric)) else text)
        table.add_row(*cells, style="bold" if name == reference else "")
    return table


def headline(inputs: ReportInputs) -> str:
    """The result in a few sentences, true to the paired intervals.

    The rival is chosen per metric: a model counts as better only if it beats the best row without a
    network on AUC *and* the best one on UAUC.
    """
    final = inputs.rows[inputs.final]
    if inputs.alarms:
        return "No headline: the table may not show what users like. " + " ".join(
            f"{text[:1].upper()}{text[1:]}." for text in inputs.alarms
        )
    sentences = [
        f"{inputs.final}: AUC {number(final['metrics']['auc'])}, UAUC"
        f" {number(final['metrics']['uauc'])} on {final['rows']:,} test rows."
    ]
    for metric in ("auc", "uauc"):
        values = {
            name: inputs.rows[name]["metrics"][metric] for name in inputs.rivals or inputs.trivial
        }
        defined = {name: value for name, value in values.items() if value is not None}
        if not defined or final["metrics"][metric] is None:
            why = final["reasons"].get(metric, "no row of the table has a value")
            sentences.append(f"{metric.upper()} is undefined here: {why}.")
            continue
        best = max(defined, key=lambda name: defined[name])
        difference = final["differences"].get(best, {}).get(metric)
        sentences.append(
            f"On {metric.upper()} it is {_verdict(difference)} the best baseline,"
            f" {best} ({span(difference, True)})."
        )
    return " ".join(sentences)


def _verdict(difference: Sequence[float | None] | None) -> str:
    if not surely(difference) or not difference or difference[0] is None:
        return "not surely different from"
    return "surely better than" if difference[0] > 0 else "surely worse than"


def html_report(inputs: ReportInputs) -> str:
    """The whole report as one self-contained page; every text from data is escaped."""
    return page("report.html.j2", r=inputs, headline=headline(inputs))


def page(template: str, **values: Any) -> str:
    """One of this package's page templates, with the numbers' formats and the date."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sasrecllm.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, span=span, surely=surely, new_items=NEW_ITEMS)
    environment.globals.update(
        metric_names=changes.NAMES,
        said_of=list_tables.said_of,
        row_name=list_tables.row_name,
        looks=list_tables.LOOKS,
        look_of=list_tables.look_of,
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return environment.get_template(template).render(date=today, **values)
