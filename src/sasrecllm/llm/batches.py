"""Batches of prompts of like length: padding is read like text, and costs as much.

Legend: B prompts, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from sasrecllm.types import IntArray

ALIKE = 1.1
"""Longest prompt of a batch against its shortest, where beginnings are shared: they are as long as the
shortest of the batch."""
SCORED_ON_A_CPU = 8192
"""Tokens scored at once, padding included: more need more memory there, and take as long."""
WORTH_A_PASS = 512
"""Tokens from which a CPU multiplies a batch about as fast, a token, as a larger one."""


def of_like_length(
    lengths: IntArray, batch_size: int, prefix_ids: IntArray | None = None, tokens: int = 0
) -> Iterator[IntArray]:
    """Places of all prompts in batches of like length, the shortest first.

    Args:
        prefix_ids: [B] prompts of one number begin alike (:mod:`~sasrecllm.llm.beginnings`);
            they stand together, and in one batch where that holds them, for what they share is then
            read once (:class:`SoftTokenLLM`).
        tokens: largest batch in tokens, padding included; a prompt that is longer alone stands alone.
            0: as many as there are.
    """
    order, alike = np.argsort(lengths, kind="stable"), math.inf
    run = np.arange(len(order))
    if prefix_ids is not None and len(lengths):
        run = np.unique(prefix_ids, return_inverse=True)[1].reshape(-1)
        if run.max() + 1 < len(run):  # some begin alike
            longest = np.zeros(run.max() + 1, dtype=np.int64)
            np.maximum.at(longest, run, lengths)
            order, alike = np.lexsort((lengths, run, longest[run])), ALIKE
            lengths = longest[run]
    starts = _starts(lengths[order], run[order], batch_size, tokens, alike)
    yield from np.split(order, starts[1:]) if len(order) else ()


def of_candidates(lengths: IntArray, batch_size: int, tokens: int = 0) -> Iterator[IntArray]:
    """Places of the candidates of one list in batches, the shortest first.

    What each reads for itself is short, so padding is a large share of it.  Where tokens are bounded,
    on a CPU, a batch of some hundred takes no candidate that is longer than its first by a tenth; a
    card reads padding sooner than it starts another pass.

    Args:
        lengths: [C] tokens that each reads for itself.
        batch_size, tokens: as of :func:`of_like_length`.
    """
    order = np.argsort(lengths, kind="stable")
    alike, least = (ALIKE, WORTH_A_PASS) if tokens else (math.inf, 0)
    starts = _starts(lengths[order], np.arange(len(order)), batch_size, tokens, alike, least)
    yield from np.split(order, starts[1:]) if len(order) else ()


def _starts(
    rising: IntArray, run: IntArray, batch_size: int, tokens: int, alike: float, least: int = 0
) -> list[int]:
    """Where batches begin that keep to all three bounds, and cut no run that fits into one.

    Args:
        least: tokens up to which a batch takes what is not alike.
    """
    found, start = [], 0
    while start < len(rising):
        found.append(start)
        ahead = rising[start : start + batch_size]
        padded = ahead * np.arange(1, len(ahead) + 1)
        fit = (ahead <= alike * ahead[0]) | (padded <= least)
        if tokens:
            fit &= padded <= tokens
        end = start + max(1, int(fit.sum()))  # all rise, so what fits stands in front
        whole = int((run[start:end] != run[end - 1]).sum())
        if whole and end < len(run) and run[end] == run[end - 1]:
            end = start + whole
        start = end
    return found


def tokens_at_once(device: torch.device | str) -> int:
    """Tokens scored at once on ``device``; 0: as many as there are."""
    return SCORED_ON_A_CPU if torch.device(device).type == "cpu" else 0
