"""What ``/metrics`` shows, in a registry of its own, so that two apps in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server.

    Args:
        queue_depth: asked at every scrape.
    """

    def __init__(self, queue_depth: Callable[[], float] = lambda: 0.0) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self.requests = Counter(
            "sasrecllm_requests", "Requests answered", ["route", "code"], registry=here
        )
        self.seconds = Histogram(
            "sasrecllm_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=here
        )
        self.rejected = Counter(
            "sasrecllm_rejected", "Requests refused unseen", ["reason"], registry=here
        )
        self.taken = Counter("sasrecllm_taken", "Requests whose turn came", registry=here)
        self.reloads = Counter(
            "sasrecllm_reloads", "Attempts to load a new run", ["result"], registry=here
        )
        self.model_info = Gauge(
            "sasrecllm_model_info", "The run that answers", ["run", "model"], registry=here
        )
        depth = Gauge("sasrecllm_queue_depth", "Requests that wait for the model", registry=here)
        depth.set_function(queue_depth)

    def show_model(self, run: str, model: str) -> None:
        """Name the run that answers from now on."""
        self.model_info.clear()
        self.model_info.labels(run, model).set(1)

    def count(self, route: str, status: int, seconds: float, request: str) -> None:
        """One answer.

        Args:
            request: its id, an exemplar of its count and of its time.
        """
        exemplar = {"request_id": request}
        self.requests.labels(route, str(status)).inc(exemplar=exemplar)
        self.seconds.labels(route).observe(seconds, exemplar=exemplar)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type; OpenMetrics, which shows exemplars, if accepted.

        Args:
            accept: the ``Accept`` header of who asks.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
