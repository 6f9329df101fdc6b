"""The encoder on its own task, trained apart from the language model.

Legend: W windows, Q questions, L positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sasrecllm.encoders.losses import Answered, loss_of
from sasrecllm.encoders.next_item_negatives import uniform_negatives
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import WindowQueries
from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.machine.distributed import process_count
from sasrecllm.ops.draws import Rows, of_rows, share
from sasrecllm.training.task import Metrics, Task
from sasrecllm.types import FloatArray, IntArray, Questions

if TYPE_CHECKING:
    from sasrecllm.data.sequences import Windows
    from sasrecllm.encoders.sequence import SequentialEncoder

LARGE_CATALOGUE = 100_000
"""Items from which moving them all takes longer than all else in a step (bench growth)."""


def ranking_metrics(scores: FloatArray, questions: Questions) -> Metrics:
    """AUC and UAUC of the whole validation split; ``auc`` chooses the best state."""
    per_user = uauc(scores, questions.labels, questions.histories.users)
    return {"auc": auc(scores, questions.labels), "uauc": per_user.value}


def moves_touched_rows(asked: str, loss: str, n_items: int) -> bool:
    """What ``encoder.item_updates`` comes to: ``auto`` is worth it for large catalogues.

    Raises:
        ConfigError: touched rows alone under several processes, whose gradients are dense.
    """
    alone = process_count() == 1
    if asked == "touched" and not alone:
        raise ConfigError(
            "encoder.item_updates is touched, under more than one process; allowed there: auto, all",
            "set encoder.item_updates: all, or start one process",
        )
    return asked == "touched" or (
        asked == "auto" and alone and not loss_of(loss).catalogue and n_items >= LARGE_CATALOGUE
    )


class EncoderTask(Task):
    """(history, target, label) with BCE, or next liked item with a softmax; one causal pass a window.

    Args:
        loss: a row of :data:`~sasrecllm.encoders.losses.LOSSES`, or ``package.module:NAME``.
        negatives: sampled items per positive for ``sampled-softmax`` and ``gbce``.  With ``bce`` one
            negative per positive is drawn where every label is 1 (implicit feedback).
        touched_rows: only the items of a batch move in its step (:mod:`sasrecllm.ops.sparse_adamw`).
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
        touched_rows: bool = False,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.touched_rows = touched_rows
        self.name, self.encoder, self.validation = name, encoder.to(device), validation
        self.encoder.requires_grad_(True)
        self.loss = loss_of(loss)
        self.drawn = self.loss.drawn(negatives, bool((windows.label == 1).all()))
        used = windows.label == 1 if self.loss.likes_only else np.ones(len(windows.label), dtype=bool)
        self.device = device
        self.pool = torch.nonzero(self.encoder.seen_items)[:, 0]
        self.users = torch.from_numpy(windows.users).to(device)
        self.items = torch.from_numpy(windows.items).to(device)
        self.feedback = torch.from_numpy(windows.labels.astype(np.int64)).to(device)
        counts = np.bincount(windows.window[used], minlength=len(windows.users))
        self.offsets = np.concatenate([[0], np.cumsum(counts)])
        self.state, self.target = windows.state[used], windows.target[used]
        self.label = windows.label[used]
        self.kept = np.flatnonzero(counts)  # a window without a question teaches nothing
        self.entries = windows.lengths[self.kept]
        self.lengths = self.entries  # what batches are planned by
        self.weights = counts[self.kept].astype(np.float64)
        self.n_validation = len(validation)

    def learn(self) -> None:
        """Training mode for the encoder."""
        self.train()

    def forward(self, examples: IntArray) -> Tensor:
        """The chosen loss, summed over the questions of the windows ``examples``."""
        # For this pass alone: a later stage of the run must not depend on whether this one ran in the
        # same process or was loaded.
        self.encoder.touched_rows = self.touched_rows
        try:
            return self._loss(examples)
        finally:
            self.encoder.touched_rows = False

    def _loss(self, examples: IntArray) -> Tensor:
        rows = self.kept[examples]
        counts = self.offsets[rows + 1] - self.offsets[rows]
        window = np.repeat(np.arange(len(rows)), counts)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        question = np.arange(counts.sum()) - np.repeat(first - self.offsets[rows], counts)
        at = torch.from_numpy(rows).to(self.device)
        windows, questions, longest = self._shared(examples, counts, int(self.entries[examples].max()))
        target = torch.from_numpy(self.target[question]).to(self.device)
        label = torch.from_numpy(self.label[question].astype(np.float32)).to(self.device)
        queries = WindowQueries(
            self.users[at],
            self.items[at, :longest],
            self.feedback[at, :longest],
            torch.from_numpy(window).to(self.device),
            torch.from_numpy(self.state[question]).to(self.device),
            windows,
            questions,
        )
        if self.loss.summed is None:
            return self.encoder.window_softmax(queries, target)
        with of_rows(questions):
            drawn = uniform_negatives(target, self.drawn, self.pool) if self.drawn else None
        asked = target[:, None]
        if drawn is not None:
            asked = torch.cat([asked, drawn.items_QN], dim=1)
        logits = self.encoder.window_logits(queries, asked).float()
        log_q_QN = None if drawn is None else drawn.log_q_QN
        return self.loss.summed(Answered(logits, label, log_q_QN, len(self.pool)))

    def _shared(
        self, examples: IntArray, counts: IntArray, longest: int
    ) -> tuple[Rows | None, Rows | None, int]:
        """Which windows and questions of a shared batch these are, and the length that all of it needs.

        Args:
            counts: questions of each of ``examples``.
            longest: entries of the longest of them.
        """
        batch = share()
        if batch is None:
            return None, None, max(1, longest)
        rows = self.kept[batch.examples]
        every = self.offsets[rows + 1] - self.offsets[rows]
        first = np.cumsum(every) - every
        own = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(first[batch.mine] - own, counts)
        windows = Rows(len(rows), batch.mine)
        return windows, Rows(int(every.sum()), places), max(1, int(self.entries[batch.examples].max()))

    def validation_scores(self, positions: IntArray) -> FloatArray:
        """The encoder's logit of each question, [B]."""
        scorer = EncoderScorer(self.name, self.encoder)
        return score_questions(scorer, self.validation.take(positions), chunk=2048)

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        """AUC and UAUC."""
        return ranking_metrics(scores, self.validation)
