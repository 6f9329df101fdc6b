"""A trace by OpenTelemetry, where that is installed: a span for each request and for each stage.

Spans go where an application has set OpenTelemetry up to send them, else to the collector that
``OTEL_EXPORTER_OTLP_ENDPOINT`` names; without either nothing is kept.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sasrecllm.machine import output

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class NoSpan:
    """What a block gets where OpenTelemetry is not installed."""

    def update_name(self, name: str) -> None:
        """Nothing."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Nothing."""


@contextmanager
def span(name: str, caller: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[Any]:
    """A span around the block; it takes ``update_name`` and ``set_attribute``.

    Args:
        caller: headers of the request that is answered: the span belongs to the caller's trace
            (W3C ``traceparent``).  None for what nobody asked for.
        attributes: of the span; numbers and texts.
    """
    tracer = _tracer()
    if tracer is None:
        yield NoSpan()
        return
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind

    kind = SpanKind.INTERNAL if caller is None else SpanKind.SERVER
    before = None if caller is None else propagate.extract(caller)
    with tracer.start_as_current_span(name, before, kind, attributes) as opened:
        yield opened


@functools.cache
def _tracer() -> Any:
    """Whose spans they are; None where OpenTelemetry is not installed."""
    wanted = any(map(os.environ.get, ENDPOINTS)) and os.environ.get("OTEL_SDK_DISABLED") != "true"
    try:
        from opentelemetry import trace

        if wanted and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(exporting())
    except ImportError:
        if wanted:
            said = "warning: an OTLP endpoint is named, and no trace is sent"
            output.say(f'{said}\n  -> pip install "sasrecllm[trace]"', error=True)
        return None
    return trace.get_tracer("sasrecllm")


def exporting() -> Any:
    """What sends spans to the collector that the environment names, from a thread of its own.

    Raises:
        ImportError: the extra ``trace`` is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "sasrecllm"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
