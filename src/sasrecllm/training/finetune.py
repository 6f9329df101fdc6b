"""Learning together: the LLM answers Yes or No, with LoRA, the mapper and the encoder as parts.

Legend: B questions, E features of a slot (encoder width + 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sasrecllm.encoders import losses
from sasrecllm.llm.batches import of_like_length, tokens_at_once
from sasrecllm.llm.beginnings import holders, prefix_ids
from sasrecllm.llm.mapper import slot_features
from sasrecllm.ops.draws import share
from sasrecllm.training.pretrain import ranking_metrics
from sasrecllm.training.task import Metrics, Task
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, IntArray, Questions

if TYPE_CHECKING:
    from sasrecllm.encoders.crossfit import CrossFitted
    from sasrecllm.encoders.sequence import SequentialEncoder
    from sasrecllm.llm.model import SoftTokenLLM
    from sasrecllm.prompts.batch import PromptBuilder


class AnswerTask(Task):
    """BCE on logit(Yes) − logit(No) of the prompt's last position.

    An example is a prompt with all those that stand inside it, so that one pass over a list of events
    learns from each of them.  Most templates hold none: an example is then a question.

    Args:
        parts: what learns, of ``encoder``, ``adapter``, ``mapper``.
        encoder: gives user and item vectors; None for text-only prompts.  While it is frozen its
            vectors are computed once; while it learns they are computed in every step.
        train_encoder: what gives the vectors of the training rows (cross-fitted encoders), where it
            is another than ``encoder``.
        cold_item_dropout: share of training targets shown as a new item is: with the vector of an
            unseen item, or without their slot where the builder gives slots to some items alone.
        cold: [B] which training targets are shown as new in every step; none without.
    """

    monitor = "auc"

    def __init__(
        self,
        name: str,
        model: SoftTokenLLM,
        builder: PromptBuilder,
        questions: Questions,
        validation: Questions,
        *,
        parts: Iterable[str],
        encoder: SequentialEncoder | None = None,
        train_encoder: CrossFitted | None = None,
        cold_item_dropout: float = 0.1,
        cold: BoolArray | None = None,
        score_batch: int = 128,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.name, self.parts, self.device = name, frozenset(parts), device
        self.model, self.encoder = model, encoder
        self.builder, self.questions, self.validation = builder, questions, validation
        self.cold_item_dropout, self.score_batch = cold_item_dropout, score_batch
        self.cold_B = torch.zeros(len(questions), dtype=torch.bool, device=device)
        if cold is not None:
            self.cold_B |= torch.as_tensor(cold, device=device)
        self.some_cold = bool(cold_item_dropout) or bool(self.cold_B.any())
        of_B = holders(builder, questions.histories, questions.targets)
        longest, counts = np.unique(of_B, return_counts=True)
        self.asked = np.argsort(of_B, kind="stable")
        self.starts = np.cumsum(counts) - counts
        self.weights = counts.astype(np.float64)
        prompts = questions.take(longest)
        self.lengths = builder.lengths(prompts.histories, prompts.targets)
        self.prefix_ids = prefix_ids(builder, prompts.histories, prompts.targets)
        self.validation_lengths = builder.lengths(validation.histories, validation.targets)
        self.validation_prefix_ids = prefix_ids(builder, validation.histories, validation.targets)
        self.n_validation = len(validation)
        self.beside = max(1, len(validation) // max(1, len(np.unique(validation.rows))))
        model.learn(set(self.parts) - {"encoder"})
        self.live = "encoder" in self.parts
        if encoder is not None:
            encoder.requires_grad_(self.live)
            if not self.live:
                reader = train_encoder or encoder
                self.train_slots = encoded_slots(reader, questions)
                self.valid_slots = encoded_slots(encoder, validation)
                self.cold_BE = encoded_slots(reader, _unseen(questions))[1] if self.some_cold else None

    def learn(self) -> None:
        """Training mode for adapter, mapper and encoder as far as they learn."""
        self.eval()
        self.model.training_mode(set(self.parts) - {"encoder"})
        if self.live and self.encoder is not None:
            self.encoder.train()

    def forward(self, examples: IntArray) -> Tensor:
        """Cross-entropy of Yes and No, summed over the questions of ``examples``."""
        # The slots of a batch that several processes share are made by each of them, for all of it: so
        # little costs less than telling their random numbers apart.
        batch = share()
        examples, mine = (examples, None) if batch is None else (batch.examples, batch.mine)
        asked, of_example = self.questions_of(examples)
        if mine is not None:
            mine = np.flatnonzero(np.isin(of_example, mine))
        rows = self.questions.take(asked)
        user_BE, item_BE = self._slot_features(rows, asked, training=True)
        slotless = None
        if item_BE is not None and self.some_cold:
            gone_B1 = torch.rand(len(rows), 1, device=self.device) < self.cold_item_dropout
            gone_B1 |= self.cold_B[torch.from_numpy(asked).to(self.device)][:, None]
            if self.builder.item_slots is None:
                item_BE = torch.where(gone_B1, self._as_cold(rows, asked), item_BE)
            else:
                slotless = gone_B1[:, 0].cpu().numpy()
        logits_B = self._logits(rows, user_BE, item_BE, slotless, mine)
        labels = rows.labels if mine is None else rows.labels[mine]
        labels_B = torch.from_numpy(labels.astype(np.float32)).to(self.device)
        return losses.bce(logits_B.float(), labels_B).sum()

    def questions_of(self, examples: IntArray) -> tuple[IntArray, IntArray]:
        """The questions of ``examples`` [B], and the place of each one's example, [B]."""
        counts = self.weights[examples].astype(np.int64)
        of_example = np.repeat(np.arange(len(examples)), counts)
        within = np.arange(len(of_example)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.asked[np.repeat(self.starts[examples], counts) + within], of_example

    def _logits(
        self,
        rows: Questions,
        user_BE: Tensor | None,
        item_BE: Tensor | None,
        slotless: BoolArray | None = None,
        mine: IntArray | None = None,
    ) -> Tensor:
        batch = self.builder.build(rows.histories, rows.targets, slotless)
        logits: Tensor = self.model(batch, user_BE, item_BE, mine=mine)
        return logits

    def _slot_features(
        self, rows: Questions, positions: IntArray, training: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.encoder is None:
            return None, None
        if self.live:
            return slot_features(*self.encoder.pair(rows.histories, rows.targets))
        at = torch.from_numpy(positions)
        tables = self.train_slots if training else self.valid_slots
        return tables[0][at], tables[1][at]

    def _as_cold(self, rows: Questions, positions: IntArray) -> Tensor:
        """The items' slot features, had training never shown the targets, [B, E]."""
        if self.live and self.encoder is not None:
            gone = _unseen(rows)
            return slot_features(*self.encoder.pair(gone.histories, gone.targets))[1]
        assert self.cold_BE is not None
        return self.cold_BE[torch.from_numpy(positions)]

    def validation_scores(self, positions: IntArray) -> FloatArray:
        """Logit of Yes against No of each question, [B]."""
        out = np.empty(len(positions))
        lengths, alike = self.validation_lengths[positions], self.validation_prefix_ids[positions]
        tokens = tokens_at_once(self.device)
        for at in of_like_length(lengths, self.score_batch, alike, tokens):
            rows = self.validation.take(positions[at])
            logits = self._logits(rows, *self._slot_features(rows, positions[at], training=False))
            out[at] = logits.double().cpu().numpy()
        return out

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        """AUC and UAUC."""
        return ranking_metrics(scores, self.validation)


def _unseen(questions: Questions) -> Questions:
    """The same questions about an item that training never showed."""
    return replace(questions, targets=np.full(len(questions), UNKNOWN))


@torch.no_grad()
def encoded_slots(
    encoder: SequentialEncoder | CrossFitted, questions: Questions, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """Features of the slots of user and target, from a frozen encoder, [B, E] each."""
    encoder.eval()
    pairs = []
    for start in range(0, len(questions), chunk):
        part = questions.take(np.arange(start, min(start + chunk, len(questions))))
        pairs.append(slot_features(*encoder.pair(part.histories, part.targets)))
    return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
