"""What a language model must be able to do, asked before anything is trained on it.

It must read from left to right, let gradients through, say its answer by two rows of its head, and
answer each prompt as if the others of its batch were not there.  That is tried on a few tokens rather
than looked up by family, so a family that nobody thought of is judged by what it does.

Legend: T tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

from sasrecllm.errors import ConfigError, ModelNotFoundError
from sasrecllm.llm.backbone import Backbone, closeness, probe_ids, relative
from sasrecllm.machine.os_errors import lacks_room

LENGTH = 16
"""Tokens of the text that a model is tried on."""

LEAST = 32
"""The smallest llm.max_tokens there is."""


def refuse_unable(backbone: Backbone, name: str, max_tokens: int) -> None:
    """Refuse a model that could be trained and would answer wrongly, or not at all.

    Args:
        backbone: without an adapter.
        max_tokens: longest prompt that it will be given.

    Raises:
        ModelNotFoundError: it cannot do what is asked of it, or its tokenizer is another model's.
        ConfigError: the prompts may be longer than the model can read; the remedy says what fits.
    """
    _refuse_foreign_tokens(backbone, name)
    try:
        wrong = _tried(backbone)
    except Exception as error:  # whatever a family's own code raises
        if lacks_room(error):
            raise
        words = " ".join(str(error).split())[:300]
        wrong = f"it cannot be trained on a short text: {type(error).__name__}: {words}"
    if wrong:
        raise ModelNotFoundError(
            f"llm.backbone {name!r} (model_type {backbone.causal.config.model_type!r}): {wrong}",
            "choose a decoder-only model, for example of the family of Llama, Qwen, Gemma or GPT-2",
        )
    refuse_longer(backbone.causal.config, name, max_tokens)


def refuse_longer(config: Any, name: str, max_tokens: int) -> None:
    """Refuse prompts that a model of this ``config`` cannot read to their end.

    Raises:
        ConfigError: with the greatest ``llm.max_tokens`` that fits.
    """
    longest = longest_text(config)
    if longest is not None and longest < max_tokens:
        raise ConfigError(
            f"llm.max_tokens is {max_tokens}, but llm.backbone {name!r} reads at most {longest} tokens",
            f"set llm.max_tokens={longest}" if longest >= LEAST else "choose another model",
        )


def longest_text(config: Any) -> int | None:
    """Tokens that a model can read: its positions, or its attention's window where every layer has one.

    None where it says nothing of either, as recurrent models do.
    """
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
    limits = [getattr(text, name, None) for name in names]
    kinds = set(getattr(text, "layer_types", None) or ["sliding_attention"])
    if kinds == {"sliding_attention"} and getattr(text, "use_sliding_window", True):
        limits.append(getattr(text, "sliding_window", None))
    return min((n for n in limits if isinstance(n, int) and n > 0), default=None)


def _refuse_foreign_tokens(backbone: Backbone, name: str) -> None:
    """Control tokens may lie behind the table (a picture's, say): no prompt ever holds one."""
    rows = len(backbone.causal.get_input_embeddings().weight)
    added = backbone.tokenizer.get_added_vocab()
    ids = (i for token, i in backbone.tokenizer.get_vocab().items() if token not in added)
    behind = max(ids, default=0)
    if behind >= rows:
        raise ModelNotFoundError(
            f"llm.backbone {name!r}: the tokenizer has token ids up to {behind}, the embeddings have"
            f" {rows} rows",
            "put the model's own tokenizer into its folder",
        )


def _tried(backbone: Backbone) -> str:
    """What the model does wrong on a short text; empty where nothing."""
    half, cut = LENGTH // 2, LENGTH - 3
    ids_T = probe_ids(backbone, LENGTH)
    embeds_1TH = backbone.embed(ids_T[None]).detach().requires_grad_(True)
    whole_TH = backbone.hidden(embeds_1TH)[0]
    weights_H = torch.linspace(-1, 1, whole_TH.shape[1], device=whole_TH.device)
    (slopes_1TH,) = torch.autograd.grad((whole_TH[:half] * weights_H).sum(), embeds_1TH)
    own, later = (float(s.abs().max()) for s in (slopes_1TH[0, :half], slopes_1TH[0, half:]))
    if not bool(whole_TH.isfinite().all()):
        return "its hidden states are not finite numbers"
    if not own > 0:
        return "no gradient goes through it"
    if later > 1e-6 * own:  # it is exactly 0 where nothing is seen of what follows
        return "it does not read from left to right: a later word changes what it made of earlier ones"
    with torch.no_grad():
        both_2TH = torch.cat([embeds_1TH, embeds_1TH])
        ends_2H = backbone.hidden_last(both_2TH, torch.tensor([LENGTH, cut], device=ids_T.device))
        if relative(ends_2H, whole_TH[[LENGTH - 1, cut - 1]]) > closeness(backbone):
            return "what it makes of a text depends on the other texts of its batch"
        yes, no = int(ids_T[1]), int(ids_T[-2])
        said_V = backbone.causal(input_ids=ids_T[None], use_cache=False).logits[0, -1].float()
        read = float(backbone.answer_logits(whole_TH[-1:], yes, no)[0])
    if abs(read - float(said_V[yes] - said_V[no])) > 10 * closeness(backbone) * float(said_V.std()):
        return (
            "its answer is not what two rows of its head say: more lies between its last layer and it"
        )
    return ""
