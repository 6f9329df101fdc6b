"""Lists and results of a run on the terminal, or as JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from sasrecllm.checkpoint import read_json
from sasrecllm.machine.output import Output, is_unicode, say
from sasrecllm.reports import list_tables, run_report
from sasrecllm.reports.people import console_people, people_of
from sasrecllm.reports.verdict import verdict
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data


def _print_json(values: Any) -> None:
    # A narrow encoding would spell out what it lacks in Python's way, which is no JSON.
    say(json.dumps(values, ensure_ascii=not is_unicode(sys.stdout), indent=2))


def print_lists(lists: Mapping[str, Any], as_json: bool, about: Sequence[str] = ()) -> None:
    """Recommendation lists for the terminal, or as JSON for a program.

    Args:
        about: lines above them: what they go by.
    """
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        _print_json(lists)
        return
    for line in about:
        say(line)
    for heading, lines in lists.items():
        table = Table(title=escape(heading), title_justify="left")
        for column in ("rank", "id", "title", "P(like)", ""):
            table.add_column(column)
        for line in lines:
            cells = [str(line["rank"]), line["item_id"], line["title"]]
            cells += [f"{line['probability']:.2f}", ", ".join(line["flags"])]
            table.add_row(*map(escape, cells))
        _show(table)


def print_found(items: Sequence[Mapping[str, Any]], of: int, as_json: bool) -> None:
    """Items with their ids and attributes, and a mark at those that were found by their vectors alone.

    Args:
        of: how many hold the words, in all.
    """
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        _print_json(list(items))
        return
    near = sum(item["near"] for item in items)
    said = f"{len(items) - near} of {of}" + (f", and {near} near in meaning" if near else "")
    table = Table(title=said, title_justify="left")
    for column in ("id", "title", *(items[0]["attributes"] if items else ()), *[""] * bool(near)):
        table.add_column(escape(column))
    for item in items:
        cells = [item["item_id"], item["title"], *(v or "" for v in item["attributes"].values())]
        cells += ["near"] * item["near"]
        table.add_row(*map(escape, cells))
    _show(table)


def print_explanation(found: Mapping[str, Any], as_json: bool, about: Sequence[str] = ()) -> None:
    """Why an item has its probability, for the terminal, or as JSON for a program.

    Args:
        about: lines above it: what the answer goes by.
    """
    if as_json:
        _print_json(found)
        return
    for line in about:
        say(line)
    say(f"{found['title']} [{found['item_id']}]: P(like) {found['probability']:.2f}")
    say("P(like): log-odds against an average question of the validation split")
    for name, share in found["shares"].items():
        say(f"  {name} {share:+.2f}")
    if found["listed"]:
        say("place in a list: log-odds of being taken next, against the mean item")
    for name, share in found["listed"].items():
        say(f"  {name} {share:+.2f}")
    if found["reasons"]:
        say("P(like) without one of the likes:")
    for reason in found["reasons"]:
        say(f"  {reason['probability_without']:.2f} without {reason['title']} [{reason['item_id']}]")
    if found["nearest"]:
        say("likes that resemble it most (cosine):")
    for near in found["nearest"]:
        say(f"  {near['cosine']:+.2f} by {near['by']}: {near['title']} [{near['item_id']}]")


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
