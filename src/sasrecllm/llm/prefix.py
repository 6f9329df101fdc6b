"""One history, many candidates: what stands before the target is read once.

The question, the history and the user's soft token are the same for every candidate, so their keys
and values are computed once and every candidate costs only its own tokens.  Histories are taken one
by one: each prefix then has no padding, so positions and masks are right for every model family.

Legend: C candidates, T tokens, P tokens of the prefix, S soft-token places, D features of a slot.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sasrecllm.llm.batches import of_candidates
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.prompts.batch import PromptBatch
from sasrecllm.types import IntArray


def shares_prefix(batch: PromptBatch) -> bool:
    """Whether the prompts have a common beginning: something before the target, and no item slot there.

    Nothing stands before it where a template begins with its list, the list is empty and the
    tokenizer begins no text with a token of its own.
    """
    if not batch.prefix_lengths_B.all():
        return False
    item = batch.slot_kinds == 1
    return not (batch.slot_columns[item] < batch.prefix_lengths_B[batch.slot_rows[item]]).any()


@torch.no_grad()
def score_candidates(
    model: SoftTokenLLM,
    batch: PromptBatch,
    user_1D: Tensor | None = None,
    item_CD: Tensor | None = None,
    *,
    zero_soft: bool = False,
    at_once: int = 128,
    tokens: int = 0,
) -> Tensor:
    """Scores [C] of prompts of one history that differ from their target on.

    Equal to ``model(batch, user_CD, item_CD)`` up to rounding, for about P + C·(T − P) instead of
    C·T tokens.

    Args:
        user_1D, item_CD: the user's vector and the targets', where the prompts have slots.
        at_once: candidates in one pass.
        tokens: of their own in one pass, padding included; 0: as many as there are.
    """
    P = int(batch.prefix_lengths_B[0])
    zero = np.zeros(1, dtype=np.int64)
    first = part_of(batch, zero, 0, P)
    cache = model.backbone.read(model.embeds(first, user_1D, _some(item_CD, zero), zero_soft))
    places, scores = [], []
    for rows in of_candidates(batch.lengths_B - P, at_once, tokens):
        rest = part_of(batch, rows, P, int(batch.lengths_B[rows].max()))
        user_RD = None if user_1D is None else user_1D.expand(len(rows), -1)
        embeds_RTH = model.embeds(rest, user_RD, _some(item_CD, rows), zero_soft)
        hidden_RH = model.backbone.hidden_after(cache, embeds_RTH, rest.lengths_B, np.zeros_like(rows))
        places.append(rows)
        scores.append(model.answers(hidden_RH))
    scores_C = torch.cat(scores)
    return scores_C[torch.from_numpy(np.argsort(np.concatenate(places))).to(scores_C.device)]


def part_of(batch: PromptBatch, rows: IntArray, start: int, end: int) -> PromptBatch:
    """Columns ``start`` to ``end`` of the prompts ``rows``, with the soft-token places inside them."""
    place = np.full(len(batch), -1)
    place[rows] = np.arange(len(rows))
    kept = (place[batch.slot_rows] >= 0) & (batch.slot_columns >= start) & (batch.slot_columns < end)
    return replace(
        batch,
        ids_BT=batch.ids_BT[rows, start:end],
        lengths_B=np.minimum(batch.lengths_B[rows], end) - start,
        slot_rows=place[batch.slot_rows[kept]],
        slot_columns=batch.slot_columns[kept] - start,
        slot_kinds=batch.slot_kinds[kept],
        slot_index=batch.slot_index[kept],
        prefix_lengths_B=np.maximum(batch.prefix_lengths_B[rows] - start, 0),
    )


def _some(vectors_CD: Tensor | None, rows: IntArray) -> Tensor | None:
    return None if vectors_CD is None else vectors_CD[torch.from_numpy(rows).to(vectors_CD.device)]
