"""A scorer over a catalogue with new items: titles for those that read, features for the regression."""

from __future__ import annotations

from sasrecllm.baselines.user_regression_terms import RegressionTerm
from sasrecllm.data.catalog import Catalog
from sasrecllm.llm.fusion import Fusion, with_new_titles
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
