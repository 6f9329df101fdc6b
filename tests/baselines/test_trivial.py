"""The trivial rows reproduce the published arithmetic on the CoLLM split of ML-1M, to four digits."""

import numpy as np
import polars as pl
import pytest

from sasrecllm.baselines.table import ALWAYS, BASELINES
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.trivial import TrainMeans
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.types import Histories


def _ml1m(data_root):
    frame = pl.read_parquet(data_root / "ml-1m-collm" / "interactions.parquet").sort("user_id", "order")
    user, item = (frame[c].to_numpy().astype(np.int64) for c in ("user_id", "item_id"))
    label, time = frame["label"].to_numpy(), frame["timestamp"].to_numpy()
    return user, item, label, time, frame["split"].to_numpy()


def _figures(data_root, names):
    """AUC and UAUC of the rows ``names`` on the test split."""
    user, item, label, time, split = _ml1m(data_root)
    train = split == "train"
    train_rows = TrainRows(
        user[train],
        item[train],
        label[train],
        n_users=user.max() + 1,
        n_items=item.max() + 1,
    )
    rows = np.flatnonzero(split == "test")
    first = np.searchsorted(user, user[rows])  # rows stand by user
    lengths = rows - first
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    entries = np.concatenate([np.arange(a, b) for a, b in zip(first, rows, strict=True)])
    histories = Histories(user[rows], item[entries], label[entries], time[entries], offsets, time[rows])
    got = {}
    for name in names:
        scores = BASELINES[name](train_rows).score(histories, item[rows][:, None])[:, 0]
        got[name] = (auc(scores, label[rows]), uauc(scores, label[rows], user[rows]).value)
    return got


def test_figures_of_the_mission(data_root):
    got = _figures(data_root, ALWAYS)
    assert got["item mean"] == pytest.approx((0.7094, 0.6816), abs=5e-5)
    assert got["item mean + user mean"] == pytest.approx((0.7317, 0.6816), abs=5e-5)
    assert got["item mean + running mean"] == pytest.approx((0.7679, 0.6629), abs=5e-5)


def test_figures_of_the_further_rows_in_the_protocol(data_root):
    got = _figures(data_root, ("random", "popularity", "running mean", "ItemKNN", "Markov chain"))
    assert got["random"] == pytest.approx((0.5, 0.5), abs=0.03)
    assert got["popularity"] == pytest.approx((0.657, 0.640), abs=5e-4)
    assert got["running mean"] == pytest.approx((0.691, 0.288), abs=5e-4)
    assert got["ItemKNN"] == pytest.approx((0.651, 0.627), abs=5e-4)
    assert got["Markov chain"] == pytest.approx((0.650, 0.628), abs=5e-4)


def test_running_mean_reads_strictly_earlier_rows_only():
    means = TrainMeans(mean=0.5, items=np.zeros(3), users=np.zeros(1), likes=np.zeros(3))
    # Two entries: one at the very second of the question, one before it.
    histories = Histories(
        np.array([0]),
        np.array([0, 1]),
        np.array([0, 1], dtype=np.int8),
        np.array([5, 9]),
        np.array([0, 2]),
        np.array([9]),
    )
    assert means.running(histories) == pytest.approx([(0 + 2.5) / 6])


def test_items_outside_the_table_have_the_mean():
    means = TrainMeans.fit(
        np.array([0, 1, 1]), np.array([0, 0, 2]), np.array([1, 0, 1], dtype=np.int8),
        n_users=2, n_items=3,
    )  # fmt: skip
    assert means.item(np.array([-1, 1, 99])) == pytest.approx([2 / 3] * 3)
