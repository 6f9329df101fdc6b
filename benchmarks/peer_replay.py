"""RePlay's SASRec (`replay.nn`) on the rows of `benchmarks.bench sasrec`: lightning's fit, one epoch.

See peer.py for how it is run.  Not measured: writing the Parquet file that RePlay reads.
BCE draws one negative a position here; RePlay's own transform draws one for a whole batch.  Its length
buckets are on: the fastest of none, 16, 32 and 64 (CPU seconds of an epoch, one thread: BCE 2.3,
2.2, 2.0, 1.7; softmax 8.3, 8.2, 8.4, 7.8).
"""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import peer
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.loss import BCESampled
from replay.nn.sequential import LengthBucketedQueryEncoder, SasRec
from replay.nn.transform.template import make_default_sasrec_transforms

BUCKET = 64
LOSSES = {"bce": "one negative a position, length buckets of 64", "softmax": "length buckets of 64"}


class OneNegativeEach(torch.nn.Module):
    """A uniformly drawn item for each position, [B, L, 1]."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items

    def forward(self, batch: dict) -> dict:
        """The batch with ``negative_labels``."""
        drawn = torch.randint(self.n_items, batch["positive_labels"].shape)
        return batch | {"negative_labels": drawn}


def prepare(users: np.ndarray, items: np.ndarray, loss: str) -> peer.Epoch:
    """One row a user, ids from 0, padding at the id after the last."""
    codes, kept = pd.factorize(items)
    frame = pd.DataFrame({"user": users, "item_id": codes})
    path = Path("rows.parquet").absolute()
    frame.groupby("user", sort=False)[["item_id"]].agg(list).to_parquet(path, index=False)
    schema = TensorSchema([
        TensorFeatureInfo(
            "item_id", FeatureType.CATEGORICAL, is_seq=True, feature_hint=FeatureHint.ITEM_ID,
            cardinality=len(kept), embedding_dim=peer.WIDTH, padding_value=len(kept),
            feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
        )
    ])  # fmt: skip
    transforms = make_default_sasrec_transforms(schema)
    if loss == "bce":
        transforms["train"].append(OneNegativeEach(len(kept)))
    # One more than LENGTH: the shift by one takes it away again.
    metadata = {"train": {"item_id": {"shape": peer.LENGTH + 1, "padding": len(kept)}}}

    def epoch() -> None:
        data = ParquetModule(peer.BATCH, metadata, transforms, train_path=str(path))
        module = LightningModule(_model(schema, loss), OptimizerFactory(learning_rate=peer.LR))
        lightning.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        ).fit(module, data)  # fmt: skip

    return epoch


def _model(schema: TensorSchema, loss: str) -> SasRec:
    model = SasRec.from_params(schema, peer.WIDTH, peer.HEADS, peer.BLOCKS, peer.LENGTH, peer.DROPOUT)
    if loss == "bce":
        model.loss = BCESampled()
        model.loss.logits_callback = model.get_logits
    model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, BUCKET)
    return model


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    peer.answer(importlib.metadata.version("replay-rec"), LOSSES, prepare)
