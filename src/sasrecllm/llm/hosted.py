"""The request with which a server of language models gives the scores, soft tokens included.

``POST /v1/score`` of SGLang: the tokens before the target are sent once, every candidate's own after
them, and the vectors of the soft tokens beside them, for places that one unused token id marks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sasrecllm.llm.mapper import slot_features
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.prompts.batch import PromptBatch
from sasrecllm.types import FloatArray, Histories, IntArray


@torch.no_grad()
def score_request(scorer: LLMScorer, history: Histories, targets: IntArray) -> dict[str, Any]:
    """The request's keys and values, ready for JSON; ``model`` is left to who sends it.

    The answer has two shares of each target, of Yes and of No; the score is the logarithm of the first
    by the second.

    Args:
        history: one.
        targets: item indices, [C].
    """
    model = scorer.model.eval()
    batch = scorer.builder.build(history.take(np.zeros(len(targets), dtype=np.int64)), targets)
    vectors_CTH = _embedded(scorer, batch, history, targets)

    soft_CT = np.zeros(batch.ids_BT.shape, dtype=np.bool_)
    soft_CT[batch.slot_rows, batch.slot_columns] = True
    place = _unused(batch.ids_BT[~soft_CT])
    ids_CT = np.where(soft_CT, place, batch.ids_BT)
    shared = int(batch.prefix_lengths_B[0])
    request: dict[str, Any] = {
        "query": ids_CT[0, :shared].tolist(),
        "items": [
            row[shared:end].tolist() for row, end in zip(ids_CT, batch.lengths_B.tolist(), strict=True)
        ],
        "label_token_ids": [model.yes_id, model.no_id],
        "apply_softmax": True,
    }
    if not soft_CT.any():
        return request
    request["embed_override_token_id"] = place
    if soft_CT[0, :shared].any():
        request["query_embed_overrides"] = vectors_CTH[0, :shared][soft_CT[0, :shared]].tolist()
    rest_CT = soft_CT[:, shared:]
    request["item_embed_overrides"] = [
        vectors_TH[mine_T].tolist() if mine_T.any() else None
        for vectors_TH, mine_T in zip(vectors_CTH[:, shared:], rest_CT, strict=True)
    ]
    return request


def _embedded(
    scorer: LLMScorer, batch: PromptBatch, history: Histories, targets: IntArray
) -> FloatArray:
    """What the language model reads of each prompt of ``batch``, soft tokens included, [C, T, H]."""
    user_CE = item_CE = None
    encoder = scorer.encoder
    if encoder is not None:
        encoder.eval()
        users_CD = encoder.encode(history).expand(len(targets), -1)
        items_CD = encoder.item_vectors(torch.from_numpy(targets).to(users_CD.device))
        logits_C = encoder.logits(history, targets[None, :])[0]
        user_CE, item_CE = slot_features(users_CD, items_CD, logits_C)
    embedded_CTH = scorer.model.embeds(batch, user_CE, item_CE, zero_soft=False)
    vectors_CTH: FloatArray = embedded_CTH.float().cpu().numpy()
    return vectors_CTH


def _unused(ids: IntArray) -> int:
    """The least token id that stands nowhere among ``ids``."""
    there = np.unique(ids)
    return int(np.setdiff1d(np.arange(len(there) + 1), there)[0])
