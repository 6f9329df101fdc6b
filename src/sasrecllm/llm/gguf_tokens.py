"""The tokenizer out of a GGUF file: its rule for cutting text made right, and tried on titles.

A GGUF file has the vocabulary and the merges of a tokenizer, and of the rule that cuts a text before
they are applied only the name (``tokenizer.ggml.pre``).  A wrong rule gives other ids for the same
title without a word of warning, so a rule that is not known is refused.  A rule also says whether a
text begins with BOS where the file does not, as files of Llama 3 often do not.

The rules by name: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sasrecllm.errors import ModelNotFoundError
from sasrecllm.llm.gguf_file import GgufFile
from sasrecllm.prompts.titles import TitleTokens

PLAIN, DIGITS = "GPT-2's rule", "GPT-2's rule, each digit by itself"
SPLITS: Mapping[str, str] = {
    "gpt-2": PLAIN,
    "phi-2": PLAIN,
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "codeshell": DIGITS,
    "exaone": DIGITS,
    "minerva-7b": DIGITS,
}
"""Rules that transformers does not know by name: it would take GPT-2's for all of them."""

WHOLE_WORDS = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "tekken",
)  # fmt: skip
"""Rules under which a word of the vocabulary is one token, whether merges lead to it or not, and a text
begins with BOS in a file that does not say whether it does."""

BYTE_PAIRS, SENTENCE_PIECES = "gpt2", "llama"
"""Kinds of tokenizers (``tokenizer.ggml.model``) that are read."""

TITLES = (
    "Toy Story (1995)",
    "2001: A Space Odyssey (1968)",
    "Se7en",
    "12 Monkeys (Twelve Monkeys)",
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1964)",
    "Cité des enfants perdus, La (1995)",
    "Ame\u0301lie of Montmartre",
    "Crouching Tiger, Hidden Dragon (臥虎藏龍)",
    "千と千尋の神隠し",
    "Сталкер (1979)",
    "لورنس العرب",
    "शोले",
    "It's a Wonderful Life — “You'll see”",
    "WHAT'S EATING GILBERT GRAPE?!",
    "a  b   c",
    "tab\there, and\nanother line",
    "½ of Ⅷ, ①, １９９４ and ²",
    "emoji 😀 👩‍👩‍👧 🏴",
    "100% <b>C++</b> & {target} $HOME \\n %s [INST] #1",
    "..., !!! --- ///",
)
"""Ordinary and hostile titles that must come back from their ids as they went in."""


def mended(tokenizer: Any, file: GgufFile) -> Any:
    """The same tokenizer, cutting text and beginning it by the rule that the file names."""
    from tokenizers import pre_tokenizers

    split = file.text("tokenizer.ggml.pre")
    backend = tokenizer.backend_tokenizer
    if file.text("tokenizer.ggml.model") == BYTE_PAIRS:
        if split in SPLITS:
            digits = [pre_tokenizers.Digits(individual_digits=True)] * (SPLITS[split] == DIGITS)
            bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, bytewise])
        if split in WHOLE_WORDS:
            backend.model.ignore_merges = True
            if "tokenizer.ggml.add_bos_token" not in file.metadata:
                tokenizer.add_bos_token = True
    return tokenizer


def refuse_unknown_split(file: GgufFile, known: frozenset[str]) -> None:
    """Refuse a kind of tokenizer, or a rule for cutting text, that is not known.

    Args:
        known: rules that transformers applies by itself.

    Raises:
        ModelNotFoundError: the ids of a text would be wrong.
    """
    kind, split = file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre")
    other = "give the publisher's own folder (config.json, *.safetensors, tokenizer.json) instead"
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) for t in tokens):
        raise ModelNotFoundError(f"{file.path} has no tokenizer (tokenizer.ggml.tokens)", other)
    if kind not in (BYTE_PAIRS, SENTENCE_PIECES):
        raise ModelNotFoundError(
            f"{file.path}: its kind of tokenizer is {kind!r}; allowed: {BYTE_PAIRS} (byte-level BPE),"
            f" {SENTENCE_PIECES} (SentencePiece)",
            other,
        )
    needed = "merges" if kind == BYTE_PAIRS else "scores"
    if not isinstance(file.metadata.get(f"tokenizer.ggml.{needed}"), list):
        raise ModelNotFoundError(
            f"{file.path}: its tokenizer has no {needed} (tokenizer.ggml.{needed})", other
        )
    if kind == BYTE_PAIRS and split not in known and split not in SPLITS:
        said = f"names the rule {split!r}" if split else "does not name the rule"
        raise ModelNotFoundError(
            f"{file.path} {said} by which its tokenizer cuts a text (tokenizer.ggml.pre); known:"
            f" {', '.join(sorted({*SPLITS, *known}))}",
            other,
        )


def refuse_lossy(tokenizer: Any, file: GgufFile) -> None:
    """Refuse a tokenizer that does not give titles back, or takes a piece of one for a control token.

    Raises:
        ModelNotFoundError: with the first such title, and what came back.
    """
    other = "give the publisher's own folder (config.json, *.safetensors, tokenizer.json) instead"
    encoded = TitleTokens(tokenizer, TITLES, max_tokens=10_000)
    for place, title in enumerate(TITLES):
        back = tokenizer.decode(
            encoded.of(place).tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if back != title:
            raise ModelNotFoundError(
                f"{file.path}: its tokenizer does not give titles back: {title!r} becomes {back!r}",
                other,
            )
    control = {
        str(token): int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    named = [f"The {token} of {token}" for token in control]
    encoded = TitleTokens(tokenizer, named, max_tokens=10_000)
    for place, (token, title) in enumerate(zip(control, named, strict=True)):
        if not set(control.values()).isdisjoint(encoded.of(place).tolist()):
            raise ModelNotFoundError(
                f"{file.path}: its tokenizer takes {token!r} in the title {title!r} for a control"
                " token",
                other,
            )
