"""One id for a request: in its answer, its error, the log's lines and the metrics."""

import contextlib
import logging
import re

import httpx
import pytest

from sasrecllm.errors import ResourceError
from sasrecllm.machine import trace
from sasrecllm.serving import request_log

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
ASKED = {"history": ["m0001"], "k": 2}


@pytest.fixture
def lines():
    """The lines of the server's log as a process writes them, one an answer."""
    written = []

    class Listener(logging.Handler):
        def emit(self, record):
            written.append(self.format(record))

    handler = Listener()
    handler.setFormatter(request_log.Lines("%(levelname)s %(message)s"))
    request_log.log.addHandler(handler)
    before = request_log.log.level
    request_log.log.setLevel(logging.INFO)
    yield written
    request_log.log.setLevel(before)
    request_log.log.removeHandler(handler)


def test_answer_line_and_metrics_share_the_id(api, lines):
    answer = api.call("POST", "/v1/recommend", json=ASKED, headers={"X-Request-ID": "order.7_a-B"})
    assert answer.status_code == 200 and answer.headers["x-request-id"] == "order.7_a-B"
    (line,) = lines
    assert re.fullmatch(r"INFO POST /v1/recommend 200 [0-9.]+ s request=order\.7_a-B", line)
    shown = api.call("GET", "/metrics", headers=OPEN_METRICS)
    assert shown.headers["content-type"].startswith("application/openmetrics-text")
    counted = 'sasrecllm_requests_total{code="200",route="/v1/recommend"} 1.0'
    assert f'{counted} # {{request_id="order.7_a-B"}}' in shown.text
    timed = [t for t in shown.text.splitlines() if 'seconds_bucket{le="' in t and "order.7_a-B" in t]
    assert len(timed) == 1 and 'route="/v1/recommend"' in timed[0]
    plain = api.call("GET", "/metrics")
    assert plain.headers["content-type"].startswith("text/plain") and "order.7_a-B" not in plain.text


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "né", "x\ty", "<script>", 'a"b', "a,b"])
def test_an_id_that_is_not_well_formed_is_replaced(api, lines, given):
    answer = api.call("GET", "/nowhere", headers=[(b"X-Request-ID", given.encode())])
    name = answer.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", name) and answer.json()["request_id"] == name
    assert lines[0].endswith(f" request={name}") and (not given or given not in lines[0])


def test_ids_that_the_server_makes_differ(api):
    assert len({api.call("GET", "/healthz").headers["x-request-id"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("GET", "/v1/items/none", {}, 404),
        ("POST", "/v1/recommend", {"json": {"k": 0}}, 422),
        ("POST", "/v1/recommend", {"content": b"{"}, 415),
        ("DELETE", "/v1/recommend", {}, 405),
        ("GET", "/v1/items", {"headers": {"Host": "evil.example", "X-Request-ID": "e1"}}, 421),
    ],
)
def test_every_refusal_names_its_request_in_body_header_and_line(
    make_api, lines, method, path, more, status
):
    api = make_api(hosts=frozenset({"localhost"}))
    answer = api.call(method, path, **{"headers": {"X-Request-ID": "e1"}} | more)
    assert answer.status_code == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "e1"
    assert lines[-1].endswith("request=e1")


def test_a_bug_is_found_in_the_log_by_the_id_of_its_answer(api, lines, monkeypatch):
    def broken(**_):
        raise KeyError("secret")

    monkeypatch.setattr(api.state.current.system, "recommend", broken)
    answer = api.call("POST", "/v1/recommend", json=ASKED)
    first, *trace = lines[0].splitlines()
    assert (
        answer.status_code == 500
        and first == f"ERROR a bug of ours request={answer.json()['request_id']}"
    )
    assert "KeyError: 'secret'" in trace


def test_lines_of_the_threads_that_ask_the_model_have_the_id_too(api, lines, monkeypatch):
    def complain(**_):
        request_log.log.error("a model process ended")
        raise ResourceError("no room", "make some")

    monkeypatch.setattr(api.state.current.system, "recommend", complain)
    answer = api.call("POST", "/v1/recommend", json=ASKED, headers={"X-Request-ID": "t-1"})
    assert answer.status_code == 503 and answer.json()["request_id"] == "t-1"
    assert lines[0] == "ERROR a model process ended request=t-1"
    assert all("request=t-1" in line for line in lines) and len(lines) == 3
    request_log.log.error("between two requests")
    assert lines[-1] == "ERROR between two requests"


def test_a_server_process_writes_a_line_an_answer_where_it_is_told_to(launch):
    for flags, wanted in (((), 0), (("--log-requests",), 2)):
        server = launch(flags=flags)
        for name in ("one", "two"):
            sent = {"X-Request-ID": name}
            httpx.post(f"{server.url}/v1/recommend", json=ASKED, headers=sent, timeout=300)
        written = re.findall("^INFO POST /v1/recommend 200 .* request=(one|two)$", server.end(), re.M)
        assert written == ["one", "two"][:wanted]


def test_a_requests_span_has_its_id_route_and_status_in_the_trace_of_the_caller(api, monkeypatch):
    class Recorded(dict):
        set_attribute = dict.__setitem__

        def update_name(self, name):
            self["name"] = name

    opened = []

    @contextlib.contextmanager
    def span(name, caller=None):
        opened.append((Recorded(), caller))
        yield opened[-1][0]

    monkeypatch.setattr(trace, "span", span)
    sent = {"X-Request-ID": "s-1", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    api.call("GET", "/v1/items/m0001", headers=sent)
    ((found, caller),) = opened
    assert found == {
        "name": "GET /v1/items/{item_id:path}",
        "sasrecllm.request_id": "s-1",
        "http.route": "/v1/items/{item_id:path}",
        "http.response.status_code": 200,
    }
    assert caller["traceparent"] == sent["traceparent"]
