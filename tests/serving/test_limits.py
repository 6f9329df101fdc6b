"""One client that asks too often is held back, accurately, and nobody else is."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.serving import limits
from sasrecllm.serving.limits import RateLimit


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@settings(max_examples=50)
@given(rate=st.floats(0.5, 50), step=st.floats(0.001, 0.02))
def test_thirty_seconds_let_through_what_the_rate_says(rate, step):
    clock = Clock()
    limit = RateLimit(rate, burst=1, clock=clock)
    passed = 0
    while clock.now < 30:
        passed += limit.wait("a") == 0
        clock.now += step
    allowed = 30 * min(rate, 1 / step)
    assert passed <= 30 * rate + 1 and passed >= min(0.95 * allowed, allowed - 2) - 30 * rate**2 * step


def test_waiting_as_told_is_enough():
    clock = Clock()
    limit = RateLimit(0.3, burst=1, clock=clock)
    for _ in range(20):
        assert limit.wait("a") == 0
        clock.now += limit.wait("a")


def test_memory_of_clients_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MOST_CLIENTS", 10)
    limit = RateLimit(1.0, clock=Clock())
    for n in range(100):
        assert limit.wait(str(n)) == 0
    assert len(limit._buckets) == 10 and limit.wait("99") == 1


def test_over_http_it_is_a_429_that_says_when(make_api):
    api = make_api(limit=RateLimit(0.1, burst=3, clock=Clock()))
    answers = [api.call("POST", "/v1/recommend", json={}) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert api.call("GET", "/readyz").status_code == 200
    assert 'rejected_total{reason="429"} 2.0' in api.call("GET", "/metrics").text
    free = make_api(limit=RateLimit(math.inf))
    assert {free.call("POST", "/v1/recommend", json={}).status_code for _ in range(20)} == {200}
