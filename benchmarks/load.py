"""Latency and throughput of a running server: lists reranked out of 100 retrieved candidates.

    sasrecllm serve runs/demo --port 8000 &
    python benchmarks/load.py http://127.0.0.1:8000 --seconds 10 --json load.json

Every client asks for ten recommendations for a history of its own (five liked items of the catalogue),
as soon as its last answer is there.  Prints p50, p95, p99 and answers per second at 1, 8 and 64
clients, and how many requests were turned away (429, 503).

With ``--slow 100`` one client is measured alone and then beside 100 connections that send the head of a
request and 100 that send a body, a byte a second; says when the server cut them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import random
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx


def ask(url: str, ids: list[str], seed: int, ends: float, times: list[float], away: list[int]) -> None:
    """One client until ``ends``; adds its latencies, and the status of what was turned away."""
    draw = random.Random(seed)
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < ends:
            body = {"history": draw.sample(ids, 5), "k": 10, "retrieve": 100}
            started = time.monotonic()
            answer = client.post("/v1/recommend", json=body)
            if answer.status_code == 200:
                times.append(time.monotonic() - started)
            else:
                away.append(answer.status_code)
                time.sleep(float(answer.headers.get("Retry-After", 1)) * draw.random())


def measure(url: str, ids: list[str], clients: int, seconds: float) -> dict[str, float]:
    """Milliseconds at three percentiles, answers per second and refusals with so many clients."""
    times: list[float] = []
    away: list[int] = []
    started = time.monotonic()
    threads = [
        threading.Thread(target=ask, args=(url, ids, n, started + seconds, times, away))
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    ordered = sorted(times) or [float("nan")]
    found = {
        f"p{p}": 1000 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99)
    }
    return found | {"per_second": len(times) / took, "answers": len(times), "turned_away": len(away)}


HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW = {"head": HEAD + b"X: ", "body": HEAD + b"Content-Length: 100000\r\n\r\n"}


def drip(url: str, request: bytes, ends: float, cut: list[float]) -> None:
    """Send ``request``, then a byte a second; adds after how many seconds the server had enough."""
    address, started = urlsplit(url), time.monotonic()
    with socket.create_connection((address.hostname, address.port), timeout=1) as connection:
        connection.sendall(request)
        while time.monotonic() < ends:
            with contextlib.suppress(TimeoutError):
                connection.recv(10_000)  # an answer, or the end
                cut.append(time.monotonic() - started)
                return
            connection.sendall(b" ")


def beside_slow(url: str, ids: list[str], count: int, seconds: float) -> None:
    """One client alone, and beside ``count`` connections of each slow kind."""
    alone = measure(url, ids, 1, seconds)
    cut: dict[str, list[float]] = {kind: [] for kind in SLOW}
    ends = time.monotonic() + seconds + 15
    threads = [
        threading.Thread(target=drip, args=(url, begun, ends, cut[kind]))
        for kind, begun in SLOW.items()
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    beside = measure(url, ids, 1, seconds)
    for thread in threads:
        thread.join()
    print(f"p95 alone {alone['p95']:.1f} ms, beside {len(threads)} slow clients {beside['p95']:.1f} ms")
    for kind, times in cut.items():
        last = max(times, default=float("nan"))
        print(f"dripping {kind}: {len(times)} of {count} cut, the last after {last:.1f} s")


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json")
    parser.add_argument("--slow", type=int)
    asked = parser.parse_args()
    first = httpx.get(f"{asked.url}/v1/items", params={"query": "", "limit": 100}).json()
    ids = [item["item_id"] for item in first["items"]]
    measure(asked.url, ids, 1, 1.0)  # warm
    if asked.slow:
        beside_slow(asked.url, ids, asked.slow, asked.seconds)
        return
    names = ("clients", "p50 ms", "p95 ms", "p99 ms", "per s", "answers", "refused")
    print(" ".join(f"{name:>8}" for name in names))
    results = {}
    for clients in (1, 8, 64):
        got = results[clients] = measure(asked.url, ids, clients, asked.seconds)
        cells = [got["p50"], got["p95"], got["p99"], got["per_second"]]
        print(f"{clients:>8} " + " ".join(f"{c:8.1f}" for c in cells)
              + f" {got['answers']:>8} {got['turned_away']:>8}")  # fmt: skip
    if asked.json:
        about = {"date": datetime.datetime.now(datetime.UTC).isoformat(), "clients": results}
        with open(asked.json, "w", encoding="utf-8") as stream:
            json.dump(about, stream, indent=2)


if __name__ == "__main__":
    main()
