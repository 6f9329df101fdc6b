"""A prepared data set: interactions as arrays, sorted by user and then by the order of the history.

One fact carries everything here: the history of a row is the rows of the same user that stand
before it.  So a history is a slice, and no row later than its target can enter one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.data import storage
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.former import Former
from sasrecllm.data.ingest.user_names import named_in
from sasrecllm.data.log_facts import LogFacts
from sasrecllm.data.long_columns import blocks
from sasrecllm.data.negatives import Unmet
from sasrecllm.data.splits import CONTEXT, NAMES, TEST, TRAIN, VALID
from sasrecllm.data.tally import Tally, tally
from sasrecllm.errors import ConfigError, DataError, did_you_mean
from sasrecllm.types import BoolArray, Histories, IntArray, LabelArray, Questions, spans

__all__ = ["CONTEXT", "TEST", "TRAIN", "VALID", "Dataset"]


@dataclass(frozen=True)
class Dataset:
    """Interactions [N], sorted by user and order, with the catalogue that their indices mean.

    Args:
        users, items: indices into the catalogue.
        labels: 1 liked, 0 not; all 1 for implicit feedback.
        times: Unix seconds, or the position within the user where ``has_times`` is false.
        splits: TRAIN, VALID, TEST, or CONTEXT (in histories only).
        catalog: raw ids and titles.
        name, words: of the source.
        implicit: every row is a positive; questions add sampled negatives.
        negatives: sampled negatives per positive (implicit feedback only).
        allow_seen: what a user has met before may be recommended again, and may stand among the
            candidates of a question; else neither.
        seed: of the sampled negatives.
        notes: remarks of the preparation that a report must show.
        held_items, held_users: sorted indices of what is held out of training and validation
            (:mod:`sasrecllm.data.holdout`); empty where nothing is.
        log: what the log knew of these rows; None in data that was prepared before it was kept.
        former: of the run that an update goes on from; None where the data begins here.
    """

    users: IntArray
    items: IntArray
    labels: LabelArray
    times: IntArray
    splits: LabelArray
    catalog: Catalog
    name: str
    words: dict[str, str]
    has_times: bool = True
    implicit: bool = False
    negatives: int = 4
    allow_seen: bool = False
    seed: int = 0
    notes: tuple[str, ...] = ()
    held_items: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    held_users: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    log: LogFacts | None = None
    former: Former | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def starts(self) -> IntArray:
        """First row of every user, and the number of rows at the end, shape [n_users + 1]."""
        return np.concatenate([[0], np.cumsum(self.tally.users.sum(0))]).astype(np.int64)

    @cached_property
    def tally(self) -> Tally:
        """Rows and likes of each user and item by split."""
        return tally(
            self.users, self.items, self.labels, self.times, self.splits,
            n_users=self.n_users, n_items=self.n_items,
        )  # fmt: skip

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return self.catalog.n_items

    @property
    def n_users(self) -> int:
        """Number of user indices (:attr:`Catalog.n_users`)."""
        return self.catalog.n_users

    def rows(self, split: str) -> IntArray:
        """Row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == _code(split))

    def histories(self, rows: IntArray, last: int | None = None) -> Histories:
        """What the users of ``rows`` [B] had done before: all earlier rows, whatever their split.

        Rows on held-out items are left out of what a training or validation row is shown.

        Args:
            rows: row numbers.
            last: keep only the newest entries of each; bounds the memory on long histories.
        """
        begin, end = self.starts[self.users[rows]], rows
        blind = np.isin(self.splits[rows], (TRAIN, VALID)) & (len(self.held_items) > 0)
        if blind.any():  # count in the list of open rows, which the source is looked up in below
            before = np.searchsorted(self._open_rows, np.stack([begin, end]))
            begin, end = np.where(blind, before, np.stack([begin, end]))
        lengths = end - begin if last is None else np.minimum(end - begin, last)
        offsets, source = spans(end - lengths, lengths)
        if blind.any():
            hidden = np.repeat(blind, lengths)
            source[hidden] = self._open_rows[source[hidden]]
        return Histories(
            self.users[rows],
            self.items[source],
            self.labels[source],
            self.times[source],
            offsets,
            self.times[rows],
        )

    def latest(self, users: IntArray) -> Histories:
        """Everything that ``users`` [B] have done, asked about after their last row.

        UNKNOWN has done nothing.
        """
        inside, place = users >= 0, np.maximum(users, 0)
        lengths = np.where(inside, np.diff(self.starts)[place], 0)
        offsets, rows = spans(self.starts[place], lengths)
        asked = np.where(lengths > 0, self.times[np.maximum(self.starts[place + 1] - 1, 0)] + 1, 0)
        return Histories(users, self.items[rows], self.labels[rows], self.times[rows], offsets, asked)

    def questions(self, split: str, last: int | None = None) -> Questions:
        """Every row of a split, in row order, each with its history.

        For implicit feedback ``negatives`` other items (:meth:`others`) follow each positive, as
        questions with label 0 and the same history.  Those of the training split are
        items that training shows: an item that only the future holds would be learnt as disliked.
        Held-out items are drawn for the test alone.  A row that leaves fewer items than that to draw
        from is no question.
        The same seed draws the same items.

        Raises:
            ConfigError: unknown split.
            DataError: no row leaves enough items to draw from.
        """
        rows = self.rows(split)
        if not self.implicit:
            return Questions(self.histories(rows, last), self.items[rows], self.labels[rows], rows)
        unmet, owners = self.others(split, rows)
        enough = unmet.free[owners] >= self.negatives
        if len(rows) and not enough.any():
            raise DataError(
                f"no {split} row leaves {self.negatives} items that its user has not met, to draw"
                f" negatives from; the most is {unmet.free[owners].max()} of {len(unmet.pool)} items",
                "lower data.negatives, or set recommend.seen=allow, or add items",
            )
        rows, owners = rows[enough], owners[enough]
        rng = np.random.default_rng([self.seed, _code(split)])
        drawn = unmet.draw(owners, self.negatives, rng)
        targets = np.concatenate([self.items[rows][:, None], drawn], axis=1)
        labels = np.zeros(targets.shape, dtype=np.int8)
        labels[:, 0] = 1
        repeated = np.repeat(np.arange(len(rows)), targets.shape[1])
        histories = self.histories(rows, last).take(repeated)
        return Questions(histories, targets.reshape(-1), labels.reshape(-1), rows[repeated])

    def others(self, split: str, rows: IntArray) -> tuple[Unmet, IntArray]:
        """The items that may stand beside the target of each of ``rows`` [B], and their owner [B].

        They are those of the split's pool that the user meets neither before nor after; where
        ``allow_seen``, all but the target.
        """
        pool = self.pool(split)
        if self.allow_seen:
            each = np.arange(len(rows))
            return Unmet.of(each, self.items[rows], pool, len(rows)), each
        return Unmet.of(self.users, self.items, pool, self.n_users), self.users[rows]

    def pool(self, split: str) -> IntArray:
        """Sorted items that may be drawn as negatives of a split."""
        if split == "train":
            return np.flatnonzero(self.seen_items)
        everything = np.arange(self.n_items)
        return everything if split == "test" else np.setdiff1d(everything, self.held_items)

    @cached_property
    def now(self) -> int:
        """The moment after the last row of all; 0 where the data has no times."""
        return int(self.tally.last.max()) + 1 if self.has_times else 0

    @cached_property
    def _open_rows(self) -> IntArray:
        """Rows that are not on a held-out item, ascending."""
        return np.flatnonzero(~np.isin(self.items, self.held_items))

    @cached_property
    def train_counts(self) -> IntArray:
        """Training rows of every item, shape [n_items]."""
        return np.asarray(self.tally.items[Tally.at(TRAIN)])

    @property
    def seen_items(self) -> BoolArray:
        """Whether a training row shows the item, shape [n_items]."""
        return self.train_counts > 0

    @cached_property
    def seen_users(self) -> BoolArray:
        """Whether the user has a training row, shape [n_users]."""
        return np.asarray(self.tally.users[Tally.at(TRAIN)] > 0)

    @cached_property
    def met_before(self) -> BoolArray:
        """Whether the user of a row had met its item at an earlier moment, shape [N]."""
        return self._met[0]

    @cached_property
    def met_at_once(self) -> BoolArray:
        """Whether a row has an earlier one of its user and item, and none of an earlier moment, [N]."""
        return self._met[1]

    @cached_property
    def _met(self) -> tuple[BoolArray, BoolArray]:
        before, at_once = np.zeros((2, len(self)), dtype=bool)
        for part in blocks(self.users, self.items, self.times):
            pairs, times = self.users[part] * self.n_items + self.items[part], self.times[part]
            _, first, place = np.unique(pairs, return_index=True, return_inverse=True)
            before[part] = times > times[first][place]
            at_once[part] = ~before[part] & (np.arange(len(pairs)) > first[place])
        return before, at_once

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: rows, splits, ids, titles, words and the draw of negatives."""
        summed = hashlib.sha256()
        for array in (self.users, self.items, self.labels, self.times, self.splits):
            for part in blocks(self.users, array):
                summed.update(np.ascontiguousarray(array[part], dtype="<i8").data)
        facts = [self.catalog.user_ids, self.words, self.has_times, self.implicit]
        facts += [self.negatives, self.seed] if self.implicit else []
        facts += ["seen items are allowed"] if self.allow_seen else []
        held = [self.held_items.tolist(), self.held_users.tolist()]
        facts += held if any(held) else []
        summed.update(json.dumps([self.catalog.digest, *facts], sort_keys=True).encode())
        return summed.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts for the report: rows, users, items and share of likes, whole and per split."""
        parts: dict[str, Any] = {}
        for name, code in NAMES.items():
            rows, of_items = self.tally.rows(code), self.tally.items[Tally.at(code)]
            parts[name] = {
                "rows": rows,
                "users": self.tally.n_users(code),
                "items": int((of_items > 0).sum()),
                "liked": round(self.tally.liked(code) / rows, 4) if rows else None,
                "rows_of_new_users": int(self.tally.users[Tally.at(code)][~self.seen_users].sum()),
                "rows_of_new_items": int(of_items[~self.seen_items].sum()),
            }
        return {
            "name": self.name,
            "rows": len(self),
            "users": self.n_users - len(self.catalog.forgotten),
            "items": self.n_items,
            "feedback": "implicit" if self.implicit else "liked or not",
            "negatives_per_positive": self.negatives if self.implicit else 0,
            "recommends_seen_items": self.allow_seen,
            "context_rows": self.tally.rows(CONTEXT),
            "held_out_items": len(self.held_items),
            "held_out_users": len(self.held_users),
            "splits": parts,
            "notes": list(self.notes),
            "digest": self.digest,
        }

    def without_users(self, users: IntArray) -> Dataset:
        """Without the rows and the ids of ``users``, and without notes that name them.

        Their indices stay, with nothing behind them, so that everybody else keeps his.
        """
        kept = ~np.isin(self.users, users)
        names = [self.catalog.user_id(int(user)) for user in users]
        left = set(users.tolist())
        ids = ["" if n in left else raw for n, raw in enumerate(self.catalog.user_ids)]
        return replace(
            self,
            **{k: getattr(self, k)[kept] for k in ("users", "items", "labels", "times", "splits")},
            catalog=replace(self.catalog, user_ids=ids),
            held_users=np.setdiff1d(self.held_users, users),
            former=self.former and self.former.of_rows(kept),
            notes=tuple(note for note in self.notes if not any(named_in(note, n) for n in names)),
        )

    def save(self, folder: Path) -> None:
        """Write two Parquet tables and one JSON file; ids keep their spelling."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        storage.save(named, self.digest, Path(folder))

    @staticmethod
    def load(folder: Path) -> Dataset:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: a file is missing or damaged, or the content is not what was saved.
        """
        return storage.load(Path(folder), Dataset)


def _code(split: str) -> int:
    if split not in NAMES:
        raise ConfigError(
            f"split is {split!r}; allowed: {', '.join(NAMES)}{did_you_mean(split, NAMES)}",
            "use one of these names",
        )
    return NAMES[split]
