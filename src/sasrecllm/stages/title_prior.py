"""``title_prior``: the encoder's item vectors, shrunk to what the items' titles and attributes say."""

from __future__ import annotations

from typing import Any

import numpy as np

from sasrecllm.encoders.prior import apply_prior
from sasrecllm.machine.distributed import is_main_process
from sasrecllm.runs.folder import FOLD, StageFolder
from sasrecllm.runs.parts import ITEM_VECTORS
from sasrecllm.settings import READ_TITLES
from sasrecllm.stages.encode import EncoderKind
from sasrecllm.stages.kind import Stage, Work
from sasrecllm.stages.title_views import read_titles

NO_WORDS = (
    "note: encoder.prior=titles has no effect: no two items share a word of their titles or an"
    " attribute, and none has a vector (item_features.words, .attributes, .vectors)"
)


class TitlePrior(EncoderKind):
    """No training: each item keeps its own vector as far as it has training rows."""

    name = "title_prior"
    reads_words = True

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """Apply it to the encoder, and to the fold encoders with the rows that each was shown."""
        system, data = work.system, work.dataset
        said: dict[str, Any] = {}
        if work.config.item_features.vectors == READ_TITLES and system.vectors.read is None:
            system.vectors.read, said = read_titles(work)
            work.run.progress.line(f"vectors of the titles: {said['view']}")
            if is_main_process():
                system.save(ITEM_VECTORS, folder.part(ITEM_VECTORS))
        vectors = system.item_vectors
        groups = [np.empty((data.n_items, 0)), *system.item_features]
        groups += [] if vectors is None else [vectors]
        features_IF = np.concatenate(groups, axis=1)
        explained = apply_prior(system.encoder, features_IF, data.train_counts)
        if is_main_process():
            system.bring_in_folds(work.run.folder, folder.number)
            rows = data.rows("train")
            fold_of_row = system.fold_of_user[data.users[rows]]
            for number, encoder in enumerate(system.folds):
                shown = rows[fold_of_row != number]
                counts = np.bincount(data.items[shown], minlength=data.n_items)
                apply_prior(encoder, features_IF, counts)
                part = f"{FOLD}{number}"
                system.save(part, folder.part(part))
        if explained is None:
            work.run.progress.line(NO_WORDS)
        return {"explained_out_of_fold": explained} | said
