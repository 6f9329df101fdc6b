"""Vectors of a run's items: those that the user brought, or those read off the titles.

Legend: I items, N further items, D numbers of a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.item_vectors import kept_vectors, own_vectors
from sasrecllm.errors import SasrecllmError
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.hub import cache_only
from sasrecllm.llm.title_vectors import ReadTitles
from sasrecllm.types import FloatArray

log = logging.getLogger("sasrecllm.runs")


class ItemVectors:
    """What a run has of them.

    Args:
        load: the language model as it was before training, loaded anew.
    """

    def __init__(self, load: Callable[[], Backbone]) -> None:
        self.load = load
        self.data_folder: Path | None = None
        """The run's prepared data, where there is a run."""
        self.read: ReadTitles | None = None
        """What the language model made of the titles."""

    @property
    def own(self) -> FloatArray | None:
        """Of the run's catalogue, of length one (or zero), [I, D]; None where the run has none."""
        read_ID = None if self.read is None else self.read.vectors
        return own_vectors(read_ID, lambda: self._brought)

    @cached_property
    def _brought(self) -> FloatArray | None:
        return None if self.data_folder is None else kept_vectors(self.data_folder)

    def of(self, catalog: Catalog) -> FloatArray | None:
        """:attr:`own`, and behind them those of further items of ``catalog``, [I + N, D].

        A further title is read by the language model that read the others.  It has a vector of zeros,
        and the log says so, where the vectors came from a file or that model is not here.
        """
        own_ID = self.own
        if own_ID is None or catalog.n_items == len(own_ID):
            return own_ID
        return np.concatenate([own_ID, self._further(catalog.titles[len(own_ID) :], own_ID.shape[1])])

    def _further(self, titles: Sequence[str], width: int) -> FloatArray:
        why = "those of the run came from a file"
        if self.read is not None:
            try:
                return self.read.later(self._reading, titles)
            except SasrecllmError as error:
                why = error.what
        log.warning("%d new items have no vector (item_features.vectors): %s", len(titles), why)
        return np.zeros((len(titles), width))

    @cached_property
    def _reading(self) -> Backbone:
        with cache_only():
            return self.load()
