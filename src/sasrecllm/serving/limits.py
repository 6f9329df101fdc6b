"""How often one client may ask: a token bucket for each address, so that one cannot starve the rest."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_CLIENTS = 10_000


class RateLimit:
    """Lets each client through ``rate`` times a second, and up to ``burst`` times at once.

    >>> now = [0.0]
    >>> limit = RateLimit(2.0, burst=2, clock=lambda: now[0])
    >>> [limit.wait("a"), limit.wait("a"), limit.wait("a"), limit.wait("b")]
    [0, 0, 1, 0]
    >>> now[0] = 0.5
    >>> [limit.wait("a"), limit.wait("a")]
    [0, 1]

    Args:
        rate: requests a second; infinity lets everything through.
        burst: requests that may come at once; one second's worth by default.
    """

    def __init__(
        self, rate: float, burst: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.clock = rate, clock
        self.burst = (
            burst if burst is not None else rate if math.isinf(rate) else max(1, math.ceil(rate))
        )
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: tokens, when

    def wait(self, client: str) -> int:
        """0 where the client may pass now, else whole seconds after which it may."""
        if math.isinf(self.rate):
            return 0
        now = self.clock()
        tokens, since = self._buckets.pop(client, (float(self.burst), now))
        tokens = min(float(self.burst), tokens + (now - since) * self.rate)
        passes = tokens >= 1.0
        self._buckets[client] = (tokens - passes, now)
        if len(self._buckets) > MOST_CLIENTS:  # whoever was quiet longest has a full bucket anyway
            self._buckets.popitem(last=False)
        return 0 if passes else max(1, math.ceil((1.0 - tokens) / self.rate))
