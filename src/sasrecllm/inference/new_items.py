"""A scorer over a catalogue with new items: titles for those that read, features for the regression."""

from __future__ import annotations

from dataclasses import replace

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.item_attributes import ItemAttributes
from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.baselines.user_regression_terms import RegressionTerm
from sasrecllm.baselines.vectors import VectorLikeness
from sasrecllm.data.catalog import Catalog
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.score_fusion import Fusion, with_new_titles
from sasrecllm.runs.system import System
from sasrecllm.types import Scorer


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


def grown_lists(fusion: ListFusion, parts: System, catalog: Catalog) -> ListFusion:
    """``fusion`` over ``catalog``, whose items behind those of the fusion are new to it.

    They are listed by the same rule as items of the run's catalogue that nobody has liked.
    """
    if fusion.new is None:
        return replace(fusion, n_items=catalog.n_items)
    start = fusion.n_items
    words = fusion.new.words.extended(catalog.titles[start:], _attributes(catalog, start))
    channels = tuple(_extended(c, words, parts, catalog, start) for c in fusion.channels)
    new = fusion.new.extended(words, catalog.n_items)
    return replace(fusion, channels=channels, n_items=catalog.n_items, new=new)


def _attributes(catalog: Catalog, start: int) -> dict[str, list[str | None]]:
    """Attributes of the items from index ``start`` on."""
    return {name: values[start:] for name, values in catalog.attributes.items()}


def _extended(
    channel: ListChannel, words: WordLikeness, parts: System, catalog: Catalog, start: int
) -> ListChannel:
    if isinstance(channel, WordLikeness):
        return words
    if isinstance(channel, ItemAttributes):
        return channel.extended(_attributes(catalog, start), catalog.n_items - start)
    if isinstance(channel, VectorLikeness):
        vectors_ID = parts.vectors.of(catalog)
        return channel if vectors_ID is None else channel.over(vectors_ID)
    return channel
