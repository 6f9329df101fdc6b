"""Which text of a batch's prompts is read once, and which prompts continue after how much of it.

Prompts of one history begin alike up to the target; prompts of one user, asked at other times, list
the same titles and then some more.  Text that several share is read once, and each prompt reads what
is its own behind it.

Legend: B prompts, T tokens, L texts that are read, U different texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sasrecllm.prompts.batch import PromptBatch, PromptBuilder
from sasrecllm.prompts.template import SOFT_SLOTS
from sasrecllm.types import Histories, IntArray

FIRST = 36
"""Tokens of their first titles by which prompts are known to begin alike: about three titles."""
KEPT = 0.75
"""Share of a text that must stand in the longer one which is read for it."""


def prefix_ids(
    builder: PromptBuilder, histories: Histories, targets: IntArray, chunk: int = 4096
) -> IntArray:
    """A number for each prompt [B], the same for prompts whose text begins alike.

    The text is what stands before the first slot and the target: two rows of a log whose histories
    differ by dislikes alone have one text where a prompt lists likes.  It is the whole of it, or its
    first titles (:data:`FIRST` tokens) where the window of titles moves on in steps.  The number is a
    hash: should two texts ever meet in one, their prompts come to stand in one batch, and nothing else
    follows.
    """
    odd = np.random.default_rng(0).integers(0, 2**62, builder.max_tokens) * 2 + 1
    found = [np.empty(0, dtype=np.int64)]
    most = builder.max_tokens if builder.history_step == 1 else builder.before_titles + FIRST
    for start in range(0, len(targets), chunk):
        part = np.arange(start, min(start + chunk, len(targets)))
        batch = builder.build(histories.take(part), targets[part])
        columns = np.arange(batch.ids_BT.shape[1])
        inside_BT = columns < np.minimum(batch.text_lengths_B, most)[:, None]
        found.append((np.where(inside_BT, batch.ids_BT + 1, 0) * odd[columns]).sum(axis=1))
    return np.unique(np.concatenate(found), return_inverse=True)[1].reshape(-1)


def holders(
    builder: PromptBuilder, histories: Histories, targets: IntArray, chunk: int = 4096
) -> IntArray:
    """The prompt that each stands in, or itself, [B] (:func:`held_prompts`)."""
    found = np.arange(len(targets))
    template = builder.template
    if builder.history_step == 1 or not template.has("events") or any(map(template.has, SOFT_SLOTS)):
        return found
    # A user's side by side; what a chunk cuts has two holders.
    order = np.argsort(histories.users, kind="stable")
    for start in range(0, len(order), chunk):
        rows = order[start : start + chunk]
        held = held_prompts(builder.build(histories.take(rows), targets[rows]))
        if held is not None:
            found[rows] = rows[held.rows[held.owners]]
    return found


@dataclass(frozen=True, slots=True)
class Beginnings:
    """What is read once of a batch.

    Args:
        rows: [L] prompts whose beginnings are read.
        width: tokens of each that are read.
        owners: [B] place in ``rows`` of the beginning that each prompt continues.
        shares: [B] tokens of it that stand before what the prompt reads for itself.
        rest: tokens that the longest prompt reads for itself.
    """

    rows: IntArray
    width: int
    owners: IntArray
    shares: IntArray
    rest: int

    def tokens(self, own: int = 1) -> int:
        """Tokens that are read, padding included.

        Args:
            own: how many a token counts that a prompt reads for itself.
        """
        return len(self.rows) * self.width + own * len(self.owners) * self.rest

    @property
    def whole(self) -> bool:
        """Whether every prompt continues after all that is read."""
        return bool((self.shares == self.width).all())

    def of(self, mine: IntArray) -> tuple[IntArray, Beginnings]:
        """Which beginnings the prompts ``mine`` [M] continue, and these alone, as wide as before."""
        read, owners = np.unique(self.owners[mine], return_inverse=True)
        part = replace(self, rows=self.rows[read], owners=owners.reshape(-1), shares=self.shares[mine])
        return read, part


@dataclass(frozen=True, slots=True)
class Held:
    """Prompts that stand whole inside others: one pass over the latter answers them all.

    Args:
        rows: [L] prompts that stand in no other.
        owners: [B] place in ``rows`` of the prompt that each stands in, or is.
        width: tokens of the longest.
    """

    rows: IntArray
    owners: IntArray
    width: int

    def tokens(self) -> int:
        """Tokens that are read, padding included."""
        return len(self.rows) * self.width


def held_prompts(batch: PromptBatch) -> Held | None:
    """Which prompts stand inside which, where any does; None also where they have soft slots.

    A list of events says of each title what a prompt asks of its last, so the prompts of one window
    are beginnings of the longest one.
    """
    if len(batch.slot_rows):
        return None
    inside_BT = np.arange(batch.ids_BT.shape[1]) < batch.lengths_B[:, None]
    ids_UT, first_U, of_B = np.unique(
        np.where(inside_BT, batch.ids_BT, -1), axis=0, return_index=True, return_inverse=True
    )
    # Sorted, with nothing before any token, a prompt stands right before those that begin with it.
    begins = (ids_UT[1:] == ids_UT[:-1]) | (ids_UT[:-1] == -1)
    ends = np.append(np.flatnonzero(~begins.all(axis=1)), len(ids_UT) - 1)
    if len(ends) == len(batch):
        return None
    owners_U = np.searchsorted(ends, np.arange(len(ids_UT)))
    rows = first_U[ends]
    return Held(rows, owners_U[of_B.reshape(-1)], int(batch.lengths_B[rows].max()))


def same_text(batch: PromptBatch) -> Beginnings:
    """Equal texts once, each as far as the shortest of the batch goes."""
    start = int(batch.text_lengths_B.min(initial=batch.ids_BT.shape[1]))
    _, first, owners = np.unique(
        batch.ids_BT[:, :start], axis=0, return_index=True, return_inverse=True
    )
    shares = np.full(len(batch), start, dtype=np.int64)
    return Beginnings(first, start, owners.reshape(-1), shares, _rest(batch, shares))


def common_text(batch: PromptBatch) -> Beginnings:
    """The leading tokens that all prompts share: a chat's own words, and the question's."""
    most = int(batch.text_lengths_B.min(initial=batch.ids_BT.shape[1]))
    alike_T = (batch.ids_BT[:, :most] == batch.ids_BT[:1, :most]).all(axis=0)
    start = most if alike_T.all() else int(np.argmin(alike_T))
    nobody = np.zeros(len(batch), dtype=np.int64)
    shares = np.full(len(batch), start, dtype=np.int64)
    return Beginnings(nobody[:1], start, nobody, shares, _rest(batch, shares))


def nested_text(batch: PromptBatch, kept: float = KEPT) -> Beginnings:
    """Each text, or a longer one that begins with most of it.

    Args:
        kept: least share of a text that must stand in the other; of 1 every text is read.
    """
    lengths_B = batch.text_lengths_B
    inside_BT = np.arange(int(lengths_B.max(initial=0))) < lengths_B[:, None]
    ids_BT = np.where(inside_BT, batch.ids_BT[:, : inside_BT.shape[1]], -1)
    texts_UT, first_U, of_B = np.unique(ids_BT, axis=0, return_index=True, return_inverse=True)
    leaders_U, shares_U = _leaders(texts_UT, lengths_B[first_U], kept)
    read, owners_U = np.unique(leaders_U, return_inverse=True)
    of_B = of_B.reshape(-1)
    shares = shares_U[of_B]
    width = int(shares.max(initial=0))
    return Beginnings(first_U[read], width, owners_U.reshape(-1)[of_B], shares, _rest(batch, shares))


def _leaders(texts_UT: IntArray, lengths_U: IntArray, kept: float) -> tuple[IntArray, IntArray]:
    """For each of sorted texts the one that is read for it, [U], and how much of that is its own, [U].

    Sorted texts stand in runs that begin alike; of a run the longest is read.
    """
    U = len(texts_UT)
    differ_UT = texts_UT[1:] != texts_UT[:-1]
    alike = np.argmax(differ_UT, axis=1) if differ_UT.size else np.zeros(0, dtype=np.int64)
    ends = np.flatnonzero(alike < kept * np.minimum(lengths_U[1:], lengths_U[:-1]))
    leaders, shares = np.arange(U), lengths_U.copy()
    for start, end in zip([0, *(ends + 1)], [*(ends + 1), U], strict=True):
        lead = start + int(np.argmax(lengths_U[start:end]))
        # Two texts of a run share what all neighbours between them share.
        shares[lead + 1 : end] = np.minimum.accumulate(alike[lead : end - 1])
        shares[start:lead] = np.minimum.accumulate(alike[start:lead][::-1])[::-1]
        near = shares[start:end] >= kept * lengths_U[start:end]
        near[lead - start] = True
        leaders[start:end] = np.where(near, lead, leaders[start:end])
    own = leaders == np.arange(U)
    shares[own] = lengths_U[own]
    return leaders, shares


def _rest(batch: PromptBatch, shares: IntArray) -> int:
    return int((batch.lengths_B - shares).max(initial=0))
