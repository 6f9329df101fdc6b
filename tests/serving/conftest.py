"""Servers for the tests: in this process for speed, as processes of their own for signals."""

import asyncio
import importlib.util
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from sasrecllm.serving.app import Service, create_app
from sasrecllm.serving.state import ServingState
from sasrecllm.serving.store import SqliteStore

HERE = Path(__file__).parent
THOROUGH = bool(os.environ.get("THOROUGH"))
"""Set THOROUGH=1 for the repetitions of docs/reliability.md; a usual run takes a few of each."""
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SASRECLLM_")} | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(HERE.parents[1] / "src"),
}


@pytest.fixture(scope="session")
def times():
    """``times(few, many)``: how often to repeat what is tried."""
    return lambda few, many: many if THOROUGH else few


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

    def make(hosts=None, key=None, store=None, queue=64, load=None, limit=None, **model):
        store = store or SqliteStore(":memory:")
        state = ServingState(load or (lambda: fake.loaded(**model)), store)
        service = Service(state, queue)
        app = create_app(service, hosts, key, limit)
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
        service.model.close()
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
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self.process.poll() is None:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                found = re.search(r"http://\S+", self.process.stdout.readline())
                if found:
                    return found[0]
        self.process.kill()
        raise AssertionError(f"no server: {self.process.communicate()[1][-3000:]}")

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Kill it; its log."""
        self.process.kill()
        out, err = self.process.communicate(timeout=20)
        return out + err


def _fake_server_in(folder, name="A", seconds=0.0, rate="inf", **environment):
    (folder / "name.txt").write_text(name)
    server = Process(
        [HERE / "fake_server.py", folder, "--store", folder / "state.sqlite", "--rate", rate],
        SASRECLLM_FAKE_SECONDS=str(seconds),
        **environment,
    )
    server.folder, server.store = folder, folder / "state.sqlite"
    return server


@pytest.fixture(scope="session")
def fake_server_in():
    """Starts a server on the made-up model in a folder, whose name.txt names the model."""
    return _fake_server_in


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
        yield opened
        opened.close()
