"""Random prompts with slots, and language models of random weights, for the bench."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sasrecllm.llm.backbone import add_lora
from sasrecllm.llm.loading import build_llama
from sasrecllm.llm.mapper import build_mapper
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.prompts.batch import PromptBatch
from sasrecllm.types import IntArray

SIZES = {"a": (256, 4, 4), "b": (768, 12, 12), "tiny": (32, 1, 2)}
"""Width, layers, heads."""
VOCABULARY, BATCH, WIDTH = 32_000, 16, 64
PREFIX, SUFFIX = 111, 16
ALONE = 18_515 / 33_891
"""Distinct histories among the training rows of ML-1M."""
SLOT = 30
"""Tokens from the user's slot to the prompt's end."""
TARGET = 15
"""Tokens from the target to the prompt's end: all that differs between prompts of one history."""


@dataclass(frozen=True)
class Prompts:
    """Prompts of random tokens with a user and an item slot, and what goes into the slots."""

    histories: IntArray
    lengths: IntArray
    ids: list[IntArray]
    user: torch.Tensor
    item: torch.Tensor
    label: torch.Tensor


def built(size: str, vocabulary: int = VOCABULARY) -> SoftTokenLLM:
    """A model of random weights with LoRA of the paper's settings."""
    return model_of(*SIZES[size], vocabulary)


def model_of(
    width: int, layers: int, heads: int, vocabulary: int = VOCABULARY, *, lora: bool = True
) -> SoftTokenLLM:
    """The same of any size, with LoRA unless told."""
    tokenizer = train_tokenizer(["Yes No"], 400)
    backbone = build_llama(
        tokenizer, width=width, layers=layers, heads=heads, positions=512, vocabulary=vocabulary
    )
    if lora:
        add_lora(backbone, r=8, alpha=16, dropout=0.0, seed=0)
    mapper = build_mapper("mlp", width=WIDTH, llm_width=width, embedding_norm=backbone.embedding_norm)
    return SoftTokenLLM(backbone, mapper, 300, 301).eval()


def prompts(count: int, vocabulary: int = VOCABULARY, mean: int = 150) -> Prompts:
    """Seeded prompts of about ``mean`` tokens, of which some share user and history.

    As many do as in ML-1M's training rows: 1.83 prompts a history in the mean.
    """
    rng = np.random.default_rng(0)
    histories = np.repeat(np.arange(count), rng.geometric(ALONE, count))[:count]
    histories = rng.permutation(histories)
    lengths = rng.integers(max(SLOT + 10, mean - 50), mean + 50, count)[histories]
    texts = rng.integers(0, vocabulary, (count, mean + 50))
    ids = [
        np.concatenate([texts[h][: n - TARGET], rng.integers(0, vocabulary, TARGET)])
        for h, n in zip(histories, lengths, strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, count, WIDTH, generator=generator)
    label = torch.from_numpy(rng.integers(0, 2, count)).float()
    return Prompts(histories, lengths, ids, vectors[0], vectors[1], label)


def batch_of(p: Prompts, rows: IntArray, soft: bool) -> PromptBatch:
    """Prompts ``rows`` as the builder lays them out."""
    lengths = p.lengths[rows]
    grid = np.zeros((len(rows), int(lengths.max())), dtype=np.int64)
    for place, row in enumerate(rows):
        grid[place, : p.lengths[row]] = p.ids[row]
    here = np.arange(len(rows)) if soft else np.empty(0, dtype=np.int64)
    columns = np.concatenate([lengths[here] - SLOT, lengths[here] - 5])
    kinds = np.repeat([0, 1], len(here))
    return PromptBatch(
        grid, lengths, np.tile(here, 2), columns, kinds, np.zeros_like(kinds), lengths - TARGET
    )
