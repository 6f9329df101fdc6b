"""The whole thing on a trained run: the server's answers are the Python API's, and it reloads."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from sasrecllm import SASRecLLM
from sasrecllm.inference.requests import NewItem, Title

TINY = Path(__file__).parents[1] / "tiny.yaml"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
COMMAND = [sys.executable, "-m", "sasrecllm"]
PATIENCE = 300.0
"""Seconds for anything on a busy machine; what takes longer never comes."""
# The server's processes and this one score the same rows, but in batches of their own sizes: single
# precision (1e-7) through a few layers stays well within 1e-5 of a logit.


@contextlib.contextmanager
def served(run):
    """A client of ``sasrecllm serve`` on the run."""
    command = [*COMMAND, "serve", run, "--port", "0", "--timeout", str(PATIENCE)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().rpartition(" at ")[2].strip()
            assert url.startswith("http://127.0.0.1:")
            with httpx.Client(base_url=url, timeout=PATIENCE) as client:
                client.process = process
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert run.with_name(f"{run.name}.sqlite").exists()


def reload_error(client):
    """What /readyz says of the last reload, once it has the time to: a busy machine gives 503 first."""
    ends = time.monotonic() + PATIENCE
    while (answer := client.get("/readyz")).status_code == 503:
        assert time.monotonic() < ends
        time.sleep(0.1)
    return answer.json()["reload_error"]


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A copy of the run: a test damages it, and the server keeps its store beside it."""
    return shutil.copytree(run, tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def client(folder):
    with served(folder) as client:
        yield client


@pytest.fixture(scope="module")
def system(folder):
    return SASRecLLM.from_pretrained(folder)


def post(client, path, **body):
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def same(got, wanted):
    assert [r["item_id"] for r in got] == [w.item_id for w in wanted]
    assert [r["title"] for r in got] == [w.title for w in wanted]
    assert [r["score"] for r in got] == pytest.approx([w.score for w in wanted], abs=1e-5)
    assert [r["probability"] for r in got] == pytest.approx([w.probability for w in wanted], abs=1e-5)
    assert [r["retrieval_rank"] for r in got] == [w.retrieval_rank for w in wanted]
    assert [tuple(r["flags"]) for r in got] == [tuple(w.flags) for w in wanted]


def test_every_answer_equals_the_python_apis(client, system):
    ids, user = system.catalog.item_ids, system.catalog.user_ids[3]
    history = [(ids[0], True), (ids[5], False), (Title("A quiet film"), True)]
    body = [ids[0], {"item_id": ids[5], "liked": False}, {"title": "A quiet film"}]
    same(post(client, "/v1/recommend", history=body)["recommendations"], system.recommend(history))
    same(
        post(client, "/v1/recommend", user_id=user, k=7)["recommendations"],
        system.recommend(user=user, k=7),
    )
    both = post(client, "/v1/recommend", user_id=user, history=body, retrieve=30)["recommendations"]
    same(both, system.recommend(user=user, history=history, retrieve=30))
    first = post(client, "/v1/recommend", user_id=user, rerank=False)["recommendations"]
    same(first, system.recommend(user=user, rerank=False))
    only = post(client, "/v1/recommend", user_id=user, only=ids[10:20])["recommendations"]
    same(only, system.recommend(user=user, only=ids[10:20]))
    scores = post(client, "/v1/score", item_ids=ids[:9], history=body)["scores"]
    wanted = system.score_items(ids[:9], history)
    assert [s["probability"] for s in scores] == pytest.approx(wanted, abs=1e-5)
    reasons = post(client, "/v1/explain", item_id=ids[2], user_id=user)["explanation"]
    assert reasons.keys() == system.explain(ids[2], user=user).to_dict().keys()


def test_a_stranger_gets_the_fallback(client, system):
    answer = post(client, "/v1/recommend", user_id="never seen")
    assert answer["fallback"] == "popular" and len(answer["recommendations"]) == 10
    same(answer["recommendations"], system.recommend(user="never seen", strict=False))
    assert post(client, "/v1/recommend", history=["no such item"])["fallback"] == "popular"


def test_new_items_and_feedback_count_in_the_next_answer(client, system):
    ids = system.catalog.item_ids
    new = {"item_id": "brand/new", "title": system.catalog.title(0) + " again"}
    assert client.put("/v1/items", json={"items": [new]}).json() == {"added": 1, "changed": 0}
    feedback = [{"user_id": "guest", "item_id": "brand/new"}, {"user_id": "guest", "item_id": ids[4]}]
    assert post(client, "/v1/interactions", interactions=feedback)["unknown_items"] == []
    larger = system.with_items([NewItem(new["item_id"], new["title"], {})])
    told = [("brand/new", True), (ids[4], True)]
    same(post(client, "/v1/recommend", user_id="guest")["recommendations"], larger.recommend(told))
    same(post(client, "/v1/recommend", history=[ids[1]])["recommendations"], larger.recommend([ids[1]]))
    post(
        client,
        "/v1/interactions",
        interactions=[{"user_id": system.catalog.user_ids[0], "item_id": ids[4]}],
    )
    known = post(client, "/v1/recommend", user_id=system.catalog.user_ids[0])["recommendations"]
    same(known, larger.recommend([(ids[4], True)], user=system.catalog.user_ids[0]))


def test_many_clients_get_the_answers_of_one(client, system):
    from concurrent.futures import ThreadPoolExecutor

    ids = system.catalog.item_ids
    alone = [
        post(client, "/v1/score", item_ids=ids[:20], history=[ids[n]])["scores"] for n in range(12)
    ]
    with ThreadPoolExecutor(12) as pool:
        ask = lambda n: post(client, "/v1/score", item_ids=ids[:20], history=[ids[n]])["scores"]  # noqa: E731
        together = list(pool.map(ask, range(12)))
    for a, b in zip(alone, together, strict=True):
        assert [x["probability"] for x in b] == pytest.approx([x["probability"] for x in a], abs=1e-5)


def test_a_killed_model_process_costs_at_most_one_answer(client, system):
    import psutil

    new = {"item_id": "told before", "title": "The General again"}
    client.put("/v1/items", json={"items": [new]})
    before = post(client, "/v1/score", item_ids=["told before"], history=["m0003"])["scores"]
    psutil.Process(client.process.pid).children()[0].kill()
    body = {"item_ids": ["told before"], "history": ["m0003"]}
    good, ends = 0, time.monotonic() + 300
    while good < 4:  # each process is asked
        answer = client.post("/v1/score", json=body)
        assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() < ends
        good += answer.status_code == 200
    (now,), (then,) = answer.json()["scores"], before
    # Another process may round the last digit otherwise.
    assert now == then | {"probability": pytest.approx(then["probability"], abs=1e-9)}


def test_scores_carry_the_flags_of_the_list(client, system):
    new = {"item_id": "flagged", "title": "The Flagged General"}
    client.put("/v1/items", json={"items": [new]})
    for who in (
        {"user_id": "never seen"},
        {"user_id": system.catalog.user_ids[3]},
        {"history": ["m0003"]},
    ):
        lines = post(client, "/v1/recommend", k=100, retrieve=1000, **who)["recommendations"]
        flags = {line["item_id"]: line["flags"] for line in lines}
        asked = ["flagged", *(line["item_id"] for line in lines[:5])]
        scores = post(client, "/v1/score", item_ids=asked, **who)["scores"]
        assert "cold_item" in scores[0]["flags"]
        for score in scores:
            assert score["flags"] == flags.get(score["item_id"], score["flags"])
    assert "fallback" in post(client, "/v1/score", item_ids=["m0001"])["scores"][0]["flags"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_damaged_run_is_refused_and_the_old_one_stays(client, folder):
    before = client.get("/readyz").json()["model"]
    part = folder / "stages/1-encoder/parts/encoder/weights.safetensors"  # a part that serving loads
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        client.process.send_signal(signal.SIGHUP)
        ends = time.monotonic() + 300
        while not (error := reload_error(client)):
            assert time.monotonic() < ends
            time.sleep(0.1)
    finally:
        part.write_bytes(whole)
    assert "damaged" in error and client.get("/readyz").json()["model"] == before
    assert post(client, "/v1/recommend", user_id="never seen")["model"] == before
    client.process.send_signal(signal.SIGHUP)
    ends = time.monotonic() + PATIENCE
    while reload_error(client):
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.soak
def test_swaps_under_load_fail_no_request_and_every_answer_is_its_models_own(run, cli, tmp_path):
    swaps, other = 20, tmp_path / "other"
    cli("run", "--config", TINY, "--out", other, "--quiet", "seed=1", "evaluation.ablations=false")
    folders = {False: run, True: other}
    link, seen, stop = tmp_path / "current", [], threading.Event()
    link.symlink_to(run)

    def keep_asking(url, n):
        with httpx.Client(base_url=url, timeout=300) as client:
            while not stop.wait(0.1):  # five such clients: fifty requests a second
                body = {"item_ids": ["m0003"], "history": [f"m{n:04d}"]}
                answer = client.post("/v1/score", json=body)
                seen.append((time.monotonic(), n, answer.status_code, answer.json()))

    with served(link) as client:
        threads = [
            threading.Thread(target=keep_asking, args=(client.base_url, 5 + n)) for n in range(5)
        ]
        for thread in threads:
            thread.start()
        names = [client.get("/readyz").json()["model"]]
        for swap in range(swaps):
            link.unlink()
            link.symlink_to(folders[swap % 2 == 0])
            client.process.send_signal(signal.SIGHUP)
            while (name := client.get("/readyz").json()["model"]) == names[-1]:
                time.sleep(0.2)
            names.append(name)
        stop.set()
        for thread in threads:
            thread.join()
    assert len(set(names)) == 2 and {status for _, _, status, _ in seen} == {200}
    systems = {names[n]: SASRecLLM.from_pretrained(folders[n == 1]) for n in range(2)}
    wanted = {
        (name, n): system.score_items(["m0003"], [f"m{n:04d}"])
        for name, system in systems.items() for n in range(5, 10)
    }  # fmt: skip
    for _, n, _, told in seen:
        got = [s["probability"] for s in told["scores"]]
        assert got == pytest.approx(wanted[told["model"], n], abs=1e-5)
    print(f"{len(seen)} answers, {len(seen) / (seen[-1][0] - seen[0][0]):.0f} a second")
