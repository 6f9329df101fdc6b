"""A language model that reads soft tokens and answers Yes or No.

Vectors come in as arguments: the model knows no encoder and no data.

Legend: B prompts, T tokens, S soft-token places, D features of a slot (see ``slot_features``),
H hidden size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.injection import inject
from sasrecllm.llm.mapper import Mapper
from sasrecllm.ops.draws import Rows, of_rows
from sasrecllm.prompts.batch import PromptBatch
from sasrecllm.types import IntArray

WORTH = 0.1
"""Share of a batch's tokens that reading shared beginnings once must save: a pass of its own costs."""


class SoftTokenLLM(nn.Module):
    """Backbone and mapper; the score is logit(Yes) − logit(No) at the prompt's last position.

    Args:
        yes_id, no_id: the answer tokens, found with the tokenizer.
    """

    def __init__(self, backbone: Backbone, mapper: Mapper, yes_id: int, no_id: int) -> None:
        super().__init__()
        self.backbone, self.mapper = backbone, mapper
        self.yes_id, self.no_id = yes_id, no_id

    def forward(
        self,
        batch: PromptBatch,
        user_BD: Tensor | None = None,
        item_BD: Tensor | None = None,
        zero_soft: bool = False,
        mine: IntArray | None = None,
    ) -> Tensor:
        """Score of each prompt, [B].

        Args:
            user_BD, item_BD: the slots' features; needed where the prompts have slots.
            zero_soft: put zeros in the slots (an ablation).
            mine: [M] prompts to score, where other processes score the others; the answer is [M].

        Raises:
            ValueError: prompts with slots came without vectors.
        """
        embeds_BTH = self.embeds(batch, user_BD, item_BD, zero_soft)
        start, first, owners_B = self._read_once(batch)
        lengths_B, beginnings, rows = batch.lengths_B, None, None
        if mine is not None:  # what is read once, and the places of all, are those of the whole batch
            read, owners_B = np.unique(owners_B[mine], return_inverse=True) if start else (mine, mine)
            beginnings, rows = Rows(len(first), read), Rows(len(batch), mine)
            first = first[read] if start else first
        if start:
            graph = torch.is_grad_enabled() and self._adapter_learns
            with torch.set_grad_enabled(graph), of_rows(beginnings):
                cache = self.backbone.read(embeds_BTH[torch.from_numpy(first), :start])
        if mine is not None:
            embeds_BTH, lengths_B = embeds_BTH[torch.from_numpy(mine)], lengths_B[mine]
        with of_rows(rows):
            if start:
                embeds_BTH, rest_B = embeds_BTH[:, start:], lengths_B - start
                return self.answers(self.backbone.hidden_after(cache, embeds_BTH, rest_B, owners_B))
            last_B = torch.from_numpy(lengths_B).to(embeds_BTH.device)
            return self.answers(self.backbone.hidden_last(embeds_BTH, last_B))

    @property
    def _adapter_learns(self) -> bool:
        return any(p.requires_grad for p in self.backbone.adapter_parameters())

    def _read_once(self, batch: PromptBatch) -> tuple[int, IntArray, IntArray]:
        """Leading tokens of text read apart, one row for each different text, and whose text is whose.

        Prompts of one history share that text (a like and the items drawn beside it); and where a
        mapper learns before a frozen language model no gradient reaches it.  0 tokens where it would
        not pay.
        """
        nothing = np.empty(0, dtype=np.int64)
        learning = torch.is_grad_enabled()
        if learning and self._adapter_learns and self.backbone.recomputes:
            return 0, nothing, nothing  # shared keys cannot be computed again
        start = int(batch.text_lengths_B.min(initial=batch.ids_BT.shape[1]))
        if start <= 8 or not self.backbone.reads_prefixes:
            return 0, nothing, nothing
        _, first, owners_B = np.unique(
            batch.ids_BT[:, :start], axis=0, return_index=True, return_inverse=True
        )
        if learning and not self._adapter_learns:
            return start, first, owners_B.reshape(-1)
        saved = start * (len(batch) - len(first))
        common = _common(batch.ids_BT[:, :start])
        if common > 8 and common * (len(batch) - 1) > saved:  # a chat's own words, and the question's
            start, saved = common, common * (len(batch) - 1)
            first, owners_B = np.zeros(1, dtype=np.int64), np.zeros(len(batch), dtype=np.int64)
        if saved < WORTH * batch.ids_BT.size:
            return 0, nothing, nothing
        return start, first, owners_B.reshape(-1)

    def answers(self, hidden_BH: Tensor) -> Tensor:
        """logit(Yes) − logit(No), [B], after the hidden states of the prompts' last tokens."""
        return self.backbone.answer_logits(hidden_BH, self.yes_id, self.no_id)

    def embeds(
        self, batch: PromptBatch, user_BD: Tensor | None, item_BD: Tensor | None, zero_soft: bool
    ) -> Tensor:
        """Token embeddings with the soft tokens in their places, [B, T, H]."""
        device = self.mapper.embedding_norm.device
        embeds_BTH = self.backbone.embed(torch.from_numpy(batch.ids_BT).to(device))
        if len(batch.slot_rows):
            if user_BD is None or item_BD is None:
                raise ValueError("the prompts have soft slots, but no vectors were given")
            rows, columns, kinds, index = (
                torch.from_numpy(a).to(device)
                for a in (batch.slot_rows, batch.slot_columns, batch.slot_kinds, batch.slot_index)
            )
            soft_SH = self._soft(user_BD, item_BD, rows, kinds, index)
            if zero_soft:
                soft_SH = torch.zeros_like(soft_SH)
            embeds_BTH = inject(embeds_BTH, rows, columns, soft_SH)
        return embeds_BTH

    def _soft(
        self, user_BD: Tensor, item_BD: Tensor, rows_S: Tensor, kinds_S: Tensor, index_S: Tensor
    ) -> Tensor:
        """The soft token of every place, [S, H]: each prompt's two vectors are mapped once."""
        B = len(user_BD)
        slot_kinds = torch.arange(2, device=rows_S.device).repeat_interleave(B)
        both_2BKH = self.mapper(torch.cat([user_BD, item_BD]), slot_kinds)
        chosen: Tensor = both_2BKH[kinds_S * B + rows_S, index_S]
        return chosen

    def learn(self, parts: set[str]) -> None:
        """Let ``parts`` (of ``adapter``, ``mapper``) learn and freeze everything else."""
        self.requires_grad_(False)
        if "mapper" in parts:
            self.mapper.requires_grad_(True)
        if "adapter" in parts:
            for parameter in self.backbone.adapter_parameters():
                parameter.requires_grad_(True)

    def training_mode(self, parts: set[str]) -> None:
        """Training mode for ``parts``; what is frozen stays in evaluation mode, dropout and all."""
        self.eval()
        self.mapper.train("mapper" in parts)
        self.backbone.adapter_mode("adapter" in parts)


def _common(ids_BT: IntArray) -> int:
    """How many leading tokens are the same in all rows."""
    alike_T = (ids_BT == ids_BT[:1]).all(axis=0)
    return ids_BT.shape[1] if alike_T.all() else int(np.argmin(alike_T))
