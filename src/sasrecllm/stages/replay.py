"""What an update learns: the rows that came since, and some old ones again against forgetting."""

from __future__ import annotations

import math

import numpy as np
import torch

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.former import LEARNT
from sasrecllm.data.sequences import Windows, windows
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.seeds import REPLAY
from sasrecllm.settings import Config
from sasrecllm.types import IntArray

FEWEST_REPLAYED = 1000
"""Old rows that an update learns again at least, where there are so many."""


def rows_to_learn(dataset: Dataset, config: Config, stretch: int = 1) -> IntArray:
    """The training rows that are learnt from, ascending: all; in an update those that the run before
    did not learn from, and a seeded sample of the others.

    Args:
        stretch: so many rows of a user in a row are drawn together.  A sequential encoder reads them in
            one window, where as many rows of many users would need a window each.
    """
    rows = dataset.rows("train")
    if dataset.former is None:
        return rows
    fresh = dataset.former.rows[rows] != LEARNT
    old, count = rows[~fresh], max(FEWEST_REPLAYED, round(config.update.replay * int(fresh.sum())))
    users = dataset.users[old]
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    place = np.arange(len(old)) - np.repeat(begins, np.diff(begins, append=len(old)))
    piece = np.cumsum(place % stretch == 0) - 1
    rng = np.random.default_rng([config.seed, REPLAY])
    turn = rng.permutation(int(piece.max(initial=-1)) + 1)[piece]
    again = old[np.argsort(turn, kind="stable")[:count]]
    return np.sort(np.concatenate([rows[fresh], again]))


def steps_of_update(dataset: Dataset, config: Config, steps: int) -> int:
    """``steps`` at most of a training loop over all training rows, for those that are learnt from.

    A limit that a budget or the size of the log set would else let an update cost a whole training.
    """
    share = len(rows_to_learn(dataset, config)) / max(1, len(dataset.rows("train")))
    return math.ceil(steps * share)


def windows_to_learn(
    dataset: Dataset, config: Config, encoder: SequentialEncoder, rows: IntArray
) -> Windows:
    """What ``encoder`` learns of the training ``rows``: all; in an update those that
    :func:`rows_to_learn` names, and all others that stand in the same windows.

    Reading a window is what costs, however many of its rows are asked.
    """
    learnt, beside = rows, None
    if dataset.former is not None:
        drawn = rows_to_learn(dataset, config, stretch=2 * encoder.length)
        learnt, beside = np.intersect1d(rows, drawn), rows
    length, likes_only = encoder.length, encoder.likes_only
    return windows(dataset, length=length, likes_only=likes_only, rows=learnt, beside=beside)


def draw_towards(encoder: SequentialEncoder, fresh: SequentialEncoder, share: float) -> None:
    """Mix a share of ``fresh`` weights into those of the run before (shrink and perturb, Ash & Adams
    2020): weights that fit a smaller log well are further from those that fit this one than fresh ones.
    """
    with torch.no_grad():
        for own, other in zip(encoder.parameters(), fresh.parameters(), strict=True):
            own.lerp_(other, share)
