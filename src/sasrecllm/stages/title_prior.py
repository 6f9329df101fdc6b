"""``title_prior``: the encoder's item vectors, shrunk to what the items' titles and attributes say."""

from __future__ import annotations

from typing import Any

import numpy as np

from sasrecllm.encoders.prior import apply_prior
from sasrecllm.machine.distributed import is_main_process
from sasrecllm.runs.folder import FOLD, ITEM_VECTORS, StageFolder
from sasrecllm.settings import READ_TITLES
from sasrecllm.stages.encode import EncoderKind
from sasrecllm.stages.kind import Stage, Work
from sasrecllm.stages.title_views import WORDS, auc_with_prior, read_titles, seconds_of_titles

NO_WORDS = (
    "note: encoder.prior=titles has no effect: no two items share a word of their titles or an"
    " attribute, and none has a vector (item_features.words, .attributes, .vectors)"
)

NO_GAIN = (
    "note: with vectors of the titles the prior is no better on validation; it goes by words and"
    " attributes alone"
)


class TitlePrior(EncoderKind):
    """No training: each item keeps its own vector as far as it has training rows."""

    name = "title_prior"
    goes_on = False
    reads_words = True

    def seconds(self, work: Work, stage: Stage) -> float:
        """Reading the titles, by some of them."""
        reads = work.config.item_features.vectors == READ_TITLES
        return seconds_of_titles(work) if reads else 0.0

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """Apply it to the encoder, and to the fold encoders with the rows that each was shown."""
        system, data = work.system, work.dataset
        said: dict[str, Any] = {}
        if work.config.item_features.vectors == READ_TITLES and system.vectors.read is None:
            said = self._read(work, stage)
            work.run.progress.line(f"vectors of the titles: {said['view']}")
            if is_main_process():
                system.save(ITEM_VECTORS, folder.part(ITEM_VECTORS))
        features_IF = np.concatenate([np.empty((data.n_items, 0)), *system.item_features], axis=1)
        if (vectors := system.item_vectors) is not None:
            words_IF, features_IF = features_IF, np.concatenate([features_IF, vectors], axis=1)
            if work.config.item_features.vectors == READ_TITLES:
                worth = [auc_with_prior(work, features) or 0.0 for features in (words_IF, features_IF)]
                said |= {"prior_auc": dict(zip((WORDS, "with vectors"), worth, strict=True))}
                if worth[1] <= worth[0]:
                    features_IF = words_IF
                    work.run.progress.line(NO_GAIN)
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

    def _read(self, work: Work, stage: Stage) -> dict[str, Any]:
        """The titles' vectors into the system; an update reads the new titles alone, in the same view.

        Returns:
            What is kept of it.
        """
        before = work.before(stage)
        if before is None or not before.part(ITEM_VECTORS).is_dir():
            work.system.vectors.read, said = read_titles(work)
            return said
        work.system.begin_with(ITEM_VECTORS, before.part(ITEM_VECTORS))
        assert work.system.vectors.read is not None
        return {"view": str(work.system.vectors.read.view)}
