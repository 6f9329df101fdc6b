"""A language model where none can be had: its tokenizer, and the loss of its pretraining.

Legend: B documents, T tokens, N next-token places, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.loading import wrap_tokenizer

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
CHUNK = 4096
"""Next-token places whose vocabulary logits stand in memory at once."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Byte-level BPE on ``texts``; any text can be written in it, so there is no unknown token.

    The answers " Yes" and " No" are made single tokens by standing in the text often.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *[" Yes", " No"] * 1000], trainer)
    return wrap_tokenizer(tokenizer, bos=BOS, eos=EOS, pad=PAD)


def lm_losses(
    backbone: Backbone, ids_BT: Tensor, lengths_B: Tensor, counts_BT: Tensor | None = None
) -> Tensor:
    """Next-token cross-entropy summed over each document, [B].

    Args:
        counts_BT: bool, which tokens count as the next one; all of them without.

    The only place with logits over the vocabulary; they are computed ``CHUNK`` places at a time and
    again in the backward pass, so memory does not grow with the batch.
    """
    states_BTH = backbone.hidden(backbone.embed(ids_BT))[:, :-1]
    places = torch.arange(ids_BT.shape[1] - 1, device=ids_BT.device)
    real_BT = places < (lengths_B - 1)[:, None]
    if counts_BT is not None:
        real_BT = real_BT & counts_BT[:, 1:]
    hidden_NH, next_N = states_BTH[real_BT], ids_BT[:, 1:][real_BT]
    head = backbone.causal.get_output_embeddings()

    def loss(hidden: Tensor, following: Tensor) -> Tensor:
        return F.cross_entropy(head(hidden).float(), following, reduction="none")

    parts = [
        checkpoint(loss, hidden_NH[i : i + CHUNK], next_N[i : i + CHUNK], use_reentrant=False)
        for i in range(0, len(next_N), CHUNK)
    ]
    owner_N = torch.arange(len(ids_BT), device=ids_BT.device)[:, None].expand_as(real_BT)[real_BT]
    losses_N = torch.cat(parts) if parts else hidden_NH.sum(dim=-1)
    return torch.zeros(len(ids_BT), device=ids_BT.device).index_add(0, owner_N, losses_N)
