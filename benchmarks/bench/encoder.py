"""Training SASRec: the public loop against a bare one, a padded one, its peers, and the floor.

Legend: W windows, L positions, Q questions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench.measure import Finding, compare, cpu_seconds, floor, largest_gap
from benchmarks.bench.peers import Rivalry, against_peers
from sasrecllm.data.sequences import Windows
from sasrecllm.encoders.losses import full_softmax, gbce, gbce_rest
from sasrecllm.encoders.next_item_negatives import uniform_negatives
from sasrecllm.encoders.sasrec import SASRec
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.settings import LoopSettings
from sasrecllm.training.batches import plan_epoch
from sasrecllm.training.loop import fit
from sasrecllm.training.pretrain import EncoderTask, moves_touched_rows
from sasrecllm.types import Histories, IntArray, Questions

USERS, ITEMS, LENGTH, WIDTH, BATCH = 2576, 3000, 50, 64, 128
NEGATIVES = {"bce": 1, "gbce": 256}
SETTINGS = LoopSettings(epochs=1, batch_size=BATCH, lr=1e-3, warmup_steps=0, patience=0, save_every=0)


def bench(loss: str, pairs: int, peers: Path | None, size: float = 1.0) -> list[Finding]:
    """Findings for one loss: ``bce`` with 1 negative a positive, ``gbce`` with 256, ``softmax``."""
    lists = generated(int(USERS * size))
    work = f"SASRec training, {loss}, {len(lists)} sequences"
    gap = gradient_gap(lists, loss)
    found = []
    for rival, way, goal, note in (
        ("padded plain torch loop", padded, None, ""),
        ("bare bucketed loop", bare, 0.85, "below 1 is what the public loop adds"),
    ):
        theirs = partial(way, lists, loss)
        found.append(
            compare(work, rival, partial(public, lists, loss), theirs, pairs=pairs, difference=gap,
                    allowed=1e-4, goal=goal, note=note)
        )  # fmt: skip
    took = cpu_seconds(lambda: public(lists, loss))
    found.append(floor(work, took, counted_operations(lists, loss), 0.2))
    ours = partial(public, lists, loss)
    return found + against_peers(Rivalry(work, ours, lists, loss, pairs, 3.0, gap <= 1e-4), peers)


def generated(users: int) -> list[IntArray]:
    """Seeded sequences of popular items; lengths spread as in film logs."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.2, 0.9, users).astype(int), 5, LENGTH)
    weights = 1 / np.arange(1, ITEMS + 1) ** 0.8
    weights /= weights.sum()
    return [rng.choice(ITEMS, n, p=weights) for n in lengths]


def public(lists: list[IntArray], loss: str) -> None:
    """One epoch through the package's own task and loop."""
    fit(task_of(lists, loss), SETTINGS)


def bare(lists: list[IntArray], loss: str) -> None:
    """One epoch of the same task without the loop around it."""
    task = task_of(lists, loss)
    optimizer = torch.optim.AdamW(task.encoder.parameters(), lr=1e-3)
    task.learn()
    weight = float(task.weights.mean()) * BATCH
    for batch in plan_epoch(task.lengths, BATCH, 0, 0):
        optimizer.zero_grad(set_to_none=True)
        (task(batch) / weight).backward()
        optimizer.step()


def padded(lists: list[IntArray], loss: str) -> None:
    """One epoch as it is usually written: every sequence padded to the longest, in random order."""
    encoder = built()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    grid, lengths = _grid(lists)
    encoder.train()
    order = np.random.default_rng(0).permutation(len(lists))
    for start in range(0, len(order), BATCH):
        optimizer.zero_grad(set_to_none=True)
        rows = order[start : start + BATCH]
        _plain_loss(encoder, grid[rows], lengths[rows], loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def gradient_gap(lists: list[IntArray], loss: str) -> float:
    """Largest relative difference of the gradients of the package's task and of the padded way."""
    some = lists[:32]
    task = task_of(some, loss).eval()
    grid, lengths = _grid(some)
    torch.manual_seed(3)
    rows = np.arange(len(some))
    (task(rows) / task.weights.sum()).backward()
    ours = [p.grad.clone() for p in task.encoder.parameters() if p.grad is not None]
    task.encoder.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    _plain_loss(task.encoder, grid, lengths, loss).backward()  # type: ignore[no-untyped-call]
    plain = [p.grad for p in task.encoder.parameters() if p.grad is not None]
    scale = max(float(p.abs().max()) for p in plain)
    return max(largest_gap(a, b) for a, b in zip(ours, plain, strict=True)) / scale


def counted_operations(lists: list[IntArray], loss: str) -> float:
    """Multiplications and additions of one epoch's matrix products, forward and backward (3 times)."""
    tokens = sum(len(row) for row in lists)
    block = (4 + 2) * WIDTH * WIDTH  # attention's four maps and the two of the MLP, all W to W
    attention = sum(2 * len(row) ** 2 * WIDTH for row in lists)
    head = WIDTH * (ITEMS if loss == "softmax" else 1 + NEGATIVES[loss])
    return 3 * 2 * (2 * (tokens * block + attention) + tokens * head)


def built(items: int = ITEMS, length: int = LENGTH) -> SASRec:
    """An untrained encoder of the bench's sizes."""
    torch.manual_seed(0)
    return SASRec(n_items=items, width=WIDTH, blocks=2, heads=1, length=length, dropout=0.2,
                  item_bias=False)  # fmt: skip


def task_of(lists: list[IntArray], loss: str, encoder: SASRec | None = None) -> EncoderTask:
    """Every item is asked about after all before it; every label is a like."""
    encoder = encoder or built()
    grid, lengths = _grid(lists, encoder.length)
    counts = lengths - 1
    window = np.repeat(np.arange(len(lists)), counts)
    state = np.concatenate([np.arange(1, n) for n in lengths]).astype(np.int64)
    ones = np.ones(len(window), dtype=np.int8)
    inside = Windows(
        np.full(len(lists), -1), grid, (grid >= 0).astype(np.int8), lengths, window, state,
        grid[window, state], ones, np.arange(len(window)),
    )  # fmt: skip
    touched = moves_touched_rows("auto", loss, encoder.n_items)  # what the command does
    return EncoderTask("bench", encoder, inside, _one_question(), loss=loss,
                       negatives=NEGATIVES.get(loss, 1), touched_rows=touched)  # fmt: skip


def _grid(lists: list[IntArray], length: int = LENGTH) -> tuple[IntArray, IntArray]:
    lengths = np.array([len(row) for row in lists])
    grid = np.full((len(lists), length), -1, dtype=np.int64)
    for row, items in enumerate(lists):
        grid[row, : len(items)] = items
    return grid, lengths


def _plain_loss(
    encoder: SequentialEncoder, grid_WL: IntArray, lengths_W: IntArray, loss: str
) -> torch.Tensor:
    """The mean loss over all positions of the padded batch that have a next item."""
    items_WL = torch.from_numpy(grid_WL)
    users = torch.full((len(grid_WL),), -1)
    states_WLD = encoder.states(users, items_WL, torch.ones_like(items_WL))[:, 1:-1]
    target_WL = items_WL[:, 1:]
    real_WL = target_WL >= 0
    target_Q = target_WL[real_WL]
    every: Callable[..., torch.Tensor] = encoder.item_vectors
    if loss == "softmax":
        logits = states_WLD.reshape(-1, WIDTH) @ every(torch.arange(ITEMS)).T
        kept = logits.reshape(*target_WL.shape, ITEMS)[real_WL]
        return full_softmax(kept, target_Q, encoder.seen_items).mean()
    drawn = uniform_negatives(target_Q, NEGATIVES[loss], torch.arange(ITEMS)).items_QN
    state_QD = states_WLD[real_WL]
    plus = (state_QD * every(target_Q)).sum(1)
    if loss == "gbce":
        minus = torch.einsum("qd,qnd->qn", state_QD, every(drawn))
        rest = gbce_rest(NEGATIVES[loss], ITEMS)
        return gbce(plus + rest, minus + rest, n_items=ITEMS).mean()
    minus = (state_QD * every(drawn[:, 0])).sum(1)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    value: torch.Tensor = bce(plus, torch.ones_like(plus)) + bce(minus, torch.zeros_like(minus))
    return value


def _one_question() -> Questions:
    """A validation split of two rows, so that the loop has something to look at."""
    nothing = np.empty(0, dtype=np.int64)
    zeros = np.zeros(2, dtype=np.int64)
    known = Histories(zeros, nothing, nothing.astype(np.int8), nothing, np.zeros(3, np.int64), zeros)
    return Questions(known, np.array([0, 1]), np.array([0, 1], dtype=np.int8), np.arange(2))
