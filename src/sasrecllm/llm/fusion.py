"""A calibrated sum of logits: language model, encoder and bias terms.

What raises AUC (the user's drifting level) can spoil the order within a user, which UAUC sees.  So
the weights are fitted on the validation split by two losses together: binary cross-entropy, and a
logistic loss on the pairs of rows of one user that differ in label.

Legend: Q questions, F components, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sasrecllm.types import BoolArray, FloatArray, Histories, IntArray, LabelArray, Scorer


@dataclass(frozen=True)
class FusionWeights:
    """score = bias + Σ w_f z_f, with weights of their own where training never showed the item.

    ``z_f`` is component f, standardised by ``means`` and ``stds`` of the validation split.
    """

    components: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    seen: tuple[float, ...]  # weights and bias for items of the training split
    unseen: tuple[float, ...]  # weights and bias for new items

    def combine(self, scores_QF: FloatArray, unseen_Q: BoolArray) -> FloatArray:
        """The sum for each question, [Q]."""
        z_QF = (scores_QF - np.array(self.means)) / np.array(self.stds)
        weights = np.where(unseen_Q[:, None], np.array(self.unseen), np.array(self.seen))
        return np.asarray((z_QF * weights[:, :-1]).sum(1) + weights[:, -1], dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FusionWeights:
        """The inverse of :meth:`to_dict`."""
        return cls(**{k: tuple(v) for k, v in values.items()})


def fit_fusion(
    scores_QF: FloatArray,
    labels_Q: LabelArray,
    users_Q: IntArray,
    unseen_Q: BoolArray,
    *,
    components: Sequence[str],
    pairwise: float = 1.0,
    ridge: float = 1.0,
    max_pairs: int = 400_000,
    seed: int = 0,
) -> FusionWeights:
    """Fit on validation scores by BCE + ``pairwise`` · within-user ranking loss (both means).

    Weights for new items are the common ones plus a correction that the ridge pulls to zero, so a
    validation split without new items gives both kinds of items the same weights.

    Args:
        ridge: strength of the pull, as that many pseudo-rows.
        max_pairs: pairs are sampled beyond this many.
    """
    means, stds = scores_QF.mean(0), np.maximum(scores_QF.std(0), 1e-9)
    z = torch.from_numpy(np.concatenate([(scores_QF - means) / stds, np.ones((len(labels_Q), 1))], 1))
    x_QW = torch.cat([z, z * torch.from_numpy(unseen_Q.astype(np.float64))[:, None]], dim=1)
    y_Q = torch.from_numpy(labels_Q.astype(np.float64))
    liked_P, other_P, weight_P = _pairs(labels_Q, users_Q, max_pairs, seed)
    weights = torch.zeros(x_QW.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        score_Q = x_QW @ weights
        loss = F.binary_cross_entropy_with_logits(score_Q, y_Q)
        if len(liked_P):
            margin_P = score_Q[liked_P] - score_Q[other_P]
            loss = loss + pairwise * (F.softplus(-margin_P) * weight_P).sum()
        loss = loss + ridge * weights.square().sum() / len(y_Q)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = weights.detach().numpy()
    half = len(found) // 2
    return FusionWeights(
        tuple(components),
        tuple(map(float, means)),
        tuple(map(float, stds)),
        tuple(map(float, found[:half])),
        tuple(map(float, found[:half] + found[half:])),
    )


def _pairs(labels: LabelArray, users: IntArray, most: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(liked row, other row) of one user, and weights that give every user the same say."""
    liked, other, weight = [], [], []
    order = np.argsort(users, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(users[order])) + 1)
    rng = np.random.default_rng(seed)
    both = [g for g in groups if 0 < labels[g].sum() < len(g)]
    share = max(1, most // max(1, len(both)))
    for group in both:
        plus, minus = group[labels[group] == 1], group[labels[group] == 0]
        a, b = (v.reshape(-1) for v in np.meshgrid(plus, minus))
        if len(a) > share:
            kept = rng.choice(len(a), share, replace=False)
            a, b = a[kept], b[kept]
        liked.append(a)
        other.append(b)
        weight.append(np.full(len(a), 1.0 / (len(a) * len(both))))
    if not both:
        empty = torch.empty(0, dtype=torch.int64)
        return empty, empty, torch.empty(0, dtype=torch.float64)
    tensors = (torch.from_numpy(np.concatenate(v)) for v in (liked, other, weight))
    return tuple(tensors)  # type: ignore[return-value]


class Fusion:
    """The sum as a Scorer over other Scorers.

    Args:
        parts: one scorer per component of ``weights``, in that order.
        seen_items: whether training shows each item, [n_items].
    """

    def __init__(
        self, name: str, weights: FusionWeights, parts: Sequence[Scorer], seen_items: BoolArray
    ) -> None:
        self.name, self.weights, self.parts, self.seen_items = name, weights, parts, seen_items

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C], shape [B, C]."""
        columns = [p.score(histories, candidates).reshape(-1) for p in self.parts]
        flat = candidates.reshape(-1)
        inside = (flat >= 0) & (flat < len(self.seen_items))
        unseen = ~(inside & self.seen_items[np.where(inside, flat, 0)])
        combined = self.weights.combine(np.stack(columns, axis=1), unseen)
        return combined.reshape(candidates.shape)
