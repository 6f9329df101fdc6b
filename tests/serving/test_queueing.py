"""The queue before the model: in order, bounded, as many at once as there are threads."""

import asyncio
import threading
import time

import pytest

from sasrecllm.serving.queueing import ModelQueue, Overloaded


class Recorder:
    def __init__(self):
        self.asked, self.running, self.most_running = [], 0, 0
        self.open = threading.Event()
        self.open.set()
        self.lock = threading.Lock()

    def __call__(self, kind, request):
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.open.wait(300)
        with self.lock:
            self.asked.append(request)
            self.running -= 1
        if request == "bad":
            raise KeyError(request)
        return kind, request


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture(params=[1, 3])
def model(recorder, request):
    model = ModelQueue(recorder, size=8, threads=request.param)
    model.threads = request.param
    yield model
    recorder.open.set()
    model.close()


def hold(recorder, model):
    """Let every thread work on a request, so that others wait."""
    recorder.open.clear()
    first = [model.submit("a", f"first {n}") for n in range(model.threads)]
    while recorder.running < model.threads:
        time.sleep(0.001)
    return first


def test_as_many_at_once_as_there_are_threads_and_in_order(recorder, model):
    first = hold(recorder, model)
    waiting = [model.submit(kind, n) for n, kind in enumerate("aaaaabba")]
    assert model.depth == 8
    recorder.open.set()
    assert [f.result(300) for f in first] == [("a", f"first {n}") for n in range(model.threads)]
    assert [f.result(300) for f in waiting] == [(k, n) for n, k in enumerate("aaaaabba")]
    assert recorder.most_running == model.threads
    if model.threads == 1:
        assert recorder.asked[1:] == list(range(8))


def test_a_full_queue_refuses_and_says_when_to_come_back(recorder, model):
    hold(recorder, model)
    for n in range(8):
        model.submit("a", n)
    with pytest.raises(Overloaded) as refusal:
        model.submit("a", 8)
    assert refusal.value.reason == "queue full" and 1 <= refusal.value.retry_after <= 30


def test_a_thread_outlives_a_handler_that_breaks(recorder, model):
    hold(recorder, model)
    futures = [model.submit("a", r) for r in ("good", "bad", "bad", "bad", "fine")]
    recorder.open.set()
    assert futures[0].result(300) == ("a", "good") and futures[4].result(300) == ("a", "fine")
    for broken in futures[1:4]:
        with pytest.raises(KeyError):
            broken.result(300)


def test_a_request_that_waits_too_long_is_dropped_and_never_computed(recorder, model):
    hold(recorder, model)
    with pytest.raises(Overloaded) as refusal:
        asyncio.run(model.answer("a", "late", timeout=0.05))
    assert refusal.value.reason == "timeout"
    recorder.open.set()
    assert model.submit("a", "next").result(300) == ("a", "next")
    assert "late" not in recorder.asked


def test_close_answers_what_waits(recorder, model):
    hold(recorder, model)
    waiting = model.submit("a", 1)
    threading.Timer(0.05, recorder.open.set).start()
    model.close(timeout=300)
    assert waiting.result(0) == ("a", 1)
