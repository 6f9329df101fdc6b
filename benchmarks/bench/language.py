"""The language model's two training stages and its reranking, against the field's reference way.

The reference way is ``benchmarks/reference_way.py``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import reference_way
from benchmarks.bench.measure import Finding, compare, floor, largest_gap
from benchmarks.bench.random_prompts import (
    BATCH,
    PREFIX,
    SIZES,
    SLOT,
    SUFFIX,
    TARGET,
    VOCABULARY,
    WIDTH,
    Prompts,
    batch_of,
    built,
    prompts,
)
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.prefix import score_candidates
from sasrecllm.prompts.batch import PromptBatch
from sasrecllm.training.batches import POOL, plan_epoch
from sasrecllm.types import IntArray


def bench_training(size: str, pairs: int) -> list[Finding]:
    """Stage 1 (LoRA) and stage 2 (mapper alone) over four batches of the public loop's plan.

    Each is measured against the reference way on the same prompts, and against batches planned
    without regard to histories, which then are hardly ever shared.
    """
    model, p, way = built(size), prompts(20 * POOL * BATCH), reference_way
    plan = spread(plan_epoch(p.lengths, BATCH, 0, 0, p.histories), p.lengths)
    alone = spread(plan_epoch(p.lengths, BATCH, 0, 0), p.lengths)
    mixed = np.random.default_rng(0).permutation(np.concatenate(plan))
    found = []
    goals = {"a": (8.0, 12.0), "b": (4.0, 8.0)}.get(size, (None, None))
    for stage, parts, soft, goal in (
        ("stage 1 (LoRA)", {"adapter"}, False, goals[0]),
        ("stage 2 (mapper alone)", {"mapper"}, True, goals[1]),
    ):
        model.learn(parts)
        gap = _gradient_gap(model, p, plan[0], soft, way)

        def ours(soft: bool = soft, plan: list[IntArray] = plan) -> None:
            train_ours(model, p, plan, soft)

        def theirs(soft: bool = soft) -> None:
            way.train(model, p, mixed, soft, BATCH)

        for rival, run, wish in (
            ("reference way", theirs, goal),
            ("batches without regard to histories", partial(ours, plan=alone), 1.3),
        ):
            found.append(
                compare(f"LLM {stage}, size {size}", rival, ours, run, pairs=pairs,
                        difference=gap, allowed=1e-3, goal=wish)
            )  # fmt: skip
        way_took = found[-2].theirs
        least = floor(found[-2].work, found[-2].ours, counted_operations(size, p, plan, soft))
        times = f"; the reference way takes {way_took / least.theirs:.1f} times the floor"
        found.append(replace(least, note=least.note + times))
    return found


def counted_operations(size: str, p: Prompts, plan: list[IntArray], soft: bool) -> float:
    """Multiplications and additions of the blocks' matrix products, each token of a batch once.

    Of the last block only keys and values are counted, for one position is read of it.  Gradients run
    through the whole text where LoRA learns, and from the user's slot on where the mapper does.
    """
    width, layers, _ = SIZES[size]
    forward = backward = 0
    for rows in plan:
        _, first = np.unique(p.histories[rows], return_index=True)
        own, shared = TARGET * len(rows), int((p.lengths[rows][first] - TARGET).sum())
        forward += own + shared
        backward += own + ((SLOT - TARGET) * len(first) if soft else shared)
    # Llama of build_llama: four maps of attention and three of an MLP three times as wide.
    return 2.0 * ((layers - 1) * 13 + 2) * width**2 * (forward + backward)


def spread(plan: list[IntArray], lengths: IntArray, count: int = 4) -> list[IntArray]:
    """``count`` batches of a plan, at even distances from its shortest to its longest prompts.

    Any two plans of the same prompts then give batches of about as many tokens.
    """
    whole = [b for b in plan if len(b) == BATCH]
    order = np.argsort([lengths[b].mean() for b in whole], kind="stable")
    places = (np.arange(count) + 0.5) / count * len(whole)
    return [whole[order[int(place)]] for place in places]


def train_ours(model: SoftTokenLLM, p: Prompts, plan: list[IntArray], soft: bool) -> None:
    """The batches of ``plan`` through the package's own forward, and back."""
    for rows in plan:
        loss_ours(model, p, rows, soft).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def train_one(size: str, stage: str, way: str) -> None:
    """Two batches of one stage, ``ours`` or the ``reference`` way, model and prompts included.

    Args:
        stage: the part that learns: ``adapter`` or ``mapper``.
    """
    model, p, soft = built(size), prompts(8 * BATCH), stage == "mapper"
    model.learn({stage})
    plan = plan_epoch(p.lengths, BATCH, 0, 0, p.histories)[:2]
    if way == "ours":
        train_ours(model, p, plan, soft)
    else:
        reference_way.train(model, p, np.concatenate(plan), soft, BATCH)


def loss_ours(model: SoftTokenLLM, p: Prompts, rows: IntArray, soft: bool) -> torch.Tensor:
    """BCE on the two answer logits, summed."""
    vectors = (p.user[rows], p.item[rows]) if soft else (None, None)
    logits = model(batch_of(p, rows, soft), *vectors)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, p.label[rows], reduction="sum")


def _gradient_gap(model: SoftTokenLLM, p: Prompts, rows: IntArray, soft: bool, way: Any) -> float:
    """Largest difference of the gradients of one batch, relative to the largest gradient."""
    gradients = []
    for loss in (loss_ours(model, p, rows, soft), way.loss(model, p, rows, soft)):
        model.zero_grad(set_to_none=True)
        loss.backward()
        gradients.append([q.grad.clone() for q in model.parameters() if q.grad is not None])
    model.zero_grad(set_to_none=True)
    scale = max(float(g.abs().max()) for g in gradients[1])
    return max(largest_gap(a, b) for a, b in zip(*gradients, strict=True)) / scale


def listed(candidates: int) -> tuple[PromptBatch, torch.Tensor, torch.Tensor]:
    """Prompts of one history, their user's vector and the candidates' vectors."""
    rng = np.random.default_rng(0)
    same = np.tile(rng.integers(0, VOCABULARY, PREFIX), (candidates, 1))
    ids = np.concatenate([same, rng.integers(0, VOCABULARY, (candidates, SUFFIX))], axis=1)
    batch = PromptBatch(
        ids,
        np.full(candidates, PREFIX + SUFFIX),
        np.tile(np.arange(candidates), 2),
        np.repeat([PREFIX - 3, PREFIX + 8], candidates),
        np.repeat([0, 1], candidates),
        np.zeros(2 * candidates, np.int64),
        np.full(candidates, PREFIX),
    )
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(candidates + 1, WIDTH, generator=generator)
    return batch, vectors[:1], vectors[1:]


def bench_rerank(size: str, pairs: int, candidates: int = 100) -> list[Finding]:
    """Candidates of 16 tokens behind a prefix of 111, one history."""
    model, way = built(size), reference_way
    batch, user_1D, item_CD = listed(candidates)
    user_CD = user_1D.expand(candidates, -1)

    def ours() -> torch.Tensor:
        return score_candidates(model, batch, user_1D, item_CD)

    @torch.no_grad()
    def plain() -> torch.Tensor:
        scores: torch.Tensor = model(batch, user_CD, item_CD)
        return scores

    def reference() -> torch.Tensor:
        scores: torch.Tensor = way.score(model, batch, user_CD, item_CD)
        return scores

    gap = max(largest_gap(ours(), plain()), largest_gap(ours(), reference()))
    floor = candidates * (PREFIX + SUFFIX) / (PREFIX + candidates * SUFFIX)
    found = []
    for rival, theirs, goal, note in (
        ("reference way", reference, 10.0, ""),
        ("whole prompts, two logits", plain, 0.8 * floor, f"token floor {floor:.2f}; the goal is 80 %"),
    ):
        found.append(
            compare(f"rerank {candidates} candidates, size {size}", rival, ours, theirs, pairs=pairs,
                    difference=gap, allowed=1e-3, goal=goal, note=note)
        )  # fmt: skip
    return found
