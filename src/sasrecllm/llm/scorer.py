"""The language model as a :class:`~sasrecllm.types.Scorer`.

Legend: B histories, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.llm.batches import of_like_length, tokens_at_once
from sasrecllm.llm.beginnings import prefix_ids
from sasrecllm.llm.mapper import slot_features
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.prefix import score_candidates, shares_prefix
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

    def logits(self, histories: Histories, candidates: IntArray) -> Tensor:
        """Logits of ``candidates`` [B, C], [B, C]."""
        ...

    def encode(self, histories: Histories) -> Tensor:
        """User vectors, [B, D]."""
        ...

    def item_vectors(self, items: Tensor) -> Tensor:
        """Vectors of ``items`` [C], [C, D]."""
        ...


class LLMScorer:
    """Scores are logit(Yes) − logit(No).

    One candidate a history makes one prompt each; of several, what stands before the target is read
    once for all of them (:mod:`sasrecllm.llm.prefix`), where the language model can.

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

    asks_language_model = True

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C], shape [B, C]."""
        self.model.eval()
        if self.encoder is not None:
            self.encoder.eval()
        if candidates.shape[1] > 1:
            return self._lists(histories, candidates)
        rows = np.repeat(np.arange(len(histories)), candidates.shape[1])
        targets = candidates.reshape(-1)
        # A chunk of whole histories bounds the memory; inside it prompts are sorted by length.
        out = np.empty(len(targets))
        chunk = self.batch_size * 32
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            out[part] = self._scores(histories.take(rows[part]), targets[part])
        return out.reshape(candidates.shape)

    def with_new_titles(self, titles: Sequence[str]) -> LLMScorer:
        """The same scorer over a catalogue with ``titles`` at its end."""
        return LLMScorer(
            self.name,
            self.model,
            self.builder.with_titles(self.builder.titles.extended(titles)),
            encoder=self.encoder,
            batch_size=self.batch_size,
            zero_soft=self.zero_soft,
        )

    @property
    def _tokens(self) -> int:
        return tokens_at_once(self.model.mapper.embedding_norm.device)

    @torch.no_grad()
    def _lists(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Several candidates of each history, a history at a time."""
        users_BD = logits_BC = None
        if self.encoder is not None:
            users_BD = self.encoder.encode(histories)
            logits_BC = self.encoder.logits(histories, candidates)
        out = np.empty(candidates.shape)
        for b, targets in enumerate(candidates):
            repeated = histories.take(np.full(len(targets), b))
            batch = self.builder.build(repeated, targets)
            if not (shares_prefix(batch) and self.model.backbone.reads_prefixes):
                out[b] = self._scores(repeated, targets)
                continue
            user_1E = item_CE = None
            if self.encoder is not None and users_BD is not None and logits_BC is not None:
                items_CD = self.encoder.item_vectors(torch.from_numpy(targets).to(users_BD.device))
                user_1E, item_CE = slot_features(users_BD[b : b + 1], items_CD, logits_BC[b])
            scores = score_candidates(
                self.model, batch, user_1E, item_CE, zero_soft=self.zero_soft,
                at_once=self.batch_size, tokens=self._tokens,
            )  # fmt: skip
            out[b] = scores.double().cpu().numpy()
        return out

    @torch.no_grad()
    def _scores(self, histories: Histories, targets: IntArray) -> FloatArray:
        out = np.empty(len(targets))
        lengths = self.builder.lengths(histories, targets)
        alike = prefix_ids(self.builder, histories, targets)
        for at in of_like_length(lengths, self.batch_size, alike, self._tokens):
            rows = histories.take(at)
            features: tuple[Tensor | None, Tensor | None] = (None, None)
            if self.encoder is not None:
                features = slot_features(*self.encoder.pair(rows, targets[at]))
            batch = self.builder.build(rows, targets[at])
            out[at] = self.model(batch, *features, zero_soft=self.zero_soft).double().cpu().numpy()
        return out
