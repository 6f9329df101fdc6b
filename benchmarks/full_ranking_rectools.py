"""RecTools' SASRec on the rows of a prepared data folder of ours: HR@10 and NDCG@10, whole catalogue.

In an environment of its own, which benchmarks/peers.sh builds (RecTools pins numpy < 2):

    sasrecllm study configs/studies/full-ranking.yaml --out FR
    peers/rectools/bin/python benchmarks/full_ranking_rectools.py FR/ml-100k/SASRec-gBCE/seed-0/data

Training rows are what ours trains on; the test item of each user is ranked against every item that the
user never met, as `sasrecllm` does (docs/protocol.md), with training and validation rows as history.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main() -> None:
    """Train, rank, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loss", default="softmax", choices=["softmax", "BCE", "gBCE"])
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    rows = pd.read_parquet(asked.data / "interactions.parquet")
    rows["order"] = np.arange(len(rows))
    frame = pd.DataFrame({
        Columns.User: rows["user_id"], Columns.Item: rows["item_id"], Columns.Weight: 1.0,
        # One second a row: RecTools orders by time, and ours by the row's place.
        Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(rows["order"], unit="s"),
    })  # fmt: skip
    split = rows["split"].to_numpy()
    train = frame[split == "train"]
    model = SASRecModel(
        n_blocks=2, n_heads=1, n_factors=64, session_max_len=50, dropout_rate=0.3, loss=asked.loss,
        lr=0.001, batch_size=128, epochs=asked.epochs, deterministic=True, verbose=0,
    )  # fmt: skip
    started, cpu = time.monotonic(), time.process_time()
    model.fit(Dataset.construct(train))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    known = Dataset.construct(frame[split != "test"])
    test = frame[split == "test"]
    n_items = int(rows["item_id"].nunique())
    found = model.recommend(
        test[Columns.User].unique(), known, k=min(n_items, 2000), filter_viewed=True,
        on_unsupported_targets="ignore",
    )  # fmt: skip
    place = found.merge(test[[Columns.User, Columns.Item]], on=[Columns.User, Columns.Item])
    rank = dict(zip(place[Columns.User], place[Columns.Rank], strict=True))
    ranks = np.array([rank.get(u, 10**9) for u in test[Columns.User]], dtype=float)
    ndcg = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
    found = {"data": str(asked.data), "loss": asked.loss, "lists": len(ranks)}
    found |= {"hr@10": float((ranks <= 10).mean()), "ndcg@10": float(ndcg.mean())}
    found |= {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
