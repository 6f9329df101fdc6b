"""The first stage, the candidate generator: which items the second stage is asked about.

Each *channel* hands over its best items, and the candidates are all of them together.  Nothing is
approximate unless ``recommend.index`` is, and no history's candidates depend on the other histories of
its batch.

Legend: B histories, I items of the catalogue, J of them that a channel knows, C candidates, N channels,
H hidden size of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sasrecllm.data.catalog import Catalog
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.ops.topk import best_free
from sasrecllm.ops.unit_rows import unit_rows
from sasrecllm.ops.vector_index import INDEXES, Index
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.runs.system import System
from sasrecllm.stages.strategies import asks_language_model
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, Scorer


class Channel(Protocol):
    """One source of candidates."""

    def best(self, histories: Histories, free_BI: BoolArray, count: int) -> IntArray:
        """The ``count`` best items of each history among the free ones that this channel knows.

        Returns:
            Item indices [B, at most ``count``], falling, ties by index; UNKNOWN behind the last.
        """
        ...


class Retrieved(NamedTuple):
    """Candidates of each history, ascending by index, UNKNOWN behind the last."""

    items: IntArray  # [B, C]
    ranks: IntArray  # [N, B, C] place in each channel's order from 1; 0 where it did not name the item


def retrieve(
    channels: Sequence[Channel], histories: Histories, free_BI: BoolArray, count: int
) -> Retrieved:
    """The ``count`` best items of every channel, each item once.

    Args:
        free_BI: whether each item of the catalogue may be recommended to each history.
    """
    found = [channel.best(histories, free_BI, count) for channel in channels]
    n_items = free_BI.shape[1]
    items_BC = np.concatenate(found, axis=1)
    items_BC[items_BC == UNKNOWN] = n_items  # behind every item
    items_BC.sort(axis=1)
    items_BC[:, 1:][items_BC[:, 1:] == items_BC[:, :-1]] = n_items
    items_BC.sort(axis=1)
    kept = max(1, int((items_BC < n_items).sum(1).max(initial=0)))
    items_BC = items_BC[:, :kept] if items_BC.shape[1] else np.full((len(histories), 1), n_items)
    # One ascending row of numbers, in which each channel's items are looked up.
    numbers = (np.arange(len(histories))[:, None] * (n_items + 1) + items_BC).ravel()
    ranks_NBC = np.zeros((len(found), *items_BC.shape), dtype=np.int64)
    for ranks_BC, best in zip(ranks_NBC, found, strict=True):
        rows, places = np.nonzero((best != UNKNOWN) & (best < n_items))
        at = np.searchsorted(numbers, rows * (n_items + 1) + best[rows, places])
        ranks_BC.reshape(-1)[at] = places + 1
    return Retrieved(np.where(items_BC < n_items, items_BC, UNKNOWN), ranks_NBC)


class ScorerChannel:
    """The best items by any scorer, each history with a table of all their scores.

    Args:
        items_J: what the scorer has something to say about, ascending.
    """

    def __init__(self, scorer: Scorer, items_J: IntArray) -> None:
        self.scorer, self.items_J = scorer, items_J

    def best(self, histories: Histories, free_BI: BoolArray, count: int) -> IntArray:
        """See :class:`Channel`."""
        asked_BJ = np.tile(self.items_J, (len(histories), 1))
        return best_of(self.scorer.score(histories, asked_BJ), free_BI, self.items_J, count)


class Among:
    """A channel that is asked about some of the items alone.

    Args:
        some_I: whether each item is one of them.
    """

    def __init__(self, channel: Channel, some_I: BoolArray) -> None:
        self.channel, self.some_I = channel, some_I

    def best(self, histories: Histories, free_BI: BoolArray, count: int) -> IntArray:
        """See :class:`Channel`."""
        return self.channel.best(histories, free_BI & self.some_I, count)


class EncoderChannel:
    """The items with the highest logits among those that an encoder has vectors for.

    Args:
        encoder: with the weights and the seen items that it will have; they are read here.
        index: where they are looked up, of :data:`~sasrecllm.ops.vector_index.INDEXES`.
        judges: makes the histories by which an index that is not exact is judged.

    Raises:
        MissingExtraError: the index needs a package that is not installed.
    """

    def __init__(
        self,
        encoder: SequentialEncoder,
        index: str = "exact",
        judges: Callable[[], Histories] | None = None,
    ) -> None:
        self.encoder = encoder.eval()
        self.items_J = np.flatnonzero(encoder.seen_items.cpu().numpy())
        self.index: Index | None = None
        with torch.no_grad():
            vectors_JF = encoder.item_factors()
            if vectors_JF is not None:
                self.index = INDEXES[index](
                    vectors_JF, lambda: vectors_JF[:0] if judges is None else self._users(judges())
                )

    def _users(self, histories: Histories) -> Tensor:
        return self.encoder.user_factors(self.encoder.encode(histories))

    def best(self, histories: Histories, free_BI: BoolArray, count: int) -> IntArray:
        """See :class:`Channel`."""
        if self.index is None:
            own = ScorerChannel(EncoderScorer("encoder", self.encoder), self.items_J)
            return own.best(histories, free_BI, count)
        self.encoder.eval()
        with torch.no_grad():
            known_BJ = free_BI if len(self.items_J) == free_BI.shape[1] else free_BI[:, self.items_J]
            free_BJ = torch.from_numpy(known_BJ).to(self.encoder.device)
            values, places = self.index.top(self._users(histories), count, free_BJ)
        places_BC, real_BC = places.cpu().numpy(), (values != -torch.inf).cpu().numpy()
        return np.where(real_BC, self.items_J[places_BC], UNKNOWN)


class WordsChannel:
    """Items whose titles are most like the liked ones; without titles the first ones by index.

    Args:
        items_J: the items that it hands over, ascending: those that no other channel knows.
        titles: makes the vectors of all titles, if any; only called where more than ``count`` items
            are free.
    """

    def __init__(
        self, items_J: IntArray, titles: Callable[[], TitleVectors | None] | None = None
    ) -> None:
        self.items_J, self.titles = items_J, titles

    def best(self, histories: Histories, free_BI: BoolArray, count: int) -> IntArray:
        """See :class:`Channel`."""
        like_BJ = np.zeros((len(histories), len(self.items_J)))
        some = None
        if self.titles is not None and free_BI[:, self.items_J].any(0).sum() > count:
            some = self.titles()
        if some is not None:
            like_BJ = some.likeness(histories.liked(), self.items_J)
        return best_of(like_BJ, free_BI, self.items_J, count)


@dataclass(frozen=True)
class TitleVectors:
    """Mean token embedding of every title, of length one, [I, H]."""

    vectors: FloatArray

    @classmethod
    def of(cls, titles: TitleTokens, embeddings: Tensor) -> TitleVectors:
        """Of the catalogue's titles with the language model's input ``embeddings`` [V, H]."""
        used, places = np.unique(titles.flat, return_inverse=True)  # a vocabulary is far larger
        table = embeddings.detach()[torch.from_numpy(used).to(embeddings.device)].double().cpu()
        starts = torch.from_numpy(titles.offsets[:-1])
        sums = F.embedding_bag(torch.from_numpy(places), table, starts, mode="sum").numpy()
        sums -= sums.mean(0)  # what all titles share says nothing
        return cls(unit_rows(sums))

    def likeness(self, liked: Histories, items: IntArray) -> FloatArray:
        """Mean cosine of each of ``items`` [J] to the liked titles of each history, [B, J]."""
        sums = np.zeros((len(liked), self.vectors.shape[1]))
        np.add.at(sums, liked.owners, self.vectors[liked.items])
        counts = np.maximum(np.diff(liked.offsets), 1)[:, None]
        return np.asarray(sums / counts @ self.vectors[items].T)


def channels_of(
    encoder: EncoderChannel, n_items: int, titles: Callable[[], TitleVectors | None] | None = None
) -> list[Channel]:
    """The channels of a system: its encoder, and the words of the items without a vector.

    Args:
        n_items: size of the catalogue.
        titles: of a system that has vectors of them; an encoder alone has no words to go by.
    """
    without = np.ones(n_items, dtype=bool)
    without[encoder.items_J] = False
    return [encoder, WordsChannel(np.flatnonzero(without), titles)]


def title_vectors(parts: System, catalog: Catalog) -> TitleVectors | None:
    """Vectors of what ``catalog`` holds, which may have items behind those of the run.

    The run's own vectors of items; without such, of the titles in the embedding space of its language
    model; None where it has neither.
    """
    brought_ID = parts.vectors.of(catalog)
    if brought_ID is not None:
        return TitleVectors(brought_ID)
    if not asks_language_model(parts.config):
        return None
    tokens = parts.titles("")
    if catalog.n_items > len(tokens):
        tokens = tokens.extended(catalog.titles[len(tokens) :])
    return TitleVectors.of(tokens, parts.backbone.causal.get_input_embeddings().weight)


def best_of(values_BJ: FloatArray, free_BI: BoolArray, items_J: IntArray, count: int) -> IntArray:
    """The ``count`` free items of each history with the highest values, falling; UNKNOWN behind."""
    places, real = best_free(values_BJ, free_BI[:, items_J], count)
    if not len(items_J):
        return np.full(places.shape, UNKNOWN)
    return np.where(np.arange(places.shape[1]) < real[:, None], items_J[places], UNKNOWN)
