"""Windows for training a causal encoder: many questions out of one pass over a user's history.

A causal encoder that reads a window once knows the state before each of its entries.  So every
training row needs no history of its own, only a window and a position in it.

Shape legend: W windows, L positions, Q questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sasrecllm.data.dataset import TRAIN, Dataset
from sasrecllm.errors import ConfigError
from sasrecllm.types import UNKNOWN, IntArray, LabelArray


@dataclass(frozen=True, slots=True)
class Windows:
    """Cut histories, and the questions that are asked inside them.

    Question q stands after the first ``state[q]`` entries of its window: its context is
    ``items[window[q], :state[q]]``.  Questions are sorted by window.
    """

    users: IntArray  # [W]
    items: IntArray  # [W, L], UNKNOWN where empty, filled from the left
    labels: LabelArray  # [W, L], 0 where empty
    lengths: IntArray  # [W]
    window: IntArray  # [Q]
    state: IntArray  # [Q], 0 to L
    target: IntArray  # [Q]
    label: LabelArray  # [Q]
    row: IntArray  # [Q] row of the data set

    def __len__(self) -> int:
        return len(self.users)


def windows(
    dataset: Dataset, *, length: int, likes_only: bool, rows: IntArray, beside: IntArray | None = None
) -> Windows:
    """Assign every training row of ``rows`` to one window with the most context it can have.

    A user's history entries (training rows; liked ones only, or all) are cut into windows of at
    most ``length`` with a step of ``max(1, length // 2)``.  A question gets the earliest window in
    which it fits, and so at least ``length // 2`` entries of context where the user has as many.
    Windows that no question needs are left out.

    Args:
        beside: training rows that are asked too where they fall into one of these windows: reading a
            window costs the same, however many are asked.

    Raises:
        ConfigError: ``length`` is below 1, or a row is not a training row.
    """
    if length < 1:
        raise ConfigError(f"window length is {length}; allowed: 1 or more", "set encoder.length")
    needed = rows
    rows = rows if beside is None else np.union1d(rows, beside)
    if (dataset.splits[rows] != TRAIN).any():
        raise ConfigError("windows were asked for rows outside the training split", "train rows only")
    is_entry = dataset.splits == TRAIN
    if likes_only:
        is_entry = is_entry & (dataset.labels == 1)
    entries = np.flatnonzero(is_entry)
    before = np.concatenate([[0], np.cumsum(is_entry)])  # entries before each row, of all users

    step = max(1, length // 2)
    users = dataset.users[rows]
    first = before[dataset.starts[users]]  # the user's first entry
    context = before[rows] - first
    cut = np.maximum(0, -((length - context) // step))  # ceil((context - length) / step)

    # One key per (user, cut); unique() sorts it, so the questions follow their windows.
    cuts = int(cut.max(initial=0)) + 1
    key = users * cuts + cut
    if beside is not None:
        asked = np.isin(key, key[np.isin(rows, needed)])
        rows, context, cut, key = rows[asked], context[asked], cut[asked], key[asked]
    keys, window = np.unique(key, return_inverse=True)
    by_window = np.lexsort((rows, window))
    window_user, window_cut = keys // cuts, keys % cuts
    begin = before[dataset.starts[window_user]] + window_cut * step
    end = np.minimum(begin + length, before[dataset.starts[window_user + 1]])
    grid, inside = _grid(entries, begin, end, length)
    chosen = rows[by_window]
    return Windows(
        users=window_user,
        items=np.where(inside, dataset.items[grid], UNKNOWN),
        labels=np.where(inside, dataset.labels[grid], 0).astype(np.int8),
        lengths=end - begin,
        window=window[by_window],
        state=(context - cut * step)[by_window],
        target=dataset.items[chosen],
        label=dataset.labels[chosen],
        row=chosen,
    )


def _grid(
    entries: IntArray, begin: IntArray, end: IntArray, length: int
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Rows of the entries of every window [W, L], and which places hold one."""
    places = begin[:, None] + np.arange(length)
    inside = places < end[:, None]
    if not len(entries):
        return np.zeros(places.shape, dtype=np.int64), inside
    return entries[np.where(inside, places, 0)], inside
