"""RecTools' popular items, ItemKNN, EASE, implicit ALS and SASRec on exported rows (lists_rival.py)."""

from __future__ import annotations

import copy
import importlib.metadata
import os
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender, TFIDFRecommender
from lists_rival import Rows, answer, lists_of, ndcg, searched
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import (
    EASEModel,
    ImplicitALSWrapperModel,
    ImplicitItemKNNWrapperModel,
    PopularModel,
    SASRecModel,
)

EPOCHS, SEVERAL, PATIENCE = 200, 5, 4
"""Of SASRec at most, between two looks at validation, and looks without a better value."""
SECONDS = 240
"""Processor time after which SASRec stops at its next look: twice what ours is counted to cost."""


def dataset_of(rows: Rows, split: str) -> Dataset:
    """The likes for ``split``; RecTools orders by date, ours by place: a second a row."""
    places = rows.likes(split)
    frame = pd.DataFrame({
        Columns.User: rows.users[places], Columns.Item: rows.items[places], Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(places, unit="s"),
    })  # fmt: skip
    return Dataset.construct(frame)


def lists_from(model: Any, data: Dataset, rows: Rows, split: str) -> np.ndarray:
    """What a fitted model serves; users without a like in ``data`` get an empty list."""
    users = rows.asked[split]
    users = users[np.isin(users, data.user_id_map.external_ids)]
    depth = min(rows.depth(split), data.item_id_map.size)
    found = model.recommend(users, data, k=depth, filter_viewed=False, on_unsupported_targets="ignore")
    found = found.sort_values([Columns.User, Columns.Rank], kind="stable")
    return lists_of(rows, split, found[Columns.User].to_numpy(), found[Columns.Item].to_numpy())


def fill(rows: Rows, split: str, setting: Mapping[str, Any]) -> np.ndarray:
    """Lists of the model that ``setting`` says."""
    given = dict(setting)
    kind = given.pop("model")
    data = dataset_of(rows, split)
    if kind == "popular":
        model: Any = PopularModel(**given)
    elif kind == "EASE":
        model = EASEModel(recommend_use_gpu_ranking=False, **given)
    elif kind == "ALS":
        inner = AlternatingLeastSquares(random_state=0, num_threads=1, use_gpu=False, **given)
        model = ImplicitALSWrapperModel(inner)
    else:
        weighting = {"cosine": CosineRecommender, "tf-idf": TFIDFRecommender}[kind]
        model = ImplicitItemKNNWrapperModel(weighting(num_threads=1, **given))
    return lists_from(model.fit(data), data, rows, split)


def sasrec(rows: Rows) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Softmax over the catalogue; as many epochs as are best on validation."""
    torch.manual_seed(0)
    data, later = dataset_of(rows, "valid"), dataset_of(rows, "test")
    model = SASRecModel(
        n_blocks=2, n_heads=1, n_factors=64, session_max_len=50, dropout_rate=0.2, loss="softmax",
        lr=0.001, batch_size=128, epochs=EPOCHS, deterministic=True, recommend_torch_device="cpu",
    )  # fmt: skip
    best: tuple[float, int, Any] = (-1.0, 0, None)
    tried, started = [], time.process_time()
    for epochs in range(SEVERAL, EPOCHS + 1, SEVERAL):
        model.fit_partial(data, min_epochs=SEVERAL, max_epochs=SEVERAL)
        valid = lists_from(model, data, rows, "valid")
        gain = ndcg(rows, valid)
        tried.append({"setting": {"epochs": epochs}, "ndcg@10": round(gain, 4)})
        if gain > best[0]:
            # The test is asked now and not looked at: the weights of this epoch are gone later.
            best = (gain, epochs, (valid, lists_from(model, later, rows, "test")))
        too_long = time.process_time() - started > SECONDS
        if too_long or epochs - best[1] >= PATIENCE * SEVERAL:
            break
    setting = {"epochs": best[1], "width": 64, "blocks": 2, "length": 50, "loss": "softmax"}
    return *copy.deepcopy(best[2]), {"setting": setting, "tried": tried}


MODELS = {
    "popular": searched([{"model": "popular"}], fill),
    "ItemKNN": searched(
        [{"model": kind, "K": k} for kind in ("cosine", "tf-idf") for k in (20, 100)], fill
    ),
    "EASE": searched([{"model": "EASE", "regularization": r} for r in (50.0, 200.0, 500.0)], fill),
    "ALS": searched(
        [{"model": "ALS", "factors": 64, "alpha": a, "regularization": r, "iterations": 15}
         for a in (1.0, 10.0) for r in (0.01, 10.0)],
        fill,
    ),
    "SASRec": sasrec,
}  # fmt: skip

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(answer("RecTools", importlib.metadata.version("rectools"), MODELS))
