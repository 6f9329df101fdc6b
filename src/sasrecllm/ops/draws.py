"""Random numbers that do not depend on how many processes share a batch.

Processes that train together all draw the numbers of the whole batch, as a single process would, and
each uses those of its own rows; drawing costs little beside what is computed.  In a single process
nothing here does anything.

Legend: R rows of the whole batch, M of them this process's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sasrecllm.types import IntArray


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a whole batch this process computes.

    Args:
        count: R.
        mine: [M] their places.
    """

    count: int
    mine: IntArray


@dataclass(frozen=True, slots=True)
class Share:
    """A batch that several processes share.

    Args:
        examples: [R] all of it.
        mine: [M] places of what this process computes.
    """

    examples: IntArray
    mine: IntArray


_SHARE: ContextVar[Share | None] = ContextVar("_SHARE", default=None)
_ROWS: ContextVar[Rows | None] = ContextVar("_ROWS", default=None)


def share() -> Share | None:
    """The batch that this process shares with others; None where it is alone."""
    return _SHARE.get()


@contextmanager
def shared(examples: IntArray, mine: IntArray) -> Iterator[None]:
    """Inside, this process computes ``mine`` of the batch ``examples`` alone."""
    token = _SHARE.set(Share(examples, mine))
    try:
        yield
    finally:
        _SHARE.reset(token)


@contextmanager
def of_rows(rows: Rows | None) -> Iterator[None]:
    """Inside, tensors whose first axis has ``rows`` get the numbers of their places; None: own ones."""
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def current_rows() -> Rows | None:
    """The rows whose numbers are drawn now; None where what is drawn belongs to no larger batch."""
    return _ROWS.get()


def sharing() -> bool:
    """Whether what is drawn now belongs to a larger batch."""
    return current_rows() is not None


def drawn(shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """``draw(shape)``, or this process's rows of what it draws for the whole batch.

    Args:
        shape: its first axis has the rows, or a fixed number of entries of each, row by row; what has
            neither is for all rows alike, and drawn alike by every process.
        draw: gives random numbers of any shape.
    """
    rows = current_rows()
    if rows is None:
        return draw(shape)
    each, rest = divmod(shape[0], len(rows.mine))
    if rest or not each:
        return draw(shape)
    whole = draw((rows.count * each, *shape[1:]))
    mine = torch.from_numpy(rows.mine).to(whole.device)
    return whole.view(rows.count, each, *shape[1:])[mine].reshape(shape)


class RowDropout(nn.Dropout):
    """``torch.nn.Dropout`` whose first axis has the rows of a batch that processes may share."""

    def forward(self, values: Tensor) -> Tensor:
        """Shape kept."""
        if not (self.training and self.p and sharing()):
            return super().forward(values)

        def mask(shape: tuple[int, ...]) -> Tensor:
            return nn.functional.dropout(values.new_ones(shape), self.p)

        return values * drawn(tuple(values.shape), mask)
