"""Blocks by our own steps against the library's (``sasrecllm.llm.blocks``), on one device."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench.device import forget_peak, peak_memory, seconds
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.blocks import norms_by_one_step
from sasrecllm.stages.recipe import EVERY_LAYER

ALLOWED = 2.0
"""Times the library's own distance from single precision that ours may have."""


def model(shape: dict[str, Any], device: str, dtype: torch.dtype, own: bool) -> Backbone:
    """Random weights with LoRA of rank 16 on every layer, whose blocks are ours or the library's."""
    from transformers import AutoConfig, AutoModelForCausalLM

    about = dict(shape)
    config = AutoConfig.for_model(about.pop("model_type"), **about)
    torch.manual_seed(0)
    with torch.device(device):
        causal = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).to(dtype)
    if own:
        norms_by_one_step(causal)
    backbone = Backbone(causal, SimpleNamespace(pad_token_id=0))
    add_lora(backbone, r=16, alpha=32, dropout=0.0, targets=EVERY_LAYER)
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.adapter_parameters():
        parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        parameter.requires_grad_(True)
    if not own:
        for module in backbone.modules():
            vars(module).pop("forward", None)
        backbone.causal.set_attn_implementation("sdpa")
    backbone.to(device).adapter_mode(True)
    return backbone


def step(backbone: Backbone, ids_BT: Tensor, lengths_B: Tensor) -> None:
    """Forward and back; gradients are added up."""
    hidden_BH = backbone.hidden_last(backbone.embed(ids_BT), lengths_B)
    torch.autograd.backward(backbone.answer_logits(hidden_BH, 1, 2).mean())


def gradient(backbone: Backbone, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """All of one step, in one row."""
    for parameter in backbone.adapter_parameters():
        parameter.grad = None
    step(backbone, ids_BT, lengths_B)
    return torch.cat(
        [p.grad.float().flatten() for p in backbone.adapter_parameters() if p.grad is not None]
    )


def compared(
    shape: dict[str, Any], device: str, batches: tuple[int, ...], tokens: int
) -> dict[str, Any]:
    """Seconds and memory of a step by both, where ours is as exact as the library's.

    Raises:
        ValueError: it is not.
    """
    torch.manual_seed(2)
    ids_BT = torch.randint(3, shape["vocab_size"], (8, tokens), device=device)
    lengths_B = torch.randint(tokens // 2, tokens + 1, (8,), device=device)
    truth = gradient(model(shape, device, torch.float32, own=False), ids_BT, lengths_B)
    found: dict[str, Any] = {}
    for name, own in (("library", False), ("own", True)):
        backbone = model(shape, device, torch.bfloat16, own)
        error = (gradient(backbone, ids_BT, lengths_B) - truth).norm() / truth.norm()
        found[f"{name}, error"] = float(error)
        for batch in batches:
            ids = torch.randint(3, shape["vocab_size"], (batch, tokens), device=device)
            whole = torch.full((batch,), tokens, device=device)
            forget_peak(device)
            took = seconds(partial(step, backbone, ids, whole), device, 5)
            found[f"{name}, {batch} prompts of {tokens} tokens"] = {
                "seconds": took, "rows_per_second": batch / took, "peak_bytes": peak_memory(device),
            }  # fmt: skip
    if not found["own, error"] <= ALLOWED * found["library, error"]:
        raise ValueError(f"gradients: ours {found['own, error']:.3g} from single precision,"
                         f" the library's {found['library, error']:.3g}")  # fmt: skip
    return found
