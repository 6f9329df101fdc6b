"""An encoder as a :class:`~sasrecllm.types.Scorer`: judged and served like every other model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.types import FloatArray, Histories, IntArray

AT_ONCE = 1024
"""Histories whose logits of the whole catalogue exist at once on the device."""


class GivesLogits(Protocol):
    """What the scorer needs: an encoder, alone or cross-fitted."""

    def eval(self) -> object:
        """Evaluation mode."""
        ...

    def logits(self, histories: Histories, candidates: IntArray | None = None) -> Tensor:
        """Logits of ``candidates`` [B, C], shape [B, C]; of the whole catalogue without."""
        ...


class EncoderScorer:
    """An encoder that is asked about candidates, or about all items of its catalogue.

    Scores are the encoder's logits, without dropout and without gradients.

    Args:
        name: of its row in the results table.
    """

    def __init__(self, name: str, encoder: GivesLogits) -> None:
        self.name = name
        self.encoder = encoder

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Logits of ``candidates`` [B, C], shape [B, C]."""
        self.encoder.eval()
        with torch.no_grad():
            logits = self.encoder.logits(histories, candidates)
        return np.asarray(logits.double().cpu().numpy(), dtype=np.float64)

    def scores(self, histories: Histories) -> FloatArray:
        """Logits of all items, [B, I]; an item without a training row has the mean of the others."""
        self.encoder.eval()
        with torch.no_grad():
            parts = [
                self.encoder.logits(histories.take(rows)).double().cpu().numpy()
                for rows in np.array_split(np.arange(len(histories)), len(histories) // AT_ONCE + 1)
            ]
        return np.concatenate(parts)
