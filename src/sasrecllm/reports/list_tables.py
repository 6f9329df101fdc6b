"""The tables of lists, for the terminal and for Markdown: hits, and what the lists look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sasrecllm.reports.wording import cell, number, span, surely, two_lines

if TYPE_CHECKING:
    from rich.table import Table

WHOLE = "whole catalogue"
"""The kind of list that is served."""

Lists = Mapping[str, Any]
"""What results.json has of one kind of list."""


def said_of(lists: Lists) -> str:
    """How many lists there are, of whom, and which are missing."""
    said = f"{lists['lists']:,} lists"
    if "users" in lists:
        said += f" of {lists['users']:,} users"
        if lists["lists"] < lists["of_lists"]:
            said += (
                f", a seeded sample of the {lists['of_lists']:,} liked test items of"
                f" {lists['of_users']:,} users (evaluation.ranking.users)"
            )
    if less := lists.get("left_out", 0):
        said += (
            f" ({less:,} liked rows have none: their item is never recommended again, or their"
            " users left too few others)"
        )
    return said


def row_name(lists: Lists, name: str) -> str:
    """A row's name, with what was reranked and whether it is what ``recommend`` serves."""
    count = lists["reranked"].get(name)
    shown = name if count is None else f"{name}, best {count} reranked"
    return f"{shown} (served)" if name == lists.get("served") else shown


def ranking_tables(ranking: Mapping[str, Lists]) -> str:
    """One Markdown table for every kind of list, and one of what served lists look like."""
    lines = []
    for kind, lists in ranking.items():
        whole = all("lists" in got for got in lists["rows"].values())
        lines += ["", f"Ranking, {kind}, {said_of(lists)}:", ""]
        heads = ["row", "HR@10", "NDCG@10", "MRR"]
        heads += ["NDCG@10 minus popularity's", "lists"] if whole else []
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, got in lists["rows"].items():
            cells = [cell(row_name(lists, name)), *(span(got[m]) for m in ("hr@10", "ndcg@10", "mrr"))]
            if whole:
                better = got.get("minus popularity", {}).get("ndcg@10")
                cells += [span(better, True), f"{got['lists']:,}"]
            lines.append(f"| {' | '.join(cells)} |")
        if whole:
            lines += ["", *looks(lists)]
        if lists.get("fusion"):
            lines += ["", f"The order that recommend serves is {lists['fusion']}."]
    return "\n".join(lines)


LOOKS = {
    "distinct items": "different items in 200 lists",
    "most frequent list": "share of the most frequent list",
    "novelty": "novelty, bits",
    "diversity": "diversity",
    "new items shown": "new items: share shown",
    "new items liked": "share of likes",
}
"""Metric -> its heading."""


def looks(lists: Lists) -> list[str]:
    """A Markdown table of what the lists look like, values alone."""
    groups = [g["group"] for got in lists["rows"].values() for g in got["popularity bias"]]
    groups = list(dict.fromkeys(groups))
    heads = ["row", *LOOKS.values(), *(f"popularity lift, {g} users" for g in groups)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, got in lists["rows"].items():
        lines.append(f"| {' | '.join([cell(name), *look_of(got, groups)])} |")
    return lines


def look_of(got: Mapping[str, Any], groups: list[str]) -> list[str]:
    """The values under the headings of :data:`LOOKS` and of the groups of users."""
    values = []
    for metric in LOOKS:
        value = got.get(metric)
        value = value[0] if isinstance(value, list) else value
        far = metric in ("distinct items", "novelty")
        values.append(number(value, (0 if metric == "distinct items" else 1) if far else 3))
    lifts = {g["group"]: g["lift"] for g in got["popularity bias"]}
    return values + [number(lifts.get(g), 2, True) for g in groups]


def console_lists(lists: Lists) -> Table:
    """The lists of the whole catalogue for the terminal, 80 columns wide."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    served = lists.get("served")
    table = Table(
        title=escape(f"lists of 10 from the whole catalogue, {said_of(lists)}"),
        title_justify="left",
        caption="Δ: the row minus popularity, paired; bold: its interval excludes 0; distinct:"
        " different items in 200 lists; new: share of the lists on items without a training like",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        box=box.SIMPLE_HEAD,
    )
    table.add_column("row", min_width=17)
    for column in ("lists", "HR@10", "NDCG@10", "ΔNDCG", "distinct", "new"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, got in lists["rows"].items():
        better = got.get("minus popularity", {}).get("ndcg@10")
        change = two_lines(better, True)
        table.add_row(
            escape(name + (" (served)" if name == served else "")),
            f"{got['lists']:,}",
            two_lines(got["hr@10"]),
            two_lines(got["ndcg@10"]),
            f"[bold]{change}[/bold]" if surely(better) else change,
            number(got["distinct items"], 0),
            number(got["new items shown"][0], 2),
            style="bold" if name == served else "",
        )
    return table
