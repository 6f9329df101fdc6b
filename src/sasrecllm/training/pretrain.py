"""Learning apart: the encoder on its own task, and the small language model on training text.

Legend: W windows, Q questions, C candidates, L positions, B documents, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.encoders import losses
from sasrecllm.encoders.negatives import uniform_negatives
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.llm.offline import lm_losses
from sasrecllm.training.loop import Metrics, Task
from sasrecllm.types import FloatArray, IntArray, Questions

if TYPE_CHECKING:
    from sasrecllm.data.sequences import Windows
    from sasrecllm.encoders.sequence import SequentialEncoder
    from sasrecllm.llm.backbone import Backbone


def ranking_metrics(scores: FloatArray, questions: Questions) -> Metrics:
    """AUC and UAUC of the whole validation split; ``auc`` chooses the best state."""
    per_user = uauc(scores, questions.labels, questions.histories.users)
    return {"auc": auc(scores, questions.labels), "uauc": per_user.value}


class EncoderTask(Task):
    """(history, target, label) with BCE, or next liked item with a softmax; one causal pass a window.

    Args:
        loss: ``bce``, ``softmax``, ``sampled-softmax`` or ``gbce``.
        negatives: sampled items per positive for ``sampled-softmax`` and ``gbce``.  With ``bce`` one
            negative per positive is drawn where every label is 1 (implicit feedback).
    """

    monitor = "auc"

    def __init__(
        self,
        name: str,
        encoder: SequentialEncoder,
        windows: Windows,
        validation: Questions,
        *,
        loss: str = "bce",
        negatives: int = 64,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.name, self.encoder, self.validation = name, encoder.to(device), validation
        self.loss, self.negatives = loss, negatives
        self.implicit = bool((windows.label == 1).all())
        used = (windows.label == 1) if loss != "bce" else np.ones(len(windows.label), dtype=bool)
        self.device = device
        self.users = torch.from_numpy(windows.users).to(device)
        self.items = torch.from_numpy(windows.items).to(device)
        self.feedback = torch.from_numpy(windows.labels.astype(np.int64)).to(device)
        counts = np.bincount(windows.window[used], minlength=len(windows.users))
        self.offsets = np.concatenate([[0], np.cumsum(counts)])
        self.state, self.target = windows.state[used], windows.target[used]
        self.label = windows.label[used]
        self.kept = np.flatnonzero(counts)  # a window without a question teaches nothing
        self.lengths = windows.lengths[self.kept]
        self.weights = counts[self.kept].astype(np.float64)
        self.n_validation = len(validation)

    def learn(self) -> None:
        self.train()

    def forward(self, examples: IntArray) -> Tensor:
        rows = self.kept[examples]
        counts = self.offsets[rows + 1] - self.offsets[rows]
        window = np.repeat(np.arange(len(rows)), counts)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        question = np.arange(counts.sum()) - np.repeat(first - self.offsets[rows], counts)
        at = torch.from_numpy(rows).to(self.device)
        longest = max(1, int(self.lengths[examples].max()))
        target = torch.from_numpy(self.target[question]).to(self.device)
        label = torch.from_numpy(self.label[question].astype(np.float32)).to(self.device)
        candidates = self._candidates(target)
        logits = self.encoder.window_logits(
            self.users[at],
            self.items[at, :longest],
            self.feedback[at, :longest],
            torch.from_numpy(window).to(self.device),
            torch.from_numpy(self.state[question]).to(self.device),
            candidates,
        )
        return self._losses(logits.float(), target, label).sum()

    def _candidates(self, target: Tensor) -> Tensor:
        """Items to score for each question, shape [Q, C]; column 0 is the target but for softmax."""
        n_items = self.encoder.n_items
        if self.loss == "softmax":
            return torch.arange(n_items, device=target.device)
        count = self.negatives if self.loss != "bce" else int(self.implicit)
        if not count:
            return target[:, None]
        drawn = uniform_negatives(target, n_items=n_items, count=count)
        return torch.cat([target[:, None], drawn], dim=1)

    def _losses(self, logits: Tensor, target: Tensor, label: Tensor) -> Tensor:
        """Loss of each question, shape [Q]."""
        if self.loss == "softmax":
            return losses.full_softmax(logits, target)
        if self.loss == "sampled-softmax":
            return losses.sampled_softmax(logits[:, 0], logits[:, 1:])
        if self.loss == "gbce":
            return losses.gbce(logits[:, 0], logits[:, 1:], n_items=self.encoder.n_items)
        value = losses.bce(logits[:, 0], label)
        if self.implicit:
            value = value + losses.bce(logits[:, 1], torch.zeros_like(label))
        return value

    def validation_scores(self, positions: IntArray) -> FloatArray:
        out = np.empty(len(positions))
        for start in range(0, len(positions), 2048):
            part = self.validation.take(positions[start : start + 2048])
            logits = self.encoder.logits(part.histories, part.targets[:, None])
            out[start : start + 2048] = logits[:, 0].double().cpu().numpy()
        return out

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        return ranking_metrics(scores, self.validation)


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
