"""A calibrated sum of logits: language model, encoder and bias terms.

What raises AUC (the user's drifting level) can spoil the order within a user, which UAUC sees.  So
the weights are fitted on the validation split by two losses together: binary cross-entropy, and a
logistic loss on the pairs of rows of one user that differ in label.

Of an item that training never showed only the words speak, and anybody may write them.  So what they
add is bounded (:func:`bounded`; docs/reliability.md has figures).

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

from sasrecllm.former_settings import current_names
from sasrecllm.types import (
    BoolArray,
    FloatArray,
    Histories,
    IntArray,
    LabelArray,
    Scorer,
    asks_by_prompts,
)


@dataclass(frozen=True)
class FusionWeights:
    """score = bias + Σ w_f z_f, with weights of their own where training never showed the item.

    ``z_f`` is component f, standardised by ``means`` and ``stds`` of the validation split.

    Args:
        worded: components whose score of a new item comes from its words.
        most: what these together may add to the score of a new item, or take from it, in log-odds,
            against the validation split's average; None for no bound.
    """

    components: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    seen: tuple[float, ...]  # weights and bias for items of the training split
    unseen: tuple[float, ...]  # weights and bias for new items
    worded: tuple[str, ...] = ()
    most: float | None = None

    def combine(self, scores_QF: FloatArray, unseen_Q: BoolArray) -> FloatArray:
        """The sum for each question, [Q]."""
        bias = np.where(unseen_Q, self.unseen[-1], self.seen[-1])
        return np.asarray(self.parts(scores_QF, unseen_Q).sum(1) + bias, dtype=np.float64)

    def parts(self, scores_QF: FloatArray, unseen_Q: BoolArray) -> FloatArray:
        """What each component adds, [Q, F]; 0 is the validation split's average.

        Where words add more than they may, each of their components keeps its share of it.
        """
        z_QF = (scores_QF - np.array(self.means)) / np.array(self.stds)
        weights = np.where(unseen_Q[:, None], np.array(self.unseen), np.array(self.seen))
        parts_QF = np.asarray(z_QF * weights[:, :-1], dtype=np.float64)
        if self.most is None or not self.worded:
            return parts_QF
        worded_F = np.isin(self.components, self.worded)
        sum_Q = parts_QF[:, worded_F].sum(1)
        kept_Q = bounded(sum_Q, self.most) / np.where(sum_Q == 0, 1.0, sum_Q)
        return parts_QF * np.where(unseen_Q[:, None] & worded_F, kept_Q[:, None], 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FusionWeights:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: the lengths do not fit, or a number is not finite.
        """
        fields: dict[str, Any] = {
            k: tuple(current_names(v)) if isinstance(v, list) else v for k, v in values.items()
        }
        found = cls(**fields)
        count = len(found.components)
        numbers = (found.means, found.stds, found.seen[:-1], found.unseen[:-1])
        if any(len(n) != count for n in numbers) or not np.isfinite(numbers).all():
            raise ValueError(f"{count} components need as many finite means, deviations and weights")
        return found


def bounded(x: FloatArray, most: float) -> FloatArray:
    """``x`` itself up to ``most`` / 2 on either side, then rising ever more slowly towards ``most``.

    The order stays, so that the titles of two new items that both say much are still told apart.
    """
    half, size = most / 2, np.abs(x)
    slowed = most - half * np.exp(-(np.maximum(size, half) - half) / half)
    return np.asarray(np.sign(x) * np.where(size <= half, size, slowed), dtype=np.float64)


def fit_fusion(
    scores_QF: FloatArray,
    labels_Q: LabelArray,
    users_Q: IntArray,
    unseen_Q: BoolArray,
    *,
    components: Sequence[str],
    pairwise: float = 0.3,
    ridge: float = 1.0,
    max_pairs: int = 400_000,
    seed: int = 0,
    worded: Sequence[str] = (),
    most: float | None = 1.5,
) -> FusionWeights:
    """Fit on validation scores by BCE + ``pairwise`` · within-user ranking loss (both means).

    No weight is negative.  Without that bound the ranking loss would turn the running mean against
    itself: among the rows of one user with both labels, what was liked earlier is missing later, so a
    negative weight raises UAUC out of the metric's own conditioning, whatever users like
    (docs/findings.md).
    Weights for new items are pulled by the ridge to those for known items, so a validation split
    without new items gives both the same.

    Args:
        ridge: strength of the pulls, as that many pseudo-rows.
        max_pairs: pairs are sampled beyond this many.
        worded, most: the bound on new items' words (:class:`FusionWeights`); the fit is without it.
    """
    means, stds = scores_QF.mean(0), np.maximum(scores_QF.std(0), 1e-9)
    objective = _Objective(
        torch.from_numpy((scores_QF - means) / stds),
        torch.from_numpy(labels_Q.astype(np.float64)),
        torch.from_numpy(unseen_Q.astype(np.float64))[:, None],
        _pairs(labels_Q, users_Q, max_pairs, seed),
        pairwise,
        ridge,
    )
    # Rows: known items, new items.  Squares of free numbers keep the weights from being negative.
    roots_2F = torch.full((2, scores_QF.shape[1]), 0.5, dtype=torch.float64, requires_grad=True)
    biases_2 = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [roots_2F, biases_2], max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(roots_2F.square(), biases_2)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    rows = torch.cat([roots_2F.square(), biases_2[:, None]], dim=1).detach().numpy()
    mean, std, seen, unseen = (tuple(map(float, v)) for v in (means, stds, rows[0], rows[1]))
    return FusionWeights(tuple(components), mean, std, seen, unseen, tuple(worded), most)


@dataclass(frozen=True)
class _Objective:
    """BCE + ``pairwise`` · ranking loss + the ridge's pulls, as a function of weights and biases."""

    z_QF: Tensor
    y_Q: Tensor
    unseen_Q1: Tensor
    pairs: tuple[Tensor, Tensor, Tensor]
    pairwise: float
    ridge: float

    def __call__(self, weights_2F: Tensor, biases_2: Tensor) -> Tensor:
        both_Q2 = self.z_QF @ weights_2F.T + biases_2
        score_Q = (both_Q2[:, :1] * (1 - self.unseen_Q1) + both_Q2[:, 1:] * self.unseen_Q1)[:, 0]
        loss = F.binary_cross_entropy_with_logits(score_Q, self.y_Q)
        liked_P, other_P, weight_P = self.pairs
        if len(liked_P):
            margin_P = score_Q[liked_P] - score_Q[other_P]
            loss = loss + self.pairwise * (F.softplus(-margin_P) * weight_P).sum()
        apart = (weights_2F[0] - weights_2F[1]).square().sum() + (biases_2[0] - biases_2[1]) ** 2
        return loss + self.ridge * (weights_2F[0].square().sum() + 10 * apart) / len(self.y_Q)


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
        combined = self.weights.combine(*self._columns(histories, candidates))
        return combined.reshape(candidates.shape)

    @property
    def asks_language_model(self) -> bool:
        """Whether a component does."""
        return any(map(asks_by_prompts, self.parts))

    def contributions(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """What each component adds to the score of every candidate, [B · C, F]."""
        return self.weights.parts(*self._columns(histories, candidates))

    def with_new_titles(self, titles: Sequence[str]) -> Fusion:
        """The same sum over a catalogue with ``titles`` at its end."""
        return Fusion(
            self.name, self.weights, [with_new_titles(p, titles) for p in self.parts], self.seen_items
        )

    def _columns(self, histories: Histories, candidates: IntArray) -> tuple[FloatArray, BoolArray]:
        columns = [p.score(histories, candidates).reshape(-1) for p in self.parts]
        flat = candidates.reshape(-1)
        inside = (flat >= 0) & (flat < len(self.seen_items))
        unseen = ~(inside & self.seen_items[np.where(inside, flat, 0)])
        return np.stack(columns, axis=1), unseen


def with_new_titles(scorer: Scorer, titles: Sequence[str]) -> Scorer:
    """``scorer`` over a catalogue with ``titles`` at its end; one that reads no titles is unchanged."""
    extend = getattr(scorer, "with_new_titles", None)
    return scorer if extend is None else extend(titles)
