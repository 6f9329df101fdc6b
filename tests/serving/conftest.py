"""Servers for the tests: in this process for speed, as processes of their own for signals."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from sasrecllm.serving.app import Service, create_app
from sasrecllm.serving.state import ServingState
from sasrecllm.serving.store import SqliteStore

HERE = Path(__file__).parent
SLOW = 300
"""Seconds after which a server is taken for hung, on a machine however busy."""
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SASRECLLM_")} | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(HERE.parents[1] / "src"),
}


@pytest.fixture(scope="session")
def fake():
    """The made-up model (see fake_server.py)."""
    spec = importlib.util.spec_from_file_location("fake_server", HERE / "fake_server.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_api(fake):
    """Builds an app in this process: ``.call(method, path, **httpx arguments)``, state and service."""
    opened = []

    def make(
        hosts=None,
        key=None,
        store=None,
        queue=64,
        load=None,
        doors=None,
        limit=None,
        forget=None,
        **model,
    ):
        store = store or SqliteStore(":memory:")
        state = ServingState(load or (lambda: fake.loaded(**model)), store, forget)
        service = Service(state, queue)
        app = create_app(service, hosts, key, limit, **doors or {})
        opened.append((service, store))

        async def send(method, path, **arguments):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **arguments)

        def call(method, path, **arguments):
            return asyncio.run(send(method, path, **arguments))

        return SimpleNamespace(call=call, send=send, state=state, service=service, app=app, store=store)

    yield make
    for service, store in opened:
        service.close()
        store.close()


@pytest.fixture
def api(make_api):
    return make_api()


class Process:
    """A server process; ``url`` is where it listens."""

    def __init__(self, command, **environment):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | environment,
        )
        self.url = self._address()

    def _address(self):
        ends = time.monotonic() + SLOW
        while time.monotonic() < ends and self.process.poll() is None:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                found = re.search(r"http://\S+", self.process.stdout.readline())
                if found:
                    return found[0]
        self.process.kill()
        raise AssertionError(f"no server: {self.process.communicate()[1][-3000:]}")

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """Let it end what it is at; its log, in which the line of an answer comes after the answer."""
        self.signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=SLOW)
        return out + err

    def stop(self):
        """Kill it; what was in its log by then."""
        self.process.kill()
        out, err = self.process.communicate(timeout=SLOW)
        return out + err


def _fake_server_in(folder, name="A", seconds=0.0, rate="inf", store=None, flags=(), **environment):
    (folder / "name.txt").write_text(name)
    store = store or folder / "state.sqlite"
    server = Process(
        [HERE / "fake_server.py", folder, "--store", store, "--rate", rate, *flags],
        SASRECLLM_FAKE_SECONDS=str(seconds),
        **environment,
    )
    server.folder, server.store = folder, store
    return server


@pytest.fixture(scope="session")
def fake_server_in():
    """Starts a server on the made-up model in a folder, whose name.txt names the model."""
    return _fake_server_in


@pytest.fixture(scope="module")
def url(fake_server_in, tmp_path_factory):
    """Address of such a server."""
    server = fake_server_in(tmp_path_factory.mktemp("page"))
    yield server.url
    server.stop()


@pytest.fixture
def launch(tmp_path):
    """Starts such servers in the test's own folder and ends them."""
    started = []

    def start(*arguments, **settings):
        started.append(_fake_server_in(tmp_path, *arguments, **settings))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def postgres_binaries():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def unprivileged():
    """initdb refuses root: (how to start as somebody else, that user's name)."""
    if os.geteuid() != 0:
        return {}, None
    for name in ("postgres", "nobody"):
        try:
            who = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}, who
    pytest.skip("PostgreSQL does not start as root and there is no user 'postgres' or 'nobody'")


@contextlib.contextmanager
def _postgres(user, password=None, database=None):
    """A PostgreSQL server of our own, from Debian's binaries: the folder of its socket, and its port.

    With a password it is reached by TCP on loopback too, by who knows it.
    """
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'sasrecllm[postgres]'")
    as_user, who = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(folder)}
    (folder / "password").write_text(password or "")
    data = folder / "data"
    initdb = [binaries / "initdb", "-D", data, "-U", user, "-E", "UTF8", "-N"]
    initdb += ["-A", "trust"] if password is None else ["-A", "scram-sha-256", "--pwfile=password"]
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    listen = "" if password is None else "127.0.0.1"
    server = [binaries / "postgres", "-D", data, "-k", folder, "-p", str(port), "-F"]
    server += ["-c", f"listen_addresses={listen}"]
    if who is not None:
        for path in (folder, folder / "password"):
            os.chown(path, who.pw_uid, who.pw_gid)
    done = subprocess.run(
        initdb, cwd=folder, env=environment, capture_output=True, text=True, **as_user
    )
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        server,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    try:
        import psycopg

        ends = time.monotonic() + SLOW
        while True:
            try:
                where = {"host": str(folder), "port": port, "user": user, "password": password}
                with psycopg.connect(
                    dbname="postgres", connect_timeout=SLOW, autocommit=True, **where
                ) as connection:
                    if database is not None:
                        connection.execute(f"CREATE DATABASE {database}")
                break
            except psycopg.OperationalError:
                assert process.poll() is None and time.monotonic() < ends
                time.sleep(0.1)
        yield folder, port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SLOW)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres():
    """Starts PostgreSQL servers (:func:`_postgres`)."""
    return _postgres


@pytest.fixture(scope="session")
def postgres_url():
    """A PostgreSQL server of our own on a Unix socket."""
    with _postgres("tester") as (folder, port):
        yield f"postgresql://tester@/postgres?host={folder}&port={port}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """A fresh database of each kind; opened again it is the same one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state.sqlite"
        return
    url = request.getfixturevalue("postgres_url")
    yield url
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS items, interactions")


@pytest.fixture
def written_elsewhere(store_url):
    """``with written_elsewhere(item_id):`` another has written the item, not committed."""

    @contextlib.contextmanager
    def held(item_id):
        insert = f"INSERT INTO items (item_id, title, attributes) VALUES ('{item_id}', 'held', '{{}}')"
        if store_url.startswith("sqlite"):
            connection = sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None)
        else:
            import psycopg

            connection = psycopg.connect(store_url, autocommit=True)
        connection.execute("BEGIN")
        connection.execute(insert)
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    return held


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; skips, saying so, where it or its driver is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium (Debian package chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        new_context = opened.new_context

        def patient(**options):
            context = new_context(**options)
            context.set_default_timeout(SLOW * 1000)
            return context

        opened.new_context = patient
        yield opened
        opened.close()


@pytest.fixture
def faultless(browser):
    """A fresh tab; script errors are its ``faults``, and in the end there must be none."""
    context = browser.new_context(viewport={"width": 1180, "height": 860})
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(f"error {error}"))
    yield page
    assert page.faults == []
    context.close()
