"""Which examples an epoch puts into which batch: a function of (seed, epoch) alone."""

from __future__ import annotations

import numpy as np

from sasrecllm.types import IntArray

POOL = 50
"""Batches in one pool of length-aware batching: rows are shuffled, then sorted within a pool."""

TOGETHER = 5
"""Examples of one beginning shuffled as one, a like and the four items drawn beside it: more would
leave few different ones in a batch."""


def plan_epoch(
    lengths: IntArray, batch_size: int, seed: int, epoch: int, prefix_ids: IntArray | None = None
) -> list[IntArray]:
    """Every example once, shuffled, in batches of like length; the same for every process.

    Args:
        prefix_ids: [E] examples of one number begin alike, which is computed once where they stand in
            one batch: up to ``TOGETHER`` of them, drawn anew in each epoch, stay beside each other.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    keys = lengths[order]
    if prefix_ids is not None:
        order, leads = _side_by_side(order, prefix_ids)
        keys = lengths[leads]
    pool = batch_size * POOL
    # Examples that stay together have one key, and a stable sort leaves them side by side.
    ordered = np.concatenate(
        [
            order[i : i + pool][np.argsort(keys[i : i + pool], kind="stable")]
            for i in range(0, len(order), pool)
        ]
    )
    batches = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def micro_batches(batch: IntArray, lengths: IntArray, fewest: int, tokens: int) -> list[IntArray]:
    """``batch`` in ``fewest`` parts, or in more, each within ``tokens`` with its padding.

    Args:
        lengths: of all examples.
        tokens: 0 for no bound; an example that is longer alone stands alone.
    """
    count = fewest
    if tokens:
        most = max(1, tokens // max(1, int(lengths[batch].max(initial=0))))
        count = max(count, -(-len(batch) // most))
    return np.array_split(batch, max(1, min(count, len(batch))))


def _side_by_side(order: IntArray, prefix_ids: IntArray) -> tuple[IntArray, IntArray]:
    """``order`` with handfuls of one beginning side by side, and who leads each one's handful, [E]."""
    places = np.arange(len(order))
    grouped = np.argsort(prefix_ids[order], kind="stable")
    starts = np.flatnonzero(np.diff(prefix_ids[order][grouped], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    rank = places - np.repeat(starts, sizes)
    # Place in ``order`` of the example that opens the handful: the rank rounded down.
    opener = grouped[places - rank % TOGETHER]
    moved = np.argsort(opener, kind="stable")
    return order[grouped[moved]], order[opener[moved]]
