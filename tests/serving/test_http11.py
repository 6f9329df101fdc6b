"""Request heads that never come are cut; whoever only takes time between requests is not."""

import asyncio
import socket
import threading
import time

import pytest
import uvicorn

from sasrecllm.serving import http11

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope, receive, send):
    await asyncio.sleep(0.6 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def connect(monkeypatch):
    monkeypatch.setattr(http11, "HEAD_SECONDS", 0.3)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(hello, http=http11.ClockedProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    opened = []

    def made():
        opened.append(socket.create_connection(listening.getsockname(), timeout=300))
        return opened[-1]

    yield made
    for connection in opened:
        connection.close()
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.mark.parametrize("said", [b"", b"GE", HEAD[:-2]], ids=["silent", "begun", "all but the end"])
def test_a_head_that_does_not_come_is_cut(connect, said):
    connection = connect()
    connection.sendall(said)
    assert connection.recv(100) == b""


def test_a_dripping_head_is_cut_at_the_same_time(connect):
    connection = connect()
    with pytest.raises(OSError):
        for byte in HEAD[:-2] * 10:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    assert connection.fileno() >= 0


def answered(connection, request):
    connection.sendall(request)
    told = b""
    while not told.endswith(b"ok"):
        told += connection.recv(1000)
    return told.startswith(b"HTTP/1.1 200")


def test_time_between_requests_and_slow_answers_are_no_fault(connect, monkeypatch):
    def clock(seconds):
        monkeypatch.setattr(http11, "HEAD_SECONDS", seconds)

    # The first head and the one in two parts get a clock that no busy machine misses; the others come
    # in one piece, so that no clock runs for them, however short it is.
    clock(600)
    connection = connect()
    assert answered(connection, HEAD)
    clock(0.3)
    for path in (b"/slow", b"/"):
        time.sleep(0.5)
        assert answered(connection, HEAD.replace(b"/ ", path + b" ", 1))
    clock(600)
    connection.sendall(HEAD[:9])  # the next head is on the clock again
    assert answered(connection, HEAD[9:])
    clock(0.3)
    connection.sendall(HEAD[:9])
    assert connection.recv(1000) == b""
