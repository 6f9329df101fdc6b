"""Stages are trained one after another, each in a span of the trace."""

import contextlib
from types import SimpleNamespace

from sasrecllm.machine import trace
from sasrecllm.pipeline import train


def test_each_stage_that_is_trained_is_one_span(monkeypatch, tmp_path):
    opened, trained = [], []

    @contextlib.contextmanager
    def span(name, caller=None, **attributes):
        opened.append((name, caller, attributes))
        yield

    stages = {n: SimpleNamespace(name=n, kind=SimpleNamespace(name="llm")) for n in ("done", "text")}
    (tmp_path / "done").touch()
    places = [(SimpleNamespace(about=tmp_path / n), stage) for n, stage in stages.items()]
    run = SimpleNamespace(
        name="demo",
        progress=SimpleNamespace(line=lambda _: None),
        folder=SimpleNamespace(of_stages=lambda _: places),
    )
    prior = SimpleNamespace(encoder=SimpleNamespace(prior="none"))
    monkeypatch.setattr(trace, "span", span)
    monkeypatch.setattr(train, "_bring_in", lambda *_: None)
    monkeypatch.setattr(train, "_train", lambda _, stage, __: trained.append(stage.name))
    train.train_stages(SimpleNamespace(run=run, stages=stages, config=prior))
    assert trained == ["text"]
    assert opened == [("stage text", None, {"task": "llm", "run": "demo"})]
