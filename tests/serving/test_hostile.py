"""Bodies and clients that mean harm: every one gets a 4xx, quickly, and costs no memory."""

import asyncio
import contextlib
import gzip
import json
import socket
import time
import tracemalloc
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from sasrecllm.serving import request_body
from sasrecllm.serving.problems import Problem

SLOW = 300

JSON = {"Content-Type": "application/json"}
DEEP = b'{"history":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
BODIES = [
    ("not json", b"k=5", 400),
    ("empty", b"", 400),
    ("two values", b"{}{}", 400),
    ("cut", b'{"k": 5', 400),
    ("NaN", b'{"k": NaN}', 400),
    ("Infinity", b'{"k": -Infinity}', 400),
    ("too large a float", b'{"k": 1e999}', 400),
    ("too long an integer", b'{"k": ' + b"9" * 5000 + b"}", 400),
    ("large integer", b'{"k": ' + b"9" * 400 + b"}", 422),
    ("lone surrogate", b'{"user_id": "\\ud800"}', 400),
    ("lone surrogate as key", b'{"\\uDFFF": 1}', 400),
    ("surrogates swapped", b'{"user_id": "\\udc00\\ud800"}', 400),
    ("a whole pair", b'{"user_id": "\\ud83c\\udfac"}', 200),
    ("the text of an escape", b'{"user_id": "\\\\ud800"}', 200),
    ("invalid UTF-8", b'{"user_id": "\xff"}', 400),
    ("UTF-16", '{"k": 5}'.encode("utf-16"), 400),
    ("byte order mark", b"\xef\xbb\xbf{}", 400),
    ("NUL", b'{"user_id": "a\\u0000"}', 422),
    ("repeated key", b'{"k": 5, "k": 6}', 400),
    ("repeated key inside", b'{"history": [{"item_id": "a", "item_id": "b"}]}', 400),
    ("repeated surrogate key", b'{"\\ud800": 1, "\\ud800": 2}', 400),
    ("deep nesting", DEEP, 400),
    ("10,000 entries", json.dumps({"history": ["m0001"] * 10_000}).encode(), 422),
    ("many fields", json.dumps({f"x{n}": n for n in range(20_000)}).encode(), 400),
    ("not an object", b'"text"', 422),
    ("null", b"null", 422),
]


@pytest.fixture(scope="module")
def server(fake_server_in, tmp_path_factory):
    """One server for all of them: what one body breaks, the next one finds broken."""
    server = fake_server_in(tmp_path_factory.mktemp("hostile"))
    httpx.post(f"{server.url}/v1/recommend", json={})  # what is imported at the first request
    yield server
    server.stop()


@pytest.mark.parametrize(("name", "body", "status"), BODIES, ids=[b[0] for b in BODIES])
def test_bodies(server, name, body, status):
    answer = httpx.post(f"{server.url}/v1/recommend", content=body, headers=JSON, timeout=SLOW)
    assert answer.status_code == status, answer.text
    assert len(answer.content) < 5_000
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": ""}, 415),
        ({}, 415),
        ({"Content-Type": "application/json; charset=utf-16"}, 415),
        ({"Content-Type": "application/json; charset=UTF-8"}, 200),
        (JSON | {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_only_plain_json_is_taken(server, headers, status):
    body = gzip.compress(b"[" * 10_000_000) if "Content-Encoding" in headers else b"{}"
    assert httpx.post(f"{server.url}/v1/recommend", content=body, headers=headers).status_code == status


def pieces():
    for _ in range(50):
        yield b" " * 1_000_000


@pytest.mark.parametrize("chunked", [False, True])
def test_fifty_megabytes_are_refused(server, chunked):
    content = pieces() if chunked else b" " * 50_000_000
    answer = httpx.post(f"{server.url}/v1/recommend", content=content, headers=JSON, timeout=SLOW)
    assert answer.status_code == 413
    assert httpx.get(f"{server.url}/healthz", timeout=SLOW).status_code == 200


@pytest.mark.parametrize("declared", [{}, {b"content-length": b"50000000"}])
def test_what_is_too_long_is_not_kept_while_it_is_read(declared):
    """Counted are Python's own allocations: the same on every machine."""
    read = []

    async def receive():
        read.append(1_000_000)
        return {"type": "http.request", "body": b" " * read[-1], "more_body": len(read) < 50}

    tracemalloc.start()
    with pytest.raises(Problem) as refused:
        asyncio.run(request_body.read_body(receive, declared))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.status == 413 and sum(read) > 40e6 and most < 8e6


@pytest.mark.soak
def test_hostile_bodies_cost_neither_time_nor_memory(server):
    process = psutil.Process(server.process.pid)
    limits = [(content, 0.5) for _, content, _ in BODIES] + [(b" " * 50_000_000, 2.0), (pieces(), 2.0)]
    for content, seconds in limits:
        before, started = process.memory_info().rss, time.monotonic()
        httpx.post(f"{server.url}/v1/recommend", content=content, headers=JSON)
        assert time.monotonic() - started < seconds
        assert process.memory_info().rss - before < 20e6


def raw(server, text, wait=SLOW):
    """Send bytes as they are; everything that comes back."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=wait) as connection:
        connection.sendall(text)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # cut while we still wrote
            while piece := connection.recv(65_536):
                answer += piece
        return answer


HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["negative", "two lengths", "a very long length", "large header", "no host", "nonsense"],
)
def test_broken_http_is_a_4xx(server, request_bytes):
    answer = raw(server, request_bytes)
    cut = not answer and len(request_bytes) > 100_000
    assert cut or answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert b"Traceback" not in answer and httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_body_that_drips_is_cut(api, monkeypatch):
    """On a real socket this takes the real ten seconds; here the clock is shorter."""
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.2)
    scope = {
        "type": "http", "method": "POST", "path": "/v1/recommend", "raw_path": b"/v1/recommend",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }  # fmt: skip
    sent = []

    async def drip():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        sent.append(message)

    asyncio.run(api.app(scope, drip, send))  # the drip alone would never end
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


DOTS, SLASHES = ("..", "%2e%2e", ".%2e", "%252e%252e", "．．"), ("/", "%2f", "%252f", "\\", "%5c")
TRAVERSALS = [
    "/etc/passwd", "//etc/passwd", "C:\\windows\\win.ini", "%00", "index.html%00.png", "a" * 300,
    "static/../../app.py", "../app.py", "..%5c..%5capp.py", ".git/config",
    *(f"{(d + s) * depth}etc{s}passwd" for d in DOTS for s in SLASHES for depth in (2, 8)),
]  # fmt: skip


def test_no_path_of_a_client_reaches_the_disk(server):
    address = urlsplit(server.url)
    for prefix in ("/", "/v1/items/", "/v1/users/", "/static/"):
        for path in TRAVERSALS:
            with socket.create_connection((address.hostname, address.port), timeout=SLOW) as connection:
                target = (prefix + path).encode("utf-8")
                head = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                connection.sendall(head)
                answer = b""
                while piece := connection.recv(65_536):
                    answer += piece
            assert b"root:" not in answer and b"import" not in answer
            known_is_false = prefix == "/v1/users/" and b'"known":false' in answer
            assert answer.split()[1] in (b"400", b"404", b"422") or known_is_false, (target, answer)
