"""The data card: what a data set is in a few figures, and what to do about it, in words.

Every figure about the data that people are shown comes from here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.quality import WARNING, split_remedy
from sasrecllm.data.log_facts import Bar, LogFacts
from sasrecllm.data.splits import NAMES, SAID, TEST, TRAIN
from sasrecllm.data.tally import DAY, Tally

OFTEN = 0.2
"""Share of rows, or of users, from which on something is worth a word of advice."""
ALIKE = 0.9
"""Share of titles that say nothing but their id, from which on words are of no use."""


@dataclass(frozen=True)
class SplitPart:
    """Rows and users of a split, and the share of its rows that are likes."""

    rows: int
    users: int
    liked: float


@dataclass(frozen=True)
class DataCard:
    """A data set for people.

    Args:
        feedback: ``labels``, ``ratings`` or ``implicit``; ``split``: the rule; both as it was prepared,
            empty where that is not known.
        threshold, ratings, repeats, ties: see :class:`~sasrecllm.data.log_facts.LogFacts`.
        rows, users, items: the items are those of the catalogue, ``items_met`` those of a row.
        liked: share of the rows.
        first, last: dates (UTC) of the first and the last row; None without times.
        whole_days: whether times tell days alone.
        history: rows of a user: the median, the fewest and the most.
        single: users with one row.
        met_before: rows on an item that their user had met at an earlier moment.
        met_at_once: rows on an item of an earlier row of their user, all of one moment.
        splits: name -> its part.
        test_likes, untrained_likes: likes of the test, and those of them on items without a training
            row.
        test_users, new_users: users of the test, and those of them without a training row.
        warnings: what asks the reader to do something, with what to set.
        advice: what to know of likes, order, split and words.
    """

    feedback: str
    split: str
    threshold: float | None
    ratings: tuple[Bar, ...]
    rows: int
    users: int
    items: int
    items_met: int
    liked: float
    first: str | None
    last: str | None
    whole_days: bool
    history: tuple[float, int, int]
    single: int
    repeats: int
    met_before: int
    met_at_once: int
    ties: int
    splits: dict[str, SplitPart]
    test_likes: int
    untrained_likes: int
    test_users: int
    new_users: int
    warnings: tuple[str, ...]
    advice: tuple[str, ...]


def card_of(dataset: Dataset) -> DataCard:
    """The card of a prepared data set."""
    log = dataset.log or LogFacts("implicit" if dataset.implicit else "", "")
    counts = dataset.tally
    likes, of_test = counts.likes[Tally.at(TEST)], counts.users[Tally.at(TEST)] > 0
    lengths = counts.users.sum(0)
    lengths = lengths[lengths > 0]  # a forgotten user keeps his index
    history = (float(np.median(lengths)), int(lengths.min()), int(lengths.max()))
    return DataCard(
        feedback=log.feedback,
        split=log.split,
        threshold=log.threshold,
        ratings=log.ratings,
        rows=len(dataset),
        users=len(lengths),
        items=dataset.n_items,
        items_met=int((counts.items.sum(0) > 0).sum()),
        liked=float(counts.likes.sum() / len(dataset)),
        first=_date(dataset, counts.first.min()),
        last=_date(dataset, counts.last.max()),
        whole_days=_whole_days(dataset),
        history=history,
        single=int((lengths == 1).sum()),
        repeats=log.repeats,
        met_before=int(dataset.met_before.sum()),
        met_at_once=int(dataset.met_at_once.sum()),
        ties=log.ties,
        splits={name: _part(counts, code) for name, code in NAMES.items()},
        test_likes=int(likes.sum()),
        untrained_likes=int(likes[~dataset.seen_items].sum()),
        test_users=int(of_test.sum()),
        new_users=int((of_test & ~dataset.seen_users).sum()),
        warnings=tuple(n.removeprefix(WARNING) for n in dataset.notes if n.startswith(WARNING)),
        advice=tuple(text for say in (_likes, _order, _split, _words) for text in say(dataset, log)),
    )


def _part(counts: Tally, code: int) -> SplitPart:
    rows = counts.rows(code)
    return SplitPart(rows, counts.n_users(code), counts.liked(code) / rows if rows else 0.0)


def _date(dataset: Dataset, second: int) -> str | None:
    """The UTC date of a Unix second, of whatever year."""
    return str(np.datetime64(int(second), "s").astype("datetime64[D]")) if dataset.has_times else None


def _whole_days(dataset: Dataset) -> bool:
    """Whether all times are of one hour of their days: dates that were written as moments."""
    return dataset.has_times and len(dataset) > 1 and dataset.tally.whole_days


def _likes(dataset: Dataset, log: LogFacts) -> list[str]:
    """What a like is."""
    if log.feedback == "implicit":
        return [
            "likes: no column tells likes from dislikes, so every row is a like, and"
            f" {dataset.negatives} other items are drawn beside each (data.negatives)"
        ]
    if log.feedback == "labels":
        return ["likes: the log has labels of its own, so there is no threshold to choose"]
    if log.threshold is None or any("data.threshold=" in note for note in dataset.notes):
        return []  # the warning says it all
    share = float(dataset.tally.likes.sum() / len(dataset))
    return [f"threshold: data.threshold={log.threshold:g} fits, {share:.0%} of the rows are likes"]


def _order(dataset: Dataset, log: LogFacts) -> list[str]:
    """What orders a history, where that is not clear."""
    if not dataset.has_times and log.order == "file":
        return [
            "order: without a time or an order column, rows count as having happened in the order of"
            " the file; if they did not, name a column (data.columns.timestamp, data.columns.order)"
        ]
    if log.order != "time" or not _whole_days(dataset):
        return []
    one = dataset.tally.first.min() == dataset.tally.last.max()
    if not one and log.ties < OFTEN * len(dataset):
        return []
    what = "all rows are of one moment" if one else "times tell days alone"
    return [
        f"order: {what}, so {log.ties:,} of {len(dataset):,} rows share theirs with another row of"
        " their user, and the order of the file decides; finer times or an order column"
        " (data.columns.order) would be better"
    ]


def _split(dataset: Dataset, log: LogFacts) -> list[str]:
    """What the split asks about, and whom it leaves out."""
    found = [f"split: {log.split}, {SAID.get(log.split, 'a rule of your own')}"] if log.split else []
    begins = _test_begins(dataset)
    if found and begins is not None:
        lasting = _lasting(int(dataset.tally.last.max()) - begins)
        found[0] += f"; the test begins on {_date(dataset, begins)} and lasts {lasting}"
    asked = int((dataset.tally.users[Tally.at(TRAIN) + 1 :].sum(0) > 0).sum())
    silent = int((dataset.tally.users.sum(0) > 0).sum()) - asked
    if found and silent:
        found[0] += f"; {silent:,} of {silent + asked:,} users are never asked about"
    if len(dataset.held_users) or not _newcomers(dataset):
        return found
    if remedy := split_remedy(dataset, _newcomers, {}):
        found.append(
            "split: most test users have no training row, so the test is about newcomers; to ask about"
            f" users who are known, {remedy}"
        )
    return found


def _lasting(seconds: int) -> str:
    """How long a test lasts: days, hours where they are few.

    >>> _lasting(90), _lasting(2 * 3600), _lasting(3 * DAY)
    ('less than an hour', '2 hours', '3 days')
    """
    if seconds < 5400:
        return "less than an hour" if seconds < 3600 else "an hour"
    days, hours = seconds / DAY, seconds / 3600
    return f"{days:,.0f} days" if days >= 2 else f"{hours:.0f} hours"


def _test_begins(dataset: Dataset) -> int | None:
    """The first moment of the test, where all training rows lie before it."""
    if not dataset.has_times:
        return None
    counts, (train, test) = dataset.tally, (Tally.at(TRAIN), Tally.at(TEST))
    begins = int(counts.first[test])
    apart = counts.rows(TRAIN) and counts.rows(TEST) and counts.last[train] < begins
    return begins if apart else None


def _newcomers(dataset: Dataset) -> bool:
    """Whether most test users, but not all (which is warned of), have no training row."""
    of_test = dataset.tally.users[Tally.at(TEST)] > 0
    users, new = int(of_test.sum()), int((of_test & ~dataset.seen_users).sum())
    return users > new > users / 2


def _words(dataset: Dataset, log: LogFacts) -> list[str]:
    """Titles that a language model has nothing to read in."""
    catalog = dataset.catalog
    pairs = zip(catalog.titles, catalog.item_ids, strict=True)
    rests = Counter(title.replace(raw, "", 1).strip() for title, raw in pairs)
    _, most = rests.most_common(1)[0]
    if len(catalog.titles) < 2 or most < ALIKE * len(catalog.titles):
        return []
    return [
        "words: the titles say nothing but the ids, so a language model has nothing to read;"
        " strategy=encoder-only leaves it out"
    ]
