"""Lists and results of a run on the terminal, or as JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from sasrecllm.checkpoint import read_json
from sasrecllm.machine.output import Output, is_unicode, say
from sasrecllm.reports import list_tables, run_report
from sasrecllm.reports.people import console_people, people_of
from sasrecllm.reports.verdict import verdict
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data


def print_lists(lists: Mapping[str, Any], as_json: bool) -> None:
    """Recommendation lists for the terminal, or as JSON for a program."""
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        # A narrow encoding would spell out what it lacks in Python's way, which is no JSON.
        say(json.dumps(lists, ensure_ascii=not is_unicode(sys.stdout), indent=2))
        return
    for heading, lines in lists.items():
        table = Table(title=escape(heading), title_justify="left")
        for column in ("rank", "id", "title", "P(like)", ""):
            table.add_column(column)
        for line in lines:
            cells = [str(line["rank"]), line["item_id"], line["title"]]
            cells += [f"{line['probability']:.2f}", ", ".join(line["flags"])]
            table.add_row(*map(escape, cells))
        _show(table)


def print_results(folder: Path) -> None:
    """The results table of a run for the terminal."""
    run = RunFolder(folder)
    results = read_json(run.results, final=str, rows=dict, seed=int)
    rows = results["rows"]
    costs = read_json(run.summary).get("costs", {}) if run.summary.is_file() else {}
    for text in verdict(results, costs):
        say(text)
    if run.showcase.is_file():
        _show(console_people(people_of(stored_data(run), read_json(run.showcase))))
    test_rows = rows[results["final"]]["rows"]
    title = f"test split, {test_rows} rows, seed {results['seed']}, 95 % user-bootstrap intervals"
    _show(run_report.console_table(rows, results["final"], title))
    if lists := results.get("ranking", {}).get(list_tables.WHOLE):
        _show(list_tables.console_lists(lists))


def _show(table: Any) -> None:
    """Print a table of rich's; where nobody reads it, that is no failure."""
    from rich.console import Console

    Console(file=cast("IO[str]", Output())).print(table)
