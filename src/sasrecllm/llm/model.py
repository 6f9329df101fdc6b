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
from sasrecllm.llm.beginnings import Beginnings, Held, common_text, held_prompts, nested_text, same_text
from sasrecllm.llm.injection import inject
from sasrecllm.llm.mapper import Mapper
from sasrecllm.ops.draws import Rows, of_rows
from sasrecllm.prompts.batch import PromptBatch
from sasrecllm.types import IntArray

WORTH = 0.1
"""Share of a batch's tokens that reading shared beginnings once must save: a pass of its own costs."""
LEARNT = 3
"""What a token costs whose gradient is wanted, as a multiple of one that is only read."""
LEAST = 8
"""Tokens of text up to which nothing is read apart."""


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
        once = self.read_once(batch)
        if isinstance(once, Held):
            return self._of_held(embeds_BTH, batch.lengths_B, once, mine)
        return self._of_beginnings(embeds_BTH, batch.lengths_B, once, mine)

    def _of_beginnings(
        self,
        embeds_BTH: Tensor,
        lengths_B: IntArray,
        apart: Beginnings | None,
        mine: IntArray | None,
    ) -> Tensor:
        """Scores of prompts that continue what is read apart; of None, each is read whole."""
        beginnings, rows = None, None
        if mine is not None:  # what is read once, and the places of all, are those of the whole batch
            rows = Rows(len(lengths_B), mine)
            if apart is not None:
                count, (read, apart) = len(apart.rows), apart.of(mine)
                beginnings = Rows(count, read)
        if apart is not None:
            graph = torch.is_grad_enabled() and self._adapter_learns
            with torch.set_grad_enabled(graph), of_rows(beginnings):
                cache = self.backbone.read(embeds_BTH[torch.from_numpy(apart.rows), : apart.width])
        if mine is not None:
            embeds_BTH, lengths_B = embeds_BTH[torch.from_numpy(mine)], lengths_B[mine]
        with of_rows(rows):
            if apart is None:
                last_B = torch.from_numpy(lengths_B).to(embeds_BTH.device)
                return self.answers(self.backbone.hidden_last(embeds_BTH, last_B))
            rest_BRH = _behind(embeds_BTH, apart)
            shares_B = None if apart.whole else apart.shares
            hidden_BH = self.backbone.hidden_after(
                cache, rest_BRH, lengths_B - apart.shares, apart.owners, shares_B
            )
            return self.answers(hidden_BH)

    def _of_held(
        self, embeds_BTH: Tensor, lengths_B: IntArray, held: Held, mine: IntArray | None
    ) -> Tensor:
        """Scores of prompts that stand inside others, by one pass over the latter."""
        wanted = np.arange(len(lengths_B)) if mine is None else mine
        read, owners = np.unique(held.owners[wanted], return_inverse=True)
        with of_rows(None if mine is None else Rows(len(held.rows), read)):
            whole_LTH = embeds_BTH[torch.from_numpy(held.rows[read]), : held.width]
            states_LTH = self.backbone.hidden(whole_LTH)
        ends = torch.from_numpy(lengths_B[wanted] - 1)
        return self.answers(states_LTH[torch.from_numpy(owners.reshape(-1)), ends])

    @property
    def _adapter_learns(self) -> bool:
        return any(p.requires_grad for p in self.backbone.adapter_parameters())

    def read_once(self, batch: PromptBatch) -> Held | Beginnings | None:
        """Whole prompts or beginnings that are read for all that share them, the fewest tokens of both.

        None where every prompt is read whole, by itself, because nothing else would pay.
        """
        held, apart = held_prompts(batch), self._apart(batch)
        other = batch.ids_BT.size if apart is None else apart.tokens()
        return apart if held is None or held.tokens() >= other else held

    def _apart(self, batch: PromptBatch) -> Beginnings | None:
        """Leading text that is read apart, for all prompts that share it; None where it would not pay.

        Where a mapper learns before a frozen language model it always pays: no gradient reaches text.
        """
        learning = torch.is_grad_enabled()
        if learning and self._adapter_learns and self.backbone.recomputes:
            return None  # shared keys cannot be computed again
        least = batch.text_lengths_B.min(initial=batch.ids_BT.shape[1])
        if least <= LEAST or not self.backbone.reads_prefixes:
            return None
        nested = self.backbone.reads_nested
        ways = [nested_text(batch)] if nested else []
        if learning and not self._adapter_learns:
            ways.append(nested_text(batch, kept=1.0) if nested else same_text(batch))
            return min(ways, key=lambda way: way.tokens(own=LEARNT))
        best = min([*ways, same_text(batch), common_text(batch)], key=lambda way: way.tokens())
        worth = best.tokens() <= (1 - WORTH) * batch.ids_BT.size and best.width > LEAST
        return best if worth else None

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


def _behind(embeds_BTH: Tensor, apart: Beginnings) -> Tensor:
    """What each prompt reads for itself, padded on the right, [B, R, H]."""
    if apart.whole:
        return embeds_BTH[:, apart.width : apart.width + apart.rest]
    B, T, H = embeds_BTH.shape
    columns_BR = torch.from_numpy(apart.shares[:, None] + np.arange(apart.rest)).to(embeds_BTH.device)
    return embeds_BTH.gather(1, columns_BR.clamp(max=T - 1)[..., None].expand(B, -1, H))
