"""Titles read by the run's language model, in the view that says most about items that are new.

Which layer, and which token, is chosen on the validation split by what it is wanted for: the encoder's
vector of each item is predicted from it with that item left out, and every validation question is
scored with the predicted vector of its item.

Legend: I items, F features, D encoder width and bias, H hidden size of the language model.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from sasrecllm.encoders.prior import apply_prior, out_of_fold, rows_of, trusted, write_rows
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.evaluation.metrics import auc
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.title_vectors import ReadTitles, TitleReader, along, principal, usual_view, views_of
from sasrecllm.seeds import VIEW_ITEMS
from sasrecllm.stages.kind import Work
from sasrecllm.types import FloatArray, IntArray

MOST_ITEMS = 5000
"""Items whose titles are read in every view; where there are more, all are then read once more."""
MOST_QUESTIONS = 20_000
"""Validation questions that a view is judged by."""
TRIED = 64
"""Titles that an estimate reads."""
WORDS = "words alone"


def read_titles(work: Work) -> tuple[ReadTitles, dict[str, Any]]:
    """Vectors of all titles in the best view, and what each view was worth.

    Returns:
        The vectors; AUC of the validation questions by view, and without any.

    Raises:
        ModelNotFoundError, CheckpointError: the language model cannot be loaded.
    """
    c, data, bar = work.config, work.dataset, work.run.progress.bar
    backbone = work.system.plain_backbone()
    reader = _reader(work, backbone)
    titles = data.catalog.titles
    rng = np.random.default_rng([c.seed, VIEW_ITEMS])
    items = np.sort(rng.permutation(data.n_items)[:MOST_ITEMS])
    judge = NewItemJudge(work, items)
    states = reader.states([titles[i] for i in items], views_of(backbone), bar("reading titles"))
    judged = {WORDS: judge(None)} | {str(v): judge(along(s, *principal(s))) for v, s in states.items()}
    worth = {view: judged[str(view)] or 0.0 for view in states}
    view = max(worth, key=lambda v: worth[v]) if any(worth.values()) else usual_view(backbone)
    found_IH = states[view]
    if len(items) < data.n_items:
        found_IH = reader.states(titles, [view], bar("reading all titles"))[view]
    return ReadTitles.of(reader, view, found_IH), {"view": str(view), "validation_auc": judged}


def _reader(work: Work, backbone: Backbone) -> TitleReader:
    item, most = work.dataset.words.get("item", "item"), work.config.llm.title_tokens
    return TitleReader(backbone, item, most)


def seconds_of_titles(work: Work) -> float:
    """What :func:`read_titles` would take, by some of the titles."""
    data, backbone = work.dataset, work.system.plain_backbone()
    reader = _reader(work, backbone)
    some = np.unique(np.linspace(0, data.n_items - 1, TRIED).astype(np.int64))
    titles, views = [data.catalog.titles[i] for i in some], views_of(backbone)
    reader.states(titles[:1], views)  # makes what is made once
    started = time.monotonic()
    reader.states(titles, views)
    each = (time.monotonic() - started) / len(titles)
    return each * (data.n_items + (MOST_ITEMS if data.n_items > MOST_ITEMS else 0))


@torch.no_grad()
def auc_with_prior(work: Work, features_IF: FloatArray) -> float | None:
    """AUC of the validation questions by the encoder with a title prior of these features.

    The encoder is as before afterwards.
    """
    encoder, asked = work.system.encoder, work.questions("valid")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    apply_prior(encoder, features_IF, work.dataset.train_counts)
    scores = EncoderScorer(WORDS, encoder).score(asked.histories, asked.targets[:, None])[:, 0]
    encoder.load_state_dict(before)
    return auc(scores, asked.labels)


class NewItemJudge:
    """How well the run's encoder would answer about items if each of them were new.

    Args:
        items: those that are judged, ascending.
    """

    @torch.no_grad()
    def __init__(self, work: Work, items: IntArray) -> None:
        system, data = work.system, work.dataset
        self.encoder, self.items = system.encoder, items
        groups = [np.empty((data.n_items, 0)), *system.item_features]
        self.words_IF = np.concatenate(groups, axis=1)[items]
        self.own_ID, self.weights_I = rows_of(self.encoder), trusted(data.train_counts)[items]
        asked = work.questions("valid")
        about = np.flatnonzero(np.isin(asked.targets, items))
        asked = asked.take(about[:: len(about) // MOST_QUESTIONS + 1])
        self.encoder.eval()
        self.users_BD = self.encoder.encode(asked.histories)
        self.asked = asked

    @torch.no_grad()
    def __call__(self, vectors_ID: FloatArray | None) -> float | None:
        """AUC of the validation questions about them; None where it is undefined.

        Args:
            vectors_ID: of these items; without them their words and attributes speak alone.
        """
        features = [self.words_IF] if vectors_ID is None else [self.words_IF, vectors_ID]
        features_IF = np.concatenate(features, axis=1)
        if not features_IF.shape[1] or not self.weights_I.any():
            return None
        as_new_ID = self.own_ID.copy()
        as_new_ID[self.items] = out_of_fold(features_IF, self.own_ID[self.items], self.weights_I)
        seen = self.encoder.seen_items.clone()
        write_rows(self.encoder, as_new_ID)
        self.encoder.mark_seen(np.ones(len(as_new_ID), dtype=bool))
        users, targets = self.asked.histories.users, self.asked.targets[:, None]
        logits = self.encoder.score(
            self.users_BD, *(torch.as_tensor(a, device=self.encoder.device) for a in (users, targets))
        )
        write_rows(self.encoder, self.own_ID)
        self.encoder.seen_items.copy_(seen)
        return auc(logits[:, 0].double().cpu().numpy(), self.asked.labels)
