"""A scorer out of somebody else's module: what it gives is looked at before anything is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sasrecllm.errors import ConfigError
from sasrecllm.plugins import called
from sasrecllm.types import FloatArray, Histories, IntArray, asks_by_prompts


class OwnScorer:
    """The scorer of a plug-in ``package.module:Name``, as one of ours.

    Args:
        plugin: its name in the settings.
        made: what it made of the training rows.

    Raises:
        ConfigError: that has no method ``score``.
    """

    def __init__(self, plugin: str, made: Any) -> None:
        if not callable(getattr(made, "score", None)):
            raise ConfigError(
                f"the plug-in {plugin} made a {type(made).__name__} without a method score",
                "give it score(histories, candidates), as a Scorer (sasrecllm.types) has",
            )
        self.plugin, self.made = plugin, made
        self.asks_language_model = asks_by_prompts(made)

    @property
    def name(self) -> str:
        """What it calls itself, else its name in the settings."""
        return str(getattr(self.made, "name", self.plugin))

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Its scores of ``candidates`` [B, C], shape [B, C].

        Raises:
            ConfigError: it failed, or gave something else than a finite number for each.
        """
        with called(self.plugin):
            scores = np.asarray(self.made.score(histories, candidates))
        if scores.dtype.kind not in "fiub" or scores.shape != candidates.shape:
            raise ConfigError(
                f"the plug-in {self.plugin} gave scores of type {scores.dtype} and shape"
                f" {scores.shape} for candidates of shape {candidates.shape}",
                "return one number for each candidate, in the order of the candidates",
            )
        if len(bad := np.argwhere(~np.isfinite(scores))):
            raise ConfigError(
                f"the plug-in {self.plugin} gave {scores[tuple(bad[0])]}"
                f" ({len(bad):,} of {scores.size:,} scores are not finite)",
                "return a finite number for each candidate, a very low one for what should stand last",
            )
        return scores
