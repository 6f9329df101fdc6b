"""RecTools' SASRec on sequences out of an .npz file: one epoch, CPU seconds of its fit as JSON.

Run by `sasrecllm bench sasrec --peers DIR` in the environment that benchmarks/peers.sh builds.
"""

import argparse
import importlib.metadata
import json
import os
import time

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows")
    parser.add_argument("--loss", default="softmax")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rows = np.load(asked.rows)
    frame = pd.DataFrame({
        Columns.User: rows["users"], Columns.Item: rows["items"], Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(np.arange(len(rows["users"])), unit="s"),
    })  # fmt: skip
    loss = {"bce": "BCE"}.get(asked.loss, asked.loss)
    model = SASRecModel(
        n_blocks=2, n_heads=1, n_factors=64, session_max_len=50, dropout_rate=0.2, loss=loss,
        n_negatives=1, lr=0.001, batch_size=128, epochs=1,
    )  # fmt: skip
    data = Dataset.construct(frame)
    started = time.process_time()
    model.fit(data)
    took = time.process_time() - started
    print(json.dumps({"cpu_seconds": took, "version": importlib.metadata.version("rectools")}))


if __name__ == "__main__":
    main()
