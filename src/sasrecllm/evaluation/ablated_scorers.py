"""Scorers that take something away, to show whether a model uses it at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sasrecllm.seeds import mixed
from sasrecllm.types import FloatArray, Histories, IntArray, Scorer


@dataclass(frozen=True)
class Change:
    """What an ablation takes away from the language model."""

    zero_soft: bool = False
    blank_titles: bool = False
    swap_titles: bool = False
    strangers: Histories | None = None
    """Histories whose users' vectors stand in for the asked user's."""


class StrangersVectors:
    """An encoder that answers with another user's vector and logit, and with the target's own vector.

    The stranger is a function of the seed, the user and the time of the question, never of the batch.

    Args:
        encoder: gives ``pair`` (user vectors, target vectors, logits) and ``encode``.
        strangers: histories of those who may stand in, of at least two users.
    """

    def __init__(self, encoder: Any, strangers: Histories, seed: int = 0) -> None:
        self.encoder, self.strangers, self.seed = encoder, strangers, seed

    def eval(self) -> object:
        """Evaluation mode of the encoder inside."""
        return self.encoder.eval()

    def encode(self, histories: Histories) -> Any:
        """User vectors of strangers, [B, D]."""
        return self.encoder.encode(self.strangers.take(self.chosen(histories)))

    def pair(self, histories: Histories, targets: IntArray) -> tuple[Any, Any, Any]:
        """Strangers' user vectors [B, D], vectors of ``targets`` [B, D] and strangers' logits [B]."""
        user_BD, item_BD, logits_B = self.encoder.pair(
            self.strangers.take(self.chosen(histories)), targets
        )
        return user_BD, item_BD, logits_B

    def logits(self, histories: Histories, candidates: IntArray) -> Any:
        """Strangers' logits of ``candidates`` [B, C], [B, C]."""
        return self.encoder.logits(self.strangers.take(self.chosen(histories)), candidates)

    def item_vectors(self, items: Any) -> Any:
        """Vectors of items, unchanged."""
        return self.encoder.item_vectors(items)

    def chosen(self, histories: Histories) -> IntArray:
        """Row of ``strangers`` for each history, [B]; its user is another one."""
        count = len(self.strangers)
        row = np.full(len(histories), self.seed, dtype=np.int64)
        for part in (histories.users, histories.asked_at):
            row = _mix(row ^ part)
        at = row % count
        for _ in range(count):
            same = self.strangers.users[at] == histories.users
            if not same.any():
                break
            at = np.where(same, (at + 1) % count, at)
        return at


class ShuffledHistory:
    """Asks ``scorer`` with the entries of every history in random order.

    Labels and times move with their items, so only the order is lost.  The order is a function of
    the seed, the user, the time of the question and the length of the history, so it depends
    neither on the batch nor on the row's place in it.
    """

    def __init__(self, scorer: Scorer, seed: int = 0) -> None:
        self.name = f"{scorer.name}, history shuffled"
        self.scorer = scorer
        self.seed = seed

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C] after shuffled histories."""
        return self.scorer.score(self.shuffled(histories), candidates)

    def shuffled(self, histories: Histories) -> Histories:
        """The same entries, each row in an order of its own."""
        lengths = np.diff(histories.offsets)
        row = np.full(len(histories), self.seed, dtype=np.int64)
        for part in (histories.users, histories.asked_at, lengths):
            row = _mix(row ^ part)
        owners = histories.owners
        place = np.arange(len(histories.items)) - histories.offsets[:-1][owners]
        order = np.lexsort((_mix(row[owners] + place), owners))
        return Histories(
            histories.users,
            histories.items[order],
            histories.labels[order],
            histories.times[order],
            histories.offsets,
            histories.asked_at,
        )


def _mix(values: IntArray) -> IntArray:
    """A well-mixed number for each number."""
    return mixed(values.astype(np.int64).view(np.uint64)).view(np.int64)
