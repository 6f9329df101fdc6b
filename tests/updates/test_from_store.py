"""An update from the store: what people told a server, once each, and of nobody who was forgotten."""

import shutil
import sqlite3

import pytest

from sasrecllm.data.extend import NothingNew
from sasrecllm.manifest import file_digest
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.serving.store import Interaction, SqliteStore, StoredInteraction, StoredItem, Taken
from sasrecllm.updates import from_store as module
from sasrecllm.updates.from_store import StoreRows, taken_from
from tests.updates.shop import DAY, START

NOW = START + 400 * DAY


def rows_of(*told, first=1):
    return [
        StoredInteraction(n, user, item, liked, NOW + n)
        for n, (user, item, liked) in enumerate(told, first)
    ]


def store_rows(rows, items=(), identity="a store"):
    return StoreRows("shop.sqlite", identity, rows, [StoredItem(i, f"Title of {i}") for i in items])


def test_rows_and_new_items_come_under_the_names_of_the_runs_own_columns(old):
    rows = rows_of(("u1", "i3", True), ("somebody", "i99", False))
    taken = taken_from(RunFolder(old), store_rows(rows, ["i99", "i3"]))
    assert taken.interactions.to_dict(as_series=False) == {
        "who": ["u1", "somebody"], "what": ["i3", "i99"], "stars": [4.0, 3.0], "at": [NOW + 1, NOW + 2],
    }  # fmt: skip
    assert taken.items.to_dict(as_series=False) == {"what": ["i99"], "name": ["Title of i99"]}
    assert taken.mark == {"store": "a store", "told": 2, "waiting": []}


def test_feedback_on_an_item_that_nobody_named_waits_for_it(old):
    rows = rows_of(("u1", "not yet", True), ("u2", "i3", True))
    taken = taken_from(RunFolder(old), store_rows(rows))
    assert taken.interactions["who"].to_list() == ["u2"] and taken.left == 1
    assert taken.mark == {"store": "a store", "told": 2, "waiting": [1]}
    with pytest.raises(NothingNew):
        taken_from(RunFolder(old), store_rows(rows[:1]))


def test_only_rows_behind_the_mark_of_this_very_store_are_new(old, tmp_path, monkeypatch):
    rows = rows_of(("u1", "i3", True), ("u2", "i4", True), ("u3", "i5", True))
    run = RunFolder(old)
    config = stored_config(run)
    mark = config.update.model_copy(update={"store": "a store", "told": 2, "waiting": [1]})
    marked = config.model_copy(update={"update": mark})
    monkeypatch.setattr(module, "stored_config", lambda _: marked)
    monkeypatch.setattr(module, "OVERLAP", 0)
    took = taken_from(run, store_rows(rows))
    assert took.interactions["who"].to_list() == ["u1", "u3"]  # one waited, one is new
    with pytest.raises(NothingNew):
        taken_from(run, store_rows(rows[1:2]))
    other = taken_from(run, store_rows(rows, identity="made anew"))
    assert other.interactions["who"].to_list() == ["u1", "u2", "u3"]


@pytest.fixture
def served(old, tmp_path):
    """A copy of the run with a link to it and the store of its server."""
    shutil.copytree(old, tmp_path / "shop")
    (tmp_path / "current").symlink_to("shop")
    store = SqliteStore(tmp_path / "current.sqlite")
    yield tmp_path, store
    store.close()


def test_what_was_told_is_in_the_next_run_once_and_nobody_who_was_forgotten(served, cli):
    folder, store = served
    link, url = folder / "current", folder / "current.sqlite"
    store.add_items([StoredItem("fresh", "A fresh story")])
    told = [Interaction(f"u{n}", item, True) for n in range(12) for item in ("fresh", f"i{n + 5}")]
    told += [Interaction("gone", "fresh", True), Interaction("somebody new", "i1", False)]
    store.add_interactions(told)
    cli("forget", link, "--user", "gone", "--user", "u29", "--store", url)
    cli("update", link, "--from-store", url, "--quiet", "--promote", "always")
    second = RunFolder(folder / "shop-2")
    data = stored_data(second)
    rows = {
        (data.catalog.user_id(int(u)), data.catalog.item_id(int(i)))
        for u, i, t in zip(data.users, data.items, data.times, strict=True)
        if t > START + 100 * DAY
    }
    assert rows == {(t.user_id, t.item_id) for t in told if t.user_id != "gone"}
    assert not {"gone", "u29"} & set(data.catalog.user_ids)
    said = cli("update", link, "--from-store", url, "--quiet")
    assert "known already" in said and not (folder / "shop-3").exists()

    # Who leaves one of them leaves all: the way back does not bring him back either.
    cli("forget", link, "--user", "u11", "--store", url)
    for name in ("shop", "shop-2"):
        assert "u11" not in stored_data(RunFolder(folder / name)).catalog.user_ids
    data = stored_data(second)

    # An earlier log does not bring anybody back; later feedback is somebody new's.
    (folder / "log.csv").write_text(
        "who,what,stars,at\n" + "".join(f"u29,i{n},5,{START + n}\n" for n in range(9))
        + "".join(f"u3,i{n},2,{START + DAY * 99 + n}\n" for n in range(9))
    )  # fmt: skip
    cli("update", link, folder / "log.csv", "--quiet", "--promote", "always")
    third = stored_data(RunFolder(folder / "shop-3"))
    assert "u29" not in third.catalog.user_ids and len(third) == len(data) + 9
    assert any("9 rows are of users who were forgotten" in note for note in third.notes)
    update = stored_config(RunFolder(folder / "shop-3")).update
    assert (update.store, update.told) == (store.identity(), len(told))


def test_a_user_who_asks_while_an_update_is_at_work_is_not_in_the_new_run(served, cli, monkeypatch):
    folder, store = served
    url = folder / "current.sqlite"
    told = [Interaction(f"u{n}", f"i{n + 7}", True) for n in range(10)]
    store.add_interactions(
        [*told, Interaction("leaving", "i2", True), Interaction("leaving", "i3", True)]
    )
    from sasrecllm.updates import update as updating
    from sasrecllm.updates.lineage import forget_with_relatives

    judged = updating.before_after

    def and_somebody_leaves(run, dataset):
        assert "leaving" in dataset.catalog.user_ids
        forget_with_relatives(folder / "shop", ["leaving", "u7"], ["leaving"])
        store.forget(["leaving"])
        return judged(run, dataset)

    monkeypatch.setattr(updating, "before_after", and_somebody_leaves)
    cli("update", folder / "current", "--from-store", url, "--quiet", "--promote", "always")
    ids = set(stored_data(RunFolder(folder / "shop-2")).catalog.user_ids)
    assert not {"leaving", "u7"} & ids and "u6" in ids


def test_a_run_that_was_only_read_and_a_store_that_is_not_there(old, cli, tmp_path):
    before = file_digest(old / "MANIFEST.sha256")
    said = cli("update", old, "--from-store", tmp_path / "none.sqlite", expect=2)
    assert "--from-store" in said and "no such file" in said
    (tmp_path / "rows.csv").write_text("who,what,stars,at\n")
    both = cli("update", old, tmp_path / "rows.csv", "--from-store", "x", expect=2)
    assert "rows and --from-store" in both
    assert file_digest(old / "MANIFEST.sha256") == before


def test_the_server_does_not_count_twice_what_the_run_has(tmp_path):
    store = SqliteStore(tmp_path / "s.sqlite")
    store.add_interactions([Interaction("u", str(n), True) for n in range(5)])
    taken = Taken(store.identity(), 3, frozenset({2}))
    assert [item for item, _ in store.interactions_of("u", taken=taken)] == ["1", "3", "4"]
    other = Taken("another store", 3)
    assert len(store.interactions_of("u", taken=other)) == 5
    assert [row.number for row in store.interactions(2)] == [3, 4, 5]
    store.close()


def test_a_store_of_the_first_version_is_taken_over_with_all_it_was_told(tmp_path):
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(
            "CREATE TABLE items (number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL"
            " UNIQUE, title TEXT NOT NULL, attributes TEXT NOT NULL);"
            "CREATE TABLE interactions (number INTEGER PRIMARY KEY AUTOINCREMENT,"
            " user_id TEXT NOT NULL, item_id TEXT NOT NULL, liked INTEGER NOT NULL);"
            "INSERT INTO interactions (user_id, item_id, liked) VALUES ('u', 'i', 1);"
            "PRAGMA user_version = 1;"
        )
    old.close()
    first, second = SqliteStore(path), SqliteStore(path)
    second.add_interactions([Interaction("u", "j", False)])
    rows = first.interactions()
    assert [(r.number, r.user_id, r.item_id, r.liked) for r in rows] == [
        (1, "u", "i", True), (2, "u", "j", False),
    ]  # fmt: skip
    assert 0 < rows[0].at <= rows[1].at and first.identity() == second.identity() != ""
    first.close(), second.close()
