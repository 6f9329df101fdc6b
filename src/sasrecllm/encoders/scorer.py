"""An encoder as a :class:`~sasrecllm.types.Scorer`: judged and served like every other model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.types import FloatArray, Histories, IntArray


class GivesLogits(Protocol):
    """What the scorer needs: an encoder, alone or cross-fitted."""

    def eval(self) -> object:
        """Evaluation mode."""
        ...

    def logits(self, histories: Histories, candidates: IntArray) -> Tensor:
        """Logits of ``candidates`` [B, C], shape [B, C]."""
        ...


class EncoderScorer:
    """Scores are the encoder's logits, without dropout and without gradients.

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
