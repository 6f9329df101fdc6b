"""The client's calls, and that old names of its arguments go on working for one version."""

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sasrecllm.client import Client, ServerError
from sasrecllm.errors import ConfigError, ResourceError

ANSWERS = {
    "/v1/recommend": {"recommendations": [{"item_id": "a"}]},
    "/v1/score": {"scores": [{"item_id": "a", "probability": 0.5, "flags": []}]},
    "/v1/explain": {"explanation": {"item_id": "a"}},
    "/v1/interactions": {"stored": 1},
}


@pytest.fixture
def server():
    """A server's address, under a proxy's path, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.removeprefix("/books")
            asked.append((path, json.loads(body), self.headers["Authorization"]))
            text = json.dumps(ANSWERS.get(path, {})).encode()
            self.send_response(200 if path in ANSWERS else 429)
            self.send_header("Retry-After", "3")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            asked.append((self.path.removeprefix("/books"), None, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            values = b'{"values": [{"attribute": "genre", "value": "War", "items": 3}]}'
            self.wfile.write(b"<html>" if self.path.endswith("/page") else values)

        def do_DELETE(self):
            asked.append((self.path.removeprefix("/books"), None, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"forgotten": true}')

        def log_message(self, *_):
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}/books/", asked
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_wishes_go_with_the_request_and_attribute_values_can_be_looked_up(server):
    url, asked = server
    client = Client(url)
    wishes = {"exclude": ["b"], "boost": {"genre": {"War": 3}}, "diversity": 0.3}
    client.recommend(history=["a"], **wishes)
    assert client.attributes("war & sea", limit=5) == [
        {"attribute": "genre", "value": "War", "items": 3}
    ]
    assert asked[0][1] == {"user_id": None, "history": ["a"], "k": 10, **wishes}
    assert asked[1][0] == "/v1/attributes?query=war+%26+sea&limit=5"


def test_every_call_asks_by_the_new_names(server):
    url, asked = server
    client = Client(url, key="the-key")
    assert client.recommend("u", ["a"], k=3, retrieve=9) == [{"item_id": "a"}]
    assert client.score(["a"], user_id="u") == {"a": 0.5}
    assert client.explain("a", "u") == {"item_id": "a"}
    assert client.add_feedback("u", {"a": True}) == {"stored": 1}
    client.forget("a/b ?")
    assert asked.pop() == ("/v1/users/a%2Fb%20%3F", None, "Bearer the-key")
    bodies = [body for _, body, _ in asked]
    assert bodies[0] == {"user_id": "u", "history": ["a"], "k": 3, "retrieve": 9}
    assert bodies[1] == {"item_ids": ["a"], "user_id": "u", "history": []}
    assert bodies[2] == {"item_id": "a", "user_id": "u", "history": []}
    assert bodies[3] == {"interactions": [{"user_id": "u", "item_id": "a", "liked": True}]}
    assert {key for *_, key in asked} == {"Bearer the-key"}


def test_old_names_of_arguments_are_taken_with_a_warning(server):
    url, asked = server
    client = Client(url)
    calls = [
        (lambda: client.recommend(user="u"), "user is user_id"),
        (lambda: client.score(items=["a"], user_id="u"), "items is item_ids"),
        (lambda: client.explain(item="a", user_id="u"), "item is item_id"),
        (lambda: client.add_feedback(user="u", liked={"a": True}), "user is user_id"),
    ]
    for call, said in calls:
        with pytest.warns(DeprecationWarning, match=said):
            call()
    names = set().union(*(body for _, body, _ in asked))
    assert names == {"user_id", "item_id", "item_ids", "history", "k", "interactions"}


def test_a_refusal_says_how_long_to_wait(server):
    with pytest.raises(ServerError) as refusal:
        Client(server[0]).call("POST", "/v1/elsewhere", {})
    assert refusal.value.status == 429 and refusal.value.retry_after == 3.0


def test_who_does_not_answer_is_named_and_is_no_traceback_of_the_library(server):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ResourceError, match=re.escape(url)) as refusal:
            Client(url).recommend(user_id="u")
    assert "sasrecllm serve" in refusal.value.remedy
    with pytest.raises(ResourceError, match="does not answer as a server of sasrecllm"):
        Client(server[0]).call("GET", "/page")  # a page, not JSON
    with pytest.raises(ConfigError, match=re.escape("url is '127.0.0.1:8000'")):
        Client("127.0.0.1:8000")
