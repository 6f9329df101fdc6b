"""RePlay's PopRec, ItemKNN, SLIM and ALS on exported rows (lists_rival.py); they need Java for Spark.

RePlay has no EASE; SLIM is its linear model of items.  Its SASRec is not asked: RecTools' stands for
that kind here, and benchmarks/peer_replay.py times it.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from lists_rival import Rows, answer, lists_of, searched
from pyspark.sql import SparkSession
from replay.data import Dataset, FeatureHint, FeatureInfo, FeatureSchema, FeatureType
from replay.models import SLIM, ALSWrap, ItemKNN, PopRec
from replay.utils.session_handler import State

KINDS = {"PopRec": PopRec, "ItemKNN": ItemKNN, "SLIM": SLIM, "ALS": ALSWrap}
SCHEMA = FeatureSchema([
    FeatureInfo("user_id", FeatureType.CATEGORICAL, FeatureHint.QUERY_ID),
    FeatureInfo("item_id", FeatureType.CATEGORICAL, FeatureHint.ITEM_ID),
    FeatureInfo("rating", FeatureType.NUMERICAL, FeatureHint.RATING),
    FeatureInfo("timestamp", FeatureType.NUMERICAL, FeatureHint.TIMESTAMP),
])  # fmt: skip


def fill(rows: Rows, split: str, setting: Mapping[str, Any]) -> np.ndarray:
    """Lists of the model that ``setting`` says; a pair of user and item counts once."""
    given = dict(setting)
    model = KINDS[given.pop("model")](**given)
    places = rows.likes(split)
    users, who = np.unique(rows.users[places], return_inverse=True)  # RePlay wants ids without gaps
    items, what = np.unique(rows.items[places], return_inverse=True)
    frame = pd.DataFrame({"user_id": who, "item_id": what, "rating": 1.0, "timestamp": places})
    frame = frame.drop_duplicates(["user_id", "item_id"], keep="last")
    spark = SparkSession.builder.getOrCreate()
    data = Dataset(SCHEMA, spark.createDataFrame(frame), categorical_encoded=True)
    asked = np.flatnonzero(np.isin(users, rows.asked[split])).tolist()
    model.fit(data)
    depth = min(rows.depth(split), len(items))
    found = model.predict(data, k=depth, queries=asked, filter_seen_items=False).toPandas()
    found = found.sort_values(["user_id", "rating", "item_id"], ascending=[True, False, True])
    return lists_of(rows, split, users[found["user_id"]], items[found["item_id"]])


MODELS = {
    "PopRec": searched([{"model": "PopRec"}], fill),
    "ItemKNN": searched(
        [
            {"model": "ItemKNN", "num_neighbours": k, "shrink": s}
            for k in (20, 100)
            for s in (0.0, 10.0)
        ],
        fill,
    ),
    "SLIM": searched([{"model": "SLIM", "beta": b, "lambda_": 0.01} for b in (0.01, 1.0)], fill),
    "ALS": searched([{"model": "ALS", "rank": r, "seed": 0} for r in (10, 64)], fill),
}


def session(scratch: str) -> SparkSession:
    """One thread, no window to the browser, nothing fetched."""
    settings = {
        "spark.driver.memory": "3g", "spark.sql.shuffle.partitions": "2", "spark.ui.enabled": "false",
        "spark.default.parallelism": "2", "spark.local.dir": scratch,
        "spark.sql.execution.arrow.pyspark.enabled": "true", "spark.sql.warehouse.dir": scratch,
    }  # fmt: skip
    builder = SparkSession.builder.master("local[1]").appName("lists")
    for key, value in settings.items():
        builder = builder.config(key, value)
    found = builder.getOrCreate()
    found.sparkContext.setLogLevel("ERROR")
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    with tempfile.TemporaryDirectory() as place:
        State(session(place))
        code = answer("RePlay", importlib.metadata.version("replay-rec"), MODELS)
        SparkSession.builder.getOrCreate().stop()
    sys.exit(code)
