"""RecBole's SASRec on the rows of `python -m benchmarks.bench sasrec`: its own Trainer, one epoch.

See peer.py for how it is run.  RecBole makes a training row of every prefix of a sequence, padded to
the longest, and learns one target from each: that is its way, and why an epoch of it costs more.  Its
SASRec has no BCE with sampled negatives; BPR with one negative stands in.  Not measured: reading
the rows and making the prefixes.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pandas as pd
import peer
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.trainer import Trainer

LOSSES = {
    "bce": "BPR, one negative (it has no BCE); a padded row for each target",
    "softmax": "a padded row for each target",
}


def prepare(users: np.ndarray, items: np.ndarray, loss: str) -> peer.Epoch:
    """All rows train: nothing is split off."""
    frame = pd.DataFrame({
        "user_id:token": users, "item_id:token": items, "timestamp:float": np.arange(len(users)),
    })  # fmt: skip
    folder = Path("rows")
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "rows.inter", sep="\t", index=False)
    config = Config(model="SASRec", dataset="rows", config_dict=_settings(loss))
    data, _, _ = data_preparation(config, create_dataset(config))

    def epoch() -> None:
        model = SASRec(config, data.dataset)
        trainer = Trainer(config, model)
        trainer.fit(data, valid_data=None, saved=False, show_progress=False)
        trainer.tensorboard.close()  # it would write on in a thread when the folder is gone

    return epoch


def _settings(loss: str) -> dict[str, object]:
    sampled = {"distribution": "uniform", "sample_num": 1, "dynamic": False, "candidate_num": 0}
    return {
        "data_path": ".", "checkpoint_dir": "saved", "use_gpu": False, "show_progress": False,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "user", "mode": "full"},
        "MAX_ITEM_LIST_LENGTH": peer.LENGTH, "epochs": 1, "train_batch_size": peer.BATCH,
        "learning_rate": peer.LR, "n_layers": peer.BLOCKS, "n_heads": peer.HEADS,
        "hidden_size": peer.WIDTH, "inner_size": peer.WIDTH, "hidden_act": "relu",
        "hidden_dropout_prob": peer.DROPOUT, "attn_dropout_prob": peer.DROPOUT,
        "loss_type": "CE" if loss == "softmax" else "BPR",
        "train_neg_sample_args": None if loss == "softmax" else sampled,
    }  # fmt: skip


if __name__ == "__main__":
    peer.answer(importlib.metadata.version("recbole"), LOSSES, prepare)
