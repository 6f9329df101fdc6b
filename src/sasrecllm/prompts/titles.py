"""Titles as token ids: every title tokenised once, alone, and never as a control token.

Titles are foreign text.  A title such as ``</s>`` must reach the model as the characters that it is
made of; so no added token of the tokenizer, special or plain, may come out of one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sasrecllm.seeds import SWAPPED_TITLES
from sasrecllm.types import IntArray


class Tokenizer(Protocol):
    """What this room needs of a tokenizer; every Hugging Face tokenizer has it."""

    bos_token_id: int | None
    pad_token_id: int | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Token id to added token (control tokens and tokens that were added later)."""
        ...

    def __call__(self, text: list[str], **options: Any) -> Mapping[str, Any]:
        """Token ids of each text under ``input_ids``."""
        ...


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], *, foreign: bool) -> list[list[int]]:
    """Ids of each text alone, without BOS or EOS.

    Args:
        foreign: the text comes from data: nothing in it may become a control token.  False for the
            words of a template, which may hold the tags of a chat format on purpose.
    """
    if not texts:
        return []
    options = {"add_special_tokens": False, "split_special_tokens": foreign, "verbose": False}
    ids: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    return ids


def begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer itself begins a text with BOS (having one does not mean using it)."""
    ids = tokenizer(["a"], add_special_tokens=True)["input_ids"][0]
    return bool(ids) and ids[0] == tokenizer.bos_token_id


class TitleTokens:
    """Token ids of a catalogue's titles, as one flat array with offsets.

    Args:
        titles: title of every item, by item index.
        max_tokens: longer titles are cut to their first ``max_tokens`` tokens.
        lead: what stands before every title (:attr:`~sasrecllm.prompts.template.Template.lead`).
    """

    def __init__(
        self, tokenizer: Tokenizer, titles: Sequence[str], max_tokens: int = 48, lead: str = ""
    ) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.lead = lead
        rows = _plain_ids(tokenizer, [lead + title for title in titles], max_tokens)
        self.lengths: IntArray = np.array([len(r) for r in rows], dtype=np.int64)
        self.offsets: IntArray = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        self.flat: IntArray = np.array([i for r in rows for i in r], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def of(self, item: int) -> IntArray:
        """Token ids of one title."""
        return self.flat[self.offsets[item] : self.offsets[item + 1]]

    def extended(self, titles: Sequence[str]) -> TitleTokens:
        """These titles and then ``titles``, which get the next indices; only they are tokenised."""
        new = TitleTokens(self.tokenizer, titles, self.max_tokens, self.lead)
        return self._with(
            np.concatenate([self.flat, new.flat]), np.concatenate([self.lengths, new.lengths])
        )

    def blanked(self, word: str = "something") -> TitleTokens:
        """Every title replaced by one neutral word: the ablation without the titles' meaning."""
        blank = TitleTokens(self.tokenizer, [word], self.max_tokens, self.lead)
        return self._with(np.tile(blank.flat, len(self)), np.repeat(blank.lengths, len(self)))

    def swapped(self, seed: int = 0) -> TitleTokens:
        """Every item with the title of another: the ablation with wrong meanings."""
        order = np.random.default_rng([seed, SWAPPED_TITLES]).permutation(len(self))
        rows = [self.of(int(item)) for item in order]
        flat = np.concatenate([*rows, np.empty(0, dtype=np.int64)])
        return self._with(flat, self.lengths[order])

    def _with(self, flat: IntArray, lengths: IntArray) -> TitleTokens:
        made = TitleTokens(self.tokenizer, [], self.max_tokens, self.lead)
        made.flat, made.lengths = flat, lengths
        made.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return made


def _plain_ids(tokenizer: Tokenizer, titles: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Ids of each title without any added token, at most ``max_tokens`` each."""
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    # Runs of spaces are added tokens in some families; they are ordinary text.
    control = {i for i, content in added.items() if content.strip()}
    # Lone surrogates can be in JSON, and no tokenizer takes them.
    clean = [t.encode("utf-8", "replace").decode("utf-8") for t in titles]
    rows = token_ids(tokenizer, clean, foreign=True)
    for row, ids in enumerate(rows):
        if not control.isdisjoint(ids):
            rows[row] = _in_pieces(tokenizer, clean[row], [added[i] for i in control], control)
        rows[row] = rows[row][:max_tokens]
    return rows


def _in_pieces(tokenizer: Tokenizer, title: str, contents: list[str], control: set[int]) -> list[int]:
    """Tokenise a title in pieces that cut every added token in two.

    ``split_special_tokens`` reaches special tokens only; one that was added as plain text would still
    match.  What cannot be cut (one character, or <unk> itself) says nothing and is dropped.
    """
    longest_first = sorted((c for c in contents if len(c) > 1), key=len, reverse=True)
    pieces = [title]
    if longest_first:
        match = re.compile("|".join(re.escape(c) for c in longest_first))
        cuts = [0, *(m.start() + 1 for m in match.finditer(title)), len(title)]
        pieces = [title[a:b] for a, b in itertools.pairwise(cuts) if b > a]
    found = token_ids(tokenizer, pieces, foreign=True)
    return [i for ids in found for i in ids if i not in control]
