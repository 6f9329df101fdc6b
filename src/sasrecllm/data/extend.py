"""From a prepared data set and the rows that came since to one data set: an update's.

Rows that are known already are recognised and count once, contradictions are refused, and the newest of
the new rows are what is judged: see docs/operations.md.  Old indices move, since ids stay sorted;
:class:`~sasrecllm.data.former.Former` says where to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.former import HELD, LEARNT, NEW, Former
from sasrecllm.data.ingest import values
from sasrecllm.data.ingest.feedback import Feedback, feedback_of, labels_of
from sasrecllm.data.ingest.quality import WARNING, set_aside, warnings_of
from sasrecllm.data.ingest.repeated_rows import policy_of, settle
from sasrecllm.data.ingest.validation import validate
from sasrecllm.data.interactions import ROW, Tables, ordered
from sasrecllm.data.known_rows import known_rows, row_in
from sasrecllm.data.log_facts import LogFacts
from sasrecllm.data.splits import CONTEXT, TEST, TRAIN, VALID
from sasrecllm.errors import DataError
from sasrecllm.seeds import NEW_USERS
from sasrecllm.types import UNKNOWN, BoolArray, IntArray, LabelArray

ENOUGH = 500
"""Validation rows; where the new rows give fewer, the newest held-out old ones stay among them."""
FEW = 100
"""Test rows; where their share of the new rows is less, it is up to a quarter of them."""


OTHER_SPLIT, MORE_ROWS = ": set data.split=", ": give more new rows at once"
"""What is said of few rows where they are divided by a setting, and what can be done here."""


@dataclass(frozen=True)
class Learnt:
    """How a run divided its users.

    Args:
        folds: [U] which fold encoder never saw each.
        n_folds: how many there are.
        kept: [U] whom the language model never saw.
        share: of the users whom it shall not see.
    """

    folds: IntArray
    n_folds: int
    kept: BoolArray
    share: float


@dataclass(frozen=True)
class NewRows:
    """Rows [M] that are new, in the order of their times and of the file.

    Args:
        users, items: raw ids.
        labels: 1 liked, 0 not.
        times: Unix seconds, or the place among them where the data has only an order.
    """

    users: list[str]
    items: list[str]
    labels: LabelArray
    times: IntArray


def kind_of(old: Dataset) -> Feedback:
    """What the rows of a prepared data set said when it was prepared."""
    if old.log is not None and old.log.feedback in ("labels", "ratings", "implicit"):
        return old.log.feedback  # type: ignore[return-value]
    return "implicit" if old.implicit else "labels"


def extend(
    old: Dataset,
    tables: Tables,
    learnt: Learnt,
    *,
    settings: Mapping[str, Any],
    valid: float = 0.1,
    test: float = 0.1,
    quarantine_path: Path | None = None,
    forgotten: Callable[[str], int | None] = lambda _: None,
) -> Dataset:
    """``old`` with the rows and items of ``tables`` that it does not know.

    Of the new rows the newest are the test, a share of ``test`` or, of few, up to a quarter; ``valid``
    before them are validation, the rest training rows.  What was held out of the old rows is learnt
    from now, but for the newest of it where validation would have fewer than ``ENOUGH`` rows.

    Args:
        settings: ``feedback``, ``threshold``, ``repeats`` and ``on_bad_rows`` of the data section.
        forgotten: user -> when he was forgotten, None where he was not; his earlier rows stay out.

    Raises:
        DataError: the tables are invalid, contradict what is known, or hold nothing new.
    """
    kind = feedback_of(settings["feedback"], tables, items=not tables.items.is_empty())
    _refuse_timeless(old, tables)
    if not old.has_times and "timestamp" in tables.interactions.columns:
        tables = replace(tables, interactions=tables.interactions.drop("timestamp"), order="file")
    policy = policy_of(settings["repeats"], kind)
    checked, refused = validate(
        tables,
        on_bad_rows=settings["on_bad_rows"],
        quarantine_path=quarantine_path,
        repeats=policy,
        known=old.catalog.item_ids,
    )
    checked, _ = settle(checked, policy)
    catalog = _with_items(old.catalog, checked, tables)
    frame = ordered(checked).with_columns(labels_of(kind, settings["threshold"]))
    frame, barred = _without_forgotten(frame, forgotten)
    known = known_rows(old, frame, tables)
    new = _new_rows(old, frame.filter(~known))
    if not len(new.users):
        raise NothingNew(tables.files[0], len(known))
    remarks = [f"{barred:,} rows are of users who were forgotten since: left out"] if barred else []
    remarks += [f"{refused:,} bad rows were set aside in {quarantine_path}"] if refused else []
    remarks += [*checked.notes, *_unknown_columns(old.catalog, checked)]
    remarks += _nearly_known(old.catalog, frame["user_id"].unique().cast(pl.String).to_list(), tables)
    return _merged(old, new, catalog, learnt, (valid, test), int(known.sum()), remarks)


def _nearly_known(old: Catalog, users: list[str], tables: Tables) -> list[str]:
    """A note of new users who may be known ones, spelt otherwise."""
    known = {user.strip().casefold(): user for user in old.user_ids if user}
    unknown = [users[at] for at in np.flatnonzero(old.user_index(users) == UNKNOWN)]
    odd = sorted(user for user in unknown if user.strip().casefold() in known)
    if not odd:
        return []
    where = f"{Path(tables.files[0]).name}, column {tables.columns[0].name('user_id')}"
    meant = known[odd[0].strip().casefold()]
    return [
        f"{where}: {len(odd):,} new users differ from known ones in case or by a space alone"
        f" (for example {odd[0]!r} from {meant!r}): they are different users"
    ]


def _without_forgotten(
    frame: pl.DataFrame, forgotten: Callable[[str], int | None]
) -> tuple[pl.DataFrame, int]:
    """The rows without those of forgotten users from before they were, and how many those are."""
    users = frame["user_id"].cast(pl.String)
    moments = {user: at for user in users.unique().to_list() if (at := forgotten(user)) is not None}
    if not moments:
        return frame, 0
    until = users.replace_strict(moments, default=None, return_dtype=pl.Int64)
    gone = until.is_not_null()
    if "timestamp" in frame.columns:
        gone &= (frame["timestamp"] < until).fill_null(False)
    return frame.filter(~gone), int(gone.sum())


class NothingNew(DataError):
    """Every row of the tables is known already."""

    def __init__(self, file: str, rows: int) -> None:
        super().__init__(
            f"{file}: all of its {rows:,} rows are known already",
            "nothing needs to be updated; give rows that came since",
        )


def _refuse_timeless(old: Dataset, tables: Tables) -> None:
    if old.has_times and "timestamp" not in tables.interactions.columns:
        name = tables.columns[0].name
        unused = [c for c, kind in tables.columns[0].unused.items() if kind == "timestamp"]
        raise DataError(
            f"{tables.files[0]} has no {name('timestamp')} column, but the rows of the run have times",
            f"name it: 'data.columns.timestamp={unused[0] if unused else '<name in your file>'}'",
        )


def _with_items(old: Catalog, checked: Tables, tables: Tables) -> Catalog:
    """The catalogue with the new items at its end; refuses another title of a known one."""
    items = checked.items
    index = old.item_index(items["item_id"].to_list())
    titles = items["title"].to_list()
    for place in np.flatnonzero(index != UNKNOWN):
        there = old.title(int(index[place]))
        if titles[place] != there:
            raise _other_title(items["item_id"][int(place)], there, titles[place], tables)
    fresh = items.filter(pl.Series(index == UNKNOWN))
    names = [c for c in fresh.columns if c not in ("item_id", "title")]
    attributes = [dict(zip(names, row, strict=True)) for row in fresh.select(names).rows()]
    given = attributes if names else [{} for _ in range(len(fresh))]
    return old.extended(fresh["item_id"].to_list(), fresh["title"].to_list(), given)


def _unknown_columns(old: Catalog, checked: Tables) -> list[str]:
    """A note of the columns of new items that the run's items do not have."""
    names = [c for c in checked.items.columns if c not in ("item_id", "title", *old.attributes)]
    if not names:
        return []
    known = ", ".join(old.attributes) or "none"
    return [
        f"columns of new items that the run does not know are left out: {', '.join(names)}"
        f" (it knows: {known})"
    ]


def _other_title(item: str, there: str, here: str, tables: Tables) -> DataError:
    columns, raw = tables.columns[1], tables.items
    where = values.ids(raw["item_id"], tables.files[1]).to_list().index(item)
    row = int(raw[ROW][where]) if ROW in raw.columns else where
    return DataError(
        f"{tables.files[1]}, {row_in(row, columns)}, column {columns.name('title')}: item"
        f" {item!r} is {here!r}; in the run it is {there!r}",
        "leave the item out or give it the run's title; a run with other titles is trained from the"
        " start (sasrecllm run)",
    )


def _new_rows(old: Dataset, frame: pl.DataFrame) -> NewRows:
    """Plain values of the rows that are left, in the order of their times."""
    if old.has_times:
        frame = frame.sort("timestamp", maintain_order=True)
        times = frame["timestamp"].cast(pl.Int64).to_numpy()
    else:
        left = pl.int_range(pl.len(), dtype=pl.Int64).reverse().over("user_id")  # rows behind it
        frame = frame.with_columns((left.max() - left).alias("__at")).sort("__at", maintain_order=True)
        times = frame["__at"].to_numpy()
    return NewRows(
        frame["user_id"].cast(pl.String).to_list(),
        frame["item_id"].cast(pl.String).to_list(),
        frame["label"].to_numpy(),
        times,
    )


def _merged(
    old: Dataset,
    new: NewRows,
    grown: Catalog,
    learnt: Learnt,
    shares: tuple[float, float],
    known: int,
    remarks: list[str],
) -> Dataset:
    """Both in one data set, indexed and divided anew."""
    catalog, item_of = _sorted_items(grown)
    there = [raw for raw in old.catalog.user_ids if raw]
    names = sorted({*there, *new.users})
    catalog = replace(catalog, user_ids=names)
    user_of = catalog.user_index(old.catalog.user_ids)  # UNKNOWN where one was forgotten
    users = np.concatenate([user_of[old.users], catalog.user_index(new.users)])
    items = np.concatenate([item_of[old.items], catalog.item_index(new.items)])
    codes, kinds = _divided(old, len(new.users), *shares)
    times = np.concatenate([old.times, new.times])
    if not old.has_times:  # behind what the user had done
        times[len(old) :] += int(old.times.max(initial=-1)) + 1
    order = np.lexsort((np.arange(len(times)), times, users))
    held_items, held_users = item_of[old.held_items], user_of[old.held_users]
    held = np.isin(items, held_items) | np.isin(users, held_users)
    codes = np.where(held & ((codes == TRAIN) | (codes == VALID)), CONTEXT, codes)
    data = replace(
        old,
        users=users[order],
        items=items[order],
        labels=np.concatenate([old.labels, new.labels]).astype(np.int8)[order],
        times=times[order],
        splits=codes.astype(np.int8)[order],
        catalog=catalog,
        notes=(),
        held_items=np.sort(held_items),
        held_users=np.sort(held_users),
        log=replace(old.log or LogFacts(kind_of(old), ""), split="update", ratings=()),
        former=_former(old, catalog, kinds[order], learnt),
    )
    if not data.has_times:
        data = replace(data, times=np.arange(len(data)) - data.starts[data.users])
    new_users = len(names) - len(there)
    return replace(data, notes=_notes(old, data, len(new.users), new_users, known, remarks))


def _notes(
    old: Dataset, data: Dataset, new_rows: int, new_users: int, known: int, remarks: list[str]
) -> tuple[str, ...]:
    """What a reader must know of both together: what came, what was known, what to do about it."""
    more = data.n_items - old.n_items
    said = f"{new_rows:,} new rows beside {len(old):,} old ones, {more:,} new items,"
    said += f" {new_users:,} new users"
    notes = [said] + ([f"{known:,} given rows were known already"] if known else [])
    notes += remarks + set_aside(data)
    cut = [text.partition(OTHER_SPLIT) for text in warnings_of(data, {})]
    warnings = [f"{WARNING}{what}{MORE_ROWS if other else ''}" for what, other, _ in cut]
    return (*notes, *warnings)


def _sorted_items(grown: Catalog) -> tuple[Catalog, IntArray]:
    """The catalogue in the order of its ids, and the place of each old index in it."""
    order = np.array(sorted(range(grown.n_items), key=grown.item_ids.__getitem__), dtype=np.int64)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    picked = {name: [column[i] for i in order] for name, column in grown.attributes.items()}
    return replace(
        grown,
        item_ids=[grown.item_ids[i] for i in order],
        titles=[grown.titles[i] for i in order],
        attributes=picked,
    ), places


def _divided(old: Dataset, count: int, valid: float, test: float) -> tuple[LabelArray, LabelArray]:
    """Codes of the old rows, and of ``count`` new ones, oldest first, behind them; what each was."""
    last = max(1, round(test * count), min(FEW, count // 4))
    before = round(valid * count)
    new = np.full(count, TRAIN, dtype=np.int8)
    new[count - last :] = TEST
    new[max(0, count - last - before) : count - last] = VALID
    codes = old.splits.copy()
    held = np.flatnonzero((codes == VALID) | (codes == TEST))
    newest = held[np.argsort(old.times[held], kind="stable")]
    stay = min(len(newest), max(0, ENOUGH - before))
    codes[newest[: len(newest) - stay]] = TRAIN
    codes[newest[len(newest) - stay :]] = VALID
    kinds = np.where(old.splits == TRAIN, LEARNT, HELD).astype(np.int8)
    return np.concatenate([codes, new]), np.concatenate([kinds, np.full(count, NEW, dtype=np.int8)])


def _former(old: Dataset, catalog: Catalog, rows: LabelArray, learnt: Learnt) -> Former:
    """Where everything stood; users who are new are dealt out to folds and to the language model."""
    users = old.catalog.user_index(catalog.user_ids)
    rng = np.random.default_rng([old.seed, NEW_USERS, catalog.n_users])
    dealt = rng.integers(0, max(1, learnt.n_folds), catalog.n_users)
    spared = rng.random(catalog.n_users) < learnt.share
    new, place = users == UNKNOWN, np.maximum(users, 0)
    return Former(
        rows=rows,
        items=old.catalog.item_index(catalog.item_ids),
        users=users,
        folds=np.where(new, dealt, learnt.folds[place]),
        kept=np.where(new, spared, learnt.kept[place]),
        catalog=old.catalog.digest,
    )
