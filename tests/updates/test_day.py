"""A day in the life: served under load, told things, updated, rolled back, asked to forget."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data
from sasrecllm.updates.promote import point

PATIENCE = 600.0
"""Seconds for anything on a busy machine; what takes longer never comes."""
EVERY = 0.05  # between two requests: twenty a second
ANNOUNCED = (429, 503)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Load:
    """Twenty requests a second, as long as it runs; what was answered, and what was not."""

    def __init__(self, url):
        self.url, self.ends, self.answers, self.failures = url, threading.Event(), [], []
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(4)]

    def ask(self, number):
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as client:
            while not self.ends.wait(EVERY * len(self.threads)):
                body = {"history": [f"i{(number * 7 + len(self.answers)) % 30}"], "k": 5}
                try:
                    answer = client.post("/v1/recommend", json=body)
                except httpx.HTTPError as error:
                    self.failures.append(error)
                else:
                    self.answers.append(answer)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def served(link):
    """The address of ``sasrecllm serve`` on the link; it drains at the end."""
    command = [sys.executable, "-m", "sasrecllm", "serve", link, "--port", "0", "--workers", "1"]
    command += ["--timeout", str(PATIENCE)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().rpartition(" at ")[2].strip()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def model_of(client, other_than=(), wanted=None):
    """The model that answers, once it is another one, or the wanted one."""
    ends = time.monotonic() + PATIENCE
    while True:
        answer = client.get("/readyz")
        model = answer.json().get("model") if answer.status_code == 200 else None
        if model and model not in other_than and wanted in (None, model):
            return model
        assert time.monotonic() < ends, (answer.text, other_than, wanted)
        time.sleep(0.1)


def told_to(client, kept, *rows):
    """Feedback that the server acknowledges."""
    body = [{"user_id": user, "item_id": item, "liked": liked} for user, item, liked in rows]
    answer = client.post("/v1/interactions", json={"interactions": body})
    assert answer.status_code in (200, 201), answer.text
    kept.update(rows)


def rows_in(run):
    data = stored_data(RunFolder(run))
    user, item = data.catalog.user_id, data.catalog.item_id
    return {
        (user(u), item(i), bool(label))
        for u, i, label in zip(data.users.tolist(), data.items.tolist(), data.labels, strict=True)
    }


@pytest.mark.slow
def test_a_day_in_the_life(trained, cli, tmp_path):
    shutil.copytree(trained, tmp_path / "shop")
    link, store = tmp_path / "current", tmp_path / "current.sqlite"
    link.symlink_to("shop")
    update = ("update", link, "--from-store", store, "--promote", "always", "--quiet")
    acknowledged, models = set(), []
    titles = [f"The {n % 3} fresh story" for n in range(3)]
    fresh = [{"item_id": f"new-{n}", "title": title} for n, title in enumerate(titles)]
    with contextlib.ExitStack() as day:
        url = day.enter_context(served(link))
        client = day.enter_context(httpx.Client(base_url=url, timeout=PATIENCE))
        load = day.enter_context(Load(url))
        models.append(model_of(client))
        assert client.put("/v1/items", json={"items": fresh}).status_code in (200, 201)
        told_to(client, acknowledged, *((f"u{n}", "new-0", True) for n in range(8)))
        told_to(client, acknowledged, ("guest", "new-1", True), ("guest", "i3", False))
        told_to(client, acknowledged, ("leaver", "new-2", True), ("leaver", "i4", True))

        cli(*update, process=True)
        models.append(model_of(client, other_than=models))  # the link is followed, under load
        assert acknowledged <= rows_in(tmp_path / "shop-2")
        history = client.get("/v1/users/guest").json()["history"]
        assert [h["item_id"] for h in history] == ["new-1", "i3"]  # in the run now, and counted once

        point(link, tmp_path / "shop")  # the way back
        assert model_of(client, wanted=models[0]) == models[0]
        history = client.get("/v1/users/guest").json()["history"]
        assert [h["item_id"] for h in history] == ["new-1", "i3"]  # out of the store again

        assert client.delete("/v1/users/leaver").status_code in (200, 204)
        acknowledged = {row for row in acknowledged if row[0] != "leaver"}
        told_to(client, acknowledged, ("late", "new-2", True), ("u9", "new-2", False))

        cli(*update, process=True)
        models.append(model_of(client, other_than=models))
        assert acknowledged <= rows_in(tmp_path / "shop-3")
        assert client.get("/v1/users/leaver").json().get("known") in (None, False)
        assert client.post("/v1/recommend", json={"user_id": "late"}).status_code == 200
    for run in ("shop", "shop-2", "shop-3"):
        assert not any(user == "leaver" for user, *_ in rows_in(tmp_path / run)), run
    assert load.failures == []
    refused = [a for a in load.answers if a.status_code != 200]
    assert all(a.status_code in ANNOUNCED and "retry-after" in a.headers for a in refused)
    answered = {a.json()["model"] for a in load.answers if a.status_code == 200}
    assert set(models) <= answered
