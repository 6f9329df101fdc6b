"""What is tried of a stage ends after a few seconds, on a clock of its own."""

import numpy as np
import pytest
import torch
from torch import nn

from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run
from sasrecllm.settings import Config, LoopSettings
from sasrecllm.stages import timing
from sasrecllm.training.task import Task


class Slow(Task):
    """Each row moves the clock: ``step`` seconds in training, ``asked`` in a validation."""

    name, monitor, n_validation = "slow", "auc", 500

    def __init__(self, now, step, asked):
        super().__init__()
        self.now, self.seconds, self.asked = now, step, asked
        self.lengths, self.weights = np.full(400, 10), np.ones(400)
        self.one = nn.Parameter(torch.ones(()))
        self.parts, self.questions = [], []

    def learn(self):
        self.train()

    def forward(self, examples):
        self.now[0] += self.seconds * len(examples)
        self.parts.append((len(examples), torch.is_autocast_enabled("cpu")))
        return self.one * len(examples)

    def validation_scores(self, positions):
        self.now[0] += self.asked * len(positions)
        self.questions.append(len(positions))
        return np.zeros(len(positions))


@pytest.mark.parametrize(
    ("step", "asked", "steps", "questions"),
    [(0.01, 0.001, 4, [8, 28, 252]), (0.01, 1.0, 4, [8, 28]), (1.0, 0.001, 2, [8, 28, 252])],
)
def test_slow_ones_are_tried_less_often_and_reckoned_the_same(
    monkeypatch, step, asked, steps, questions
):
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    task = Slow(now, step, asked)
    found = timing.tried(task, LoopSettings(batch_size=8))
    assert found == (pytest.approx(8 * step), pytest.approx(500 * asked))
    assert len(task.parts) == steps and task.questions == questions


def test_a_step_is_tried_as_it_will_be_trained(monkeypatch):
    """In its micro-batches, or a trial would need the memory that they save; and in its arithmetic."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    task = Slow(now, 0.01, 0.001)
    timing.tried(task, LoopSettings(batch_size=8, micro_tokens=20, precision="bf16"))
    assert set(task.parts) == {(2, True)}


def test_what_is_tried_stands_together_as_it_will_be_learnt_and_judged(monkeypatch):
    """Or a like and what is drawn beside it would be reckoned as if each read the history anew."""
    now, kept = [0.0], []
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    task = Slow(now, 0.01, 0.001)
    task.prefix_ids, task.beside = np.random.default_rng(0).permutation(400) // 5, 10
    task.n_validation = 503
    task.forward = lambda examples: (kept.append(examples), task.one * len(examples))[1]
    asked = []
    monkeypatch.setattr(task, "validation_scores", lambda at: (asked.append(at), np.zeros(len(at)))[1])
    timing.tried(task, LoopSettings(batch_size=10))
    assert len(kept) == 4
    assert all(len(set(task.prefix_ids[examples])) == 2 for examples in kept)
    first, few, many = asked
    assert [len(at) for at in asked] == [10, 33, 253] and many.max() == 502, "the last block is short"
    for at in (first, few, many):
        assert np.all(np.bincount(at[at < 500] // 10)[np.unique(at[at < 500] // 10)] == 10)


def test_a_step_of_many_micro_batches_is_reckoned_from_the_first(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    task = Slow(now, 1.0, 0.001)
    step, _ = timing.tried(task, LoopSettings(batch_size=16, micro_tokens=20))
    assert step == pytest.approx(16.0) and len(task.parts) == 3, "one before the clock, two on it"


def test_what_is_computed_for_the_first_time_is_not_what_all_steps_and_questions_take(monkeypatch):
    """Kernels and memory are made once: a slow step reckoned from its first part is twice as slow."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    task = Slow(now, 1.0, 0.1)
    forward, scores = task.forward, task.validation_scores

    def cold(run):
        begun = []

        def first_slower(examples):
            now[0] += 0.0 if begun else 30.0
            begun.append(examples)
            return run(examples)

        return first_slower

    task.forward = cold(forward)
    monkeypatch.setattr(task, "validation_scores", cold(scores))
    found = timing.tried(task, LoopSettings(batch_size=16, micro_tokens=20))
    assert found == (pytest.approx(16.0), pytest.approx(50.0))


def test_what_building_a_model_takes_once_is_not_what_every_document_takes(monkeypatch, tmp_path):
    """A vocabulary of many titles takes 10 s: reckoned into each document it would be minutes."""
    now, built = [0.0], []

    def build(trial, dataset, documents):
        now[0] += 10.0 + 0.02 * documents + (0.0 if built else 5.0)
        built.append((trial.folder.path, documents))

    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(timing, "_build", build)
    trial = Run(RunFolder(tmp_path), Config(), "", Progress(quiet=True))
    assert timing._built(trial, None) == (pytest.approx(0.02), pytest.approx(10.0))
    assert built[-1] == (tmp_path, timing.DOCUMENTS) and len({folder for folder, _ in built}) == 3


def test_a_step_on_a_card_is_waited_for_before_and_after(monkeypatch):
    """Kernels are queued: without waiting only their launching would be timed."""
    now, queued = [0.0], [3.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])

    def wait(kind):
        assert kind == "cuda"
        now[0] += queued[0]
        queued[0] = 0.0

    task = Slow(now, 0.0, 0.0)
    plain = task.forward

    def forward(examples):
        queued[0] += 0.5 * len(examples)
        return plain(examples)

    task.forward = forward
    monkeypatch.setattr(timing, "wait_for_device", wait)
    settings = LoopSettings(batch_size=8)
    assert timing._step(task, np.arange(8), settings, "cuda:0") == pytest.approx(4.0)
