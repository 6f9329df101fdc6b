from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.dataset import CONTEXT, Dataset
from sasrecllm.data.interactions import Tables
from sasrecllm.data.negatives import Unmet
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import ConfigError, DataError

HARD_IDS = ["007", "7", "1e5", "NaN", "🎬", "18446744073709551617", " x ", "e\u0301", "\u00e9"]


def log(seed: int, users: int = 12, items: int = 30, rows: int = 240) -> list[tuple]:
    rng = random.Random(seed)
    pairs = rng.sample([(u, i) for u in range(users) for i in range(items)], rows)
    return [(f"u{u}", f"i{i}", rng.randint(0, 1), rng.randint(0, 60)) for u, i in pairs]


def as_tables(rows: list[tuple], columns: str = "user_id item_id label timestamp") -> Tables:
    frame = pl.DataFrame(rows, schema=columns.split(), orient="row")
    ids = sorted(set(frame["item_id"]))
    return Tables(frame, pl.DataFrame({"item_id": ids, "title": [f"T {i}" for i in ids]}), "log")


def spelled(dataset: Dataset) -> list[tuple]:
    names = dataset.catalog
    return [
        (names.user_id(u), names.item_id(i), int(y), int(t))
        for u, i, y, t in zip(dataset.users, dataset.items, dataset.labels, dataset.times, strict=True)
    ]


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_shuffled_files_give_the_same_data_set_and_no_row_sees_its_future(seed: int) -> None:
    rows = log(seed)
    dataset = prepare(as_tables(rows))
    mixed = rows[:]
    random.Random(seed + 1).shuffle(mixed)
    # Rows of one user and second keep their order: there the file's order is the history's.
    ties = {(u, t): iter([r for r in rows if (r[0], r[3]) == (u, t)]) for u, _, _, t in rows}
    tables = as_tables([next(ties[u, t]) for u, _, _, t in mixed])
    shelf = tables.items.sample(fraction=1, shuffle=True, seed=seed)
    tables = Tables(tables.interactions, shelf, "log")
    assert prepare(tables).digest == dataset.digest
    assert sorted(spelled(dataset)) == sorted(rows)

    everything = dataset.histories(np.arange(len(dataset)))
    assert (everything.times <= everything.asked_at[everything.owners]).all()
    for row in range(0, len(dataset), 17):
        alone = dataset.histories(np.array([row]))
        start = dataset.starts[dataset.users[row]]
        assert alone.items.tolist() == dataset.items[start:row].tolist()
        assert alone.items.tolist() == everything.take(np.array([row])).items.tolist()
    newest = dataset.histories(np.arange(len(dataset)), last=3)
    assert newest.items.tolist() == everything.last(3).items.tolist()


def test_ties_of_one_second_are_broken_by_the_order_of_the_file() -> None:
    rows = [("u", i, 1, 5) for i in ("b", "a", "c")] + [("u", "d", 1, 9), ("u", "e", 1, 10)]
    dataset = prepare(as_tables(rows), split_args={"valid": 0.2, "test": 0.2})
    assert [dataset.catalog.item_id(i) for i in dataset.items] == ["b", "a", "c", "d", "e"]
    assert "3 rows share user and time" in dataset.notes[0]
    assert "the order of the file breaks the tie (data.order)" in dataset.notes[0]


def test_an_order_column_is_never_sorted_again_by_time() -> None:
    rows = [("u", i, 1, 5, n) for n, i in enumerate("zyxwv")]
    columns = "user_id item_id label timestamp order"
    dataset = prepare(as_tables(rows[::-1], columns), split="leave-one-out")
    assert "".join(dataset.catalog.item_id(i) for i in dataset.items) == "zyxwv"


def test_an_order_that_contradicts_time_is_refused_and_can_break_ties_instead() -> None:
    rows = [("u", "c", 1, 9, 0), ("u", "b", 1, 5, 1), ("u", "a", 1, 5, 2), ("u", "d", 1, 9, 3)]
    tables = as_tables(rows, "user_id item_id label timestamp order")
    with pytest.raises(DataError, match=r"row 2, user_id 'u', order 1"):
        prepare(tables)
    timed = Tables(tables.interactions, tables.items, "log", order="time")
    dataset = prepare(timed, split="leave-one-out")
    assert "".join(dataset.catalog.item_id(i) for i in dataset.items) == "bacd"


@pytest.mark.parametrize("order", ["auto", "file"])
def test_without_a_clock_the_rows_stand_in_the_order_of_the_file(order: str) -> None:
    rows = [("u", i, 1) for i in "dbca"]
    tables = as_tables(rows, "user_id item_id label")
    dataset = prepare(Tables(tables.interactions, tables.items, "log", order=order))
    assert "".join(dataset.catalog.item_id(i) for i in dataset.items) == "dbca"
    assert dataset.times.tolist() == [0, 1, 2, 3] and not dataset.has_times
    (note,) = [n for n in dataset.notes if "order of the file" in n]
    assert ("no timestamp or order column was found" in note) == (order == "auto")
    with pytest.raises(DataError, match=r"data\.order is time, but there is no timestamp"):
        prepare(Tables(tables.interactions, tables.items, "log", order="time"))


@pytest.mark.parametrize("hard", HARD_IDS)
def test_ids_come_back_spelled_the_same(hard: str, tmp_path) -> None:
    rows = [(hard, i, 1, n) for n, i in enumerate([*HARD_IDS, "x"])]
    dataset = prepare(as_tables(rows), split="leave-one-out")
    dataset.save(tmp_path)
    for found in (dataset, Dataset.load(tmp_path)):
        assert [found.catalog.item_id(i) for i in found.items] == [*HARD_IDS, "x"]
        assert found.catalog.item_index([hard]).tolist() == [found.catalog.item_ids.index(hard)]
        assert found.catalog.user_index([hard, "nobody"]).tolist() == [0, -1]


def test_save_and_load_keep_everything(tmp_path) -> None:
    rows = [(*row, "train" if n % 3 else "test" if n % 2 else "valid") for n, row in enumerate(log(3))]
    columns = "user_id item_id label timestamp split"
    dataset = prepare(as_tables(rows, columns), split_args={"last": True}, seen="allow", seed=5)
    assert (dataset.splits == CONTEXT).any()
    dataset.save(tmp_path / "a")
    again = Dataset.load(tmp_path / "a")
    assert again.digest == dataset.digest and again.summary() == dataset.summary()
    assert again.allow_seen and dataset.allow_seen
    for name in ("users", "items", "labels", "times", "splits"):
        got, kept = getattr(again, name), getattr(dataset, name)
        assert got.dtype == kept.dtype and got.tolist() == kept.tolist()


def test_a_damaged_copy_is_refused(tmp_path) -> None:
    dataset = prepare(as_tables(log(3)))
    dataset.save(tmp_path)
    with pytest.raises(DataError, match="no prepared data"):
        Dataset.load(tmp_path / "nowhere")
    file = tmp_path / "interactions.parquet"
    rows = pl.read_parquet(file)
    rows.with_columns(label=1 - pl.col("label")).write_parquet(file)
    with pytest.raises(DataError, match="digest differs"):
        Dataset.load(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        Dataset.load(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="data format None"):
        Dataset.load(tmp_path)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_negatives_are_new_to_the_user_different_and_drawn_by_seed(seed: int, count: int) -> None:
    rows = [(u, i, t) for u, i, _, t in log(seed, users=8, items=25, rows=100)]
    tables = as_tables(rows, "user_id item_id timestamp")
    dataset = prepare(tables, negatives=count, seed=seed)
    assert dataset.implicit
    for split in ("train", "valid", "test"):
        asked = dataset.questions(split)
        again = dataset.questions(split)
        assert asked.targets.tolist() == again.targets.tolist()
        targets = asked.targets.reshape(-1, count + 1)
        assert targets[:, 0].tolist() == dataset.items[dataset.rows(split)].tolist()
        assert asked.labels.reshape(targets.shape).tolist() == [[1] + [0] * count] * len(targets)
        assert asked.rows.tolist() == np.repeat(dataset.rows(split), count + 1).tolist()
        for user, drawn in zip(asked.histories.users[:: count + 1], targets, strict=True):
            met = set(dataset.items[dataset.users == user])
            assert len(set(drawn[1:])) == count and not met & set(drawn[1:])
            assert split != "train" or dataset.seen_items[drawn].all()
        positives = asked.histories.take(np.arange(0, len(asked), count + 1))
        assert positives.items.tolist() == dataset.histories(dataset.rows(split)).items.tolist()


def test_every_item_a_user_never_met_is_drawn_about_equally_often() -> None:
    rows = [("u", f"i{n}", n) for n in (1, 4, 5, 9)] + [("v", f"i{n}", 2) for n in range(10)]
    tables = as_tables(rows, "user_id item_id timestamp")
    dataset = prepare(tables, split="leave-one-out", negatives=2)
    unmet = Unmet.of(dataset.users, dataset.items, np.arange(10), dataset.n_users)
    assert unmet.free.tolist() == [6, 0]
    drawn = unmet.draw(np.zeros(6000, dtype=np.int64), 2, np.random.default_rng(0))
    counts = np.bincount(drawn.ravel(), minlength=10)
    assert set(np.flatnonzero(counts)) == {0, 2, 3, 6, 7, 8}
    assert abs(counts[counts > 0] - 2000).max() < 150


def test_a_user_who_met_nearly_everything_is_set_aside_and_the_others_are_asked() -> None:
    rows = [("greedy", f"i{n}", n) for n in range(9)] + [("v", f"i{n}", n) for n in (9, 1, 2, 3)]
    tables = as_tables(rows, "user_id item_id timestamp")
    dataset = prepare(tables, split="leave-one-out")
    (note,) = [n for n in dataset.notes if "met so many items" in n]
    assert "1 users" in note and "'greedy'" in note and "train 7, valid 1, test 1" in note
    for split in ("train", "valid", "test"):
        asked = dataset.questions(split)
        assert {dataset.catalog.user_id(u) for u in asked.histories.users} == {"v"}
    assert (dataset.splits == 0).sum() == 9  # what the user did is learnt from all the same
    alone = prepare(as_tables(rows[:9], "user_id item_id timestamp"), split="leave-one-out")
    with pytest.raises(DataError, match="no test row leaves 4 items"):
        alone.questions("test")


def test_a_moment_before_makes_a_repeat_and_a_copy_does_not() -> None:
    rows = [("u", "a", 1), ("u", "a", 1), ("u", "b", 2), ("u", "a", 3), ("v", "a", 4), ("v", "b", 4)]
    dataset = prepare(as_tables(rows, "user_id item_id timestamp"), split="leave-one-out")
    assert dataset.met_before.tolist() == [False, False, False, True, False, False]
    assert dataset.met_at_once.tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize(("seen", "again", "allow"), [
    ("auto", 0, False), ("auto", 1, False), ("auto", 8, True),
    ("exclude", 8, False), ("allow", 0, True),
])  # fmt: skip
def test_a_log_that_repeats_itself_may_recommend_what_was_met(seen, again, allow) -> None:
    rows = [(f"u{u}", f"i{u * 40 + n}", n) for u in range(4) for n in range(20)]
    rows += [(f"u{u}", f"i{u * 40}", 0.5 + n) for u in range(4) for n in range(again)]
    rows = [(u, i, int(10 * t)) for u, i, t in rows]
    tables = as_tables(rows, "user_id item_id timestamp")
    dataset = prepare(tables, split="leave-one-out", seen=seen, negatives=2)
    assert dataset.allow_seen == allow
    notes = [n for n in dataset.notes if "recommend.seen=" in n]
    assert len(notes) == bool(again)
    assert not again or f"recommend.seen={'allow' if allow else 'exclude'}" in notes[0]
    asked = dataset.questions("test")
    targets, place = asked.targets.reshape(-1, 3), dataset.rows("test")
    for row, items in zip(place, targets, strict=True):
        theirs = set(dataset.items[dataset.users == dataset.users[row]])
        assert len(set(items)) == 3 and (allow or not theirs & set(items[1:]))


def test_ratings_are_cut_at_the_threshold() -> None:
    rows = [("u", f"i{n}", r, n) for n, r in enumerate([1, 2, 3, 3.5, 4, 5.0])]
    tables = as_tables([(u, i, float(r), t) for u, i, r, t in rows], "user_id item_id rating timestamp")
    assert prepare(tables, split_args={"valid": 0.2, "test": 0.2}).labels.tolist() == [0] * 4 + [
        1,
        1,
    ]
    lower = prepare(tables, threshold=3.5, split_args={"valid": 0.2, "test": 0.2})
    assert lower.labels.tolist() == [0, 0, 0, 1, 1, 1]
    implicit = prepare(tables, feedback="implicit", split="leave-one-out")
    assert implicit.implicit and implicit.labels.tolist() == [1] * 6


def test_wrong_words_are_refused() -> None:
    dataset = prepare(as_tables(log(1)))
    with pytest.raises(ConfigError, match="did you mean 'valid'"):
        dataset.rows("vald")
    with pytest.raises(ConfigError, match=r"data\.feedback"):
        prepare(as_tables(log(1)), feedback="stars")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no column rating"):
        prepare(as_tables(log(1)), feedback="ratings")
    for name, value in (("threshold", float("nan")), ("negatives", 0), ("seed", -1)):
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            prepare(as_tables(log(1)), **{name: value})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("name", ["interactions.parquet", "items.parquet"])
def test_a_full_disk_is_a_refusal_of_its_own(tmp_path, name) -> None:
    from sasrecllm.errors import ResourceError

    dataset = prepare(as_tables(log(1)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / name).symlink_to("/dev/full")  # as the library's writer finds a full disk
    with pytest.raises(ResourceError):
        dataset.save(tmp_path / "full")
    with pytest.raises(DataError):
        Dataset.load(tmp_path / "full")


def test_the_collm_copy_keeps_its_rows_counts_and_order(data_root) -> None:
    from sasrecllm.data.ingest.sources import load_tables

    dataset = prepare(load_tables("two-table", path=data_root / "ml-1m-collm"))
    rows = pl.read_parquet(data_root / "ml-1m-collm" / "interactions.parquet")
    assert [len(dataset.rows(s)) for s in ("train", "valid", "test")] == [33891, 10401, 7331]
    assert (int((~dataset.seen_items[dataset.items[dataset.rows("test")]]).sum())) == 93
    assert (dataset.n_items, dataset.n_users) == (3255, 838)
    # CoLLM's history of a row: the liked items among the user's rows with a smaller order.
    asked = dataset.questions("test")
    liked = asked.histories.liked()
    ids = [dataset.catalog.item_id(i) for i in liked.items]
    for question in range(0, len(asked), 479):
        user = dataset.catalog.user_id(int(asked.histories.users[question]))
        item = dataset.catalog.item_id(int(asked.targets[question]))
        mine = rows.filter(pl.col("user_id") == int(user))
        order = mine.filter(pl.col("item_id") == int(item))["order"][0]
        wanted = mine.filter((pl.col("order") < order) & (pl.col("label") == 1)).sort("order")
        got = ids[liked.offsets[question] : liked.offsets[question + 1]]
        assert got == [str(i) for i in wanted["item_id"]]
    assert not (np.diff(liked.offsets) == 0).all()


def test_tallrec_rows_of_ml_100k_are_the_published_ones(data_root) -> None:
    from sasrecllm.data.ingest.sources import load_tables

    folder = data_root / "ml-100k"
    tables = load_tables("two-table", path=folder, order="time")
    dataset = prepare(tables, split="tallrec")
    published = pl.read_parquet(folder / "tallrec_movie_windows.parquet")
    for split in ("train", "valid", "test"):
        asked = dataset.questions(split, last=10)
        wanted = published.filter(pl.col("split") == split)
        names = dataset.catalog
        got = {
            (names.user_id(int(u)), names.item_id(int(i))): (int(y), start)
            for u, i, y, start in zip(
                asked.histories.users, asked.targets, asked.labels,
                asked.histories.offsets[:-1], strict=True,
            )
        }  # fmt: skip
        assert len(got) == len(wanted) == {"train": 8000}.get(split, 1000)
        for row in wanted.iter_rows(named=True):
            label, start = got[str(row["user_id"]), str(row["item_id"])]
            assert label == row["label"]
            newest = [names.item_id(int(i)) for i in asked.histories.items[start : start + 10]]
            assert newest == [str(i) for i in row["history_item_id"]]
            labels = asked.histories.labels[start : start + 10].tolist()
            assert labels == row["history_label"]


@given(st.integers(0, 10**6), st.data())
def test_without_some_users_everybody_else_keeps_index_rows_and_history(seed: int, data: st.DataObject):
    dataset = prepare(as_tables(log(seed)))
    gone = sorted(data.draw(st.sets(st.integers(0, dataset.n_users - 1), max_size=4)))
    left = dataset.without_users(np.array(gone, dtype=np.int64))
    assert left.n_users == dataset.n_users and left.catalog.forgotten.tolist() == gone
    names = {dataset.catalog.user_id(u) for u in gone}
    assert spelled(left) == [row for row in spelled(dataset) if row[0] not in names]
    for user in range(dataset.n_users):
        before, after = (d.latest(np.array([user])) for d in (dataset, left))
        assert after.items.tolist() == ([] if user in gone else before.items.tolist())
    raw = dataset.catalog.user_ids
    kept = [n for n in range(dataset.n_users) if n not in gone]
    assert left.catalog.user_index([raw[n] for n in kept]).tolist() == kept
    assert (left.catalog.user_index([*names, ""]) == -1).all()
    assert left.summary()["users"] == dataset.n_users - len(gone)
    with TemporaryDirectory() as folder:
        left.save(Path(folder))
        again = Dataset.load(Path(folder))
        # The first, the last and neighbours keep their empty places in what is read back.
        assert again.digest == left.digest and again.catalog.user_ids == left.catalog.user_ids
        text = b"".join(p.read_bytes() for p in Path(folder).glob("*.json"))
        assert not any(json.dumps(name).encode() in text for name in names)


NOTES = ("user 'u3' met all", "12 users", "user 'u4' too")


def test_notes_that_name_a_forgotten_user_go_with_him():
    dataset = replace(prepare(as_tables(log(1))), notes=NOTES)
    assert dataset.without_users(dataset.catalog.user_index(["u3"])).notes == NOTES[1:]
