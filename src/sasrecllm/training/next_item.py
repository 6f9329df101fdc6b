"""The next-item encoder: trained on likes alone, to say which like comes next in a whole catalogue.

Legend: V validation likes, I items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from sasrecllm.training.pretrain import EncoderTask
from sasrecllm.training.task import Metrics
from sasrecllm.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sasrecllm.encoders.sequence import SequentialEncoder

PLACES = 50
"""Places that count in validation: a fusion of lists chooses among so many of each channel's best."""
ROWS_AT_ONCE = 256
OPERATIONS = 10**10
"""Floating-point operations of a core in a second, roughly: a unit of cost, the same everywhere."""
SAMPLED = 256
"""Items drawn beside a like where comparing it with the whole catalogue costs too much."""
FEWEST_PASSES = 5
"""Passes over the likes from which on the whole catalogue is affordable."""


class Budget(NamedTuple):
    """What the training may cost; it depends on the data and on no clock."""

    loss: str  # a row of encoders.losses.LOSSES
    steps: int  # of the optimiser at most


def budget_of(
    seconds: float, encoder: SequentialEncoder, *, likes: int, windows: int, batch_size: int
) -> Budget:
    """As many steps as ``seconds`` of one core allow, with the full softmax where it is affordable.

    Args:
        likes: questions of a pass.
        windows: examples of a pass, ``batch_size`` to a step.
    """
    own = {id(encoder.item_table), id(encoder.item_bias)}
    body = sum(p.numel() for p in encoder.parameters() if id(p) not in own)
    items = int(encoder.seen_items.sum())

    def passes(compared: int) -> float:
        """Six operations a parameter and question: forward, and twice that backward."""
        return seconds * OPERATIONS / (6.0 * max(1, likes) * (body + compared * encoder.width))

    whole = passes(items)
    full = whole >= FEWEST_PASSES or items <= 2 * SAMPLED
    affordable = whole if full else passes(SAMPLED)
    steps = max(1, round(affordable * max(1, windows) / batch_size))
    return Budget("softmax" if full else "sampled-softmax", steps)


class NextItemTask(EncoderTask):
    """Next like among all items; validation is the mean NDCG over the whole catalogue.

    Args:
        validation: of likes alone.
        allow_seen: items of the history may be served, and so compete.
        Others: see :class:`EncoderTask`.
    """

    monitor = f"ndcg@{PLACES}"

    def __init__(self, *given: Any, allow_seen: bool, **named: Any) -> None:
        super().__init__(*given, **named)
        self.allow_seen = allow_seen

    def validation_scores(self, positions: IntArray) -> FloatArray:
        """Gain of each like: 1 / log2(1 + its rank), 0 behind the first ``PLACES``; ties count half."""
        out = np.zeros(len(positions))
        for start in range(0, len(positions), ROWS_AT_ONCE):
            asked = self.validation.take(positions[start : start + ROWS_AT_ONCE])
            histories = asked.histories
            with torch.no_grad():
                logits_BI = self.encoder.logits(histories, None).float()
            rows = np.arange(len(asked))
            target = torch.from_numpy(asked.targets).to(logits_BI.device)
            own_B = logits_BI[rows, target].clone()
            if not self.allow_seen:
                inside = (histories.items >= 0) & (histories.items < logits_BI.shape[1])
                logits_BI[histories.owners[inside], histories.items[inside]] = -torch.inf
                logits_BI[rows, target] = own_B
            ahead = (logits_BI > own_B[:, None]).sum(1)
            tied = (logits_BI == own_B[:, None]).sum(1) - 1
            rank = (1.0 + ahead + 0.5 * tied).double().cpu().numpy()
            gain = np.where(rank <= PLACES, 1.0 / np.log2(rank + 1.0), 0.0)
            out[start : start + len(asked)] = gain
        return out

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        """NDCG of the whole validation split: the mean gain; None where there is no like."""
        return {self.monitor: float(scores.mean()) if len(scores) else None}
