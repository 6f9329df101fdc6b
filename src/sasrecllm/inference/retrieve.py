"""The first stage: which items of the whole catalogue the system's own score is asked about.

The encoder's exact best, and items without a vector by the likeness of their titles to the liked
ones.  Nothing is approximate, and no row's answer depends on the other rows of its batch.

Legend: B histories, I items, C candidates, H hidden size of the language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.ops.topk import best_free
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray


class Retrieved(NamedTuple):
    """Candidates of each history, ascending by index, UNKNOWN behind the last."""

    items: IntArray  # [B, C]
    ranks: IntArray  # [B, C] place in the encoder's order from 1; 0 for an item without a vector


@dataclass(frozen=True)
class TitleVectors:
    """Mean token embedding of every title, of length one, [I, H]."""

    vectors: FloatArray

    @classmethod
    def of(cls, titles: TitleTokens, embeddings: torch.Tensor) -> TitleVectors:
        """Of the catalogue's titles with the language model's input ``embeddings`` [V, H]."""
        used, places = np.unique(titles.flat, return_inverse=True)  # a vocabulary is far larger
        table = embeddings.detach()[torch.from_numpy(used).to(embeddings.device)].double().cpu()
        starts = torch.from_numpy(titles.offsets[:-1])
        sums = F.embedding_bag(torch.from_numpy(places), table, starts, mode="sum").numpy()
        sums -= sums.mean(0)  # what all titles share says nothing
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return cls(sums / np.where(lengths > 0, lengths, 1.0))

    def likeness(self, liked: Histories, items: IntArray) -> FloatArray:
        """Mean cosine of each of ``items`` [J] to the liked titles of each history, [B, J]."""
        sums = np.zeros((len(liked), self.vectors.shape[1]))
        np.add.at(sums, liked.owners, self.vectors[liked.items])
        counts = np.maximum(np.diff(liked.offsets), 1)[:, None]
        return np.asarray(sums / counts @ self.vectors[items].T)


def retrieve(
    encoder: SequentialEncoder,
    known: Histories,
    allowed_I: BoolArray,
    count: int,
    titles: TitleVectors | None = None,
    seen: bool = False,
) -> Retrieved:
    """The ``count`` best items with a vector and the ``count`` likeliest without, of those allowed.

    Items of the history are left out unless ``seen``.  Ties go to the smaller index.

    Args:
        allowed_I: whether each item of the (possibly extended) catalogue may be recommended.
        titles: needed to choose where more than ``count`` allowed items have no vector.
    """
    free_BI = np.broadcast_to(allowed_I, (len(known), len(allowed_I))).copy()
    inside = (known.items >= 0) & (known.items < len(allowed_I)) & (not seen)
    free_BI[known.owners[inside], known.items[inside]] = False
    has_I = np.zeros(len(allowed_I), dtype=bool)
    has_I[: encoder.n_items] = encoder.seen_items.cpu().numpy()
    encoder.eval()
    with torch.no_grad():
        logits_BI = encoder.logits(known, None).double().cpu().numpy()
    warm = np.flatnonzero(has_I)
    cold = np.flatnonzero(~has_I & allowed_I)
    items_w, ranks_w = _best(logits_BI[:, warm], free_BI[:, warm], warm, count)
    like_BJ = np.zeros((len(known), len(cold)))
    if titles is not None and len(cold) > count:
        like_BJ = titles.likeness(known.liked(), cold)
    items_c, _ = _best(like_BJ, free_BI[:, cold], cold, count)
    items_BC = np.concatenate([items_w, items_c], axis=1)
    ranks_BC = np.concatenate([ranks_w, np.zeros_like(items_c)], axis=1)
    order = np.argsort(np.where(items_BC == UNKNOWN, np.iinfo(np.int64).max, items_BC), axis=1)
    items_BC = np.take_along_axis(items_BC, order, axis=1)
    kept = max(1, int((items_BC != UNKNOWN).sum(1).max(initial=0)))
    return Retrieved(items_BC[:, :kept], np.take_along_axis(ranks_BC, order, axis=1)[:, :kept])


def _best(
    values_BJ: FloatArray, free_BJ: BoolArray, items_J: IntArray, count: int
) -> tuple[IntArray, IntArray]:
    """The ``count`` highest free items of each row and their places from 1; UNKNOWN and 0 behind."""
    places, real = best_free(values_BJ, free_BJ, count)
    there = np.arange(places.shape[1]) < real[:, None]
    if not len(items_J):
        return np.full(places.shape, UNKNOWN), np.zeros(places.shape, dtype=np.int64)
    ranks = np.broadcast_to(np.arange(1, places.shape[1] + 1), places.shape)
    return np.where(there, items_J[places], UNKNOWN), np.where(there, ranks, 0)
