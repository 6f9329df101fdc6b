"""A few users for people to look at: what they liked beside what they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from sasrecllm.data.dataset import Dataset

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 5
"""Titles of a user on either side."""


@dataclass(frozen=True)
class Person:
    """A user of the showcase.

    Args:
        heading: who he is.
        lines: a title that he liked, the newest first, beside one that he gets, the best first; empty
            where one side has fewer.
    """

    heading: str
    lines: list[tuple[str, str]]


def people_of(dataset: Dataset, shown: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Person]:
    """The users among the lists of a showcase."""
    liked = liked_titles(dataset, shown)
    return [
        Person(
            heading,
            list(zip_longest(titles, (line["title"] for line in shown[heading][:SHOWN]), fillvalue="")),
        )
        for heading, titles in liked.items()
    ]


def liked_titles(
    dataset: Dataset, shown: Mapping[str, Any], count: int = SHOWN
) -> dict[str, list[str]]:
    """Heading of a user's list -> the titles that he liked last, the newest first."""
    out = {}
    for heading in shown:
        case, _, raw = heading.partition(" user ")
        if " " not in case and raw in dataset.catalog.user_ids:  # else it is the list of an item
            known = dataset.latest(dataset.catalog.user_index([raw])).liked()
            out[heading] = [dataset.catalog.title(int(i)) for i in known.items[::-1][:count]]
    return out


def console_people(people: Sequence[Person]) -> Table:
    """The users for the terminal, 80 columns wide."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="what they liked last, and what they get",
        title_justify="left",
        padding=(0, 1, 0, 0),
        box=box.SIMPLE_HEAD,
        width=80,
    )
    table.add_column("", width=16)
    for column in ("liked last", "gets"):
        table.add_column(column, ratio=1, no_wrap=True, overflow="ellipsis")
    for one in people:
        liked, gets = ("\n".join(escape(line[side]) for line in one.lines) for side in (0, 1))
        table.add_row(escape(one.heading), liked, gets, end_section=True)
    return table
