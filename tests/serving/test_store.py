"""What every store obeys, on SQLite and on a real PostgreSQL server."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sasrecllm.errors import ConfigError, DataError, ResourceError
from sasrecllm.serving.store import Interaction, PostgresStore, SqliteStore, StoredItem, open_store

ODD_IDS = [
    "007",
    "7",
    "٧",
    "1e5",
    "NaN",
    "null",
    "\u00e9",
    "e\u0301",
    " x ",
    "x",
    "🎬",
    "a'b\"c",
    "A",
    "a",
    "%s ?",
]


@pytest.fixture
def store(store_url):
    store = open_store(store_url)
    yield store
    store.close()


def test_ids_and_titles_come_back_exactly_after_reopening(store_url):
    first = open_store(store_url)
    items = [StoredItem(i, f"Title of {i}", {"genre": i, "year": None}) for i in ODD_IDS]
    first.add_items(items)
    first.add_interactions([Interaction(i, i, n % 2 == 0) for n, i in enumerate(ODD_IDS)])
    first.close()
    again = open_store(store_url)
    assert again.items() == items
    for n, raw in enumerate(ODD_IDS):
        assert again.interactions_of(raw) == [(raw, n % 2 == 0)]
    again.close()


def test_an_item_told_twice_keeps_its_place_and_takes_the_new_title(store):
    store.add_items([StoredItem("a", "first"), StoredItem("b", "second")])
    store.add_items([StoredItem("a", "renamed", {"x": "1"}), StoredItem("c", "third")])
    assert [(i.item_id, i.title) for i in store.items()] == [
        ("a", "renamed"),
        ("b", "second"),
        ("c", "third"),
    ]
    assert store.items()[0].attributes == {"x": "1"}


def test_the_last_interactions_come_oldest_first_and_users_are_apart(store):
    store.add_interactions([Interaction("u", str(n), True) for n in range(600)])
    store.add_interactions([Interaction("v", "0", False)])
    assert [item for item, _ in store.interactions_of("u")] == [str(n) for n in range(100, 600)]
    assert store.interactions_of("u", 2) == [("598", True), ("599", True)]
    assert store.interactions_of("v") == [("0", False)]
    assert store.interactions_of("nobody") == []


def test_a_call_is_kept_whole_or_not_at_all(store):
    broken = [Interaction("u", "good", True), Interaction("u", None, True)]
    with pytest.raises(ResourceError):
        store.add_interactions(broken)
    assert store.interactions_of("u") == []
    store.add_interactions(broken[:1])
    assert store.interactions_of("u") == [("good", True)]


def test_many_threads_lose_nothing(store):
    def write(user):
        for n in range(20):
            store.add_interactions([Interaction(user, str(n), True)])
            store.interactions_of(user)

    threads = [threading.Thread(target=write, args=(f"u{t}",)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for t in range(8):
        assert [i for i, _ in store.interactions_of(f"u{t}")] == [str(n) for n in range(20)]


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=TEXT, item=TEXT, liked=st.booleans())
def test_any_text_round_trips(store, user, item, liked):
    store.add_interactions([Interaction(user, item, liked)])
    store.add_items([StoredItem(item, user)])
    assert store.interactions_of(user, 1) == [(item, liked)]
    assert user in {i.title for i in store.items() if i.item_id == item}


def test_sigkill_leaves_what_was_acknowledged_and_a_sound_file(tmp_path, times):
    path = tmp_path / "state.sqlite"
    code = (
        "import sys\n"
        "from sasrecllm.serving.store import Interaction, SqliteStore\n"
        "store = SqliteStore(sys.argv[1])\n"
        "n = len(store.interactions_of('u', 10**9))\n"
        "while True:\n"
        "    store.add_interactions([Interaction('u', str(n), True)])\n"
        "    print(n, flush=True)\n"
        "    n += 1\n"
    )
    for attempt in range(times(4, 50)):
        process = subprocess.Popen(
            [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True
        )
        acknowledged = [process.stdout.readline() for _ in range(10 + 7 * (attempt % 10))]
        process.kill()
        acknowledged += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        store = SqliteStore(path)
        kept = [item for item, _ in store.interactions_of("u", 10**9)]
        store.close()
        whole = [int(line) for line in acknowledged if line.endswith("\n")]
        assert kept == [str(n) for n in range(len(kept))] and len(kept) > whole[-1]


def test_postgres_comes_back_after_its_connection_was_cut(postgres_url):
    import psycopg

    store = PostgresStore(postgres_url)
    store.add_interactions([Interaction("cut", "1", True)])
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
    assert store.interactions_of("cut") == [("1", True)]
    store.add_interactions([Interaction("cut", "2", False)])
    assert store.interactions_of("cut") == [("1", True), ("2", False)]
    store.close()


def test_a_postgres_database_of_the_first_version_is_taken_over_with_all_it_was_told(postgres_url):
    """It had neither moments nor a name of its own; servers that start at once agree on both."""
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("DROP TABLE IF EXISTS items, interactions, about")
        other.execute(
            "CREATE TABLE items (number BIGINT GENERATED BY DEFAULT AS IDENTITY,"
            ' item_id TEXT COLLATE "C" PRIMARY KEY, title TEXT NOT NULL, attributes TEXT NOT NULL)'
        )
        other.execute(
            "CREATE TABLE interactions (number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,"
            ' user_id TEXT COLLATE "C" NOT NULL, item_id TEXT COLLATE "C" NOT NULL,'
            " liked SMALLINT NOT NULL)"
        )
        other.execute("CREATE INDEX interactions_by_user ON interactions (user_id, number)")
        other.execute("INSERT INTO items (item_id, title, attributes) VALUES ('i', 'I', '{}')")
        other.execute("INSERT INTO interactions (user_id, item_id, liked) VALUES ('u', 'i', 1)")
        stores = [PostgresStore(postgres_url) for _ in range(2)]
        stores[1].add_interactions([Interaction("u", "j", False)])
        rows = stores[0].interactions()
        assert [(r.number, r.user_id, r.item_id, r.liked) for r in rows] == [
            (1, "u", "i", True), (2, "u", "j", False),
        ]  # fmt: skip
        assert 0 < rows[0].at <= rows[1].at
        assert stores[0].identity() == stores[1].identity() != ""
        assert [item.title for item in stores[1].items()] == ["I"]
        for store in stores:
            store.close()
        other.execute("DROP TABLE items, interactions, about")


def test_refusals_name_the_store_and_never_its_password(tmp_path):
    with pytest.raises(ConfigError, match="unknown kind"):
        open_store("mysql://root:geheim@host/db")
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConfigError, match="not a SQLite database"):
        open_store(str(noise))
    with pytest.raises(ResourceError, match="cannot be opened"):
        open_store(str(tmp_path / "no" / "folder.sqlite"))
    newer = tmp_path / "newer.sqlite"
    sqlite3.connect(newer).execute("PRAGMA user_version = 9").connection.close()
    with pytest.raises(ConfigError, match="format 9"):
        open_store(str(newer))
    pytest.importorskip("psycopg")
    with pytest.raises(ResourceError) as refusal:
        open_store("postgresql://somebody:geheim@127.0.0.1:1/db")
    assert "geheim" not in str(refusal.value) and "127.0.0.1" in str(refusal.value)


LONG = "é" * 500  # 1,000 bytes


@pytest.mark.parametrize("odd", ["a\x00b", "\x00", "a\ud800", "\udc00\ud800", LONG + "x"])
def test_what_one_database_could_not_hold_is_refused_by_both_and_nothing_is_kept(store, odd):
    for told in (Interaction(odd, "i", True), Interaction("u", odd, True)):
        with pytest.raises(DataError, match=r"NUL|surrogate|bytes"):
            store.add_interactions([Interaction("u", "good", True), told])
    with pytest.raises(DataError):
        store.interactions_of(odd)
    items = [StoredItem(odd, "title")]
    if odd != LONG + "x":  # a title and an attribute are in no index
        items += [
            StoredItem("i", odd),
            StoredItem("i", "t", {odd: "x"}),
            StoredItem("i", "t", {"x": odd}),
        ]
    for item in items:
        with pytest.raises(DataError):
            store.add_items([StoredItem("good", "title"), item])
    assert store.interactions_of("u") == [] and store.items() == []


def test_the_longest_id_and_a_long_title_come_back(store):
    store.add_interactions([Interaction(LONG, LONG, True)])
    store.add_items([StoredItem(LONG, "long " * 20_000)])
    assert store.interactions_of(LONG) == [(LONG, True)]
    assert store.items() == [StoredItem(LONG, "long " * 20_000)]


def test_a_reader_and_a_server_that_starts_do_not_wait_for_a_writer(
    store, store_url, written_elsewhere
):
    store.add_interactions([Interaction("u", "1", True)])
    with written_elsewhere("held"):
        starts = threading.Event()

        def write():
            starts.set()
            with contextlib.suppress(ResourceError):  # after five seconds it gives up
                store.add_items([StoredItem("held", "by another")])

        waiting = threading.Thread(target=write)
        waiting.start()
        starts.wait()
        for _ in range(200):
            assert store.interactions_of("u") == [("1", True)]
        assert store.items() == []
        again = open_store(store_url)
        assert again.interactions_of("u") == [("1", True)]
        again.close()
        assert waiting.is_alive()
    waiting.join()


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
def test_a_new_file_is_its_owners_alone_whatever_the_umask(tmp_path, caplog):
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "state.sqlite")
        store.add_interactions([Interaction("u", "1", True)])
        rights = {f.name: f.stat().st_mode & 0o777 for f in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert len(rights) == 3 and set(rights.values()) == {0o600}
    assert caplog.messages == []
    (tmp_path / "state.sqlite").chmod(0o640)
    SqliteStore(tmp_path / "state.sqlite").close()
    assert "chmod 600" in caplog.text and str(tmp_path / "state.sqlite") in caplog.text


def test_who_is_forgotten_has_no_feedback_and_all_others_keep_theirs(store):
    store.add_interactions([Interaction(u, "m1", True) for u in ("ada", "Ada", "ada ", "bob")])
    assert store.users_among(["ada", "eve", "bob"]) == {"ada", "bob"}
    store.forget(["ada", "eve"])
    assert store.users_among(["ada", "Ada", "ada ", "bob"]) == {"Ada", "ada ", "bob"}
    assert store.interactions_of("ada") == [] and store.interactions_of("bob") == [("m1", True)]
    store.forget(["ada"])  # again
    store.add_interactions([Interaction("ada", "m2", False)])  # he may come back
    assert store.interactions_of("ada") == [("m2", False)]


def test_not_a_byte_of_who_was_forgotten_stays_in_the_file_or_its_log(tmp_path):
    path, user = tmp_path / "s.sqlite", "unmistakable-7f3a"
    store, other = SqliteStore(path), SqliteStore(path)  # two servers on one file
    for n in range(40):
        told = [Interaction(user if m % 3 else f"u{m}", f"m{n}-{m}", True) for m in range(40)]
        store.add_interactions(told)
    assert other.interactions_of(user)  # read by somebody else before
    files = [path, path.with_name("s.sqlite-wal")]
    assert any(user.encode() in f.read_bytes() for f in files)
    store.forget([user])
    assert not any(user.encode() in f.read_bytes() for f in tmp_path.iterdir())
    assert other.interactions_of(user) == [] and len(other.interactions_of("u0")) == 40
    store.close()
    other.close()
    assert not any(user.encode() in f.read_bytes() for f in tmp_path.iterdir())
