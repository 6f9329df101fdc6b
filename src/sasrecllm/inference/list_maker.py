"""What makes the lists of a system: its encoders, its words, its fusion, its own score."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.fusion.contests import blocks
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.inference.diverse import ItemLikeness
from sasrecllm.inference.fused import FusedLists
from sasrecllm.inference.requests import Found, Recommendation, flags_of, recommendations
from sasrecllm.inference.rerank import Lists, TwoStage
from sasrecllm.inference.retrieve import EncoderChannel, TitleVectors, channels_of, title_vectors
from sasrecllm.inference.title_search import TitleSearch
from sasrecllm.inference.wishes import Wishes, wanted
from sasrecllm.ops.vector_index import JUDGED
from sasrecllm.runs.system import System
from sasrecllm.types import BoolArray, FloatArray, Histories, IntArray, Scorer

JUDGES = 64
"""Users by whom an index that is not exact is judged."""


class ListMaker:
    """Lists of one system over its catalogue.  Nothing is made before it is asked for.

    Args:
        parts: the run's parts, loaded.
        calibration: of the system's own score.
        catalog: the run's catalogue, or one with further items at its end.
        fusion: of lists, over ``catalog``; None where the run has none.
    """

    def __init__(
        self,
        parts: System,
        calibration: Calibration,
        catalog: Catalog,
        fusion: ListFusion | None,
    ) -> None:
        self.parts, self.calibration, self.catalog, self.fusion = parts, calibration, catalog, fusion

    def share_encoders(self, other: ListMaker) -> None:
        """Use those of ``other``, whose catalogue is this one or shorter: a new item has no vector."""
        self.encoder, self.list_encoder = other.encoder, other.list_encoder

    def lists(
        self,
        scorer: Scorer,
        histories: Histories,
        k: int,
        count: int,
        wishes: Wishes,
        *,
        rerank: bool = True,
    ) -> Lists:
        """The ``k`` best items of each of B histories; see :meth:`TwoStage.lists`.

        Args:
            scorer: the system's own score.

        Raises:
            DataError: a wish names what the catalogue has not, or a number that cannot be.
            ConfigError: wishes that cannot go together.
        """
        dataset = self.parts.dataset
        wish = wanted(self.catalog, wishes, dataset.allow_seen)
        k, count = min(k, self.catalog.n_items), min(count, self.catalog.n_items)
        return self.two_stage(scorer, count).lists(self._now(histories), k, wish, rerank=rerank)

    def written(self, histories: Histories, best: Lists) -> list[list[Recommendation]]:
        """What :meth:`lists` found for B histories, written out."""
        probabilities = self.calibration.probabilities(best.scores)
        flags = flags_of(histories, best.items, self.parts.dataset)
        return recommendations(self.catalog, best, probabilities, flags)

    def two_stage(self, scorer: Scorer, count: int = 100) -> TwoStage:
        """The list fusion, or :meth:`by_score` where a run has none.

        Args:
            count: places of the encoder's order that are looked at.
        """
        if self.fusion is None:
            return self.by_score(scorer, count)
        return FusedLists(self.fusion, self.list_encoder, scorer, count=count, likeness=self.alike)

    def by_score(self, scorer: Scorer, count: int = 100) -> TwoStage:
        """Candidates of the encoder and of the words, in the order of the system's own score.

        Args:
            count: items that each channel of the first stage names.
        """
        return TwoStage(
            channels_of(self.encoder, self.catalog.n_items, lambda: self.title_vectors),
            scorer,
            self.catalog.n_items,
            count=count,
            behind=EncoderScorer("encoder", self.parts.retrieving_encoder),
            likeness=self.alike,
            log_odds=1.0 / self.calibration.slope,
        )

    def taking(self, histories: Histories, item: int) -> FloatArray:
        """How likely each of B histories goes on with ``item``: log P of the list fusion, or the
        encoder's logit where a run has none, [B]."""
        if self.fusion is None:
            encoder = EncoderScorer("encoder", self.parts.retrieving_encoder)
            return encoder.score(histories, np.full((len(histories), 1), item))[:, 0]
        out_B = np.zeros(len(histories))
        for rows in blocks(len(histories), self.catalog.n_items):
            scores_BI = self.fusion.scores(self._now(histories.take(rows)))
            scores_BI = scores_BI - scores_BI.max(axis=1, keepdims=True)
            out_B[rows] = scores_BI[:, item] - np.log(np.exp(scores_BI).sum(axis=1))
        return out_B

    def _now(self, histories: Histories) -> Histories:
        """Asked at the end of the log, if not later."""
        return replace(histories, asked_at=np.maximum(histories.asked_at, self.parts.dataset.now))

    @property
    def has_vector(self) -> BoolArray:
        """Whether the encoder has a vector for each item of the run's own catalogue, [I]."""
        return np.asarray(self.parts.retrieving_encoder.seen_items.cpu().numpy(), dtype=bool)

    @cached_property
    def encoder(self) -> EncoderChannel:
        """The encoder of the run as a first stage."""
        return self._channel(self.parts.retrieving_encoder)

    def _channel(self, encoder: SequentialEncoder) -> EncoderChannel:
        return EncoderChannel(encoder, self.parts.config.recommend.index, self._judges)

    def _judges(self) -> Histories:
        data = self.parts.dataset
        some = np.flatnonzero(np.diff(data.starts))  # users with a row, evenly out of all of them
        return data.latest(some[np.linspace(0, len(some) - 1, min(JUDGES, len(some))).astype(np.int64)])

    def said_of_index(self) -> str:
        """How much of the exact best the encoder's index finds; empty where it is exact."""
        index = self.encoder.index
        if index is None or index.recall is None:
            return ""
        return (
            f"recommend.index={self.parts.config.recommend.index}: recall {index.recall:.1%}, the share"
            f" of the exact best {JUDGED} items that is found, the mean of {JUDGES} users"
        )

    @cached_property
    def list_encoder(self) -> EncoderChannel:
        """The encoder whose order stands beside that of the fusion."""
        own = self.parts.list_encoder
        return self.encoder if own is self.parts.retrieving_encoder else self._channel(own)

    def alike(self, items: IntArray) -> FloatArray:
        """How like each other ``items`` [C] are, [C, C]: for lists that shall be mixed."""
        return self._likeness(items)

    @cached_property
    def _likeness(self) -> ItemLikeness:
        return ItemLikeness(self.parts.list_encoder, self.catalog)

    @cached_property
    def title_vectors(self) -> TitleVectors | None:
        """What the catalogue's titles say (:func:`.retrieve.title_vectors`)."""
        return title_vectors(self.parts, self.catalog)

    def search(self, words: str, limit: int) -> list[Found]:
        """Items whose titles hold all words, best first (:meth:`TitleSearch.find`), and behind them
        those that are near in meaning (:meth:`TitleSearch.near`)."""
        return [Found.of(self.catalog, *hit) for hit in self.titles.search(words, limit)[0]]

    @cached_property
    def titles(self) -> TitleSearch:
        """The catalogue's titles, ready to be searched."""
        return TitleSearch(self.catalog, self.parts.vectors.own)
