"""The language model as a :class:`~sasrecllm.types.Scorer`.

Legend: B histories, C candidates.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.types import FloatArray, Histories, IntArray


class GivesVectors(Protocol):
    """What soft prompts need of an encoder."""

    def eval(self) -> object:
        """Evaluation mode."""
        ...

    def pair(self, histories: Histories, targets: IntArray) -> tuple[Tensor, Tensor, Tensor]:
        """User vectors [B, D], target vectors [B, D] and logits [B]."""
        ...


class LLMScorer:
    """Scores are logit(Yes) − logit(No); one prompt for every history and candidate.

    Args:
        encoder: gives the vectors of the soft slots; None for text-only prompts.
        batch_size: prompts in one pass; prompts of like length share a pass.
        zero_soft: put zeros into the soft slots (an ablation).
    """

    def __init__(
        self,
        name: str,
        model: SoftTokenLLM,
        builder: PromptBuilder,
        *,
        encoder: GivesVectors | None = None,
        batch_size: int = 128,
        zero_soft: bool = False,
    ) -> None:
        self.name, self.model, self.builder, self.encoder = name, model, builder, encoder
        self.batch_size, self.zero_soft = batch_size, zero_soft

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C], shape [B, C]."""
        self.model.eval()
        if self.encoder is not None:
            self.encoder.eval()
        rows = np.repeat(np.arange(len(histories)), candidates.shape[1])
        targets = candidates.reshape(-1)
        # A chunk of whole histories bounds the memory; inside it prompts are sorted by length.
        out = np.empty(len(targets))
        chunk = self.batch_size * 32
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            out[part] = self._scores(histories.take(rows[part]), targets[part])
        return out.reshape(candidates.shape)

    @torch.no_grad()
    def _scores(self, histories: Histories, targets: IntArray) -> FloatArray:
        order = np.argsort(self.builder.lengths(histories, targets), kind="stable")
        out = np.empty(len(targets))
        for start in range(0, len(order), self.batch_size):
            at = order[start : start + self.batch_size]
            rows = histories.take(at)
            vectors = (
                self.encoder.pair(rows, targets[at])[:2] if self.encoder is not None else (None, None)
            )
            batch = self.builder.build(rows, targets[at])
            out[at] = self.model(batch, *vectors, zero_soft=self.zero_soft).double().cpu().numpy()
        return out
