"""A data set and the rows that came since: known ones recognised, contradictions refused."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.extend import Learnt, NothingNew, extend
from sasrecllm.data.former import HELD, LEARNT, NEW
from sasrecllm.data.ingest.frames import lent
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.splits import TEST, TRAIN, VALID
from sasrecllm.errors import DataError
from sasrecllm.types import UNKNOWN

DAY = 86_400
START = 1_600_000_000
NAMES = {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "at", "title": "name"}
SETTINGS = {"feedback": "ratings", "threshold": 4.0, "repeats": "auto", "on_bad_rows": "refuse"}


def frame(rows):
    return pl.DataFrame(rows, ["who", "what", "stars", "at"], orient="row")


def shelf(ids):
    return pl.DataFrame({"what": ids, "name": [f"Title {i}" for i in ids]})


def tables(rows, items=None, columns=NAMES, untitled=True, **more):
    with lent(rows, items) as data:
        return load_tables(
            data["source"], path=data["path"], items_path=data.get("items_path"), columns=columns,
            untitled=untitled, **more,
        )  # fmt: skip


def first_day(users=20, items=12):
    return [
        (f"u{u:02d}", f"i{i:02d}", 5 if (u + i) % 2 else 2, START + DAY * n + u)
        for u in range(users)
        for n, i in enumerate(np.random.default_rng(u).permutation(items)[:6])
    ]


@pytest.fixture(scope="module")
def old():
    ids = [f"i{n:02d}" for n in range(12)]
    return prepare(tables(frame(first_day()), shelf(ids), untitled=False), feedback="ratings")


def learnt(data, folds=2, share=0.0):
    nobody = np.zeros(data.n_users, dtype=bool)
    return Learnt(np.arange(data.n_users) % folds, folds, nobody, share)


def grown(old, rows, items=None, **changes):
    return extend(old, tables(frame(rows), items), learnt(old), settings=SETTINGS | changes)


def later(count, users=20, items=12, start=START + 30 * DAY):
    return [
        (f"u{n % users:02d}", f"i{(n * 5 + n // users) % items:02d}", 5 if n % 3 else 1, start + 60 * n)
        for n in range(count)
    ]


def rows_of(data):
    """Every row in raw ids."""
    user, item = data.catalog.user_id, data.catalog.item_id
    return {
        (user(u), item(i), int(label), int(t))
        for u, i, label, t in zip(
            data.users.tolist(), data.items.tolist(), data.labels, data.times, strict=True
        )
    }


def test_old_and_new_rows_stand_together_and_old_indices_are_found_again(old):
    newest = [("a newcomer", "i01", 5, START + 31 * DAY), ("u03", "another", 5, START + 32 * DAY)]
    rows = [*later(40), *newest]
    both = grown(old, rows, shelf(["another", "i03"]))
    assert rows_of(both) == rows_of(old) | {
        (user, item, int(stars >= 4), at) for user, item, stars, at in rows
    }
    assert both.catalog.item_ids == sorted([*old.catalog.item_ids, "another"])
    assert both.catalog.user_ids == sorted([*old.catalog.user_ids, "a newcomer"])
    former = both.former
    for new, there in ((both.catalog.item_ids, former.items), (both.catalog.user_ids, former.users)):
        ids = old.catalog.item_ids if new is both.catalog.item_ids else old.catalog.user_ids
        assert [ids[n] if n != UNKNOWN else None for n in there] == [
            raw if raw in ids else None for raw in new
        ]
    assert former.catalog == old.catalog.digest
    assert both.catalog.title(int(both.catalog.item_index(["another"])[0])) == "Title another"


def test_the_newest_rows_are_judged_and_what_was_held_out_is_learnt(old):
    both = grown(old, later(200))
    new = both.former.rows == NEW
    assert new.sum() == 200 and (both.splits[new] == TEST).sum() == 50  # a quarter, of so few
    assert set(both.splits[both.splits == TEST]) == {TEST} and new[both.splits == TEST].all()
    newest = both.times[both.splits == TEST].min()
    assert (both.times[new & (both.splits != TEST)] < newest).all()
    valid = both.times[new & (both.splits == VALID)]
    assert len(valid) == 20 and valid.min() > both.times[new & (both.splits == TRAIN)].max()
    # No old row that was learnt from is asked about now, and of the held-out ones the newest are.
    assert (both.splits[both.former.rows == LEARNT] == TRAIN).all()
    assert (old.splits != TRAIN).sum() == (both.former.rows == HELD).sum()
    assert (both.splits[both.former.rows == HELD] == VALID).all()


def test_of_many_new_rows_a_tenth_is_the_test_and_old_ones_need_not_help(old):
    many = extend(
        old,
        tables(frame(later(6000, users=200))),
        learnt(old),
        settings=SETTINGS,
        valid=0.1,
        test=0.1,
    )
    new = many.former.rows == NEW
    assert [(many.splits[new] == code).sum() for code in (TEST, VALID)] == [600, 600]
    assert (many.splits[~new] == TRAIN).all()


def test_rows_that_are_known_already_count_once(old):
    fresh = later(30)
    both = grown(old, first_day() + fresh)
    assert rows_of(both) == rows_of(grown(old, fresh))
    assert any("120 given rows were known already" in note for note in both.notes)
    again = extend(both, tables(frame(fresh + later(5, start=START + 60 * DAY))), learnt(both),
                   settings=SETTINGS)  # fmt: skip
    assert len(again) == len(both) + 5


def test_attributes_of_new_items_are_those_that_the_run_knows():
    shelves = shelf([f"i{n:02d}" for n in range(12)]).with_columns(pl.lit("drama").alias("genre"))
    old = prepare(tables(frame(first_day()), shelves, untitled=False), feedback="ratings")
    more = pl.DataFrame({"what": ["x"], "name": ["New"], "genre": ["war"], "price": ["9"]})
    both = grown(old, [*later(20), ("u01", "x", 5, START + 40 * DAY)], more)
    assert both.catalog.attributes == {"genre": ["drama"] * 12 + ["war"]}
    assert any("left out: price (it knows: genre)" in note for note in both.notes)


@pytest.mark.parametrize(
    "of_items",
    [{"title": "name"}, {"items.title": "name"}, {"items.title": "n", "items.item_id": "no"}],
)
def test_names_of_the_items_file_are_no_duty_of_new_rows_alone(old, of_items):
    """A run that has them is updated with rows of known items, and with new items under these names."""
    names = {ours: NAMES[ours] for ours in ("user_id", "item_id", "rating", "timestamp")} | of_items
    rows = [(u, i, s, t) for u, i, s, t in later(30)]
    both = extend(old, tables(frame(rows), columns=names), learnt(old), settings=SETTINGS)
    assert len(both) == len(old) + 30
    new = shelf(["x"]).rename({"name": names.get("items.title", "name")})
    new = new.rename({"what": names.get("items.item_id", "what")})
    rows += [("u01", "x", 5, START + 50 * DAY)]
    both = extend(old, tables(frame(rows), new, columns=names), learnt(old), settings=SETTINGS)
    assert "Title x" in both.catalog.titles


def test_of_few_rows_it_is_said_that_more_would_help(old):
    few = grown(old, later(3))
    assert any("give more new rows at once" in note for note in few.notes)
    assert not any("data.split" in note for note in few.notes)


def test_new_users_who_may_be_known_ones_are_named(old):
    rows = later(60)
    spelt = [(user.upper() if n == 3 else f"{user} " if n == 7 else user, *rest)
             for n, (user, *rest) in enumerate(rows)]  # fmt: skip
    said = [note for note in grown(old, spelt).notes if "differ from known ones" in note]
    assert len(said) == 1 and "column who: 2 new users" in said[0] and "'U03' from 'u03'" in said[0]
    others = [(f"new {n}" if n == 3 else user, *rest) for n, (user, *rest) in enumerate(rows)]
    assert not any("differ from known ones" in note for note in grown(old, others).notes)


def test_nothing_new_is_said_and_changes_nothing(old):
    with pytest.raises(NothingNew, match="all of its 120 rows are known already"):
        grown(old, first_day())


def test_an_event_that_came_twice_before_may_come_a_third_time():
    rows = [("u", f"i{n}", START + n) for n in range(6)] + [("u", "i0", START), ("v", "i1", START + 9)]
    rows += [("v", f"i{n}", START + 10 + n) for n in range(4)]
    names = ["who", "what", "at"]
    columns = {k: v for k, v in NAMES.items() if k != "rating"}
    log = pl.DataFrame(rows, names, orient="row")
    shelves = shelf([f"i{n}" for n in range(6)])
    old = prepare(tables(log, shelves, columns, False), feedback="implicit", negatives=1)
    assert len(old) == 12
    more = pl.DataFrame([*[("u", "i0", START)] * 3, ("v", "i5", START + 99)], names, orient="row")
    both = extend(old, tables(more, None, columns), learnt(old),
                  settings=SETTINGS | {"feedback": "implicit"})  # fmt: skip
    assert len(both) == len(old) + 2  # the third of the user's event, and the other one


def test_a_contradiction_is_refused_with_its_row_in_the_words_of_the_file(old):
    user, item, stars, at = first_day()[7]
    rows = [*later(3), (user, item, 1 if stars >= 4 else 5, at)]
    with pytest.raises(DataError) as refused:
        grown(old, rows)
    assert "the interactions frame, row 3 (counted from 0), column stars" in refused.value.what
    assert f"who '{user}' on what '{item}' at at {at}" in refused.value.what
    assert "remove the row" in refused.value.remedy


def test_another_title_of_a_known_item_is_refused(old):
    items = pl.DataFrame({"what": ["x", "i04"], "name": ["New", "Another title"]})
    with pytest.raises(DataError) as refused:
        grown(old, later(30), items)
    assert "the items frame, row 1 (counted from 0), column name" in refused.value.what
    assert "'Another title'; in the run it is 'Title i04'" in refused.value.what


def test_an_item_that_nobody_knows_is_refused_with_the_way_to_give_it(old):
    with pytest.raises(DataError) as refused:
        grown(old, [*later(3), ("u01", "unheard of", 5, START + 40 * DAY)])
    assert (
        "row 3 (counted from 0), column what" in refused.value.what
        and "--items" in refused.value.remedy
    )


def test_titles_may_stand_in_the_rows_and_need_not_for_known_items(old):
    rows = frame([*later(3), ("u01", "brand new", 5, START + 40 * DAY)])
    titled = rows.with_columns(pl.Series("name", [None, None, "Title i10", "Brand new"]))
    both = extend(old, tables(titled), learnt(old), settings=SETTINGS)
    assert "Brand new" in both.catalog.titles and both.n_items == old.n_items + 1


def test_times_are_needed_where_the_run_has_them(old):
    rows = frame(later(5)).drop("at")
    columns = {k: v for k, v in NAMES.items() if k != "timestamp"}
    with pytest.raises(DataError, match="no timestamp column, but the rows of the run have times"):
        extend(old, tables(rows, None, columns), learnt(old), settings=SETTINGS)


def test_a_row_that_comes_late_stands_where_it_belongs(old):
    late = ("u05", "i11", 5, START + 100)
    taken = {(u, i) for u, i, *_ in first_day()}
    if ("u05", "i11") in taken:  # the moment is another one, so it is another row all the same
        late = (*late[:3], START + 101)
    both = grown(old, [late, *later(40)])
    user = int(both.catalog.user_index(["u05"])[0])
    times = both.times[both.users == user]
    assert (np.diff(times) >= 0).all()
    place = (both.users == user) & (both.times == late[3])
    assert place.sum() == 1 and both.splits[place] == [TRAIN]


def test_without_times_new_rows_stand_behind_the_old_ones_in_the_order_of_the_file():
    rows = [(f"u{u}", f"i{(u + n) % 9}", 5 if n % 2 else 1) for u in range(12) for n in range(5)]
    columns = {k: v for k, v in NAMES.items() if k != "timestamp"}
    names = ["who", "what", "stars"]
    old = prepare(
        tables(pl.DataFrame(rows, names, orient="row"), shelf([f"i{n}" for n in range(9)]), columns,
               False, order="file"),
        feedback="ratings",
    )  # fmt: skip
    more = [("u3", "i1", 5), ("u4", "i2", 5), ("u3", "i2", 1), ("u3", "i3", 1), ("u3", "i8", 1)]
    new = tables(pl.DataFrame(more, names, orient="row"), None, columns, order="file")
    both = extend(old, new, learnt(old), settings=SETTINGS)
    user = int(both.catalog.user_index(["u3"])[0])
    items = [both.catalog.item_id(i) for i in both.items[both.users == user]]
    # i3 is what u3 met before, with the same label: known
    assert items == ["i3", "i4", "i5", "i6", "i7", "i1", "i2", "i8"]
    assert both.times[both.users == user].tolist() == list(range(8))
    (asked,) = np.flatnonzero(both.splits == TEST)
    assert asked + 1 in both.starts  # the last row of its user


def test_users_keep_their_fold_and_new_ones_are_dealt_one(old):
    rows = later(40) + [(f"new {n}", "i01", 5, START + 31 * DAY + n) for n in range(40)]
    both = grown(old, rows)
    there = both.former.users
    np.testing.assert_array_equal(both.former.folds[there >= 0], there[there >= 0] % 2)
    assert set(both.former.folds[there < 0]) == {0, 1}


def test_it_is_kept_and_read_again_and_a_forgotten_user_takes_his_rows_along(old, tmp_path):
    both = grown(old, later(40))
    both.save(tmp_path / "data")
    read = Dataset.load(tmp_path / "data")
    assert read.digest == both.digest
    for name in ("rows", "items", "users", "folds", "kept"):
        np.testing.assert_array_equal(getattr(read.former, name), getattr(both.former, name))
    assert read.former.catalog == both.former.catalog
    left = both.without_users(np.array([2]))
    assert len(left.former.rows) == len(left)
    left.save(tmp_path / "left")
    assert len(Dataset.load(tmp_path / "left").former.rows) == len(left)


def test_who_was_forgotten_before_has_no_place_afterwards(old):
    gone = old.without_users(np.array([3]))
    both = extend(gone, tables(frame([r for r in later(40) if r[0] != "u03"])), learnt(gone),
                  settings=SETTINGS)  # fmt: skip
    assert "" not in both.catalog.user_ids and "u03" not in both.catalog.user_ids
    assert rows_of(both) >= rows_of(gone)


def test_held_out_items_stay_held_out(old):
    held = replace(old, held_items=old.catalog.item_index(["i02"]))
    both = grown(held, later(60))
    index = int(both.catalog.item_index(["i02"])[0])
    assert both.held_items.tolist() == [index]
    assert not np.isin(both.splits[both.items == index], (TRAIN, VALID)).any()
