"""A scorer over a catalogue with new items: titles for those that read, features for the regression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.list_fusion import ListFusion
from sasrecllm.baselines.user_regression_terms import RegressionTerm
from sasrecllm.baselines.words import WordLikeness
from sasrecllm.data.catalog import Catalog
from sasrecllm.llm.fusion import Fusion, with_new_titles
from sasrecllm.runs.system import System
from sasrecllm.types import FloatArray, Histories, Scorer


def grown(scorer: Scorer, parts: System, catalog: Catalog, start: int) -> Scorer:
    """``scorer`` over ``catalog``, whose items from index ``start`` on are new to it.

    A scorer that knows items by index alone is unchanged: it takes the new ones for unknown.
    """
    return _with_features(with_new_titles(scorer, catalog.titles[start:]), parts, catalog, start)


def _with_features(scorer: Scorer, parts: System, catalog: Catalog, start: int) -> Scorer:
    if isinstance(scorer, RegressionTerm):
        groups = parts.features_from(catalog, start)
        return scorer.with_new_items(groups, catalog.n_items - start)
    if isinstance(scorer, Fusion):
        inner = [_with_features(p, parts, catalog, start) for p in scorer.parts]
        return Fusion(scorer.name, scorer.weights, inner, scorer.seen_items)
    return scorer


def grown_lists(fusion: ListFusion, catalog: Catalog) -> ListFusion:
    """``fusion`` over ``catalog``, whose items behind those of the fusion are new to it.

    A new item has its words; in every other channel it stands where an item without a like stands.
    """
    channels = [_with_columns(channel, catalog, fusion.n_items) for channel in fusion.channels]
    return replace(fusion, channels=tuple(channels), n_items=catalog.n_items)


def _with_columns(channel: Any, catalog: Catalog, start: int) -> ListChannel:
    if isinstance(channel, WordLikeness):
        attributes = {name: values[start:] for name, values in catalog.attributes.items()}
        return channel.extended(catalog.titles[start:], attributes)
    inner = channel.channel if isinstance(channel, WithNewItems) else channel
    return WithNewItems(inner, catalog.n_items)


@dataclass(frozen=True)
class WithNewItems:
    """A channel over a catalogue of ``n_items``, of which it does not know the last ones."""

    channel: Any  # a ListChannel that is a Scorer too
    n_items: int

    @property
    def name(self) -> str:
        """The channel's own."""
        return str(self.channel.name)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; the new ones have that of an item outside the catalogue."""
        whole_BI = self.channel.scores(histories)
        inside = whole_BI.shape[1]
        new_B1 = self.channel.score(histories, np.full((len(histories), 1), inside))
        return np.concatenate([whole_BI, np.repeat(new_B1, self.n_items - inside, axis=1)], axis=1)
