"""The small offline language model on training text.

Legend: B documents, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.llm.offline import lm_losses
from sasrecllm.training.loop import Metrics, Task
from sasrecllm.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sasrecllm.llm.backbone import Backbone


class LanguageTask(Task):
    """Next-token prediction on documents of token ids; every weight of the language model learns.

    Args:
        documents: token ids of each training document, without padding.
        held_out: documents of other training users, for early stopping.
    """

    monitor = "loss"
    lower_is_better = True

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        documents: list[IntArray],
        held_out: list[IntArray],
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.name, self.backbone, self.device = name, backbone, device
        self.documents, self.held_out = documents, held_out
        self.lengths = np.array([len(d) for d in documents], dtype=np.int64)
        self.weights = (self.lengths - 1).astype(np.float64)
        self.n_validation = len(held_out)
        backbone.requires_grad_(True)

    def learn(self) -> None:
        self.train()

    def forward(self, examples: IntArray) -> Tensor:
        return self._sums([self.documents[i] for i in examples]).sum()

    def _sums(self, documents: list[IntArray]) -> Tensor:
        """Summed loss of each document, shape [B]."""
        tensors = [torch.from_numpy(d) for d in documents]
        ids_BT = nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        lengths_B = torch.tensor([len(d) for d in documents])
        return lm_losses(self.backbone, ids_BT.to(self.device), lengths_B.to(self.device))

    def validation_scores(self, positions: IntArray) -> FloatArray:
        out = np.empty(len(positions))
        for start in range(0, len(positions), 64):
            chunk = positions[start : start + 64]
            out[start : start + 64] = self._sums([self.held_out[i] for i in chunk]).double().cpu().numpy()
        return out

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        tokens = sum(len(d) - 1 for d in self.held_out)
        return {"loss": float(scores.sum()) / max(1, tokens)}
