"""Vectors of users whom the encoder never trained on, also for the users of the training split.

An encoder fits the rows it was trained on far better than others, so a second stage on the same
rows trusts it too much.  Cross-fitting (Chernozhukov et al., 2018) gives every training user the
vectors of an encoder trained without that user.  Encoders trained apart differ by a rotation at
least, so each fold's vectors are rotated onto the full encoder's item vectors; dot products stay as
they were.  Folds that start from the full encoder's seed stay closest to it.

Shape legend: B histories, C candidates, D width, K folds, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.errors import ConfigError
from sasrecllm.seeds import CROSSFIT_FOLDS
from sasrecllm.types import UNKNOWN, BoolArray, Histories, IntArray, Questions

Answer = Callable[[SequentialEncoder, Histories, IntArray], tuple[Tensor, ...]]
"""What an encoder says about some rows: (encoder, their histories, their numbers) to tensors."""


def fold_of_user(n_users: int, folds: int, seed: int) -> IntArray:
    """Seeded fold of every user, [n_users]: which fold encoder never sees them.

    >>> sorted(fold_of_user(6, 3, seed=0).tolist())
    [0, 0, 1, 1, 2, 2]
    """
    rng = np.random.default_rng([seed, CROSSFIT_FOLDS])
    return rng.permutation(n_users) % max(1, folds)


def procrustes(source_ND: Tensor, target_ND: Tensor) -> Tensor:
    """The orthogonal matrix R [D, D] that brings ``source_ND @ R`` nearest to ``target_ND``.

    From the singular vectors of source' target (Schönemann, Psychometrika 1966).

    >>> procrustes(torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])).round()
    tensor([[0., 1.],
            [1., 0.]])
    """
    left, _, right = torch.linalg.svd(source_ND.double().T @ target_ND.double())
    rotation: Tensor = (left @ right).to(source_ND.dtype)
    return rotation


class CrossFitted(nn.Module):
    """K fold encoders and the full one behind one door; it reads, it never learns.

    A user of fold k is read by fold encoder k as an unknown user, since that encoder never saw one
    of the user's rows; every other user is read by the full encoder.  Item vectors asked for alone
    are the full encoder's.  The module stays in evaluation mode; what it gives has no gradient.

    Args:
        full: the encoder that serves.
        folds: encoders like it; number k was trained without the users of fold k.
        fold_of_user: [n_users] fold of each user index, -1 for none.

    Raises:
        ConfigError: no folds, folds of another width or catalogue, or a fold number out of range.
    """

    rotations_KDD: Tensor
    fold_of_user: Tensor

    def __init__(
        self, full: SequentialEncoder, folds: Sequence[SequentialEncoder], fold_of_user: IntArray
    ) -> None:
        super().__init__()
        _check(full, folds, fold_of_user)
        self.width, self.n_items = full.width, full.n_items
        self.full, self.folds = full, nn.ModuleList(folds)
        rotations = torch.stack([_rotation(fold, full) for fold in folds])
        self.register_buffer("rotations_KDD", rotations)
        self.register_buffer("fold_of_user", torch.as_tensor(np.array(fold_of_user, dtype=np.int64)))
        self.train(False)

    def train(self, mode: bool = True) -> CrossFitted:
        """Evaluation mode, whatever is asked: dropout must not come back."""
        super().train(False)
        return self

    def encode(self, histories: Histories) -> Tensor:
        """User vectors in the full encoder's space, [B, D]."""
        return self._by_fold(histories, lambda encoder, part, _: (encoder.encode(part),), 1)[0]

    @torch.no_grad()
    def item_vectors(self, items: Tensor) -> Tensor:
        """The full encoder's vectors of ``items`` [...], [..., D]."""
        return self.full.item_vectors(items)

    def without_vector(self, users: IntArray, items: IntArray) -> BoolArray:
        """Whether the encoder that reads each of ``users`` [B] never saw the item of ``items`` [B]."""
        out = np.zeros(len(users), dtype=bool)
        for encoder, _, rows in self._groups(users):
            seen = encoder.seen_items.cpu().numpy()
            inside = (items[rows] >= 0) & (items[rows] < len(seen))
            out[rows] = ~(inside & seen[np.where(inside, items[rows], 0)])
        return out

    def logits(self, histories: Histories, candidates: IntArray | None = None) -> Tensor:
        """Logits of ``candidates`` [B, C] (the whole catalogue without), by each user's encoder."""

        def answer(encoder: SequentialEncoder, part: Histories, rows: IntArray) -> tuple[Tensor]:
            return (encoder.logits(part, None if candidates is None else candidates[rows]),)

        return self._by_fold(histories, answer, 0)[0]

    def pair(self, histories: Histories, targets: IntArray) -> tuple[Tensor, Tensor, Tensor]:
        """User vectors [B, D], target vectors [B, D] and logits [B], by each user's encoder.

        Both vectors of a row come from the same encoder and are rotated alike, so their dot product
        is that encoder's own.
        """
        user_BD, item_BD, logits_B = self._by_fold(
            histories, lambda encoder, part, rows: encoder.pair(part, targets[rows]), 2
        )
        return user_BD, item_BD, logits_B

    @torch.no_grad()
    def _by_fold(self, histories: Histories, answer: Answer, rotated: int) -> list[Tensor]:
        """``answer`` of each group of rows that share an encoder, back in the order of the rows.

        The first ``rotated`` tensors of an answer are vectors and move to the full encoder's space.
        """
        orders, parts = [], []
        for encoder, R_DD, rows in self._groups(histories.users):
            part = histories.take(rows)
            tensors = answer(encoder, part if R_DD is None else _as_unknown_users(part), rows)
            if R_DD is not None:
                tensors = (*(t @ R_DD for t in tensors[:rotated]), *tensors[rotated:])
            orders.append(rows)
            parts.append(tensors)
        back = torch.as_tensor(np.argsort(np.concatenate(orders), kind="stable"))
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        return [column[back.to(column.device)] for column in columns]

    def _groups(self, users: IntArray) -> Iterator[tuple[SequentialEncoder, Tensor | None, IntArray]]:
        """Encoder, its rotation (None for the full one) and the rows it answers."""
        folds = self.fold_of_user.cpu().numpy()
        inside = (users >= 0) & (users < len(folds))
        fold_B = np.full(len(users), -1, dtype=np.int64)
        fold_B[inside] = folds[users[inside]]
        # The full encoder's group comes even when empty, so that an empty batch has its shapes.
        yield self.full, None, np.flatnonzero(fold_B == -1)
        for k, fold in enumerate(self.folds):
            rows = np.flatnonzero(fold_B == k)
            if len(rows):
                assert isinstance(fold, SequentialEncoder)
                yield fold, self.rotations_KDD[k], rows


def evened(questions: Questions, missing: BoolArray) -> tuple[Questions, BoolArray]:
    """Questions in which having a vector says nothing about the label, and which to show without.

    Where others are drawn beside a liked item, the liked one always lacks a vector if its user's fold
    alone liked it, and a drawn one seldom does: "has no vector" would mean "liked".  So the others of a
    liked item without a vector are shown without theirs, and another without a vector beside a liked
    item with one gives its place to the next of the row's others that has one.

    Args:
        questions: those of one row stand together; a row of labels is alone, and stays as it is.
        missing: [B] whether the target has no vector (:meth:`CrossFitted.without_vector`).
    """
    place = np.cumsum(np.diff(questions.rows, prepend=questions.rows[:1] - 1) != 0) - 1
    n = int(place.max(initial=-1)) + 1
    liked = questions.labels == 1
    nobody = len(questions)
    stand_in = np.full(n, nobody)
    fine = np.flatnonzero(~liked & ~missing)
    np.minimum.at(stand_in, place[fine], fine)
    swap = ~liked & missing
    cold = np.bincount(place, liked & missing, minlength=n) > 0
    cold |= np.bincount(place, swap & (stand_in[place] == nobody), minlength=n) > 0
    swap &= ~cold[place]
    targets = questions.targets.copy()
    targets[swap] = targets[stand_in[place[swap]]]
    return replace(questions, targets=targets), np.asarray(cold[place])


def _as_unknown_users(part: Histories) -> Histories:
    nobody = np.full_like(part.users, UNKNOWN)
    return Histories(nobody, part.items, part.labels, part.times, part.offsets, part.asked_at)


@torch.no_grad()
def _rotation(fold: SequentialEncoder, full: SequentialEncoder) -> Tensor:
    """Fold space to full space, fitted on the items that both saw in training."""
    both = fold.seen_items & full.seen_items
    return procrustes(fold.item_table[both], full.item_table[both])


def _check(full: SequentialEncoder, folds: Sequence[SequentialEncoder], fold_of_user: IntArray) -> None:
    if not folds:
        raise ConfigError(
            "cross-fitting has 0 folds; allowed: 1 or more", "set crossfit folds: 2 or more"
        )
    for k, fold in enumerate(folds):
        for name in ("width", "n_items"):
            mine, theirs = getattr(full, name), getattr(fold, name)
            if mine != theirs:
                raise ConfigError(
                    f"cross-fitting: fold {k} has {name} = {theirs}, the full encoder has {mine}",
                    "build every fold with the full encoder's settings",
                )
    outside = (fold_of_user < -1) | (fold_of_user >= len(folds))
    if outside.any():
        user = int(np.flatnonzero(outside)[0])
        raise ConfigError(
            f"cross-fitting: user {user} has fold {int(fold_of_user[user])}; allowed: -1 to"
            f" {len(folds) - 1}",
            "number the folds from 0, and use -1 for users of no fold",
        )
