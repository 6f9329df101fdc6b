"""EASE: every item as a linear mixture of the others that a user likes, in closed form.

With X the likes [users, items] and X = X B the wish that each like follow from the user's other
likes, the ridge regression with a zero diagonal has the solution

    B_ij = H_ij / (1 − H_jj) for i ≠ j,   H = (XᵀX + λ)⁻¹ XᵀX = Xᵀ (XXᵀ + λ)⁻¹ X

and a user's scores are the sum of the rows of B at the liked items.  With ``half_life``, which the
paper does not have, the latest likes speak louder.  (The paper writes −P_ij / P_jj with
P = (XᵀX + λ)⁻¹, which is the same since H = 1 − λP.)  H is computed from whichever of items and
users are fewer.
Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019), equations 4 to 8.

Legend: B histories, I items, M items that have a place in the regression, U users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from sasrecllm.baselines.catalogue import (
    CatalogueScorer,
    Likes,
    distinct_likes,
    likes_of,
)
from sasrecllm.baselines.pairs import fading
from sasrecllm.types import FloatArray, Histories, IntArray


@dataclass(frozen=True)
class EASE(CatalogueScorer):
    """Sum of the liked items' weights towards each item.

    Args:
        ridge: λ in likes; the paper's range is 200 to 1,000, and small logs want the lower end.
        most: items with a place in the regression, the most liked first.  Its time grows with the
            third power, its memory with the square: 6,000 take some 10 s on a core and 1 GB, and 144 MB
            in a run, which are read in half a second.  All other items have the score 0, as items
            without a like have.
        half_life: of a like of the history, in newer likes; without one all likes speak alike.
    """

    ridge: float = 200.0
    most: int = 6_000
    half_life: float | None = None
    name: str = "EASE"

    @cached_property
    def kept(self) -> IntArray:
        """The M items of the regression, ascending."""
        likers = np.bincount(likes_of(self.rows).items, minlength=self.rows.n_items)
        ranked = np.argsort(-likers, kind="stable")[: self.most]
        return np.sort(ranked[likers[ranked] > 0])

    @cached_property
    def place(self) -> IntArray:
        """Place of each item among the M, -1 for one without, [I]."""
        place = np.full(self.rows.n_items, -1)
        place[self.kept] = np.arange(len(self.kept))
        return place

    @cached_property
    def weights(self) -> npt.NDArray[np.float32]:
        """B, [M, M]: how much a like of the row's item speaks for the column's."""
        likes = likes_of(self.rows)
        inside = self.place[likes.items] >= 0
        owners, items = likes.owners[inside], self.place[likes.items[inside]]
        users = len(np.unique(owners))
        hat = (_hat_by_items if len(self.kept) <= users else _hat_by_users)(
            distinct_likes(owners, items, self.rows.n_users, len(self.kept)), len(self.kept), self.ridge
        )
        own = hat.diagonal().clone()
        hat /= (1.0 - own)[None, :]
        hat.fill_diagonal_(0.0)
        return hat.float().numpy()

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; 0 where nothing is liked yet."""
        liked = histories.liked()
        worth = np.ones(len(liked.items)) if self.half_life is None else fading(liked, self.half_life)
        inside = (liked.items >= 0) & (liked.items < self.rows.n_items)
        place = np.where(inside, np.append(self.place, -1)[np.where(inside, liked.items, -1)], -1)
        out = np.zeros((len(histories), self.rows.n_items))
        for row in range(len(histories)):
            entries = slice(liked.offsets[row], liked.offsets[row + 1])
            # Of an item liked twice the newest like counts.
            items, newest = np.unique(place[entries][::-1], return_index=True)
            own = worth[entries][::-1][newest][items >= 0]
            out[row, self.kept] = own @ self.weights[items[items >= 0]].astype(np.float64)
        return out


def _hat_by_items(likes: Likes, n_items: int, ridge: float) -> torch.Tensor:
    """(XᵀX + λ)⁻¹ XᵀX, [M, M]."""
    gram = torch.zeros(n_items, n_items, dtype=torch.float64)
    for first, second in likes.pairs():
        both = torch.from_numpy(first * n_items + second)
        gram.view(-1).index_add_(0, both, torch.ones(len(both), dtype=torch.float64))
    gram += gram.T.clone()
    own = np.bincount(likes.items, minlength=n_items).astype(np.float64)
    gram.diagonal().add_(torch.from_numpy(own) + ridge)
    hat = torch.cholesky_inverse(torch.linalg.cholesky(gram)).mul_(-ridge)
    hat.diagonal().add_(1.0)
    return hat


def _hat_by_users(likes: Likes, n_items: int, ridge: float) -> torch.Tensor:
    """Xᵀ (XXᵀ + λ)⁻¹ X, [M, M]."""
    _, users = np.unique(likes.owners, return_inverse=True)
    likes_UM = torch.zeros(int(users.max(initial=-1)) + 1, n_items, dtype=torch.float64)
    likes_UM[users, likes.items] = 1.0
    gram = likes_UM @ likes_UM.T
    gram.diagonal().add_(ridge)
    half_UM = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), likes_UM, upper=False)
    hat: torch.Tensor = half_UM.T @ half_UM
    return hat
