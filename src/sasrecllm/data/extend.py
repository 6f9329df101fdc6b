"""From a prepared data set and the rows that came since to one data set: an update's.

Rows that are known already are recognised and count once, contradictions are refused, and the newest of
the new rows are what is judged: see docs/operations.md.  Old indices move, since ids stay sorted;
:class:`~sasrecllm.data.former.Former` says where to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.former import Former
from sasrecllm.data.ingest import values
from sasrecllm.data.ingest.feedback import Feedback, feedback_of, labels_of
from sasrecllm.data.ingest.quality import WARNING, set_aside, warnings_of
from sasrecllm.data.ingest.repeats import policy_of, settle
from sasrecllm.data.ingest.validation import validate
from sasrecllm.data.interactions import ROW, Tables, ordered
from sasrecllm.data.log_facts import LogFacts
from sasrecllm.data.splits import CONTEXT, TEST, TRAIN, VALID
from sasrecllm.errors import DataError
from sasrecllm.seeds import NEW_USERS
from sasrecllm.types import UNKNOWN, BoolArray, IntArray, LabelArray

ENOUGH = 500
"""Rows of a validation or test slice; where the new rows have fewer, held-out old ones stay in it."""


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
) -> Dataset:
    """``old`` with the rows and items of ``tables`` that it does not know.

    Of the new rows the newest ``test`` are the test, ``valid`` before them the validation, the rest
    training rows; old held-out rows are training rows now, but for those that fill a slice of fewer
    than ``ENOUGH`` rows: rows of the old test the test, of the old validation the validation.

    Args:
        settings: ``feedback``, ``threshold``, ``repeats`` and ``on_bad_rows`` of the data section.

    Raises:
        DataError: the tables are invalid, contradict what is known, or hold nothing new.
    """
    kind = feedback_of(settings["feedback"], tables.interactions.columns, tables.files[0])
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
    known = _known(old, frame, tables)
    new = _new_rows(old, frame.filter(~known))
    if not len(new.users):
        raise NothingNew(tables.files[0], len(known))
    remarks = [f"{refused:,} bad rows were set aside in {quarantine_path}"] if refused else []
    return _merged(old, new, catalog, learnt, (valid, test), int(known.sum()), remarks)


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


def _other_title(item: str, there: str, here: str, tables: Tables) -> DataError:
    columns, raw = tables.columns[1], tables.items
    where = values.ids(raw["item_id"], tables.files[1]).to_list().index(item)
    row = int(raw[ROW][where]) if ROW in raw.columns else where
    return DataError(
        f"{tables.files[1]}, row {row + columns.first_row}, column {columns.name('title')}: item"
        f" {item!r} is {here!r}; in the run it is {there!r}",
        "leave the item out or give it the run's title; a run with other titles is trained from the"
        " start (sasrecllm run)",
    )


def _known(old: Dataset, frame: pl.DataFrame, tables: Tables) -> pl.Series:
    """Which rows of ``frame`` the data set has already.

    A row is known by user, item, moment and label, as often as it stands there.  Without times it is
    known by user and item, where no user has met an item twice; else every row is new.

    Raises:
        DataError: a row of a known user, item and moment says otherwise than the known one.
    """
    users, items = old.catalog.user_index, old.catalog.item_index
    asked = pl.DataFrame(
        {
            "user": users(frame["user_id"].cast(pl.String).to_list()),
            "item": items(frame["item_id"].cast(pl.String).to_list()),
            "label": frame["label"],
            "row": frame[ROW],
        }
    )
    there = pl.DataFrame({"user": old.users, "item": old.items, "label": old.labels})
    key = ["user", "item"]
    if old.has_times:
        asked = asked.with_columns(frame["timestamp"].cast(pl.Int64).alias("time"))
        there = there.with_columns(pl.Series("time", old.times))
        key.append("time")
    elif there.select(key).is_duplicated().any():
        return pl.Series([False] * frame.height, dtype=pl.Boolean)
    again = pl.int_range(pl.len()).over(*key, "label").alias("nth")
    asked, there = asked.with_columns(again), there.with_columns(again)
    exact = [*key, "label", "nth"]
    marked = asked.join(
        there.with_columns(pl.lit(True).alias("known")), on=exact, how="left", maintain_order="left"
    )
    known = marked["known"].fill_null(False)
    other = asked.filter(~known).join(there.select(key).unique(), on=key, how="semi")
    wrong = other.join(there, on=[*key, "label"], how="anti").sort("row")
    if wrong.height:
        raise _contradiction(old, wrong, frame, tables)
    return known


def _contradiction(old: Dataset, wrong: pl.DataFrame, frame: pl.DataFrame, tables: Tables) -> DataError:
    first = wrong.row(0, named=True)
    columns = tables.columns[0]
    said = next((c for c in ("label", "rating") if c in tables.interactions.columns), "label")
    value = frame.filter(pl.col(ROW) == first["row"])[said][0]
    user, item = old.catalog.user_id(first["user"]), old.catalog.item_id(first["item"])
    more = f"; {wrong.height:,} rows contradict the run" if wrong.height > 1 else ""
    moment = f" at {columns.name('timestamp')} {first['time']}" if "time" in first else ""
    liked = ("liked", "not liked")
    return DataError(
        f"{tables.files[0]}, row {first['row'] + columns.first_row}, column {columns.name(said)}:"
        f" {value} of {columns.name('user_id')} {user!r} on {columns.name('item_id')} {item!r}{moment}"
        f" means {liked[first['label'] == 0]}; the run has it as {liked[first['label'] == 1]}{more}",
        "remove the row; a user who changed his mind did so at a later moment",
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
    codes, fresh = _divided(old, len(new.users), *shares)
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
        former=_former(old, catalog, fresh[order], learnt),
    )
    if not data.has_times:
        data = replace(data, times=np.arange(len(data)) - data.starts[data.users])
    fresh_items = catalog.n_items - old.n_items
    said = f"{len(new.users):,} new rows beside {len(old):,} old ones, {fresh_items:,} new items,"
    said += f" {len(names) - len(there):,} new users"
    notes = [said] + ([f"{known:,} given rows were known already"] if known else [])
    notes += remarks + set_aside(data)
    return replace(data, notes=(*notes, *(WARNING + text for text in warnings_of(data, {}))))


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


def _divided(old: Dataset, count: int, valid: float, test: float) -> tuple[LabelArray, BoolArray]:
    """Codes of the old rows, and of ``count`` new ones, oldest first, behind them; which are fresh."""
    asked = {TEST: max(1, round(test * count)), VALID: round(valid * count)}
    codes = np.full(count, TRAIN, dtype=np.int8)
    codes[count - asked[TEST] :] = TEST
    codes[max(0, count - asked[TEST] - asked[VALID]) : count - asked[TEST]] = VALID
    before = old.splits.copy()
    for code, given in asked.items():
        rows = np.flatnonzero(old.splits == code)
        newest = rows[np.argsort(old.times[rows], kind="stable")]
        left = max(0, ENOUGH - given)
        before[newest[: max(0, len(newest) - left)]] = TRAIN
    fresh = np.concatenate([old.splits != TRAIN, np.ones(count, dtype=bool)])
    return np.concatenate([before, codes]), fresh


def _former(old: Dataset, catalog: Catalog, fresh: BoolArray, learnt: Learnt) -> Former:
    """Where everything stood; users who are new are dealt out to folds and to the language model."""
    users = old.catalog.user_index(catalog.user_ids)
    rng = np.random.default_rng([old.seed, NEW_USERS, catalog.n_users])
    dealt = rng.integers(0, max(1, learnt.n_folds), catalog.n_users)
    spared = rng.random(catalog.n_users) < learnt.share
    new, place = users == UNKNOWN, np.maximum(users, 0)
    return Former(
        fresh=fresh,
        items=old.catalog.item_index(catalog.item_ids),
        users=users,
        folds=np.where(new, dealt, learnt.folds[place]),
        kept=np.where(new, spared, learnt.kept[place]),
        catalog=old.catalog.digest,
    )
