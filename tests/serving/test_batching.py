"""The model thread: one at a time, together what waits, bounded, and it outlives every error."""

import asyncio
import threading
import time

import pytest

from sasrecllm.serving.batching import ModelThread, Overloaded


class Recorder:
    def __init__(self):
        self.batches, self.running, self.most_running = [], 0, 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self, kind, requests):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.open.wait(10)
        self.batches.append((kind, list(requests)))
        self.running -= 1
        return [KeyError(r) if r == "bad" else (kind, r) for r in requests]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def model(recorder):
    model = ModelThread(recorder, size=8, most=4)
    yield model
    recorder.open.set()
    model.close()


def hold(recorder, model):
    """Let the model work on one request, so that others wait."""
    recorder.open.clear()
    first = model.submit("a", "first")
    while not recorder.running:
        time.sleep(0.001)
    return first


def test_what_waits_goes_in_together_by_kind_and_in_order(recorder, model):
    first = hold(recorder, model)
    waiting = [model.submit(kind, n) for n, kind in enumerate("aaaaabba")]
    assert model.depth == 8
    recorder.open.set()
    assert first.result(5) == ("a", "first")
    assert [f.result(5) for f in waiting] == [(k, n) for n, k in enumerate("aaaaabba")]
    assert recorder.batches == [
        ("a", ["first"]), ("a", [0, 1, 2, 3]), ("a", [4]), ("b", [5, 6]), ("a", [7]),
    ]  # fmt: skip
    assert recorder.most_running == 1


def test_a_full_queue_refuses_and_says_when_to_come_back(recorder, model):
    hold(recorder, model)
    for n in range(8):
        model.submit("a", n)
    with pytest.raises(Overloaded) as refusal:
        model.submit("a", 8)
    assert refusal.value.reason == "queue full" and 1 <= refusal.value.retry_after <= 30


def test_one_bad_request_does_not_spoil_its_batch(recorder, model):
    hold(recorder, model)
    futures = [model.submit("a", r) for r in ("good", "bad", "fine")]
    recorder.open.set()
    assert futures[0].result(5) == ("a", "good") and futures[2].result(5) == ("a", "fine")
    with pytest.raises(KeyError):
        futures[1].result(5)


def test_the_thread_outlives_a_handler_that_breaks():
    def broken(kind, requests):
        if kind == "broken":
            raise RuntimeError("no")
        return [] if kind == "short" else list(requests)

    model = ModelThread(broken)
    with pytest.raises(RuntimeError):
        model.submit("broken", 1).result(5)
    with pytest.raises(AssertionError):
        model.submit("short", 1).result(5)
    assert model.submit("fine", 1).result(5) == 1
    model.close()


def test_a_request_that_waits_too_long_is_dropped_and_never_computed(recorder, model):
    hold(recorder, model)
    with pytest.raises(Overloaded) as refusal:
        asyncio.run(model.answer("a", "late", timeout=0.05))
    assert refusal.value.reason == "timeout"
    recorder.open.set()
    assert model.submit("a", "next").result(5) == ("a", "next")
    assert "late" not in [r for _, batch in recorder.batches for r in batch]


def test_close_answers_what_waits(recorder, model):
    hold(recorder, model)
    waiting = model.submit("a", 1)
    threading.Timer(0.05, recorder.open.set).start()
    model.close(timeout=5)
    assert waiting.result(0) == ("a", 1)
