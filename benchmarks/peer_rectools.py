"""RecTools' SASRec on the rows of `python -m benchmarks.bench sasrec`: its own fit, one epoch.

See peer.py for how it is run.  Not measured: making the Dataset.
"""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pandas as pd
import peer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LOSSES = {"bce": "", "softmax": "", "gbce": ""}


def prepare(users: np.ndarray, items: np.ndarray, loss: str) -> peer.Epoch:
    """RecTools orders by date; rows stand in order already, a second apart."""
    frame = pd.DataFrame({
        Columns.User: users, Columns.Item: items, Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(np.arange(len(users)), unit="s"),
    })  # fmt: skip
    data = Dataset.construct(frame)
    name = {"bce": "BCE", "gbce": "gBCE"}.get(loss, loss)

    def epoch() -> object:
        return SASRecModel(
            n_blocks=peer.BLOCKS, n_heads=peer.HEADS, n_factors=peer.WIDTH, lr=peer.LR, loss=name,
            session_max_len=peer.LENGTH, dropout_rate=peer.DROPOUT, batch_size=peer.BATCH,
            n_negatives=peer.NEGATIVES.get(loss, 1), epochs=1,
        ).fit(data)  # fmt: skip

    return epoch


if __name__ == "__main__":
    peer.answer(importlib.metadata.version("rectools"), LOSSES, prepare)
