"""A checked log in order: numbers for each row, by user, each user's rows in the order of history.

It comes in parts of users, of which one is at work at a time; a log in memory is a single part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sasrecllm.data.ingest.feedback import Feedback, labels_of
from sasrecllm.data.ingest.repeated_rows import Repeats, settle
from sasrecllm.data.interactions import (
    ROW,
    Tables,
    contradictions,
    in_order,
    refuse_contradiction,
)
from sasrecllm.data.long_columns import blocks, empty, let_go
from sasrecllm.data.splits import DROPPED, NAMES, TRAIN, OrderedRows
from sasrecllm.types import FloatArray, IntArray, LabelArray

KINDS = {"users": np.int64, "items": np.int64, "labels": np.int8, "times": np.int64, "lines": np.int64}


@dataclass
class Arranged:
    """Rows [N] of a log.

    Args:
        users: dense, ascending, in the order of ``user_ids``.
        items: indices of the items, sorted by id.
        labels: 1 for a like.
        times: Unix seconds, or the position within the user where ``has_times`` is false.
        lines: the order column, or else the place in the file.
        given: codes of the data's own split column, or None.
        repeated: rows that repeat the user, item and moment of another row.
        ratings, counts: the different ratings, ascending, and the rows of each; None without ratings.
    """

    users: IntArray
    items: IntArray
    labels: LabelArray
    times: IntArray
    lines: IntArray
    given: LabelArray | None
    has_times: bool
    user_ids: list[str]
    repeated: int = 0
    ratings: FloatArray | None = None
    counts: IntArray | None = None
    _wrong: tuple[pl.DataFrame, int] = field(default=(pl.DataFrame(), 0), repr=False)

    def refuse_contradiction(self, tables: Tables) -> None:
        """Refuse an order of rows that contradicts their times.

        Raises:
            DataError: with the first such row.
        """
        refuse_contradiction(*self._wrong, tables)

    @property
    def rows(self) -> OrderedRows:
        """What a split may look at."""
        return OrderedRows(self.users, self.labels, self.times, self.has_times, self.given, self.lines)

    def without_dropped(self, codes: LabelArray) -> tuple[Arranged, LabelArray]:
        """The rows that a split does not drop, with their codes."""
        kept = codes != DROPPED
        if kept.all():
            return self, codes
        present = np.zeros(len(self.user_ids), dtype=bool)
        for part in blocks(self.users):
            present[self.users[part][kept[part]]] = True
        number = np.cumsum(present) - 1
        count, start = int(kept.sum()), 0
        found: dict[str, Any] = {name: empty(count, kind) for name, kind in KINDS.items()}
        for part in blocks(self.users, self.items, self.labels, self.times, self.lines):
            stop = start + int(kept[part].sum())
            for name, column in found.items():
                values = getattr(self, name)[part][kept[part]]
                column[start:stop] = number[values] if name == "users" else values
            let_go(*found.values())
            start = stop
        if not self.has_times:
            found["times"] = positions(found["users"])
        names = [name for name, stays in zip(self.user_ids, present, strict=True) if stays]
        return replace(self, **found, given=None, user_ids=names), codes[kept]

    def sharing(self, places: IntArray) -> int:
        """Rows that share their user and their number in ``places`` [N] with a neighbour."""
        shared = 0
        for part in blocks(self.users, places):
            users, here = self.users[part], places[part]
            again = (users[1:] == users[:-1]) & (here[1:] == here[:-1])
            shared += int((np.append(again, False) | np.insert(again, 0, False)).sum())
        return shared

    def ties(self, order: str) -> tuple[int, int]:
        """Rows that share their user and time, or their place in an order column, with another row."""
        moments = self.sharing(self.times) if self.has_times else 0
        return moments, self.sharing(self.lines) if order == "order" else 0

    def training_after_questions(self, codes: LabelArray) -> int:
        """Training rows behind a row of the same user that is asked about (a given split may do so)."""
        late = 0
        for part in blocks(self.users):
            users, asked = self.users[part], np.cumsum(codes[part] > TRAIN)
            first = np.searchsorted(users, users)  # the user's first row
            before = np.insert(asked, 0, 0)[first]
            late += int(((codes[part] == TRAIN) & (asked > before)).sum())
        return late


def positions(users: IntArray) -> IntArray:
    """The place of each row among those of its user; ``users`` ascend."""
    found = empty(len(users), np.int64)
    for part in blocks(users, found):
        here = users[part]
        found[part] = np.arange(len(here)) - np.searchsorted(here, here)
    return found


def arranged(
    tables: Tables,
    parts: Iterable[pl.DataFrame],
    rows: int,
    policy: Repeats,
    kind: Feedback,
    threshold: float,
) -> Arranged:
    """Settle what repeats, order and label the rows of every part of users.

    Args:
        tables: checked, whose interactions tell the columns.
        parts: checked rows, all those of some users each, users ascending.
        rows: in all parts, at most.
    """
    item_of = tables.items["item_id"].sort()
    columns: dict[str, npt.NDArray[Any]] = {}
    names: list[str] = []
    repeated, wrong, first, start = 0, 0, pl.DataFrame(), 0
    ratings, counts = np.empty(0), np.empty(0, dtype=np.int64)
    for part in parts:
        settled, again = settle(replace(tables, interactions=part), policy)
        del part
        repeated += again
        frame = in_order(settled)
        if frame.is_empty():
            continue
        back = contradictions(frame, tables)
        first, wrong = (back.head(1) if not wrong else first), wrong + back.height
        if kind == "ratings":
            ratings, counts = _counted(ratings, counts, frame["rating"].to_numpy())
        found = _numbers(frame.with_columns(labels_of(kind, threshold)), item_of)
        names += frame["user_id"].rle().struct.field("value").cast(pl.String).to_list()
        found["users"] += 0 if not start else int(columns["users"][start - 1]) + 1
        if not columns and frame.height == rows - again:
            columns, start = found, frame.height
            continue
        columns = columns or {name: empty(rows, column.dtype) for name, column in found.items()}
        for name, column in columns.items():
            column[start : start + frame.height] = found[name]
        let_go(*columns.values())
        start += frame.height
    cut = {name: column[:start] for name, column in columns.items()}
    has_times = "timestamp" in tables.interactions.columns
    log = Arranged(
        **{name: cut.get(name, np.empty(0, kind)) for name, kind in KINDS.items()},
        given=cut.get("given"),
        has_times=has_times,
        user_ids=names,
        repeated=repeated,
        ratings=ratings if kind == "ratings" else None,
        counts=counts if kind == "ratings" else None,
        _wrong=(first, wrong),
    )
    return log if has_times else replace(log, times=positions(log.users))


def _numbers(frame: pl.DataFrame, item_of: pl.Series) -> dict[str, npt.NDArray[Any]]:
    """The columns of one part, users from 0 on."""
    kind = frame.schema["item_id"]
    assert isinstance(kind, pl.Enum)
    places = item_of.search_sorted(kind.categories).cast(pl.Int64).to_numpy()
    users = frame["user_id"].rle_id().cast(pl.Int64).to_numpy(writable=True)
    given = {}
    if "split" in frame.columns:
        given = {"given": frame["split"].replace_strict(NAMES, return_dtype=pl.Int8).to_numpy()}
    lines = frame["order" if "order" in frame.columns else ROW].to_numpy()
    times = frame["timestamp"].to_numpy() if "timestamp" in frame.columns else lines
    return {
        "users": users,
        "items": places[frame["item_id"].to_physical().to_numpy()],
        "labels": frame["label"].to_numpy(),
        "times": times,
        "lines": lines,
        **given,
    }


def _counted(values: FloatArray, counts: IntArray, more: FloatArray) -> tuple[FloatArray, IntArray]:
    """Different values and how often each is there, those of ``more`` counted in."""
    new, often = np.unique(more, return_counts=True)
    every, place = np.unique(np.concatenate([values, new]), return_inverse=True)
    return every, np.bincount(place, np.concatenate([counts, often])).astype(np.int64)
