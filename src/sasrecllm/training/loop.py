"""The one training loop, for the encoder, the small language model and the LLM stages alike.

Nothing here depends on wall time or on how often the process was killed: the order of the rows is a
function of (seed, epoch), dropout and sampling are a function of (seed, step), and a checkpoint holds
everything else.  So a resumed run is bit-identical to one that was never stopped, and under another
number of processes the same but for the rounding of sums.
The loop touches no disk: it hands its state to a :class:`Store`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.errors import DivergedError
from sasrecllm.machine import signals
from sasrecllm.machine.memory import hand_back_freed_memory, keep_few_kernels, keep_freed_memory
from sasrecllm.machine.progress import Progress
from sasrecllm.ops import draws
from sasrecllm.ops.sparse_adamw import RowAdamW, clip_gradients
from sasrecllm.settings import LoopSettings
from sasrecllm.training.batches import micro_batches, plan_epoch
from sasrecllm.training.ddp_fsdp import Job
from sasrecllm.training.task import Metrics, Task
from sasrecllm.types import IntArray

CLIP = 1.0
"""Largest norm of a step's gradient; a longer one is shortened to it."""


class Store(Protocol):
    """Where the loop's state is kept; :class:`sasrecllm.checkpoint.CheckpointFolder` is one."""

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep this state; it must be whole or absent."""
        ...

    def latest(self, *, logs: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest whole state, or None; of several processes that ask, one ``logs``."""
        ...

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record to the metrics."""
        ...


@dataclass
class FitResult:
    """How a stage ended."""

    steps: int
    best_step: int
    best: Metrics
    stopped_early: bool
    trained_parameters: int
    curve: list[dict[str, Any]] = field(default_factory=list)


def steps_in_all(examples: int, settings: LoopSettings) -> int:
    """Optimiser steps of a stage that does not stop early."""
    steps = math.ceil(examples / settings.batch_size) * settings.epochs
    return min(steps, settings.max_steps or steps)


def learning_rate(step: int, total: int, settings: LoopSettings) -> float:
    """Rate of optimiser step ``step`` (from 0): linear warm-up, then cosine to ``min_lr``.

    Warm-up takes at most a fifth of all steps, so that short runs still reach the peak.
    """
    warmup = min(settings.warmup_steps, total // 5)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    floor = min(settings.min_lr, settings.lr)
    done = (step - warmup) / max(1, total - warmup)
    return floor + (settings.lr - floor) * 0.5 * (1 + math.cos(math.pi * done))


def arithmetic(task: Task, settings: LoopSettings, device: str) -> torch.autocast:
    """The block in which the task's loss is computed.

    Weights that are in half precision need no autocast on a CPU: its conversions outlast the products.
    """
    half = device == "cpu" and any(p.dtype == torch.bfloat16 for p in task.parameters())
    return torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16" and not half)


def fit(
    task: Task,
    settings: LoopSettings,
    store: Store | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> FitResult:
    """Train what requires a gradient in ``task`` and leave it at its best validated state.

    Args:
        store: where checkpoints go; its latest state is resumed.
    Raises:
        DivergedError: the loss or the gradient is not finite; the last good state is in the store.
    """
    return _Fit(task, settings, store, progress or Progress(quiet=True), device).run()


class _Fit:
    """State of one run of the loop."""

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        store: Store | None,
        progress: Progress,
        device: str,
    ) -> None:
        keep_freed_memory()
        keep_few_kernels()
        self.given = task
        self.settings, self.store, self.progress = settings, store, progress
        self.job = Job(task, device)
        self.task, self.parameters = self.job.task, self.job.parameters
        matrices = [p for p in self.parameters.values() if p.ndim > 1]
        others = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        # Fused: one pass over every parameter instead of ten.
        used = [g for g in groups if g["params"]]
        self.optimizer = self.job.prepared(RowAdamW(used, lr=settings.lr, fused=True))
        # Not the batch's own: where batches are of like length, questions of short examples would weigh
        # several times as much as others, which costs quality (docs/findings.md).
        self.batch_weight = float(task.weights.mean()) * min(settings.batch_size, len(task.weights))
        self.per_epoch = math.ceil(len(task.lengths) / settings.batch_size)
        self.total = steps_in_all(len(task.lengths), settings)
        points = settings.epochs * settings.evals_per_epoch
        self.eval_steps = {round(self.total * (i + 1) / points) for i in range(points)}
        self.step = self.best_step = self.waited = 0
        self.stopping = self.unvalidated = False
        self.arithmetic = arithmetic(task, settings, self.job.device.type)
        self.best: Metrics = {}
        self.best_tensors: dict[str, Tensor] = {}
        self.curve: list[dict[str, Any]] = []

    def run(self) -> FitResult:
        self._resume()
        if self.job.sharded:
            self.progress.line(f"{self.given.name}: sharded over {self.job.world} processes (FSDP2)")
        self.progress.start(self.step)
        # One of several processes must not leave the others alone: they agree on the step to stop at.
        with signals.held() if self.job.world > 1 else nullcontext():
            if self.unvalidated:
                self._validate()
            stopped = self._stopped_early()
            while self.step < self.total and not stopped:
                stopped = self._epoch()
        self.job.give_back(self.best_tensors)
        self.given.eval()
        hand_back_freed_memory()
        count = sum(p.numel() for p in self.parameters.values())
        return FitResult(self.step, self.best_step, self.best, stopped, count, self.curve)

    def _epoch(self) -> bool:
        """The rest of the current epoch; True when the stage should end."""
        for batch in self._rest_of_epoch():
            with signals.held():  # a stop is raised where this block ends
                self._train_step(batch)
                due = self.step in self.eval_steps
                if self.stopping:
                    self.unvalidated = due
                    self._save()
                    raise signals.asked()
            if self._after_step(due):
                return True
        return False

    def _rest_of_epoch(self) -> Iterator[IntArray]:
        """The batches of the current epoch that are still to do."""
        epoch, done = divmod(self.step, self.per_epoch)
        task, settings = self.task, self.settings
        plan = plan_epoch(task.lengths, settings.batch_size, settings.seed, epoch, task.prefix_ids)
        yield from plan[done : self.total - self.step + done]

    def _train_step(self, batch: IntArray) -> None:
        rank, world = self.job.rank, self.job.world
        draw = np.random.SeedSequence([self.settings.seed, self.step, 0]).generate_state(1)
        torch.manual_seed(int(draw[0]))
        rate = learning_rate(self.step, self.total, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.task.learn()
        tokens = self.settings.micro_tokens * world
        parts = micro_batches(batch, self.task.lengths, self.settings.accumulate, tokens)
        loss_value = 0.0
        for i, part in enumerate(parts):
            # Every process must take part in every backward pass, so one without rows of its own
            # (there are fewer than processes) computes a row that counts nothing.
            mine = np.arange(rank, len(part), world)
            scale = world / self.batch_weight if len(mine) else 0.0
            mine = mine if len(mine) else np.zeros(1, dtype=np.int64)
            rows = part[mine]
            alone = nullcontext() if world == 1 else draws.shared(part, mine)
            last = i == len(parts) - 1
            with alone, self.job.adding_up(last):
                with self.arithmetic:
                    loss = self.job.model(rows) * scale
                self.job.backward(loss)
            loss_value += float(loss.detach()) / world
        norm = clip_gradients(self.parameters.values(), CLIP)
        loss_value, stopping = self.job.summed(loss_value, float(signals.requested()))
        self.stopping = stopping > 0
        if not (math.isfinite(loss_value) and math.isfinite(norm)):
            raise DivergedError(
                f"stage {self.task.name}: step {self.step + 1} of {self.total} gave loss {loss_value}"
                f" and gradient norm {norm} at learning rate {rate:.3g}",
                "lower the stage's lr or raise its warmup_steps; the last good checkpoint is kept",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step % max(1, self.total // 200) == 0:
            self._log({"step": self.step, "loss": loss_value, "lr": rate, "grad_norm": norm})
        self.progress.step(
            self.task.name,
            self.step,
            self.total,
            {"loss": loss_value, **{f"best {k}": v for k, v in _numbers(self.best).items()}},
        )

    def _after_step(self, due: bool) -> bool:
        """Validate where that is due, save; True when the stage should end."""
        if due:
            try:
                self._validate()
            except (KeyboardInterrupt, signals.Stopped):  # a validation may take minutes
                self._save()
                raise
        every = self.settings.save_every
        if due or (every and self.step % every == 0):
            with signals.held():
                self._save()
        return due and self._stopped_early()

    def _stopped_early(self) -> bool:
        return 0 < self.settings.patience <= self.waited and self.step < self.total

    def _validate(self) -> None:
        self.unvalidated = True
        self.task.eval()
        metrics = self.task.validation_metrics(self.job.scores(self.task.n_validation))
        with signals.held():
            self._weigh(metrics)
            self.unvalidated = False

    def _weigh(self, metrics: Metrics) -> None:
        """Keep this state if it is the best so far."""
        self._log({"step": self.step, "valid": metrics})
        value = metrics[self.task.monitor]
        old = self.best.get(self.task.monitor)
        sign = -1.0 if self.task.lower_is_better else 1.0
        if not self.best or (value is not None and (old is None or sign * value > sign * old)):
            self.best, self.best_step, self.waited = metrics, self.step, 0
            self.best_tensors = {n: p.detach().clone() for n, p in self.parameters.items()}
        else:
            self.waited += 1
        shown = "  ".join(f"{k} {v:.4f}" for k, v in _numbers(metrics).items())
        mark = " (best)" if self.best_step == self.step else ""
        self.progress.line(f"{self.task.name}: step {self.step}/{self.total}  valid {shown}{mark}")

    def _log(self, record: dict[str, Any]) -> None:
        self.curve.append(record)
        if self.store is not None and self.job.is_main:
            self.store.log(record)

    def _save(self) -> None:
        if self.store is None:
            return
        tensors = self.job.wholes(self._state())
        if self.job.is_main:
            state = {"step": self.step, "best_step": self.best_step, "best": self.best}
            state |= {"waited": self.waited, "curve": self.curve}
            state |= {"unvalidated": self.unvalidated}
            self.store.save(self.step, tensors, state)
        self.job.wait()

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that a checkpoint holds, by name."""
        yield from ((f"now/{n}", p) for n, p in self.parameters.items())
        yield from ((f"best/{n}", t) for n, t in self.best_tensors.items())
        for i, slots in self.optimizer.state_dict()["state"].items():
            yield from ((f"optimizer/{i}/{k}", v) for k, v in slots.items())

    def _resume(self) -> None:
        found = self.store.latest(logs=self.job.is_main) if self.store is not None else None
        if found is None:
            return
        tensors, state = found
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.job.like(tensors[f"now/{name}"], parameter))
        self.best_tensors = {
            n: self.job.like(tensors[f"best/{n}"], p)
            for n, p in self.parameters.items()
            if f"best/{n}" in tensors
        }
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, slot = key.split("/")
                slots.setdefault(int(index), {})[slot] = self.job.like(value, order[int(index)])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.step, self.best_step, self.best = state["step"], state["best_step"], state["best"]
        self.waited, self.curve = state["waited"], list(state["curve"])
        self.unvalidated = state.get("unvalidated", False)
        self.progress.line(f"{self.task.name}: resumed at step {self.step}/{self.total}")


def _numbers(metrics: Metrics) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if v is not None}
