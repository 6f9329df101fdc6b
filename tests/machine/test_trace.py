"""Spans: a request's carries its id and belongs to the caller's trace, a stage's its name."""

import builtins
import http.server
import threading

import pytest

from sasrecllm.machine import trace

WITHOUT = "OpenTelemetry's SDK is not installed: pip install 'sasrecllm[trace]'"


@pytest.fixture
def spans(monkeypatch):
    """The finished spans of a test."""
    exporting = pytest.importorskip("opentelemetry.sdk.trace.export", reason=WITHOUT)
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=WITHOUT
    )
    from opentelemetry.sdk.trace import TracerProvider

    kept, provider = memory.InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(exporting.SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "_tracer", lambda: provider.get_tracer("test"))
    return kept.get_finished_spans


def test_a_block_is_a_span_with_its_attributes_in_the_callers_trace(spans):
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with trace.span("outer", caller, size=3) as outer:
        outer.update_name("better")
        with trace.span("inner"):
            pass
    inner, outer = spans()
    assert (inner.name, outer.name) == ("inner", "better") and outer.attributes["size"] == 3
    assert format(outer.context.trace_id, "x") == "af7651916cd43dd8448eb211c80319c"
    assert inner.parent.span_id == outer.context.span_id and outer.parent.span_id == 0xB7AD6B7169203331


def test_without_opentelemetry_a_block_runs_as_it_is(monkeypatch, capsys):
    imported = builtins.__import__

    def refuse(name, *more):
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return imported(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for endpoint, said in (("", ""), ("http://127.0.0.1:1", 'pip install "sasrecllm[trace]"')):
        monkeypatch.setenv(trace.ENDPOINTS[0], endpoint)
        trace._tracer.cache_clear()
        with trace.span("work") as span:
            span.set_attribute("n", 1)
            span.update_name("other")
        assert said in capsys.readouterr().err
    trace._tracer.cache_clear()


def test_spans_reach_the_collector_that_the_environment_names(monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason=WITHOUT)
    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        provider = trace.exporting()
        with provider.get_tracer("test").start_as_current_span("stage 2-text"):
            pass
        provider.shutdown()
        server.shutdown()
    (sent,) = got
    assert sent[0] == "/v1/traces" and b"stage 2-text" in sent[1] and b"sasrecllm" in sent[1]
