"""Matrix factorisation of likes by alternating least squares, for implicit feedback.

Every pair of user and item is an observation: of preference 1 with confidence 1 + α where the user
likes the item, of preference 0 with confidence 1 elsewhere.  Given the item factors Y, a user's are

    x_u = (YᵀY + α Σ_{i ∈ liked} y_i y_iᵀ + λ)⁻¹ (1 + α) Σ_{i ∈ liked} y_i

and the other way round; YᵀY is shared, so that a sweep costs what the likes cost.  The same formula
folds a history in: users need no training row, and one who has just liked something is read anew.
Hu, Koren & Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM 2008), section 4.

Legend: B histories, I items, F factors, R rows of likes solved at once, L likes of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrecllm.baselines.catalogue import CatalogueScorer, Likes, likes_in, likes_of
from sasrecllm.types import FloatArray, Histories

CELLS_AT_ONCE = 2**22
"""Numbers per block of factors: 32 MB."""


@dataclass(frozen=True)
class ALS(CatalogueScorer):
    """Product of the user's folded-in factors with each item's.

    Args:
        factors: F.
        alpha: extra confidence of a like.
        ridge: λ.
        sweeps: over users and items; the last one ends with the items.
    """

    factors: int = 64
    alpha: float = 10.0
    ridge: float = 10.0
    sweeps: int = 10
    name: str = "ALS"

    @cached_property
    def item_factors(self) -> FloatArray:
        """Y, [I, F], from factors drawn with the seed of the rows; 0 for an item without a like."""
        by_user = likes_of(self.rows)
        by_item = by_user.turned(self.rows.n_items)
        rng = np.random.default_rng([self.rows.seed, self.factors])
        items: FloatArray = rng.normal(0.0, 0.1, (self.rows.n_items, self.factors))
        for _ in range(self.sweeps):
            users = self._solved(by_user, items)
            items = self._solved(by_item, users)
        return items

    def fold_in(self, histories: Histories) -> FloatArray:
        """Factors of the users with these histories, [B, F]; 0 where nothing is liked yet."""
        return self._solved(likes_in(histories, self.rows.n_items), self.item_factors)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]."""
        return self.fold_in(histories) @ self.item_factors.T

    def _solved(self, likes: Likes, others: FloatArray) -> FloatArray:
        """Factors of every row of ``likes`` from those of what it likes."""
        lengths = np.diff(likes.offsets)
        out = np.zeros((len(lengths), self.factors))
        shared = others.T @ others + self.ridge * np.eye(self.factors)
        inverse = np.asarray(np.linalg.inv(shared), dtype=np.float64)
        padded = np.append(others, np.zeros((1, self.factors)), axis=0)
        order = np.argsort(lengths, kind="stable")  # neighbours in length share a block
        order = order[lengths[order] > 0]
        start = 0
        while start < len(order):
            rows = self._block(lengths, order[start:])
            places = np.arange(lengths[rows[-1]])
            inside = places < lengths[rows][:, None]
            at = np.where(inside, likes.offsets[rows][:, None] + places, 0)
            liked_RLF = padded[np.where(inside, likes.items[at], len(others))]
            out[rows] = (1.0 + self.alpha) * self._wished(liked_RLF, shared, inverse)
            start += len(rows)
        return out

    def _wished(self, liked_RLF: FloatArray, shared: FloatArray, inverse: FloatArray) -> FloatArray:
        """(shared + α YᵀY)⁻¹ Yᵀ1 of every Y of ``liked_RLF``, [R, F]; its empty places are 0.

        Fewer likes than factors are so many equations instead of F:
        (S + α YᵀY)⁻¹ Yᵀ = S⁻¹ Yᵀ (1 + α Y S⁻¹ Yᵀ)⁻¹.
        """
        turned_RFL = liked_RLF.transpose(0, 2, 1)
        count = liked_RLF.shape[1]
        if count < self.factors:
            known_RLF = liked_RLF @ inverse
            likes_RLL = np.eye(count) + self.alpha * (known_RLF @ turned_RFL)
            worth_RL1 = np.linalg.solve(likes_RLL, np.ones((len(liked_RLF), count, 1)))
            return np.asarray((known_RLF * worth_RL1).sum(1))
        normal_RFF = shared + self.alpha * (turned_RFL @ liked_RLF)
        return np.asarray(np.linalg.solve(normal_RFF, liked_RLF.sum(1)[:, :, None])[:, :, 0])

    def _block(self, lengths: np.ndarray, order: np.ndarray) -> np.ndarray:
        """The first of ``order`` that fit into a block together; at least one."""
        most = max(1, CELLS_AT_ONCE // self.factors**2)
        wide = np.arange(1, min(most, len(order)) + 1) * lengths[order[:most]] * self.factors
        return order[: max(1, int(np.searchsorted(wide, CELLS_AT_ONCE, side="right")))]
