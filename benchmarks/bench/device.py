"""Reranking by a language model of a real size on an accelerator, and how time is taken there.

Seconds are by the clock after the device has finished: CPU seconds say nothing there.  On a CPU the
same code runs at size ``tiny``, so that it is known to run.

Legend: C candidates, P tokens of the prefix, S tokens behind it, T = P + S, H hidden size, D width.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import language, random_prompts
from benchmarks.bench.measure import Finding, absent, largest_gap
from sasrecllm.errors import EnvironmentRefusal
from sasrecllm.llm.backbone import add_lora
from sasrecllm.llm.loading import load_backbone, save_backbone
from sasrecllm.llm.mapper import build_mapper
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.prefix import score_candidates
from sasrecllm.machine.device import pick_device
from sasrecllm.prompts.batch import PromptBatch

SIZES = {"tiny": (32, 2, 2), "1b": (2048, 22, 32)}
"""Width, layers, heads: 1b has 1.2 billion parameters."""


def bench(device: str, size: str, times: int) -> list[Finding]:
    """Reranking in bf16; absent where there is no device."""
    try:
        device = pick_device(device)
    except EnvironmentRefusal as error:
        return [
            absent(
                f"language model on {device}",
                "matrix peak",
                f"not measured: {str(error).splitlines()[0]}",
            )
        ]
    with tempfile.TemporaryDirectory() as folder:
        save_backbone(random_prompts.model_of(*SIZES[size], lora=False).backbone, Path(folder))
        return _reranking(_loaded(folder, device), device, times)


def _loaded(folder: str, device: str) -> SoftTokenLLM:
    backbone = load_backbone(folder, dtype="bf16", device=device)
    add_lora(backbone, r=8, alpha=16, dropout=0.0, seed=0)
    mapper = build_mapper("mlp", width=random_prompts.WIDTH, llm_width=backbone.hidden_size,
                          embedding_norm=backbone.embedding_norm)  # fmt: skip
    return SoftTokenLLM(backbone, mapper, 300, 301).to(device).eval()


def _reranking(model: SoftTokenLLM, device: str, times: int) -> list[Finding]:
    batch, user_1D, item_CD = language.listed(100)
    asked = batch, user_1D.to(device), item_CD.to(device)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        gap = largest_gap(*(f(model, *asked).float().cpu() for f in (score_candidates, packed)))
        ours, theirs = (
            seconds(lambda f=f: f(model, *asked), device, times)  # type: ignore[misc]
            for f in (score_candidates, packed)
        )
    note = f"candidates/s; largest difference {gap:.3f} in bf16"
    return [Finding(f"rerank 100 candidates in bf16 on {device}", "one packed sequence", 100 / ours,
                    100 / theirs, theirs / ours, None, None, {}, None, note, unit="1/s")]  # fmt: skip


@torch.no_grad()
def packed(model: SoftTokenLLM, batch: PromptBatch, user_1D: Tensor, item_CD: Tensor) -> Tensor:
    """Scores [C] of prompts of one history as one sequence, whose mask keeps candidates apart."""
    P, (C, T) = int(batch.prefix_lengths_B[0]), batch.ids_BT.shape
    embeds_CTH = model.embeds(batch, user_1D.expand(C, -1), item_CD, False)
    one_1TH = torch.cat([embeds_CTH[:1, :P], embeds_CTH[:, P:].reshape(1, C * (T - P), -1)], dim=1)
    device = one_1TH.device
    owner = torch.cat([torch.full((P,), -1), torch.arange(C).repeat_interleave(T - P)]).to(device)
    place = torch.cat([torch.arange(P), torch.arange(P, T).repeat(C)]).to(device)
    seen = (owner == owner[:, None]) | (owner == -1)
    mask = (seen & (place <= place[:, None]))[None, None]
    out = model.backbone.causal.base_model(
        inputs_embeds=one_1TH, attention_mask=mask, position_ids=place[None], use_cache=False
    )
    last_C = P + (T - P) * torch.arange(1, C + 1, device=device) - 1
    return model.answers(out.last_hidden_state[0, last_C])


def matrix_peak(device: str, size: int = 0) -> float:
    """bf16 products of square matrices: operations a second, the best of a few."""
    size = size or (4096 if device.startswith("cuda") else 256)
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 * 8 / seconds(lambda: [a @ a for _ in range(8)], device, 5)


def seconds(work: Callable[[], Any], device: str, times: int) -> float:
    """By the clock, the best of ``times`` after one to warm up."""
    work()
    best = float("inf")
    for _ in range(times):
        _finished(device)
        started = time.perf_counter()
        work()
        _finished(device)
        best = min(best, time.perf_counter() - started)
    return best


def _finished(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def forget_peak(device: str) -> None:
    """Let :func:`peak_memory` begin anew."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Most bytes held on the device since the last reset; 0 on a CPU, which does not tell."""
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
