"""The one loop: shuffled, exact to resume, honest about the best state, loud when it diverges."""

import itertools
import json
import signal

import numpy as np
import pytest
import torch
from torch import nn

from sasrecllm.checkpoint import CheckpointFolder
from sasrecllm.errors import DivergedError
from sasrecllm.machine import signals
from sasrecllm.settings import LoopSettings
from sasrecllm.training import loop
from sasrecllm.training.loop import fit, learning_rate
from sasrecllm.training.task import Task


class Line(Task):
    """Least squares on y = 3x - 1 with dropout in the way; validation is the negative error."""

    monitor = "score"

    def __init__(self, n=64, poison_at=None):
        super().__init__()
        self.name = "line"
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        x = torch.linspace(-1, 1, n)
        self.x, self.y = torch.stack([x, x**2], 1), 3 * x - 1
        self.lengths = np.arange(n) % 7
        self.prefix_ids = np.arange(n) // 3
        self.weights = np.ones(n)
        self.n_validation = n
        self.calls = 0
        self.seen = []
        self.poison_at = poison_at
        self.kill_at = None

    def learn(self):
        self.train()

    def forward(self, examples):
        self.calls += 1
        self.seen.append(examples)
        if self.kill_at == self.calls:
            raise KeyboardInterrupt
        error = self.net(self.x[examples])[:, 0] - self.y[examples]
        if self.poison_at == self.calls:
            error = error * float("nan")
        return error.square().sum()

    def validation_scores(self, positions):
        return (self.net(self.x[positions])[:, 0] - self.y[positions]).square().double().numpy()

    def validation_metrics(self, scores):
        assert len(scores) == self.n_validation
        return {"score": -float(scores.mean())}


SETTINGS = LoopSettings(epochs=4, batch_size=8, lr=0.02, warmup_steps=3, patience=0, save_every=3)


def test_schedule_warms_up_once_and_ends_at_the_floor():
    rates = [
        learning_rate(s, 100, LoopSettings(lr=1.0, min_lr=0.1, warmup_steps=10)) for s in range(100)
    ]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=1e-2)


def test_it_learns_and_keeps_the_best_state_not_the_last():
    task = Line()
    result = fit(task, SETTINGS)
    curve = [r["valid"]["score"] for r in result.curve if "valid" in r]
    assert result.best["score"] == max(curve) and curve[0] < max(curve)
    with torch.no_grad():
        again = task.validation_metrics(task.validation_scores(np.arange(64)))
    assert again["score"] == pytest.approx(result.best["score"], abs=1e-9)


def test_accumulation_leaves_the_gradient_as_it_is():
    plain, split, small = Line(), Line(), Line()
    changes = ({}, {"accumulate": 4}, {"micro_tokens": 12})
    for task, change in zip((plain, split, small), changes, strict=True):
        task.net[2].p = 0.0
        fit(task, LoopSettings(epochs=2, batch_size=8, lr=0.02, patience=0, **change))
    for a, b, c in zip(*(t.parameters() for t in (plain, split, small)), strict=True):
        assert torch.allclose(a, b, atol=1e-5) and torch.allclose(a, c, atol=1e-5)
    assert max(len(rows) * small.lengths[rows].max() for rows in small.seen if len(rows) > 1) <= 12
    assert small.calls > split.calls / 2 > plain.calls


@pytest.mark.parametrize("half", [False, True])
def test_autocast_is_left_out_on_a_cpu_where_weights_are_in_half_precision_already(half):
    task = Line()
    if half:
        task.frozen = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16), requires_grad=False)
    forward, seen = task.forward, set()

    def watched(examples):
        seen.add(torch.is_autocast_enabled("cpu"))
        return forward(examples)

    task.forward = watched
    fit(task, LoopSettings(epochs=1, batch_size=8, precision="bf16", patience=0))
    assert seen == {not half}


class Counted(Task):
    """Its loss is the number of questions times a parameter, so a gradient counts questions."""

    name, monitor, n_validation = "counted", "score", 1

    def __init__(self, weights):
        super().__init__()
        self.weights, self.lengths = np.array(weights, dtype=float), np.array(weights)
        self.total = nn.Parameter(torch.zeros(()))
        self.gradients = []
        self.total.register_hook(lambda g: self.gradients.append(float(g)))

    def learn(self):
        self.train()

    def forward(self, examples):
        return self.total * float(self.weights[examples].sum())

    def validation_scores(self, positions):
        return np.zeros(len(positions))

    def validation_metrics(self, scores):
        return {"score": 0.0}


def test_a_question_weighs_the_same_in_a_batch_of_few_and_in_one_of_many():
    task = Counted([1, 1, 1, 1, 9, 9, 9, 9])  # batches of like length: all short or all long
    fit(task, LoopSettings(epochs=1, batch_size=4, patience=0))
    assert sorted(task.gradients) == pytest.approx([4 / 20, 36 / 20])


def test_a_last_batch_of_few_examples_moves_less():
    task = Counted([2] * 5)
    fit(task, LoopSettings(epochs=1, batch_size=4, patience=0))
    assert sorted(task.gradients) == pytest.approx([1 / 4, 1])
    alone = Counted([2, 2, 2])
    fit(alone, LoopSettings(epochs=1, batch_size=4, patience=0))
    assert alone.gradients == pytest.approx([1])


@pytest.mark.parametrize("kill_at", [1, 2, 5, 9, 14, 20, 31])
def test_resume_is_bit_identical(tmp_path, kill_at):
    whole = Line()
    store = CheckpointFolder(tmp_path / "whole" / "checkpoints")
    fit(whole, SETTINGS, store)
    killed = Line()
    killed.kill_at = kill_at
    where = tmp_path / "killed" / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        fit(killed, SETTINGS, CheckpointFolder(where))
    resumed = Line()
    result = fit(resumed, SETTINGS, CheckpointFolder(where))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (
        tmp_path / "killed/metrics.jsonl"
    ).read_text()
    lost = kill_at - 1 - (32 - len(resumed.seen))
    assert 0 <= lost <= SETTINGS.save_every
    assert result.steps == 32


def test_early_stopping_counts_evaluations_without_a_better_value():
    class Flat(Line):
        def validation_metrics(self, scores):
            return {"score": 1.0}

    result = fit(Flat(), LoopSettings(epochs=10, batch_size=8, patience=2))
    assert result.stopped_early and result.steps == 3 * 8 and result.best_step == 8


def test_nan_stops_with_exit_7_and_keeps_the_last_good_checkpoint(tmp_path):
    store = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(DivergedError, match=r"step 14 of 32 gave loss nan.*learning rate") as stopped:
        fit(Line(poison_at=14), SETTINGS, store)
    assert stopped.value.exit_code == 7
    tensors, state = store.latest()
    assert state["step"] == 12 and all(t.isfinite().all() for t in tensors.values())


def test_metrics_are_json_lines_without_time(tmp_path):
    store = CheckpointFolder(tmp_path / "checkpoints")
    fit(Line(), SETTINGS, store)
    records = [json.loads(line) for line in store.metrics.read_text().splitlines()]
    assert {k for r in records for k in r} == {"step", "loss", "lr", "grad_norm", "valid"}


@pytest.mark.parametrize("first", [True, False])
def test_of_several_processes_that_go_on_the_first_alone_cuts_the_metrics(tmp_path, monkeypatch, first):
    class OneOfTwo(loop.Job):
        def __init__(self, *given):
            super().__init__(*given)
            self.is_main = first

    store = CheckpointFolder(tmp_path / "checkpoints")
    fit(Line(), SETTINGS, store)
    written = store.metrics.read_text()
    store.log({"step": 33, "loss": 0.5})  # behind the last checkpoint
    monkeypatch.setattr(loop, "Job", OneOfTwo)
    fit(Line(), SETTINGS, store)
    assert (store.metrics.read_text() == written) == first


def test_bf16_multiplies_in_bf16_and_keeps_weights_in_fp32():
    plain, mixed = Line(), Line()
    dtypes = set()
    mixed.net[0].register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    settings = SETTINGS.model_copy(update={"epochs": 20})
    results = [
        fit(t, settings.model_copy(update={"precision": p}))
        for t, p in ((plain, "fp32"), (mixed, "bf16"))
    ]
    assert torch.bfloat16 in dtypes  # the training passes
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    assert results[0].best["score"] > -1.0  # the mean square of y is 4
    assert results[1].best["score"] == pytest.approx(results[0].best["score"], abs=0.05)
    assert results[1].best["score"] != results[0].best["score"]


def test_max_steps_ends_the_stage_with_its_schedule_and_its_evaluations_inside():
    task = Line()
    result = fit(task, SETTINGS.model_copy(update={"max_steps": 11}))
    assert result.steps == 11 == task.calls
    evaluated = [record["step"] for record in result.curve if "valid" in record]
    assert evaluated == [3, 6, 8, 11]
    # Steps 1-8 are the first pass, 9-11 begin the second: no row is left out before the last pass.
    assert sorted(np.concatenate(task.seen[:8])) == list(range(64))


def test_max_steps_resume_to_the_same_weights(tmp_path):
    settings = SETTINGS.model_copy(update={"max_steps": 11})
    whole, cut = Line(), Line()
    fit(whole, settings)
    cut.kill_at = 10
    with pytest.raises(KeyboardInterrupt):
        fit(cut, settings, CheckpointFolder(tmp_path))
    again = Line()
    fit(again, settings, CheckpointFolder(tmp_path))
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


class Stopping(Line):
    """Sends this process a signal in a training step, or while it validates."""

    def __init__(self, number, step=None, validation=None):
        super().__init__()
        self.number, self.stop_at, self.stop_in, self.validations = number, step, validation, 0

    def forward(self, examples):
        if self.calls + 1 == self.stop_at:
            signal.raise_signal(self.number)
        return super().forward(examples)

    def validation_scores(self, positions):
        self.validations += 1
        if self.validations == self.stop_in:
            signal.raise_signal(self.number)
        return super().validation_scores(positions)

    def validation_metrics(self, scores):
        if self.stop_in is not None and self.validations == -self.stop_in:
            signal.raise_signal(self.number)
        return super().validation_metrics(scores)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("where", "lost"),
    [({"step": 2}, 0), ({"step": 8}, 0), ({"step": 16}, 0), ({"validation": 1}, 0),
     ({"validation": 2}, 0), ({"validation": -3}, 0)],
)  # fmt: skip
def test_a_stop_loses_no_step_and_the_rest_is_bit_identical(tmp_path, number, where, lost):
    """In a step it waits for its end and a checkpoint; a validation is cut, and done at the resume."""
    whole, place = Line(), tmp_path / "stopped" / "checkpoints"
    result = fit(whole, SETTINGS, CheckpointFolder(tmp_path / "whole" / "checkpoints"))
    stopped = Stopping(number, **where)
    with pytest.raises((KeyboardInterrupt, signals.Stopped)), signals.handled():
        fit(stopped, SETTINGS, CheckpointFolder(place))
    # A second time in the middle of what the resume begins with, where that is the validation.
    again = Stopping(number, validation=1)
    with pytest.raises((KeyboardInterrupt, signals.Stopped)), signals.handled():
        fit(again, SETTINGS, CheckpointFolder(place))
    last = Line()
    resumed = fit(last, SETTINGS, CheckpointFolder(place))
    for a, b in zip(whole.parameters(), last.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (resumed.curve, resumed.best_step) == (result.curve, result.best_step)
    assert len(stopped.seen) + len(again.seen) + len(last.seen) == result.steps + lost
    metrics = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "stopped")]
    assert metrics[0] == metrics[1]
