"""Rows of one user, one item and one moment: what they are is a setting, ``data.repeats``."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import polars as pl

from sasrecllm.data.ingest.feedback import Feedback
from sasrecllm.data.interactions import ROW, Tables, order_of

Repeats = Literal["auto", "keep", "first", "last", "refuse"]


def policy_of(repeats: Repeats, feedback: Feedback) -> Repeats:
    """What ``auto`` stands for: an event may come again, of two ratings the later one counts.

    >>> policy_of("auto", "implicit"), policy_of("auto", "ratings"), policy_of("first", "ratings")
    ('keep', 'last', 'first')
    """
    if repeats != "auto":
        return repeats
    return "last" if feedback == "ratings" else "keep"


def repeat_key(tables: Tables) -> list[str]:
    """The columns of user, item and moment; empty where no two rows are of one moment.

    The moment is the timestamp and the order column, or what there is of them; where the rows stand
    as the file does, it is the timestamp alone.
    """
    marks = ["timestamp"] if order_of(tables) == "file" else ["timestamp", "order"]
    marks = [c for c in marks if c in tables.interactions.columns]
    return ["user_id", "item_id", *marks] if marks else []


def surplus(tables: Tables, keep: Literal["first", "last"] = "first") -> pl.DataFrame:
    """The rows that repeat the user, item and moment of another row, less the copy that stays.

    Args:
        keep: the first or the last copy of the file stays.
    """
    frame, key = tables.interactions, repeat_key(tables)
    if not key or frame.select(key).hash_rows().n_unique() == frame.height:
        return frame.clear()  # the usual case; what is below is dear and exact
    copies = frame.filter(pl.struct(key).is_duplicated())
    stays = pl.struct(key)
    stays = stays.is_first_distinct() if keep == "first" else stays.is_last_distinct()
    return copies.filter(~stays)


def settle(tables: Tables, policy: Repeats) -> tuple[Tables, int]:
    """The tables with repeated rows kept or dropped as ``policy`` says, and how many those are."""
    again = surplus(tables, "last" if policy == "last" else "first")
    if policy == "keep" or again.is_empty():
        return tables, again.height
    rows = tables.interactions.join(again.select(ROW), on=ROW, how="anti", maintain_order="left")
    return replace(tables, interactions=rows), again.height
