"""The field's way to train and score with a language model: what `benchmarks.bench llm` compares with.

Public systems of this kind pad prompts in random order to the longest of their batch, compute logits
over the whole vocabulary at every position and a language-model loss that is thrown away, and read a
whole prompt for every candidate.
"""

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.bench.random_prompts import batch_of


def logits(model, batch, user, item):
    """Full-vocabulary logits at every position, [B, T, V], and the score of each prompt, [B]."""
    embeds = model.embeds(batch, user, item, False)
    lengths = torch.from_numpy(batch.lengths_B)
    mask = (torch.arange(embeds.shape[1]) < lengths[:, None]).long()
    whole = model.backbone.causal(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
    last = whole[torch.arange(len(lengths)), lengths - 1]
    return whole, last[:, model.yes_id] - last[:, model.no_id]


def loss(model, prompts, rows, soft):
    """The loss that is used; the language-model loss beside it is only computed."""
    batch = batch_of(prompts, rows, soft)
    vectors = (prompts.user[rows], prompts.item[rows]) if soft else (None, None)
    whole, scores = logits(model, batch, *vectors)
    targets = torch.from_numpy(batch.ids_BT)[:, 1:]
    F.cross_entropy(whole[:, :-1].reshape(-1, whole.shape[-1]).float(), targets.reshape(-1))
    return F.binary_cross_entropy_with_logits(scores, prompts.label[rows], reduction="sum")


def train(model, prompts, rows, soft, batch_size):
    """The prompts ``rows`` in the order they come in, forward and backward."""
    for start in range(0, len(rows), batch_size):
        loss(model, prompts, rows[start : start + batch_size], soft).backward()
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def score(model, batch, user, item, batch_size=16):
    """One whole prompt for every candidate."""
    from sasrecllm.llm.prefix import part_of

    out = []
    for start in range(0, len(batch), batch_size):
        rows = np.arange(start, min(start + batch_size, len(batch)))
        part = part_of(batch, rows, 0, int(batch.lengths_B.max()))
        out.append(logits(model, part, user[rows], item[rows])[1])
    return torch.cat(out)
