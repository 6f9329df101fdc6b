"""What one stage of training is asked to do: plain numbers, checked at the door (config.py)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Settings of the one training loop.

    Args:
        epochs: passes over the rows; shuffled anew by ``seed`` in every pass.
        max_steps: optimiser steps at most, for data too large for a whole epoch; 0: ``epochs`` decides.
        batch_size: examples per optimiser step, over all processes and micro-batches together.
        lr: peak rate, reached after ``warmup_steps``; cosine down to ``min_lr`` at the last step.
        weight_decay: AdamW's, on matrices only (never on biases, gains or one-dimensional tensors).
        clip: largest gradient norm.
        accumulate: micro-batches per step and process; the step's gradient stays the same.
        patience: evaluations without a better monitored value before stopping; 0 never stops early.
        evals_per_epoch: full validations per epoch.
        save_every: steps between checkpoints besides those at each validation; 0 for none.
        precision: ``fp32`` or ``bf16`` (autocast).
    """

    epochs: int = 3
    max_steps: int = 0
    batch_size: int = 16
    lr: float = 1e-3
    min_lr: float = 8e-5
    warmup_steps: int = 200
    weight_decay: float = 1e-3
    clip: float = 1.0
    accumulate: int = 1
    patience: int = 3
    evals_per_epoch: int = 1
    save_every: int = 200
    precision: str = "fp32"
    seed: int = 0
