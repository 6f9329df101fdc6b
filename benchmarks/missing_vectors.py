"""What a missing vector of a fold's encoder tells about the label, before and after it is evened out.

    sasrecllm prepare --out prepared/shop data.source=files data.path=shop.parquet …
    python -m benchmarks.missing_vectors prepared/shop …

A row each: of the training questions that teach the mapper, the share whose item the user's fold
encoder never saw, among liked and among other items; and the AUC of "has no vector" for "liked", which
is .5 where it tells nothing (docs/protocol.md, "A missing vector").  Nothing is trained.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sasrecllm.encoders.crossfit import evened, fold_of_user
from sasrecllm.evaluation.metrics import auc
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.stages.strategies import planned
from sasrecllm.stages.user_partition import answer_questions, holdout_share
from sasrecllm.types import BoolArray, IntArray


def row(folder: Path) -> str:
    """The line of a prepared folder."""
    run = RunFolder(folder)
    config, data = stored_config(run), stored_data(run)
    stages = planned(config)
    stage = next(s for s in stages.values() if s.reads_crossfit)
    asked = answer_questions(data, stage, holdout_share(config, stages), config.seed)
    folds = fold_of_user(data.n_users, config.encoder.folds, config.seed)
    train = data.rows("train")
    missing = np.zeros(len(asked), dtype=bool)
    for fold in range(config.encoder.folds):
        shown = train[folds[data.users[train]] != fold]
        seen = np.bincount(data.items[shown], minlength=data.n_items) > 0
        own = folds[asked.histories.users] == fold
        missing[own] = ~seen[asked.targets[own]]
    after, cold = evened(asked, missing)
    said = " | ".join((*_told(asked.labels, missing), *_told(after.labels, cold)))
    return f"| {folder.name} | {len(asked):,} | {said} |"


def _told(labels: IntArray, missing: BoolArray) -> tuple[str, str, str]:
    liked = labels == 1
    shares = (f"{missing[liked].mean():.1%}", f"{missing[~liked].mean():.1%}")
    return (*shares, f"{auc(missing.astype(float), labels):.3f}")


if __name__ == "__main__":
    print("| log | questions | liked | others | AUC | liked, evened | others, evened | AUC, evened |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:]:
        print(row(Path(name)))
