"""Splits: which rows are learnt from, which are asked about.

A rule takes the ordered rows and returns a code per row.  Rows are never moved: a row that is not
asked about can still stand in the history of a later one.  Adding a rule is one function and its
row in ``SPLITS``; ``package.module:function`` works without touching this file.
"""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sasrecllm.data.long_columns import blocks
from sasrecllm.errors import ConfigError, DataError, did_you_mean
from sasrecllm.plugins import called, resolve
from sasrecllm.types import IntArray, LabelArray

TRAIN, VALID, TEST = 0, 1, 2
CONTEXT = -1
"""Stands in histories, but is neither learnt from nor asked about."""
DROPPED = -2
"""Outside the rule: in no history, no question, no count of training rows."""

NAMES = {"train": TRAIN, "valid": VALID, "test": TEST}
BINS = 2**16


@dataclass(frozen=True, slots=True)
class OrderedRows:
    """What a rule may look at: rows sorted by user, then by the order of the history.

    ``given`` [N] holds codes out of the data's own split column, or is None; ``times`` [N] are Unix
    seconds only where ``has_times``.  ``lines`` [N] is the order column, or else the place in the
    file; None where neither is known.
    """

    users: IntArray
    labels: LabelArray
    times: IntArray
    has_times: bool
    given: LabelArray | None
    lines: IntArray | None = None


SplitRule = Callable[..., LabelArray]


def given(rows: OrderedRows, last: object = False) -> LabelArray:
    """The split column of the data.

    Args:
        rows: must have a split column.
        last: of each user's validation rows, and of the test rows, ask only about the last; the
            others are context.  For splits by user, where the last item is the target (LLaRA).
    """
    if rows.given is None:
        raise DataError(
            "split is given, but the interactions have no split column",
            "name it (data.columns.split=...) or choose data.split=global-time or leave-one-out",
        )
    if not isinstance(last, bool):
        raise ConfigError(f"given: last is {last!r}; allowed: true or false", "set one of them")
    if not last:
        return rows.given
    _, later = np.unique((rows.users * 3 + rows.given)[::-1], return_index=True)
    newest = np.zeros(len(rows.given), dtype=bool)
    newest[len(newest) - 1 - later] = True
    return np.where(newest | (rows.given == TRAIN), rows.given, CONTEXT).astype(np.int8)


def global_time(rows: OrderedRows, valid: object = 0.1, test: object = 0.1) -> LabelArray:
    """One moment cuts off training, a later one validation, for all users alike.

    Args:
        rows: must have timestamps.
        valid: share of the rows, or the UTC date at which validation begins.
        test: share of the rows, or the UTC date at which the test begins.

    Rows of one instant never straddle a cut: they all go to the later side.
    """
    if not rows.has_times:
        raise DataError(
            "split is global-time, but the interactions have no timestamps",
            "choose data.split=leave-one-out, or name the column: data.columns.timestamp=...",
        )
    moments = [_moment(valid, "valid"), _moment(test, "test")]
    if all(isinstance(m, float) for m in moments):
        shares = [float(m) for m in moments]
        if sum(shares) >= 1:
            raise ConfigError(
                f"global-time: valid {valid} and test {test} leave nothing to train on",
                "give shares whose sum is below 1",
            )
        last = len(rows.times) - 1
        places = [min(last, round(len(rows.times) * k)) for k in (1 - sum(shares), 1 - shares[1])]
        cuts = [_at(rows, place) for place in places]
    elif all(isinstance(m, int) for m in moments):
        cuts = [int(m) for m in moments]
    else:
        raise ConfigError(
            f"global-time: valid is {valid!r} and test is {test!r}",
            "give two shares (0.1) or two UTC dates (2002-04-01)",
        )
    if cuts[0] > cuts[1]:
        raise ConfigError(
            f"global-time: validation begins at {valid}, after the test at {test}",
            "give the earlier date to valid",
        )
    return _each_block(partial(_cut, cuts=np.array(cuts)), rows)


def _cut(rows: OrderedRows, cuts: IntArray) -> LabelArray:
    return np.digitize(rows.times, cuts).astype(np.int8)


def _at(rows: OrderedRows, place: int) -> int:
    """The time that would stand at ``place`` if all stood in order; none is ever copied whole."""
    low, high = int(rows.times.min()), int(rows.times.max())
    while low < high:  # count the times in bins, and look into the one that holds the place
        wide = -(-(high - low + 1) // BINS)
        counts = np.zeros(BINS, dtype=np.int64)
        for part in blocks(rows.users, rows.times):
            times = rows.times[part]
            inside = times[(times >= low) & (times <= high)]
            counts += np.bincount((inside - low) // wide, minlength=BINS)
        found = int(np.searchsorted(np.cumsum(counts), place, side="right"))
        place -= int(counts[:found].sum())
        low, high = low + found * wide, min(high, low + (found + 1) * wide - 1)
    return low


def _each_block(rule: SplitRule, rows: OrderedRows, **args: object) -> LabelArray:
    """Codes of a rule that looks at each user alone, found block by block."""
    codes = np.empty(len(rows.users), dtype=np.int8)
    for part in blocks(rows.users, rows.labels, rows.times, rows.lines):
        given = None if rows.given is None else rows.given[part]
        lines = None if rows.lines is None else rows.lines[part]
        users = rows.users[part] - rows.users[part.start]
        block = OrderedRows(users, rows.labels[part], rows.times[part], rows.has_times, given, lines)
        codes[part] = rule(block, **args)
    return codes


def leave_one_out(rows: OrderedRows, likes: object = False, least: object = 3) -> LabelArray:
    """The last row of a user is the test, the one before it the validation, whatever their labels.

    Args:
        rows: of all users.
        likes: the last *liked* row of a user begins the test and the like before it the validation;
            what is not liked goes with the like before it.  For lists, which are judged by likes.
        least: users with fewer rows (of likes, where ``likes``) only train.
    """
    if not isinstance(likes, bool):
        raise ConfigError(
            f"leave-one-out: likes is {likes!r}; allowed: true or false", "set one of them"
        )
    if not isinstance(least, int) or isinstance(least, bool) or least < 3:
        raise ConfigError(
            f"leave-one-out: least is {least!r}; allowed: a whole number from 3 on",
            "write for example 4",
        )
    counted = (rows.labels == 1) if likes else np.ones(len(rows.users), dtype=bool)
    totals = np.bincount(rows.users, counted).astype(np.int64)
    done = np.cumsum(counted)  # counted rows up to each row, of all users
    from_end = np.cumsum(totals)[rows.users] - done  # 0 from a user's last counted row on
    codes = np.array([TEST, VALID, TRAIN], dtype=np.int8)[np.minimum(from_end, 2)]
    return np.where(totals[rows.users] >= least, codes, TRAIN).astype(np.int8)


def _utc(year: int, month: int) -> int:
    return int(dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp())


def collm(rows: OrderedRows) -> LabelArray:
    """The split of CoLLM (Zhang et al., arXiv 2310.19488) for MovieLens-1M, by UTC month.

    June 2001 to March 2002 train, to August 2002 validation, to January 2003 test; other rows are
    dropped, also from histories.  The label is rating > 3: 4 or more of whole stars.
    """
    if not rows.has_times:
        raise DataError(
            "split is collm, but the interactions have no timestamps",
            "use the source ml-1m, or choose data.split=given",
        )
    edges = np.array([_utc(2001, 6), _utc(2002, 4), _utc(2002, 9), _utc(2003, 2)])
    codes = np.array([DROPPED, TRAIN, VALID, TEST, DROPPED], dtype=np.int8)
    return codes[np.digitize(rows.times, edges)]


TALLREC_WINDOW, TALLREC_COUNTS = 10, (8000, 1000, 1000)


def tallrec(rows: OrderedRows) -> LabelArray:
    """The rows of TALLRec's movie set (Bao et al., arXiv 2305.00447) out of MovieLens-100K.

    Users come in the order of their first line in the file.  A row is a target once ten rows of its
    user stand before it; of all targets the last 10,000 are used: 8,000 to train, 1,000 to validate
    and 1,000 to test.  The first ten rows of these users are context, all others are dropped.  The
    history here is all that stands before the target; TALLRec's is the ten newest rows.
    """
    if rows.lines is None or not rows.has_times:
        raise DataError(
            "split is tallrec, but the rows lack their time or their place in the file",
            "use the source ml-100k, or set data.order=time and name the line number as order",
        )
    first = np.full(int(rows.users.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, rows.users, rows.lines)
    turn = np.lexsort((np.arange(len(rows.users)), first[rows.users]))
    begin = np.searchsorted(rows.users, rows.users)  # users stand together, in ascending order
    asked = turn[(np.arange(len(begin)) - begin)[turn] >= TALLREC_WINDOW]
    wanted = np.repeat(np.array([TRAIN, VALID, TEST], dtype=np.int8), TALLREC_COUNTS)
    if len(asked) < len(wanted):
        raise DataError(
            f"split is tallrec, but only {len(asked):,} rows have ten rows of their user before"
            f" them; needed: {len(wanted):,}",
            "use MovieLens-100K, or choose another data.split",
        )
    codes = np.full(len(rows.users), DROPPED, dtype=np.int8)
    codes[np.isin(rows.users, rows.users[asked[-len(wanted) :]])] = CONTEXT
    codes[asked[-len(wanted) :]] = wanted
    return codes


SPLITS: Mapping[str, SplitRule] = {
    "given": given,
    "global-time": global_time,
    "leave-one-out": leave_one_out,
    "collm": collm,
    "tallrec": tallrec,
}


BY_USER = (given, leave_one_out, collm)
"""Rules that look at one user at a time."""

SAID: Mapping[str, str] = {
    "given": "the log's own column",
    "global-time": "two moments for all users alike",
    "leave-one-out": "the last row of a user is the test, the row before it validation",
    "collm": "the months of CoLLM's split of MovieLens-1M",
    "tallrec": "the rows of TALLRec's split of MovieLens-100K",
    "update": "the newest of the rows that came since the run before",
}
"""What a rule does, in a few words."""


def split_rows(rows: OrderedRows, rule: str, args: Mapping[str, Any]) -> LabelArray:
    """Codes [N] of the named rule, checked: all three splits hold at least one row.

    Raises:
        ConfigError: an unknown rule or argument.
        DataError: the rule leaves a split empty.
    """
    function = resolve(rule, SPLITS, "data.split")
    if not callable(function):
        raise ConfigError(
            f"data.split is {rule!r}, which is no function", "name a function of the rows"
        )
    names = _arguments(function)
    for key in args:
        if key not in names:
            raise ConfigError(
                f"data.split_args has {key!r}; split {rule} takes:"
                f" {', '.join(names) or 'nothing'}{did_you_mean(key, names)}",
                "rename or remove it",
            )
    with called(rule):
        whole = _each_block(function, rows, **args) if function in BY_USER else function(rows, **args)
    codes = np.asarray(whole)
    if codes.dtype.kind not in "biuf":
        foreign = [str(codes.dtype)]
    else:
        foreign = sorted(set(np.unique(codes).tolist()) - {*NAMES.values(), CONTEXT, DROPPED})
    if codes.shape != rows.users.shape or foreign:
        raise ConfigError(
            f"split {rule} gave codes of shape {codes.shape} for {len(rows.users)} rows"
            + (f", with the values {foreign}" if foreign else ""),
            "give one of TRAIN, VALID, TEST, CONTEXT and DROPPED for every row",
        )
    codes = codes.astype(np.int8, copy=False)
    counts = {name: int((codes == code).sum()) for name, code in NAMES.items()}
    if min(counts.values()) == 0:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        other = next((f"set {setting_of(name, args)}" for name, _ in working_splits(rows)), "")
        raise DataError(
            f"split {rule} leaves a part without rows: {listed} of {len(codes):,}",
            other or "give more rows: a user with three rows is the least (data.split=leave-one-out)",
        )
    return codes


def working_splits(rows: OrderedRows) -> Iterator[tuple[str, LabelArray]]:
    """The rules without arguments of their own under which these rows fill all three splits."""
    for rule in ("leave-one-out", "global-time"):
        if rule == "leave-one-out" or rows.has_times:
            function = SPLITS[rule]
            codes = _each_block(function, rows) if function in BY_USER else function(rows)
            if all((codes == code).any() for code in NAMES.values()):
                yield rule, codes


def setting_of(rule: str, args: Mapping[str, Any]) -> str:
    """What to set for ``rule`` where ``args`` are set for another one."""
    return f"data.split={rule}" + (" and data.split_args={}" if args else "")


def _arguments(function: SplitRule) -> list[str]:
    """Names of what a rule takes besides the rows."""
    return list(inspect.signature(function).parameters)[1:]


def _moment(value: object, name: str) -> float | int:
    """A share as float, or the Unix second at which a UTC date begins as int."""
    if isinstance(value, float) and 0 < value < 1:
        return value
    try:
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime(value.year, value.month, value.day)
        if isinstance(value, dt.datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
            return int(aware.timestamp())
    except ValueError:
        pass
    raise ConfigError(
        f"data.split_args.{name} is {value!r}; allowed: a share between 0 and 1, or a UTC date",
        "write 0.1 or 2002-04-01",
    )
